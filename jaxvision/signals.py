"""Signals that stop a command. It reacts to them from its first line on, whatever its main thread is doing.

Python calls a handler between two bytecodes of the main thread, so not while XLA compiles or a process waits for
others. But the system writes the number of each signal to a pipe at once (`signal.set_wakeup_fd`), and a thread reads
it. What a signal does depends on the state of the command:

- Nothing to save yet (imports, building, reading data, compiling): the signal raises `Interrupted` in the main thread.
  If the main thread does not handle it within `UNWIND_SECONDS`, the process ends without it.
- Held (`hold`, called by `train.watch.StopSignal`): `requested()` returns the signal; the holder saves and stops.
- Joined to other processes (`join`): these are asked first, so that all stop in the same way; see `parallel/peers.py`.

A second SIGINT stops the process at once. This module is the first that a command imports, so it imports nothing heavy.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType

from jaxvision.exits import EXIT_INCOMPLETE, EXIT_INTERRUPTED, EXIT_PREEMPTED

RESUMABLE = ("train", "study", "sweep")  # commands that resume their work when they are started again
SIGNALS = (signal.SIGTERM, signal.SIGINT)
UNWIND_SECONDS = 2.0
SAME_SIGNAL_SECONDS = 0.3  # a shell and a launcher may both pass on one Ctrl-C


Failing = Callable[[int, BaseException, Callable[[], None]], None]


class Interrupted(KeyboardInterrupt):
    """Raised in the main thread by a signal when there is nothing to save."""


class _State:
    """The signals received so far. It has no lock, because a handler may interrupt the thread that holds the lock."""

    def __init__(self, before: "_State | None" = None) -> None:
        self.command: str | None = None
        self.requested: str | None = None
        self.heard = 0.0  # time.monotonic() of the first signal; 0: none yet
        self.holds = 0
        self.ended: int | None = None  # exit status of a command that has ended
        self.joined: Callable[[], None] | None = before.joined if before else None
        self.failing: Failing | None = before.failing if before else None
        self.speaks: bool = before.speaks if before else True
        self.console = False


_state = _State()
_listening = False
_leaving = threading.Lock()


def requested() -> str | None:
    """Returns the name of the first signal received, "SIGTERM" or "SIGINT", or None."""
    return _state.requested


def request(name: str) -> None:
    """Records a signal that another process of the job received, so that this process stops, too.

    Args:
      name: Name of the signal, such as "SIGTERM".
    """
    _state.requested = _state.requested or name


def held() -> bool:
    """Returns whether a signal is only recorded, because the caller of `hold` saves the state before it stops."""
    return _state.holds > 0


def hold() -> None:
    """Makes a signal only be recorded, until `release`."""
    _state.holds += 1


def release() -> None:
    """Ends one `hold`."""
    _state.holds -= 1


def join(ask: Callable[[], None], failing: Failing, speaks: bool) -> None:
    """Makes this process one of several.

    Args:
      ask: Function that makes all processes of the job stop. It is called, from another thread, when this process
        receives a signal.
      failing: Function that tells the other processes of a failed command. It is called with the exit status, the
        error, and a function that prints the error.
      speaks: True in the process that prints messages for all of them.
    """
    _state.joined, _state.failing, _state.speaks = ask, failing, speaks


def ended() -> int | None:
    """Returns the exit status of a command that has ended while its process is still alive, else None."""
    return _state.ended


def speaks() -> bool:
    """Returns whether this process prints messages for all processes of the job."""
    return _state.speaks


def status_when_stopped() -> int:
    """Returns the exit status of the command if a signal ends it now; see exits.py."""
    return EXIT_PREEMPTED if _state.command in RESUMABLE or _state.requested != "SIGINT" else EXIT_INTERRUPTED


def stopped_early() -> str:
    """Returns the message of a command that a signal ends when there is nothing to save."""
    if _state.command in RESUMABLE:
        return f"stopped by {_state.requested}; there was nothing to save yet. Run the same command to start again."
    command = _state.command or "the command"
    return f"stopped by {_state.requested}; {command} is not finished. Run the same command to start again."


def leave(code: int, line: str = "") -> None:
    """Ends the process at once, from any thread, without unwinding.

    Args:
      code: Exit status.
      line: Message for stderr; empty for none.
    """
    if not _leaving.acquire(blocking=False):
        while True:  # another thread ends the process
            time.sleep(60)
    flushing = threading.Thread(target=_flush, daemon=True)  # which may block, if the main thread is in a write
    flushing.start()
    flushing.join(0.5)
    with contextlib.suppress(OSError):
        cursor = "\x1b[?25h\r\x1b[K" if os.isatty(2) else ""  # a progress bar hides it
        os.write(2, f"{cursor}jaxvision: {line}\n".encode() if line else cursor.encode())
    os._exit(code)


def _flush() -> None:
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()


@contextlib.contextmanager
def listening(command: str | None = None, *, console: bool = False) -> Iterator[None]:
    """Handles SIGTERM and SIGINT while entered.

    It does nothing inside of another `listening` and outside of the main thread.

    Args:
      command: Name of the command, on which the exit status depends.
      console: True if the process ends after the block. Signals are then handled up to the end of the process, and one
        that comes after the block does not change the exit status. If False, a signal raises KeyboardInterrupt (while
        signals are held, only the second one does) and never ends the process.
    """
    global _state, _listening
    if _listening:
        _state.command = _state.command or command
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state, _listening = _State(_state), True
    _state.command, _state.console = command, console
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = {number: signal.signal(number, _handle) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(read, _state), name="jaxvision-signals", daemon=True).start()
    if console:
        atexit.register(_deaf)  # the first that is registered is the last that is called
    try:
        try:
            yield
        except Interrupted:
            if not console:
                raise
            leave(status_when_stopped(), stopped_early())
        except SystemExit as error:
            _state.ended = error.code if isinstance(error.code, int) else int(error.code is not None)
            _failed(_state.ended, error)
            raise
        except BaseException as error:
            _state.ended = 1
            _failed(1, error)
            raise
        else:
            _state.ended = 0
    finally:
        if not console:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(write)
            _state, _listening = _State(_state), False


def _failed(status: int, error: BaseException) -> None:
    """Ends a failed process of several at once. At a normal end it would wait for the others, which may wait for it."""
    if _state.console and _state.failing and status not in (0, EXIT_INCOMPLETE, EXIT_PREEMPTED):
        says = (lambda: None) if isinstance(error, SystemExit) else lambda: traceback.print_exception(error)
        _state.failing(status, error, says)
        leave(status)


def _deaf() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _handle(number: int, frame: FrameType | None) -> None:
    again = _state.heard and time.monotonic() - _state.heard > SAME_SIGNAL_SECONDS
    if again and number == signal.SIGINT and not _state.console:
        raise KeyboardInterrupt  # the process, such as a notebook, is not ours to end
    request(signal.Signals(number).name)
    if _state.console and _state.command in RESUMABLE:
        return  # the thread ends the process: an exception that leaves a compilation would print its traceback
    if not (held() or _state.joined or _state.ended is not None):
        raise Interrupted


def _listen(pipe: int, state: _State) -> None:
    with contextlib.suppress(OSError), os.fdopen(pipe, "rb", buffering=0) as numbers:
        while data := numbers.read(64):
            for number in data:
                if number in SIGNALS and state is _state:
                    _heard(signal.Signals(number))


def _heard(number: signal.Signals) -> None:
    now = time.monotonic()
    if not _state.console:
        _state.heard = _state.heard or now
        if _state.joined:
            _state.joined()
        return
    if _state.ended is not None:
        leave(_state.ended)
    if _state.heard and number == signal.SIGINT and now - _state.heard > SAME_SIGNAL_SECONDS:
        lost = "work since the last checkpoint is lost" if held() or _state.joined else "nothing was saved"
        leave(EXIT_INTERRUPTED, f"stopped at once by a second SIGINT; {lost}.")
    if _state.heard:
        return
    _state.heard = now
    request(number.name)
    if held() and number == signal.SIGINT:
        with contextlib.suppress(OSError):
            os.write(2, b"\njaxvision: SIGINT: saving the state, then stopping. Press Ctrl-C again to stop at once.\n")
    if _state.joined:
        _state.joined()
    elif not held():
        timer = threading.Timer(0 if _state.command in RESUMABLE else UNWIND_SECONDS, _unwound, (_state,))
        timer.daemon = True
        timer.start()


def _unwound(state: _State) -> None:
    if state is _state and not held() and _state.ended is None:
        leave(status_when_stopped(), stopped_early())


# A forked child must not write its signals to the pipe of its parent, not even the first one.
def _before_fork() -> None:
    if _listening:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _in_parent() -> None:
    if _listening:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _in_child() -> None:
    global _state, _listening
    if _listening:
        _state, _listening = _State(), False
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
