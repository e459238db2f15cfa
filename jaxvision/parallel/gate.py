"""The gate before each piece of work that all processes do together, where they stop after the same one.

Every dispatch of a training step and every batch of an evaluation is preceded by `tick()`, in all processes in the same
order. To stop, each process closes its gate, which tells how many ticks its main thread has passed; the main thread
waits at its next one. The largest of these numbers is where all leave: a process that is behind is let through up to
it, since others may be waiting for it in a collective operation, and a main thread that is in one has passed the tick
before it. So whatever signal reaches whichever process, no process waits for one that does not come.

A single process stops at its next tick.
"""

import contextlib
import threading
from collections.abc import Iterator

from jaxvision import signals


class Preempted(Exception):
    """The run was told to stop, saved its state and can be resumed."""


class Stopped(Preempted):
    """Raised by a tick: stop here. Of all that was dispatched nothing is half-done."""


class Gate:
    """Counts ticks, and stops all processes at the same one.

    Attributes:
      passed: number of ticks that the main thread has passed.
      compiles: True where the work that follows the latest tick may compile a program, and so take long.
      doing: activity of the main thread, in words; None for training steps.
    """

    def __init__(self) -> None:
        self.passed = 0
        self.compiles = True
        self.doing: str | None = "starting"
        self.alone = True
        self._changed = threading.Condition()
        self._closed = False
        self._last: int | None = None

    def tick(self, compiles: bool = False) -> None:
        """Passes the gate, waits at it while the processes agree, or raises `Stopped`."""
        self.compiles = compiles
        if self.alone:
            if signals.requested() and signals.held():
                raise Stopped(signals.requested())
            self.passed += 1
            return
        with self._changed:
            while self._closed and self._last is None:
                self._changed.wait()
            if self._last is not None and self.passed >= self._last:
                raise Stopped(signals.requested())
            self.passed += 1

    @contextlib.contextmanager
    def busy(self, doing: str | None) -> Iterator[None]:
        """Says what the main thread is doing meanwhile."""
        before, self.doing = self.doing, doing
        try:
            yield
        finally:
            self.doing = before

    def close(self) -> int:
        """Lets nothing pass any more; returns how many ticks have passed."""
        with self._changed:
            self._closed = True
            return self.passed

    def open_until(self, last: int) -> None:
        """Lets the ticks up to number `last` pass; the one after it raises `Stopped`."""
        with self._changed:
            self._last = last
            self._changed.notify_all()


gate = Gate()  # of this process


def tick(compiles: bool = False) -> None:
    """What precedes each piece of work that all processes do together.

    Args:
      compiles: True where the work may compile a program, and so take long.

    Raises:
      Stopped: the processes stop here.
    """
    gate.tick(compiles)
