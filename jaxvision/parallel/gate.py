"""The gate before each piece of work that all processes do together; it makes them stop after the same piece.

Every dispatch of a training step and every batch of an evaluation is preceded by `tick()`, in all processes in the same
order. To stop, each process closes its gate, which returns the number of ticks that its main thread has passed; the
main thread waits at its next one. All processes leave at the largest of these numbers: a process that is behind may
pass until then, since others may be waiting for it in a collective operation, and a main thread in such an operation
has already passed the tick before it. So no process waits for one that does not come, whatever signal reaches which
process.

A single process stops at its next tick.
"""

import contextlib
import threading
from collections.abc import Iterator

from jaxvision import signals


class Preempted(Exception):
    """The run was asked to stop; it has saved its state and can be resumed.

    Attributes:
      advice: Sentence that says how to resume it.
    """

    advice = "Run the same command to resume."


class Stopped(Preempted):
    """Raised by a tick to stop here. Everything that was dispatched is complete."""


class Gate:
    """Counts ticks, and stops all processes at the same one.

    Attributes:
      passed: Number of ticks that the main thread has passed.
      compiles: True if the work after the latest tick may compile a program, and so take long.
      doing: Activity of the main thread, in words; None for training steps.
      alone: True for a single process.
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
        """Passes the gate, or waits at it while the processes agree where to stop.

        Args:
          compiles: True if the work may compile a program, and so take long.

        Raises:
          Stopped: If the processes stop here.
        """
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
        """Sets the activity of the main thread inside a `with` block.

        Args:
          doing: Activity in words; None for training steps.
        """
        before, self.doing = self.doing, doing
        try:
            yield
        finally:
            self.doing = before

    def close(self) -> int:
        """Closes the gate to further ticks, and returns the number of ticks passed so far."""
        with self._changed:
            self._closed = True
            return self.passed

    def open_until(self, last: int) -> None:
        """Opens the gate up to a tick; the next one raises `Stopped`.

        Args:
          last: Number of the last tick that may pass.
        """
        with self._changed:
            self._last = last
            self._changed.notify_all()


gate = Gate()  # the gate of this process


def tick(compiles: bool = False) -> None:
    """Passes the gate of this process; call it before each piece of work that all processes do together.

    Args:
      compiles: True if the work may compile a program, and so take long.

    Raises:
      Stopped: If the processes stop here.
    """
    gate.tick(compiles)
