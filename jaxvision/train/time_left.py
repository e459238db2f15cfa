"""How long a run still takes, from what its steps and its pauses took in this launch."""

import time
from collections.abc import Mapping

FORGET = 0.9  # weight of what was known, at each log: speed is that of about the last ten


class TimeLeft:
    """Estimates the seconds up to the end of a run.

    Steps and pauses (evaluations, checkpoints) are counted apart: the steps ahead take as long as the latest ones, and
    every pause ahead as long as the latest of its kind. Left out are the steps of earlier launches, and the first
    dispatch of each length, which compiles a program and waits for the first batch.

    Args:
      step: step that the launch goes on from.
      total: steps of the run.
      pauses: interval of each kind of pause in steps, by name; 0 for the end only.

    >>> left = TimeLeft(900, 1000, {"val": 50})
    >>> left.seconds(901) is None  # nothing is known yet
    True
    """

    def __init__(self, step: int, total: int, pauses: Mapping[str, int]):
        self._total, self._pauses = total, dict(pauses)
        self._seen: set[int] = set()
        self._took: dict[str, float] = {}
        self._steps = self._seconds = 0.0
        self._restart(step)

    def dispatched(self, length: int, seconds: float) -> None:
        """Takes note of a dispatch of so many steps, from the wait for its batch to its return."""
        if length not in self._seen:
            self._seen.add(length)
            self._out_steps += length
            self._out_seconds += seconds

    def paused(self, name: str, seconds: float) -> None:
        """Takes note of a pause."""
        self._took[name] = seconds
        self._out_seconds += seconds

    def logged(self, step: int) -> None:
        """Ends a stretch of steps; call it when they have really ended."""
        steps = step - self._step - self._out_steps
        seconds = time.perf_counter() - self._since - self._out_seconds
        if steps > 0:
            self._steps = FORGET * self._steps + steps
            self._seconds = FORGET * self._seconds + max(seconds, 0.0)
        self._restart(step)

    def seconds(self, step: int) -> float | None:
        """Seconds from a log at `step` to the end, the pauses that are due at `step` included; None if not known.

        A kind of pause that this launch has not yet had counts as nothing.
        """
        if not self._steps:
            return None
        return (self._total - step) * self._seconds / self._steps + sum(
            seconds * self._ahead(step, self._pauses.get(name, 0)) for name, seconds in self._took.items()
        )

    def _ahead(self, step: int, every: int) -> int:
        """How many of the steps from `step` on are multiples of the interval, or the last."""
        return 1 + ((self._total - 1) // every - (step - 1) // every if every else 0)

    def _restart(self, step: int) -> None:
        self._step, self._since = step, time.perf_counter()
        self._out_steps, self._out_seconds = 0, 0.0
