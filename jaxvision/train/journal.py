"""What a run remembers from step to step beside its state, so that its records do not depend on where it was stopped.

Between two log lines these are the metrics of the steps so far, at a boundary the evaluations that have been run there,
and of the whole run the examples that could not be read. It lies in a checkpoint under `progress` of the meta, as JSON:

    lines       how many lines of that step metrics.jsonl held; what stands behind them was written later
    interval    steps since the last log line, exact sums of their metrics, counts, and the first losses of the run
    guard       of the steps that were skipped, see `finite.py`
    evaluated   evaluations that were run at that step, and what they found
    guessing    of the warning that a loss stays at guessing
    bad         account of examples that could not be read

Whatever the moment of a kill, the checkpoint and the lines of metrics.jsonl up to it agree: at a boundary a run logs,
evaluates, and then saves. What was written behind the last checkpoint is dropped at the resume and written again.
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

PROGRESS = "progress"  # its key in the meta of a checkpoint
BAD_FILE = "bad_records.jsonl"


class Journal:
    """Gathers the metrics of steps and says what a log line holds.

    Args:
      step: that the run goes on from.
      progress: entry `progress` of the checkpoint of that step; None for a new run, or where the checkpoint has none.
      bad: account of the examples that could not be read.
      folder: folder of the file that names the first of these; None for no file.

    Attributes:
      since: step of the last log line.
      pending: metrics of dispatches, each [k], that the host has not seen.
      guard: of the latest step that was settled, as JSON.
      stop: the step that was one skipped step in a row too many; None while there is none.
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
        self._sums = {name: ExactSum.read(of) for name, of in interval.get("sums", {}).items()}
        self._first = {name: float(value) for name, value in interval.get("first", {}).items()}
        self._counts: dict[str, float] = dict(interval.get("counts", {}))
        self._marks: dict[str, float] = {}
        self.guard: dict[str, float] = dict(self.carried.get("guard", {}))
        self.stop: skips.Stop | None = None
        self.pending: list[dict[str, jax.Array]] = []
        self._step, self._evaluated = step, {}
        for name, found in self.carried.get("evaluated", {}).items():
            self._evaluated[name] = {key: float(value) for key, value in found.items()}
        self._bad, self._folder = bad, folder
        if bad is not None and "bad" in self.carried:
            bad.load(self.carried["bad"])

    def stepped(self, metrics: dict[str, jax.Array]) -> None:
        """Adds the metrics of a dispatch, each [k], which may not be computed yet."""
        self.pending.append(metrics)

    def settle(self, step: int) -> bool:
        """Fetches the metrics up to a step, and what other processes met; every process must call it.

        Returns:
          whether more examples could not be read than may be. One process stops before such a batch (`check`); of
          several, each knows of the others only here.

        """
        if self.pending:
            found = skips.read(self.pending, step)
            self.pending.clear()
            for name, taken in found.taken.items():
                self._sums.setdefault(name, ExactSum()).add(taken)
            for name, count in found.counts.items():
                self._counts[name] = self._counts.get(name, 0.0) + count
            self._first |= found.first
            self._marks, self.guard, self.stop = found.marks, found.guard or self.guard, found.stop
        return self._count_bad(step)

    def line(self, step: int) -> dict[str, float]:
        """Means of the metrics over the steps taken since the last line, and counts; a new interval begins."""
        values = {name: of.mean() for name, of in self._sums.items()} | self._first | self._counts | self._marks
        self.since, self._sums, self._first, self._counts = step, {}, {}, {}
        return values | ({"bad_records": len(self._bad)} if self._bad is not None else {})

    def evaluated(self, step: int, name: str, found: Mapping[str, float]) -> None:
        """Takes note of an evaluation that was run, and of its results."""
        if step != self._step:
            self._step, self._evaluated = step, {}
        self._evaluated[name] = dict(found)

    def results(self, step: int) -> dict[str, dict[str, float]]:
        """What the evaluations that were run at a step found, by their names."""
        return self._evaluated if step == self._step else {}

    def progress(self, step: int) -> dict[str, Any]:
        """What a checkpoint of this step carries, as JSON; `settle` comes first."""
        as_text = lambda values: {name: repr(float(value)) for name, value in values.items()}  # nan is no JSON
        found = {
            "interval": {
                "steps": step - self.since,
                "sums": {name: of.written() for name, of in self._sums.items()},
                "first": as_text(self._first),
                "counts": self._counts,
            },
            "guard": self.guard,
            "evaluated": {name: as_text(values) for name, values in self.results(step).items()},
        }
        return found | ({"bad": self._bad.state()} if self._bad is not None else {})

    def check(self, step: int) -> None:
        """Whether the batches of the steps up to this one may be trained on, in a run of one process.

        Raises:
          UserError: with them, more examples could not be read than may be.
        """
        if self._bad is not None and jax.process_count() == 1 and self._bad.excess(step):
            raise self.too_many(step)

    def recheck(self, read: Callable[[int], Bad | None]) -> None:
        """Where the account that is carried has too many bad examples, looks whether they were mended.

        The file that names them becomes that of this account; before a launch it may name some that stopped the last.

        Args:
          read: `index -> what is bad with the example`, or None.

        Raises:
          UserError: there are still too many.
        """
        if self._bad is None:
            return
        if len(self._bad) <= self._bad.allowed:
            if self._folder is not None and (self._folder / BAD_FILE).exists():
                self._write_names(0)
            return
        self._bad.recheck(read)
        self._exchange([(self._step, index) for index in self._bad.state()["indices"]])
        self._write_names(self._step)
        if len(self._bad) > self._bad.allowed:
            raise self.too_many(self._step)

    def too_many(self, step: int) -> UserError:
        """The error of a run of which more examples could not be read than may be, with what to do."""
        error = self._bad.error(step)
        named = f" (the first are named in {self._folder / BAD_FILE})" if self._write_names(step) else ""
        return UserError(
            f"{error}. Mend or replace these files{named} and start the same command again, or raise "
            "data.max_bad_fraction and add --resume"
        )

    def _count_bad(self, step: int) -> bool:
        if self._bad is None:
            return False
        new, known = self._bad.advance(step), len(self._bad)
        self._exchange(self._bad.unsent())
        if new or len(self._bad) > known:
            self._write_names(step)
        return len(self._bad) > self._bad.allowed

    def _exchange(self, mine: list[tuple[int, int]]) -> None:
        """Tells the other processes of bad examples, (step, index), and counts theirs."""
        if jax.process_count() == 1:
            return
        of_all = gather_numbers([number for pair in mine for number in pair])
        pairs = {process: list(zip(numbers[::2], numbers[1::2])) for process, numbers in enumerate(of_all)}
        del pairs[jax.process_index()]
        self._bad.add(pairs)

    def _write_names(self, step: int) -> bool:
        if self._folder is not None:
            storage.write(self._folder / BAD_FILE, self._bad.lines(step))
        return self._folder is not None


def carried(meta: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a checkpoint carries for a run that goes on under a config.

    An evaluation whose section has changed counts as one that was not run.

    Args:
      meta: metadata of the checkpoint.
      config: config of the run, plain.
    """
    progress = meta.get(PROGRESS)
    if progress is None:
        return None
    plain = lambda of: json.loads(json.dumps(of.get("evals") or {}))
    before, now = plain(meta.get("config", {})), plain(config)

    def section(of: Mapping[str, Any], name: str) -> Any:
        return of.get(name, of.get(name.rpartition("/")[0]))  # one of several `sets` has the name of its entry first

    same = {name: of for name, of in progress["evaluated"].items() if section(before, name) == section(now, name)}
    return {**progress, "evaluated": same}
