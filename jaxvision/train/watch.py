"""Turns a signal to stop into a checkpoint."""

import functools
from collections.abc import Callable

from jaxvision import signals
from jaxvision.parallel import peers
from jaxvision.parallel.gate import Preempted as Preempted


class StopSignal:
    """While entered, keeps SIGINT and SIGTERM in `received` instead of ending; a second SIGINT ends at once.

    A signal that comes too late to stop the work inside is passed on to the surrounding context.

    Args:
      armed: False if signals are held only after a call of `arm`, for instance once there is something to save.
    """

    _around: list["StopSignal"] = []

    def __init__(self, armed: bool = True) -> None:
        self._armed = armed
        self._holds = False
        self._received: str | None = None

    @property
    def received(self) -> str | None:
        """Name of the signal that was received, or None."""
        return signals.requested() if self._holds else self._received

    def arm(self) -> None:
        """Holds signals until the exit, in this context and in the surrounding ones."""
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
    """Decorates a command so that, once its loop has begun, signals are held until its last save.

    Args:
      run: Function of the command.
    """

    @functools.wraps(run)
    def wrapped(*args, **kwargs):
        with StopSignal(armed=False), peers.explaining():
            return run(*args, **kwargs)

    return wrapped
