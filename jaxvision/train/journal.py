"""What a run remembers from step to step beside its state, so that its records do not depend on where it was stopped.

Between two log lines these are the metrics of the steps so far, at a boundary the evaluations that have been run there,
and of the whole run the examples that could not be read. It lies in a checkpoint under `progress` of the meta, as JSON:

    lines       how many lines of that step metrics.jsonl held; what stands behind them was written later
    interval    steps since the last log line, exact sums of their metrics, and the first losses of the run
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
import numpy as np

from jaxvision import storage
from jaxvision.data.bad import Bad, BadRecords
from jaxvision.errors import UserError
from jaxvision.parallel.distributed import gather_numbers
from jaxvision.storage import Path
from jaxvision.train.divergence import FIRST
from jaxvision.train.exact import ExactSum

PROGRESS = "progress"  # its key in the meta of a checkpoint
BAD_FILE = "bad_records.jsonl"


class Journal:
    """Gathers the metrics of steps and says what a log line holds.

    Args:
      step: that the run goes on from.
      progress: of the checkpoint of that step; None for a new run, or where the checkpoint has none.
      bad: account of the examples that could not be read.
      folder: where the first of these are named; None for nowhere.
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
        self._since = step - interval.get("steps", 0)
        self._sums = {name: ExactSum.read(of) for name, of in interval.get("sums", {}).items()}
        self._first = {name: float(value) for name, value in interval.get("first", {}).items()}
        self.pending: list[dict[str, jax.Array]] = []  # metrics that the host has not seen
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

        Raises:
          UserError: a loss among them is not finite; the step is named.
        """
        if self.pending:
            fetched = jax.device_get(self.pending)
            self.pending.clear()
            values = {name: np.concatenate([metrics[name] for metrics in fetched]) for name in fetched[0]}
            first = step - len(values["loss"]) + 1
            _check_finite(values["loss"], first)
            for name, of_steps in values.items():
                # The run begins here: its first loss is that of the untrained network. Of a population, `loss@3`.
                if first == 1 and name.partition("@")[0] == "loss":
                    self._first[name.replace("loss", FIRST)] = float(of_steps[0])
                self._sums.setdefault(name, ExactSum()).add(of_steps)
        return self._count_bad(step)

    def line(self, step: int) -> dict[str, float]:
        """Means of the metrics over the steps since the last line; a new stretch begins."""
        values = {name: of.mean() for name, of in self._sums.items()} | self._first
        self._since, self._sums, self._first = step, {}, {}
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
                "steps": step - self._since,
                "sums": {name: of.written() for name, of in self._sums.items()},
                "first": as_text(self._first),
            },
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
      meta: of the checkpoint.
      config: of the run, plain.
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


def _check_finite(losses: np.ndarray, first: int) -> None:
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad):
        raise UserError(
            f"the loss of step {first + int(bad[0])} is {losses[bad[0]]}. A lower optimizer.learning_rate, a longer "
            "warmup or a clip_norm may help; the latest checkpoint holds a state from before"
        )
