"""Shows the progress of slow work on stderr: a bar on a terminal, plain lines elsewhere.

Work of less than `FIRST` seconds shows nothing, so quick work and tests stay silent. Standard output is only for
results.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

FIRST = 5.0  # seconds before anything is shown
BETWEEN = 10.0  # seconds between two lines without a terminal
REFRESH = 0.2  # seconds between two updates of a bar

T = TypeVar("T")

_shown: list[object] = []  # the bar that is on the terminal; another one would overwrite it


def duration(seconds: float) -> str:
    """Formats seconds as hours, minutes and seconds, without leading zeros.

    Args:
      seconds: Number of seconds.

    >>> duration(5), duration(65), duration(3665)
    ('5s', '1m05s', '1h01m')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


def occupy(owner: object) -> None:
    """Marks the terminal as in use: `owner` shows its own bar, and others stay silent until `release`.

    Args:
      owner: Object that shows the bar.
    """
    _shown.append(owner)


def release(owner: object) -> None:
    """Marks the end of the bar of `owner`.

    Args:
      owner: Object that was passed to `occupy`.
    """
    with contextlib.suppress(ValueError):
        _shown.remove(owner)


class Progress:
    """Shows the progress of work that takes a while. Use it as a context manager, which ends the display.

    Args:
      what: Name of the work, such as "rendering shapes".
      total: Number of things to do; None if it is unknown.
      unit: Name of the things, in the plural.

    Example:

        with Progress("caching cifar10", len(source)) as progress:
            for example in source:
                progress.advance()
    """

    def __init__(self, what: str, total: int | None = None, unit: str = "examples"):
        self._what, self._total, self._unit = what, total, unit
        self._done = 0
        self._begun = time.monotonic()
        self._next = self._begun + FIRST
        self._lines = 0
        self._bar: Bar | None = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self.close(error is None)

    def advance(self, count: int = 1) -> None:
        """Counts finished things.

        Args:
          count: Number of things that were finished since the last call.
        """
        self._done = self._done + count if self._total is None else min(self._done + count, self._total)
        if time.monotonic() >= self._next:
            self._show()

    def close(self, finished: bool = True) -> None:
        """Ends the display. If something was shown and the work is finished, a last line gives the duration.

        Args:
          finished: True if the work is finished.
        """
        if self._bar:
            self._bar.stop()
            release(self)
        if finished and (self._bar or self._lines):
            count = f": {self._done:,} {self._unit}" if self._done else ""
            _console().print(f"{self._what}{count} in {duration(time.monotonic() - self._begun)}", markup=False)
        self._bar, self._lines, self._next = None, 0, float("inf")

    def _show(self) -> None:
        now = time.monotonic()
        if self._bar or (_console().is_terminal and not _shown):
            self._draw()
            self._next = now + REFRESH
            return
        if not _shown:
            _console().print(self._line(now - self._begun), markup=False)
            self._lines += 1
        self._next = now + BETWEEN

    def _line(self, seconds: float) -> str:
        if not self._done:
            return f"{self._what}: {duration(seconds)} so far"
        rate = self._done / max(seconds, 1e-9)
        pace = f"{rate:,.0f} a second" if rate >= 1 else f"{1 / rate:,.1f} s each"
        if not self._total:
            return f"{self._what}: {self._done:,} {self._unit}, {pace}"
        left = (self._total - self._done) / rate
        return f"{self._what}: {self._done:,} of {self._total:,} {self._unit}, {pace}, {duration(left)} left"

    def _draw(self) -> None:
        if not self._bar:
            number = "{task.completed:,}" + ("" if self._total is None else "/{task.total:,}")
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn(f"{number} {self._unit}"),
            )
            self._bar = Bar(
                *columns,
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=_console(),
                transient=True,
                auto_refresh=False,
            )
            # The bar starts late, so its start time is moved back to that of the work, to show the right speed.
            self._task = self._bar.add_task(self._what, total=self._total, start=False)
            self._bar.start_task(self._task)
            task = self._bar.tasks[0]
            task.start_time = (task.start_time or 0.0) - (time.monotonic() - self._begun)
            occupy(self)
            self._bar.start()
        self._bar.update(self._task, completed=self._done)
        self._bar.refresh()


def track(items: Iterable[T], what: str, total: int | None = None, unit: str = "examples") -> Iterator[T]:
    """Yields the items one after the other, and shows the progress.

    Args:
      items: Items to go through; their number, if they have a length, is the default of `total`.
      what: Name of the work; see `Progress`.
      total: Number of items; None if it is unknown.
      unit: Name of the items, in the plural.

    >>> [x * x for x in track(range(3), "squaring", unit="numbers")]
    [0, 1, 4]
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Progress(what, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()


def waiting(what: str, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Calls a function that cannot report its progress, and prints every few seconds that it is still running.

    Args:
      what: Name of the work; see `Progress`.
      call: Function to call.
      *args, **kwargs: Arguments of the function.

    Returns:
      The result of the function.

    >>> waiting("adding", sum, [1, 2])
    3
    """
    with Progress(what) as progress:
        ended = threading.Event()

        def refresh() -> None:
            while not ended.wait(REFRESH):
                progress.advance(0)

        thread = threading.Thread(target=refresh, daemon=True)
        thread.start()
        try:
            return call(*args, **kwargs)
        finally:
            ended.set()
            thread.join()


def _console() -> Console:
    """The present standard error; lines are not wrapped if it is not a terminal."""
    out = Console(stderr=True, highlight=False)
    return out if out.is_terminal else Console(stderr=True, highlight=False, width=200, soft_wrap=True)
