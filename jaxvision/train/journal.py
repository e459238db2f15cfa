"""What a run carries in addition to its state, so that its records do not depend on where it was stopped.

Between two log lines it carries the metrics of the steps so far, at a boundary the results of the evaluations there,
and always the examples that could not be read. A checkpoint holds all of this as JSON, in its metadata under
`progress`:

    lines       number of lines of that step in metrics.jsonl; lines after them were written later
    interval    number of steps since the last log line, exact sums of their metrics, counts, first losses of the run
    guard       guard of the skipped steps, see `finite.py`
    evaluated   results of the evaluations at that step
    guessing    state of the warning that a loss stays at guessing
    best        best evaluation so far, if `train.keep_best` is set, see `best.py`
    bad         record of the examples that could not be read

At a boundary a run logs, evaluates, and then saves. So a checkpoint agrees with the lines of metrics.jsonl up to it,
whenever the run is killed. Lines after the last checkpoint are dropped when the run resumes, and written again.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxvision import storage
from jaxvision.data.bad import Bad, BadRecords
from jaxvision.errors import UserError
from jaxvision.parallel.distributed import gather_numbers
from jaxvision.storage import Path
from jaxvision.train import skips
from jaxvision.train.exact import ExactSum

PROGRESS = "progress"  # key in the metadata of a checkpoint
BAD_FILE = "bad_records.jsonl"


class Journal:
    """Collects the metrics of the steps and makes the log lines.

    Args:
      step: Step from which the run starts or resumes.
      progress: Entry `progress` of the checkpoint of that step; None for a new run, or if the checkpoint has none.
      bad: Record of the examples that could not be read, or None.
      folder: Folder for the file that names the first of these examples; None for no file.

    Attributes:
      since: Step of the last log line.
      pending: Metrics of dispatches, arrays [k] by name, that the host has not fetched.
      guard: Guard of the latest step that was fetched, as JSON.
      stop: Skipped step that was one too many in a row; None if there is none.
    """

    def __init__(
        self,
        step: int = 0,
        progress: Mapping[str, Any] | None = None,
        bad: BadRecords | None = None,
        folder: Path | None = None,
    ):
        self.carried = dict(progress or {})
        interval = self.carried.get("interval", {})
        self.since = step - interval.get("steps", 0)
        self._sums = {name: ExactSum.read(written) for name, written in interval.get("sums", {}).items()}
        self._first = {name: float(value) for name, value in interval.get("first", {}).items()}
        self._counts: dict[str, float] = dict(interval.get("counts", {}))
        self._marks: dict[str, float] = {}
        self.guard: dict[str, float] = dict(self.carried.get("guard", {}))
        self.stop: skips.Stop | None = None
        self.pending: list[dict[str, jax.Array]] = []
        self._step = step
        self._evaluated: dict[str, dict[str, float]] = {}
        for name, results in self.carried.get("evaluated", {}).items():
            self._evaluated[name] = {key: float(value) for key, value in results.items()}
        self._bad, self._folder = bad, folder
        if bad is not None and "bad" in self.carried:
            bad.load(self.carried["bad"])

    def stepped(self, metrics: dict[str, jax.Array]) -> None:
        """Adds the metrics of a dispatch, which may not be computed yet. They go to the host as soon as they are.

        Args:
          metrics: Metrics by name, arrays [k].
        """
        for array in jax.tree.leaves(metrics):
            if isinstance(array, jax.Array):
                array.copy_to_host_async()
        self.pending.append(metrics)

    def settle(self, step: int) -> bool:
        """Fetches the metrics up to a step, and the bad examples of other processes; every process must call it.

        Args:
          step: Number of steps taken.

        Returns:
          True if more examples cannot be read than the config allows. A single process stops before such a batch (see
          `check`); several learn only here of each other's examples.
        """
        if self.pending:
            interval = skips.fetch(self.pending, step)
            self.pending.clear()
            for name, taken in interval.taken.items():
                self._sums.setdefault(name, ExactSum()).add(taken)
            for name, count in interval.counts.items():
                self._counts[name] = self._counts.get(name, 0.0) + count
            self._first |= interval.first
            self._marks, self.guard, self.stop = interval.marks, interval.guard or self.guard, interval.stop
        return self._count_bad(step)

    def line(self, step: int) -> dict[str, float]:
        """Returns the numbers of a log line and starts a new interval.

        Args:
          step: Number of steps taken.

        Returns:
          Means of the metrics over the steps that were taken since the last line, and counts, by name.
        """
        values = {name: exact.mean() for name, exact in self._sums.items()} | self._first | self._counts | self._marks
        self.since, self._sums, self._first, self._counts = step, {}, {}, {}
        return values | ({"bad_records": len(self._bad)} if self._bad is not None else {})

    def evaluated(self, step: int, name: str, results: Mapping[str, float]) -> None:
        """Records the results of an evaluation.

        Args:
          step: Number of steps taken.
          name: Name of the evaluation in the config.
          results: Results by name.
        """
        if step != self._step:
            self._step, self._evaluated = step, {}
        self._evaluated[name] = dict(results)

    def results(self, step: int) -> dict[str, dict[str, float]]:
        """Returns the results of the evaluations that were run at a step, by their names.

        Args:
          step: Number of steps taken.
        """
        return self._evaluated if step == self._step else {}

    def progress(self, step: int) -> dict[str, Any]:
        """Returns what the checkpoint of a step carries, as JSON. Call `settle` first.

        Args:
          step: Number of steps taken.
        """
        as_text = lambda values: {name: repr(float(value)) for name, value in values.items()}  # NaN is no JSON
        progress: dict[str, Any] = {
            "interval": {
                "steps": step - self.since,
                "sums": {name: exact.written() for name, exact in self._sums.items()},
                "first": as_text(self._first),
                "counts": self._counts,
            },
            "guard": self.guard,
            "evaluated": {name: as_text(values) for name, values in self.results(step).items()},
        }
        return progress | ({"bad": self._bad.state()} if self._bad is not None else {})

    def check(self, step: int) -> None:
        """Checks, in a run of one process, that the batches of the steps up to this one may be trained on.

        Args:
          step: Number of the last step of the next dispatch.

        Raises:
          UserError: With these batches, more examples cannot be read than the config allows.
        """
        if self._bad is not None and jax.process_count() == 1 and self._bad.excess(step):
            raise self._too_many(self._bad, step)

    def recheck(self, read: Callable[[int], Bad | None]) -> None:
        """Reads the bad examples of the checkpoint again if there were too many, since they may have been repaired.

        It also rewrites the file that names bad examples, which may name some that the last launch met after its
        checkpoint.

        Args:
          read: Function of the index of an example that returns what is bad with it, or None.

        Raises:
          UserError: There are still too many.
        """
        if self._bad is None:
            return
        if len(self._bad) <= self._bad.allowed:
            if self._folder is not None and (self._folder / BAD_FILE).exists():
                self._write_names(self._bad, 0)
            return
        self._bad.recheck(read)
        self._exchange(self._bad, [(self._step, index) for index in self._bad.state()["indices"]])
        self._write_names(self._bad, self._step)
        if len(self._bad) > self._bad.allowed:
            raise self._too_many(self._bad, self._step)

    def too_many(self, step: int) -> UserError:
        """Returns the error of a run in which more examples cannot be read than the config allows.

        Args:
          step: Number of steps taken.
        """
        return self._too_many(self._bad, step)  # type: ignore[arg-type]  # `settle` has found bad examples

    def _too_many(self, bad: BadRecords, step: int) -> UserError:
        error = bad.error(step)
        file = self._write_names(bad, step)
        named = f" (the first are named in {file})" if file is not None else ""
        return UserError(
            f"{error}. Repair or replace these files{named} and run the same command again, or raise "
            "data.max_bad_fraction and add --resume"
        )

    def _count_bad(self, step: int) -> bool:
        if self._bad is None:
            return False
        new, count = self._bad.advance(step), len(self._bad)
        self._exchange(self._bad, self._bad.unsent())
        if new or len(self._bad) > count:
            self._write_names(self._bad, step)
        return len(self._bad) > self._bad.allowed

    def _exchange(self, bad: BadRecords, mine: list[tuple[int, int]]) -> None:
        """Sends the other processes this one's bad examples, (step, index), and counts theirs."""
        if jax.process_count() == 1:
            return
        of_all = gather_numbers([number for pair in mine for number in pair])
        pairs = {process: list(zip(numbers[::2], numbers[1::2])) for process, numbers in enumerate(of_all)}
        del pairs[jax.process_index()]
        bad.add(pairs)

    def _write_names(self, bad: BadRecords, step: int) -> Path | None:
        """Writes the file that names the first bad examples; returns its path, or None if there is no folder."""
        if self._folder is None:
            return None
        storage.write(self._folder / BAD_FILE, bad.lines(step))
        return self._folder / BAD_FILE


def carried(meta: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns what a checkpoint carries for a run that resumes under a config.

    The results of an evaluation whose section of the config has changed are left out, so it runs again; so is what was
    best by them.

    Args:
      meta: Metadata of the checkpoint.
      config: Config of the run as plain dicts.

    Returns:
      The entry `progress` of the checkpoint, or None if it has none.
    """
    progress = meta.get(PROGRESS)
    if progress is None:
        return None
    evals_of = lambda config: json.loads(json.dumps(config.get("evals") or {}))
    before, now = evals_of(meta.get("config", {})), evals_of(config)

    def section(evals: Mapping[str, Any], name: str) -> Any:
        return evals.get(name, evals.get(name.rpartition("/")[0]))  # one of several `sets` is named ENTRY/SET

    same = {name: x for name, x in progress["evaluated"].items() if section(before, name) == section(now, name)}
    kept = {**progress, "evaluated": same}
    best = progress.get("best")
    if best and section(before, best["evaluation"]) != section(now, best["evaluation"]):
        del kept["best"]
    return kept
