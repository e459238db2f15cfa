"""Signals to stop, heard from the first line of a command on, whatever its main thread is doing.

Python calls a handler between two bytecodes of the main thread, so not while XLA compiles or a process waits for
others. The system writes the number of each signal into a pipe all the same (`signal.set_wakeup_fd`), and a thread
reads it. What a signal does depends on where the command is:

- Nothing to save yet (imports, building, reading data, compiling): the command unwinds and leaves; where the main
  thread does not come to that within `UNWIND_SECONDS`, the process ends without it.
- Held (`hold`, by `train.watch.StopSignal`): the signal is noted in `requested()`, and who holds it saves and leaves.
- Joined to other processes (`join`): these are asked first, so that all leave in the same way; see `parallel/peers.py`.

A second SIGINT leaves at once. This module imports nothing heavy: it is the first that a command imports.
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

GOES_ON = ("train", "study", "sweep")  # commands that go on where they were when they are started again
SIGNALS = (signal.SIGTERM, signal.SIGINT)
UNWIND_SECONDS = 2.0
SAME_SIGNAL_SECONDS = 0.3  # a shell and a launcher may both hand on one Ctrl-C


Failing = Callable[[int, BaseException, Callable[[], None]], None]


class Interrupted(KeyboardInterrupt):
    """Raised in the main thread by a signal where there is nothing to save."""


class _State:
    """What has been heard. It is read and written without locks, since a handler may interrupt whoever holds one."""

    def __init__(self, before: "_State | None" = None) -> None:
        self.command: str | None = None
        self.requested: str | None = None
        self.heard = 0.0  # when, of time.monotonic(); 0: never
        self.holds = 0
        self.ended: int | None = None  # exit status of a command that has ended
        self.joined: Callable[[], None] | None = before.joined if before else None
        self.failing: Failing | None = before.failing if before else None
        self.speaks = before.speaks if before else True
        self.console = False


_state = _State()
_listening = False
_leaving = threading.Lock()


def requested() -> str | None:
    """The name of the first signal to stop, "SIGTERM" or "SIGINT", or None."""
    return _state.requested


def request(name: str) -> None:
    """Stops this process as the signal `name` would: another process of the job has heard it."""
    _state.requested = _state.requested or name


def held() -> bool:
    """Whether somebody saves what there is when a signal comes."""
    return _state.holds > 0


def hold() -> None:
    """From now on a signal is only noted; `release` ends it."""
    _state.holds += 1


def release() -> None:
    """Ends what `hold` began."""
    _state.holds -= 1


def join(ask: Callable[[], None], failing: Failing, speaks: bool) -> None:
    """Makes this process one of several.

    Args:
      ask: called in place of leaving, from another thread; makes all processes of the job leave.
      failing: called with the exit status and the error of a command that fails, and what prints the error; tells
        the others.
      speaks: True in the process that says what all of them do.
    """
    _state.joined, _state.failing, _state.speaks = ask, failing, speaks


def ended() -> int | None:
    """The exit status of a command that has ended, whose process is about to; else None."""
    return _state.ended


def speaks() -> bool:
    """Whether this process says what all processes of the job do."""
    return _state.speaks


def status_when_stopped() -> int:
    """The exit status of the command if a signal ends it now; see exits.py."""
    return EXIT_PREEMPTED if _state.command in GOES_ON or _state.requested != "SIGINT" else EXIT_INTERRUPTED


def stopped_early() -> str:
    """The line of a command that a signal ends where there is nothing to save."""
    if _state.command in GOES_ON:
        return f"stopped by {_state.requested}; there was nothing to save yet. Run the same command to resume."
    return f"stopped by {_state.requested}; {_state.command or 'the command'} is not done."


def leave(code: int, line: str = "") -> None:
    """Ends the process at once, from any thread, after one line on stderr. Nothing is unwound."""
    if not _leaving.acquire(blocking=False):
        while True:  # another thread is at it
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
    """Hears SIGTERM and SIGINT while entered. Inside of another `listening`, or outside of the main thread, it does
    nothing.

    Args:
      command: name of the command, on which the exit status depends.
      console: True where the process ends with what is entered: it listens on up to the very end, and a signal that
        comes then does not change the exit status. Otherwise a signal raises KeyboardInterrupt, the second one where
        it is held, and never ends the process.
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
    """Of several processes, one that fails does not wait at its end for the others, who may be waiting for it."""
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
    if _state.console and _state.command in GOES_ON:
        return  # the thread ends the process: what unwinds out of a compilation prints its trace
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
        lost = "what was not saved yet is lost" if held() or _state.joined else "nothing was saved"
        leave(EXIT_INTERRUPTED, f"a second SIGINT: left at once, {lost}.")
    if _state.heard:
        return
    _state.heard = now
    request(number.name)
    if held() and number == signal.SIGINT:
        with contextlib.suppress(OSError):
            os.write(2, b"\njaxvision: SIGINT: saving, then leaving; a second Ctrl-C leaves at once\n")
    if _state.joined:
        _state.joined()
    elif not held():
        timer = threading.Timer(0 if _state.command in GOES_ON else UNWIND_SECONDS, _unwound, (_state,))
        timer.daemon = True
        timer.start()


def _unwound(state: _State) -> None:
    if state is _state and not held() and _state.ended is None:
        leave(status_when_stopped(), stopped_early())


# A forked child must not write its signals into the pipe of its parent, not even the first it gets.
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
