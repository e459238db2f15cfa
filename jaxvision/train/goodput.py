"""Measures where the time of a run goes. All time belongs to exactly one kind, so the kinds add up to the whole.

In large-scale training, goodput is the share of time in which a run came nearer to its end. The other meters
(`Throughput`, `TimeLeft`) get their seconds from here, so that nothing is measured twice.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxvision.progress import duration

# The kinds of time and their names, in the order in which they are printed.
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
_REDONE = ("productive", "data_wait", "evaluation")  # kinds that are repeated when a run resumes from an earlier step
_MARKS = 16  # number of the latest checkpoints whose times are kept


class Span:
    """A context whose time is of one kind, except for inner contexts of other kinds.

    Args:
      goodput: Stopwatch.
      kind: Kind of time, one of `KINDS`.
    """

    def __init__(self, goodput: "Goodput", kind: str):
        self._goodput, self._kind = goodput, kind
        self.seconds = 0.0  # from enter to exit, including inner contexts

    def __enter__(self) -> "Span":
        self._outer = self._goodput.kind
        self._began = self._goodput.turn(self._kind)
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = self._goodput.turn(self._outer) - self._began


class Goodput:
    """Measures the time of one launch. Time of no particular kind is `other`.

    Args:
      began: Value of `time.perf_counter()` when the launch began, such as `process_began()`; None for now. The time
        from then to now is `start_up`.

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
        self.publish: Callable[[dict[str, Any]], None] = lambda record: (
            None
        )  # called with the account at every checkpoint

    def turn(self, kind: str) -> float:
        """Switches to another kind of time.

        Args:
          kind: Kind of the time from now on, one of `KINDS`.

        Returns:
          The present value of `time.perf_counter()`.
        """
        now = time.perf_counter()
        self.seconds[self.kind] += now - self._since
        self._since, self.kind = now, kind
        return now

    def spent(self, kind: str) -> Span:
        """Returns a context whose time is of a kind.

        Args:
          kind: Kind of time, one of `KINDS`.
        """
        return Span(self, kind)

    def compiles(self, length: int) -> bool:
        """Returns whether the next dispatch of a length would be the first, which compiles its program.

        Args:
          length: Number of steps in the dispatch.
        """
        return length not in self._dispatched

    def dispatch(self, length: int) -> Span:
        """Returns a context for a dispatch. The first of each length counts as `compile`.

        Args:
          length: Number of steps in the dispatch.
        """
        new = length not in self._dispatched
        self._dispatched.add(length)
        return Span(self, "compile" if new else "productive")

    def saved(self, step: int) -> None:
        """Records the time spent up to a checkpoint, from which a later launch may resume.

        Args:
          step: Step of the checkpoint.
        """
        self.turn(self.kind)
        self.step = step
        self._marks.append({"step": step} | {kind: round(self.seconds[kind], 3) for kind in _REDONE})
        self.publish(self.record())

    def record(self, end: str = "running") -> dict[str, Any]:
        """Returns the account as JSON.

        Args:
          end: State of the launch: "running", "finished", "stopped" or "failed".
        """
        self.turn(self.kind)
        seconds = {kind: round(spent, 3) for kind, spent in self.seconds.items()}
        wall = round(self._since - self._began, 3)
        return {"end": end, "step": self.step, "wall": wall, "seconds": seconds, "marks": list(self._marks)}


def is_record(content: Any) -> bool:
    """Returns whether JSON is an account from `Goodput.record`, with the time of its last update.

    Args:
      content: JSON of any type, since the file may be damaged.
    """

    def has_numbers(value: Any, names: Iterable[str]) -> bool:
        return isinstance(value, dict) and all(isinstance(value.get(name), int | float) for name in names)

    return (
        has_numbers(content, ("step", "wall", "updated"))
        and isinstance(content.get("end"), str)
        and has_numbers(content.get("seconds"), KINDS)
        and isinstance(content.get("marks"), list)
        and all(has_numbers(mark, ("step", *_REDONE)) for mark in content["marks"])
    )


def lose(record: Mapping[str, Any], start: int) -> dict[str, Any]:
    """Returns the account of a launch whose steps after `start` were repeated, because the next launch resumed there.

    The time of these steps, as far as the account knows it, becomes `lost`.

    Args:
      record: Account from `Goodput.record`.
      start: Step from which the next launch resumed.

    >>> spent = {"productive": 30.0, "data_wait": 0.0, "evaluation": 2.0, "lost": 0.0}
    >>> mark = {"step": 100, "productive": 20.0, "data_wait": 0.0, "evaluation": 2.0}
    >>> lose({"step": 150, "seconds": spent, "marks": [mark]}, start=100)["seconds"]
    {'productive': 20.0, 'data_wait': 0.0, 'evaluation': 2.0, 'lost': 10.0}
    """
    seconds = dict(record["seconds"])
    # A launch that saved no checkpoint of that step began there, or after it, so all of its steps were repeated.
    base = next((mark for mark in record["marks"] if mark["step"] == start), dict.fromkeys(_REDONE, 0.0))
    for kind in _REDONE:
        seconds["lost"] = round(seconds["lost"] + seconds[kind] - base[kind], 3)
        seconds[kind] = base[kind]
    marks = [mark for mark in record["marks"] if mark["step"] <= start]
    return {**record, "step": min(record["step"], start), "seconds": seconds, "marks": marks}


def total(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Adds up the accounts of all launches.

    Args:
      records: Accounts from `Goodput.record`.

    Returns:
      The number of `launches`, their `wall` time, and `seconds` by kind.
    """
    records = list(records)
    seconds = {kind: round(sum(record["seconds"].get(kind, 0.0) for record in records), 3) for kind in KINDS}
    return {"launches": len(records), "wall": round(sum(record["wall"] for record in records), 3), "seconds": seconds}


def words(account: Mapping[str, Any]) -> str:
    """Formats an account as a line; kinds below a tenth of a percent are left out.

    Args:
      account: Account from `Goodput.record` or `total`.

    >>> words({"wall": 200.0, "seconds": {"productive": 150.0, "compile": 50.0, "lost": 0.0}})
    '3m20s: steps 75.0%, compiling 25.0%'
    """
    wall = max(account["wall"], 1e-9)
    shares = {KINDS[kind]: spent / wall for kind, spent in account["seconds"].items()}
    words = ", ".join(f"{name} {share:.1%}" for name, share in shares.items() if share >= 0.001)
    return f"{duration(account['wall'])}: {words}"


def process_began() -> float:
    """Returns the value of `time.perf_counter()` when this process began, so that the imports count.

    On systems other than Linux, which do not tell it, this is now.
    """
    now = time.perf_counter()
    try:
        with open("/proc/self/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])  # field 22: start in ticks since boot
        return now - max(time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"), 0.0)
    except (OSError, AttributeError, ValueError, IndexError):
        return now
