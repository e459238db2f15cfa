"""What a person sees while something takes long: on stderr, a bar on a terminal and plain lines elsewhere.

Nothing is shown of what takes less than `FIRST` seconds, so quick work and tests stay silent. Standard output is left
to results.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

FIRST = 5.0  # seconds before anything is shown
BETWEEN = 10.0  # seconds between two lines where there is no terminal
REFRESH = 0.2  # seconds between two pictures of a bar

T = TypeVar("T")

_shown: list[object] = []  # the bar that is on the terminal; another one would overwrite it


def duration(seconds: float) -> str:
    """Hours, minutes, seconds without leading zeros.

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
    """Says that `owner` shows a bar of its own: others keep silent until `release`."""
    _shown.append(owner)


def release(owner: object) -> None:
    """The bar of `owner` is gone."""
    with contextlib.suppress(ValueError):
        _shown.remove(owner)


class Progress:
    """Shows how far something is, once it has taken a while; a context that ends the display.

    Args:
      what: what is done, as in "rendering shapes".
      total: how many things there are; None where that is not known.
      unit: what they are, in the plural.

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
        """Counts what has been done."""
        self._done = self._done + count if self._total is None else min(self._done + count, self._total)
        if time.monotonic() >= self._next:
            self._show()

    def close(self, finished: bool = True) -> None:
        """Ends the display; where something was shown and all is done, a line says how long it took."""
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
            # The speed is that of the whole, of which the bar has not seen the beginning.
            self._task = self._bar.add_task(self._what, total=self._total, start=False)
            self._bar.start_task(self._task)
            self._bar.tasks[0].start_time -= time.monotonic() - self._begun
            occupy(self)
            self._bar.start()
        self._bar.update(self._task, completed=self._done)
        self._bar.refresh()


def track(items: Iterable[T], what: str, total: int | None = None, unit: str = "examples") -> Iterator[T]:
    """The items, one after the other, with their progress shown.

    Args:
      items: what is gone through; its length is the total where it has one.
      what, total, unit: see `Progress`.

    >>> [x * x for x in track(range(3), "squaring", unit="numbers")]
    [0, 1, 4]
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    with Progress(what, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()


def waiting(what: str, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Calls something that cannot say how far it is, and says every few seconds that it goes on.

    >>> waiting("adding", sum, [1, 2])
    3
    """
    with Progress(what) as progress:
        ended = threading.Event()

        def tell() -> None:
            while not ended.wait(REFRESH):
                progress.advance(0)

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        try:
            return call(*args, **kwargs)
        finally:
            ended.set()
            teller.join()


def _console() -> Console:
    """Standard error, as it is now; lines are not wrapped where it is no terminal."""
    out = Console(stderr=True, highlight=False)
    return out if out.is_terminal else Console(stderr=True, highlight=False, width=200, soft_wrap=True)
