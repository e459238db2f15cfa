"""A signal to stop becomes a checkpoint."""

import functools
from collections.abc import Callable

from jaxvision import signals
from jaxvision.parallel import peers
from jaxvision.parallel.gate import Preempted as Preempted


class StopSignal:
    """While entered, SIGINT and SIGTERM are noted in `received` and end nothing; a second SIGINT leaves at once.

    A signal that came too late to stop what was entered is left to what is around it.

    Args:
      armed: False if that begins with `arm` only, such as when there is something to save.
    """

    _around: list["StopSignal"] = []

    def __init__(self, armed: bool = True) -> None:
        self._armed = armed
        self._holds = False
        self._received: str | None = None

    @property
    def received(self) -> str | None:
        """The name of the signal, or None."""
        return signals.requested() if self._holds else self._received

    def arm(self) -> None:
        """Begins to hold signals, up to the exit, and makes those do it that are around."""
        for one in self._around[: self._around.index(self) + 1]:
            if not one._holds:
                signals.hold()
                one._holds = True

    def __enter__(self) -> "StopSignal":
        self._listening = signals.listening()
        self._listening.__enter__()
        self._around.append(self)
        if self._armed:
            self.arm()
        return self

    def __exit__(self, *error: object) -> None:
        self._around.remove(self)
        if self._holds:
            self._received, self._holds = signals.requested(), False
            signals.release()
        self._listening.__exit__(None, None, None)


def to_its_end(run: Callable) -> Callable:
    """Decorates a command: once its loop has begun, signals are held up to its return, and so up to its last save."""

    @functools.wraps(run)
    def wrapped(*args, **kwargs):
        with StopSignal(armed=False), peers.explaining():
            return run(*args, **kwargs)

    return wrapped
