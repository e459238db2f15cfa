"""Where the time of a run went: one stopwatch, always of one kind of time, so that its parts add up to the whole.

The word is that of large-scale training: the share of time in which a run came nearer to its end. The other meters
(`Throughput`, `TimeLeft`) get their seconds from here, so that nothing is measured twice.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxvision.progress import duration

# In the order in which they are told.
KINDS = {
    "productive": "steps",
    "compile": "compiling",
    "data_wait": "waiting for data",
    "checkpoint": "checkpoints",
    "evaluation": "evaluations",
    "restore": "restoring",
    "start_up": "starting",
    "lost": "lost to kills",
    "other": "other",
}
_REDONE = ("productive", "data_wait", "evaluation")  # what a launch does again that goes on from an earlier step
_MARKS = 16  # of the latest checkpoints


class Span:
    """Time of one kind, while entered; time of another kind that is entered inside is not part of it."""

    def __init__(self, goodput: "Goodput", kind: str):
        self._goodput, self._kind = goodput, kind
        self.seconds = 0.0  # from enter to exit, whatever was inside

    def __enter__(self) -> "Span":
        self._outer = self._goodput.kind
        self._began = self._goodput.turn(self._kind)
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = self._goodput.turn(self._outer) - self._began


class Goodput:
    """Measures one launch; all that is nothing else is `other`.

    Args:
      began: `time.perf_counter()` when it began, such as `process_began()`; now if not given. What came before now is
        `start_up`.

    >>> goodput = Goodput()
    >>> with goodput.spent("evaluation") as span:
    ...     _ = sum(range(1000))
    >>> goodput.seconds["evaluation"] == span.seconds > 0
    True
    """

    def __init__(self, began: float | None = None):
        now = time.perf_counter()
        self._began = self._since = now if began is None else began
        self.kind, self.step = "start_up", 0
        self.seconds = dict.fromkeys(KINDS, 0.0)
        self._dispatched: set[int] = set()
        self._marks: deque[dict[str, float]] = deque(maxlen=_MARKS)
        self.publish: Callable[[dict[str, Any]], None] = lambda record: None  # gets the account at every checkpoint

    def turn(self, kind: str) -> float:
        """Ends the time of the present kind and returns the clock; time is `kind` from now on."""
        now = time.perf_counter()
        self.seconds[self.kind] += now - self._since
        self._since, self.kind = now, kind
        return now

    def spent(self, kind: str) -> Span:
        """A context whose time is of a kind."""
        return Span(self, kind)

    def compiles(self, length: int) -> bool:
        """Whether a dispatch of so many steps would be the first of its length."""
        return length not in self._dispatched

    def dispatch(self, length: int) -> Span:
        """A context for a dispatch of so many steps: the first of each length compiles its program."""
        new = length not in self._dispatched
        self._dispatched.add(length)
        return Span(self, "compile" if new else "productive")

    def saved(self, step: int) -> None:
        """Takes note of what was spent up to a checkpoint, from which a later launch may go on."""
        self.turn(self.kind)
        self.step = step
        self._marks.append({"step": step} | {kind: round(self.seconds[kind], 3) for kind in _REDONE})
        self.publish(self.record())

    def record(self, end: str = "running") -> dict[str, Any]:
        """The account as JSON.

        Args:
          end: way in which the launch ended: "running", "finished", "stopped" or "failed".
        """
        self.turn(self.kind)
        seconds = {kind: round(spent, 3) for kind, spent in self.seconds.items()}
        wall = round(self._since - self._began, 3)
        return {"end": end, "step": self.step, "wall": wall, "seconds": seconds, "marks": list(self._marks)}


def is_record(found: Any) -> bool:
    """Whether JSON that was read is an account, as `Goodput.record` makes it."""

    def numbers(of: Any, names: Iterable[str]) -> bool:
        return isinstance(of, dict) and all(isinstance(of.get(name), int | float) for name in names)

    return (
        numbers(found, ("step", "wall", "updated"))
        and isinstance(found.get("end"), str)
        and numbers(found.get("seconds"), KINDS)
        and isinstance(found.get("marks"), list)
        and all(numbers(mark, ("step", *_REDONE)) for mark in found["marks"])
    )


def lose(record: Mapping[str, Any], start: int) -> dict[str, Any]:
    """The account of a launch whose steps after `start` are done again, for the next launch went on from there.

    Their time, as far as the account has it, becomes `lost`.

    Args:
      record: account from `Goodput.record`.
      start: step from which the next launch went on.

    >>> spent = {"productive": 30.0, "data_wait": 0.0, "evaluation": 2.0, "lost": 0.0}
    >>> mark = {"step": 100, "productive": 20.0, "data_wait": 0.0, "evaluation": 2.0}
    >>> lose({"step": 150, "seconds": spent, "marks": [mark]}, start=100)["seconds"]
    {'productive': 20.0, 'data_wait': 0.0, 'evaluation': 2.0, 'lost': 10.0}
    """
    seconds = dict(record["seconds"])
    # A launch that saved no checkpoint of that step began there, or behind it, and all of its steps are done again.
    base = next((mark for mark in record["marks"] if mark["step"] == start), dict.fromkeys(_REDONE, 0.0))
    for kind in _REDONE:
        seconds["lost"] = round(seconds["lost"] + seconds[kind] - base[kind], 3)
        seconds[kind] = base[kind]
    marks = [mark for mark in record["marks"] if mark["step"] <= start]
    return {**record, "step": min(record["step"], start), "seconds": seconds, "marks": marks}


def total(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The accounts of all launches together: `launches`, `wall` and `seconds` by kind."""
    records = list(records)
    seconds = {kind: round(sum(one["seconds"].get(kind, 0.0) for one in records), 3) for kind in KINDS}
    return {"launches": len(records), "wall": round(sum(one["wall"] for one in records), 3), "seconds": seconds}


def words(account: Mapping[str, Any]) -> str:
    """An account as a person reads it; kinds below a tenth of a percent are left out.

    >>> words({"wall": 200.0, "seconds": {"productive": 150.0, "compile": 50.0, "lost": 0.0}})
    '3m20s: steps 75.0%, compiling 25.0%'
    """
    wall = max(account["wall"], 1e-9)
    shares = {KINDS[kind]: spent / wall for kind, spent in account["seconds"].items()}
    told = ", ".join(f"{name} {share:.1%}" for name, share in shares.items() if share >= 0.001)
    return f"{duration(account['wall'])}: {told}"


def process_began() -> float:
    """`time.perf_counter()` when this process began, so that the imports count; now, where the system does not say."""
    now = time.perf_counter()
    try:
        with open("/proc/self/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])  # field 22: start in ticks since boot
        return now - max(time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"), 0.0)
    except (OSError, AttributeError, ValueError, IndexError):
        return now
