"""The account of the examples of a training stream that could not be read: of a whole run, whoever met them.

It is a function of the step. Readers run ahead of the steps, in threads or processes of their own, and meet bad
examples that no step has been trained on yet; these wait here until their step comes. So a run that is stopped and
resumed counts what the unbroken run counts, and can carry the account in its checkpoints.
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
NAMED = 100  # bad examples that are named in warnings and in the file of a run
_LATEST = 10  # of them, in the message that stops a run
_MOST_WORDS = 300  # characters of a reason that is kept


class Bad(NamedTuple):
    """An example that could not be read: its index in the set, and why."""

    index: int
    reason: str


def allowed(source: Source, max_bad_fraction: float) -> int:
    """How many examples of a set may be bad: the fraction, rounded up to a whole example."""
    return math.ceil(max_bad_fraction * len(source))


def too_many(source: Source, count: int, most: int, names: Iterable[str], last: object) -> UserError:
    """The error for a set of which more examples are bad than may be."""
    return UserError(
        f"{count} examples of {source.info.name} cannot be read, more than the {most} that max_bad_fraction allows: "
        f"{', '.join(names)}" + (f" (the last: {last})" if last else "")
    )


class BadRecords:
    """Counts each bad example once, at the first step whose batch asked for it.

    Args:
      source: set that is read.
      max_bad_fraction: share of it that may be bad, in [0, 1].
      warn: True to name each in a warning, up to 100; False where somebody else has done so.
    """

    def __init__(self, source: Source, max_bad_fraction: float, warn: bool = True):
        self._source, self._warn = source, warn
        self.allowed = allowed(source, max_bad_fraction)
        self._ahead: deque[tuple[int, Sequence[Bad]]] = deque()
        self._counted: set[int] = set()
        self._named: list[dict[str, Any]] = []
        self._unsent: list[tuple[int, int]] = []

    def __len__(self) -> int:
        """The bad examples among those that were asked for up to the step of the last `advance`."""
        return len(self._counted)

    def note(self, step: int, met: Sequence[Bad]) -> None:
        """Takes note of what the batch of a step met, before or after the step is taken; steps ascend.

        Args:
          step: number of steps after that one; the batch of the first step has 1.
          met: bad examples that the batch asked for, those that are known included.
        """
        if met:
            self._ahead.append((step, met))

    def excess(self, step: int) -> bool:
        """Whether more are bad than may be, when the batches of the steps up to this one are counted, too."""
        if not self._ahead:  # what is counted was looked at before
            return False
        ahead = {bad.index for at, met in self._ahead if at <= step for bad in met}
        return bool(ahead) and len(self._counted | ahead) > self.allowed

    def advance(self, step: int) -> bool:
        """Counts what was met up to a step; whether there was anything new."""
        before = len(self)
        while self._ahead and self._ahead[0][0] <= step:
            at, met = self._ahead.popleft()
            for bad in met:
                if bad.index not in self._counted:
                    self._unsent.append((at, bad.index))
                    self._count(at, bad)
        return len(self) > before

    def unsent(self) -> list[tuple[int, int]]:
        """(step, index) of what this process counted since the last call: what other processes may not know."""
        found, self._unsent = self._unsent, []
        return found

    def add(self, others: Mapping[int, Iterable[tuple[int, int]]]) -> None:
        """Counts what other processes met: (step, index) by process."""
        for process, pairs in sorted(others.items()):
            for step, index in sorted(pairs):
                if index not in self._counted:
                    self._count(step, Bad(index, f"met by process {process}, which says why"), told=True)

    def recheck(self, read: Callable[[int], Bad | None]) -> None:
        """Looks at the counted ones again, where they are too many: what can be read now is taken off.

        Args:
          read: `index -> what is bad with the example`, or None.
        """
        if len(self) <= self.allowed:
            return
        mended = {index for index in self._counted if read(index) is None}
        self._counted -= mended
        self._named = [one for one in self._named if one["index"] not in mended]

    def error(self, step: int) -> UserError:
        """The error of a run whose steps up to this one met too many; those that wait are named, too."""
        ahead = {bad.index: bad for at, met in self._ahead if at <= step for bad in met}
        new = [bad for index, bad in ahead.items() if index not in self._counted]
        known = [self._source.describe(index) for index in sorted(self._counted)[: max(_LATEST - len(new), 0)]]
        names = [*known, *(self._source.describe(bad.index) for bad in new)][-_LATEST:]
        last = new[-1].reason if new else (self._named[-1]["reason"] if self._named else "")
        return too_many(self._source, len(self) + len(new), self.allowed, names, last)

    def lines(self, step: int = 0) -> str:
        """JSON lines that name the first bad examples: those counted, and those that wait for the steps up to this."""
        ahead = [self._line(at, bad) for at, met in self._ahead if at <= step for bad in met]
        named = {one["index"]: one for one in (*ahead[::-1], *self._named)}
        found = sorted(named.values(), key=lambda one: (one["step"], one["index"]))[:NAMED]
        return "".join(json.dumps(one) + "\n" for one in found)

    def state(self) -> dict[str, Any]:
        """The account as JSON. Its size is that of the set of bad examples, which `allowed` bounds."""
        return {"indices": sorted(self._counted), "named": self._named}

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from an account that `state` gave."""
        self._counted, self._named = {int(index) for index in state["indices"]}, list(state["named"])

    def _count(self, step: int, bad: Bad, told: bool = False) -> None:
        self._counted.add(bad.index)
        if len(self._named) < NAMED:
            self._named.append(self._line(step, bad))
        if self._warn and not told and len(self) <= NAMED:
            last = "; no more are named" if len(self) == NAMED else ""
            name = self._source.describe(bad.index)
            _log.warning("cannot read %s (%s): bad example %d%s", name, bad.reason, len(self), last)

    def _line(self, step: int, bad: Bad) -> dict[str, Any]:
        name = self._source.describe(bad.index)
        return {"step": step, "index": bad.index, "name": name, "reason": bad.reason[:_MOST_WORDS]}
