"""Estimates how long a run still takes, from the times of its steps and pauses in this launch."""

import time
from collections.abc import Mapping

FORGET = 0.9  # factor of the older measurements at each log, so that the speed is that of about the last ten logs


class TimeLeft:
    """Estimates the seconds to the end of a run.

    The estimate assumes that the remaining steps take as long as the latest ones, and each remaining pause (evaluation,
    checkpoint) as long as the latest of its kind. It does not use the steps of earlier launches, nor the first dispatch
    of each length, which compiles a program and waits for the first batch.

    A kind of pause that did not happen yet in this launch counts as long as the computation that it needs at least,
    in steps. Until every kind has happened once, the estimate is a lower bound (`is_bound`).

    Args:
      step: Step from which the launch starts.
      total: Number of steps of the run.
      pauses: Interval of each kind of pause in steps, by name; 0 for at the end only.
      work: Least computation of one pause of a kind, in steps of training, by name; 0 for kinds that it lacks.

    >>> left = TimeLeft(900, 1000, {"val": 50}, {"val": 2.5})
    >>> left.seconds(901) is None, left.is_bound()  # nothing was measured yet
    (True, True)
    """

    def __init__(self, step: int, total: int, pauses: Mapping[str, int], work: Mapping[str, float] | None = None):
        self._total, self._pauses, self._work = total, dict(pauses), dict(work or {})
        self._seen: set[int] = set()
        self._took: dict[str, float] = {}
        self._steps = self._seconds = 0.0
        self._restart(step)

    def dispatched(self, length: int, seconds: float) -> None:
        """Records a dispatch.

        Args:
          length: Number of steps in it.
          seconds: Time from the wait for its data to its return.
        """
        if length not in self._seen:
            self._seen.add(length)
            self._out_steps += length
            self._out_seconds += seconds

    def paused(self, name: str, seconds: float, once: float = 0.0) -> None:
        """Records a pause.

        Args:
          name: Name of its kind.
          seconds: Length of the pause.
          once: Part of it that will not come again, such as the compilation of a program.
        """
        self._took[name] = max(seconds - once, 0.0)
        self._out_seconds += seconds

    def logged(self, step: int) -> None:
        """Measures the steps since the last call. Call it when the devices have finished them.

        Args:
          step: Number of steps taken.
        """
        steps = step - self._step - self._out_steps
        seconds = time.perf_counter() - self._since - self._out_seconds
        if steps > 0:
            self._steps = FORGET * self._steps + steps
            self._seconds = FORGET * self._seconds + max(seconds, 0.0)
        self._restart(step)

    def seconds(self, step: int) -> float | None:
        """Returns the seconds from a log at `step` to the end, including the pauses that are due at `step`.

        Args:
          step: Number of steps taken.

        Returns:
          Seconds, or None if no step was measured yet.
        """
        if not self._steps:
            return None
        of_step = self._seconds / self._steps
        kinds = dict.fromkeys([*self._pauses, *self._took])
        took = {name: self._took.get(name, self._work.get(name, 0.0) * of_step) for name in kinds}
        return (self._total - step) * of_step + sum(
            seconds * self._ahead(step, self._pauses.get(name, 0)) for name, seconds in took.items()
        )

    def is_bound(self) -> bool:
        """Returns whether a kind of pause did not happen yet, so that `seconds` is a lower bound."""
        return not self._took.keys() >= self._pauses.keys()

    def _ahead(self, step: int, every: int) -> int:
        """Counts the steps, from `step` on, that are multiples of the interval or the last step."""
        return 1 + ((self._total - 1) // every - (step - 1) // every if every else 0)

    def _restart(self, step: int) -> None:
        self._step, self._since = step, time.perf_counter()
        self._out_steps, self._out_seconds = 0, 0.0
