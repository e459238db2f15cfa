"""A signal to stop becomes a checkpoint."""

import contextlib
import signal
from types import FrameType
from typing import Any


class Preempted(Exception):
    """The run was told to stop, saved its state and can be resumed."""


class StopSignal:
    """While entered, SIGINT and SIGTERM set `received`; a second SIGINT interrupts at once.

    A signal that came too late to stop what was entered is handed on to a `StopSignal` around it.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not in the main thread: signals stay as they are
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        outer = self._previous.get(signal.SIGTERM)
        if self.received and error is None and callable(outer):
            outer(signal.Signals[self.received], None)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
