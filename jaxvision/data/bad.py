"""The record of the examples of a training stream that could not be read, for a whole run and all its processes.

The record is a function of the step. Readers run ahead of the steps, in threads or processes of their own, and meet bad
examples before any step is trained on them; these wait here until their step comes. So a run that is stopped and
resumed counts what an unbroken run counts, and can store the record in its checkpoints.
"""

import json
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxvision.data.sources.base import Source
from jaxvision.errors import UserError

_log = logging.getLogger(__name__)
NAMED = 100  # number of bad examples that are named in warnings and in the file of a run
_LATEST = 10  # number of them in the message that stops a run
_MOST_WORDS = 300  # number of characters of a reason that are stored


class Bad(NamedTuple):
    """An example that could not be read.

    Attributes:
      index: Index of the example in the set.
      reason: Message of the error.
    """

    index: int  # type: ignore[assignment]  # hides the method of tuples
    reason: str


def allowed_count(source: Source, max_bad_fraction: float) -> int:
    """Returns how many examples of a set may be bad: the fraction, rounded up to a whole example.

    Args:
      source: Set of examples.
      max_bad_fraction: Share of it that may be bad, in [0, 1].
    """
    return math.ceil(max_bad_fraction * len(source))


def too_many_error(source: Source, count: int, most: int, names: Iterable[str], last: object) -> UserError:
    """Returns the error for a set with more bad examples than allowed.

    Args:
      source: Set of examples.
      count: Number of bad examples.
      most: Number of bad examples that is allowed.
      names: Names of the latest bad examples, for the message.
      last: Reason of the last one; it is left out if empty.
    """
    return UserError(
        f"{count} examples of {source.info.name} cannot be read, more than the {most} that max_bad_fraction allows: "
        f"{', '.join(names)}" + (f" (the last: {last})" if last else "")
    )


class BadRecords:
    """Counts each bad example once, at the first step whose batch asked for it.

    Args:
      source: Set that is read.
      max_bad_fraction: Share of it that may be bad, in [0, 1].
      warn: True to name each bad example in a warning, up to 100; False if another process does.
    """

    def __init__(self, source: Source, max_bad_fraction: float, warn: bool = True):
        self._source, self._warn = source, warn
        self.allowed = allowed_count(source, max_bad_fraction)
        self._ahead: deque[tuple[int, Sequence[Bad]]] = deque()
        self._counted: set[int] = set()
        self._named: list[dict[str, Any]] = []
        self._unsent: list[tuple[int, int]] = []

    def __len__(self) -> int:
        """Returns the number of bad examples that were asked for up to the step of the last `advance`."""
        return len(self._counted)

    def note(self, step: int, met: Sequence[Bad]) -> None:
        """Notes the bad examples of the batch of a step, before or after the step is taken. Steps must ascend.

        Args:
          step: Number of the step, counted from 1.
          met: Bad examples that the batch asked for, including those noted before.
        """
        if met:
            self._ahead.append((step, met))

    def excess(self, step: int) -> bool:
        """Returns whether more examples are bad than allowed, including those that wait for the steps up to `step`.

        Args:
          step: Number of steps taken.
        """
        if not self._ahead:  # what is counted was checked before
            return False
        ahead = {bad.index for at, met in self._ahead if at <= step for bad in met}
        return bool(ahead) and len(self._counted | ahead) > self.allowed

    def advance(self, step: int) -> bool:
        """Counts the bad examples of the steps up to `step`.

        Args:
          step: Number of steps taken.

        Returns:
          True if any of them was new.
        """
        before = len(self)
        while self._ahead and self._ahead[0][0] <= step:
            at, met = self._ahead.popleft()
            for bad in met:
                if bad.index not in self._counted:
                    self._unsent.append((at, bad.index))
                    self._count(at, bad)
        return len(self) > before

    def unsent(self) -> list[tuple[int, int]]:
        """Returns (step, index) of what this process has counted since the last call, which others may not know."""
        pairs, self._unsent = self._unsent, []
        return pairs

    def add(self, others: Mapping[int, Iterable[tuple[int, int]]]) -> None:
        """Counts the bad examples that other processes met.

        Args:
          others: Pairs (step, index) by the number of the process.
        """
        for process, pairs in sorted(others.items()):
            for step, index in sorted(pairs):
                if index not in self._counted:
                    self._count(step, Bad(index, f"met by process {process}, which says why"), reported=True)

    def recheck(self, read: Callable[[int], Bad | None]) -> None:
        """Reads the counted examples again if there are too many, and drops those that can be read now.

        Args:
          read: Function `index -> Bad`, or None if the example can be read.
        """
        if len(self) <= self.allowed:
            return
        readable = {index for index in self._counted if read(index) is None}
        self._counted -= readable
        self._named = [entry for entry in self._named if entry["index"] not in readable]

    def error(self, step: int) -> UserError:
        """Returns the error of a run that met too many bad examples; it also names those that wait for a step.

        Args:
          step: Number of steps taken.
        """
        ahead = {bad.index: bad for at, met in self._ahead if at <= step for bad in met}
        new = [bad for index, bad in ahead.items() if index not in self._counted]
        counted = [self._source.describe(index) for index in sorted(self._counted)[: max(_LATEST - len(new), 0)]]
        names = [*counted, *(self._source.describe(bad.index) for bad in new)][-_LATEST:]
        last = new[-1].reason if new else (self._named[-1]["reason"] if self._named else "")
        return too_many_error(self._source, len(self) + len(new), self.allowed, names, last)

    def lines(self, step: int = 0) -> str:
        """Returns JSON lines that name the first bad examples, both counted ones and ones that wait for their step.

        Args:
          step: Number of steps taken; those that wait for a later step are left out.
        """
        ahead = [self._line(at, bad) for at, met in self._ahead if at <= step for bad in met]
        named = {entry["index"]: entry for entry in (*ahead[::-1], *self._named)}
        entries = sorted(named.values(), key=lambda entry: (entry["step"], entry["index"]))[:NAMED]
        return "".join(json.dumps(entry) + "\n" for entry in entries)

    def state(self) -> dict[str, Any]:
        """Returns the record as JSON. Its size is that of the set of bad examples, which `allowed_count` bounds."""
        return {"indices": sorted(self._counted), "named": self._named}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues a record.

        Args:
          state: Record as `state` returned it.
        """
        self._counted, self._named = {int(index) for index in state["indices"]}, list(state["named"])

    def _count(self, step: int, bad: Bad, reported: bool = False) -> None:
        self._counted.add(bad.index)
        if len(self._named) < NAMED:
            self._named.append(self._line(step, bad))
        if self._warn and not reported and len(self) <= NAMED:
            last = "; no more are named" if len(self) == NAMED else ""
            name = self._source.describe(bad.index)
            _log.warning("cannot read %s (%s): bad example %d%s", name, bad.reason, len(self), last)

    def _line(self, step: int, bad: Bad) -> dict[str, Any]:
        name = self._source.describe(bad.index)
        return {"step": step, "index": bad.index, "name": name, "reason": bad.reason[:_MOST_WORDS]}
