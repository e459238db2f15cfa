"""Calls the loggers of a run. Whatever a logger does or fails to do, training goes on as it would without it.

A logger in the background is called in a thread of its own, from a queue of `MOST_WAITING` events: when it is full, new
events are left out and counted. At the end the threads get `END_SECONDS` to finish, after a signal `STOP_SECONDS`.
"""

import contextlib
import copy
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from jaxvision import own_modules
from jaxvision.loggers import Entry
from jaxvision.loggers.base import Event, Run
from jaxvision.parallel.gate import Preempted

MOST_WAITING = 1000
END_SECONDS = 60.0
STOP_SECONDS = 10.0
MAX_TEXT = 300  # characters of an exception's text that a warning repeats
KEPT = "metrics.jsonl has all numbers"

_log = logging.getLogger(__name__)


class _Logger(Protocol):
    def __call__(self, event: Event) -> None: ...

    def end(self, event: Event, until: float) -> None: ...

    def wait(self, until: float) -> None: ...


class Observers:
    """The loggers of a run, as a context: when it is left, they are told the end.

    Args:
      entries: Entries of the config.
      run: Run that they are told, with the name of its workdir.

    Attributes:
      run: Run that they are told.
      results: Results of the run, which the loggers are told at the end of a finished run.
    """

    def __init__(self, entries: Sequence[Entry], run: Run):
        self.run, self.results = run, dict[str, float]()
        self._say: Callable[[str], None] = lambda line: None
        self._step, self._started = 0, False
        self._loggers: list[_Logger] = []
        for entry in entries:
            run = self.run._replace(config=copy.deepcopy(self.run.config), say=self._print)
            told = run if entry.common.run_name is None else run._replace(name=entry.common.run_name)
            what = f"the logger {entry.common.name!r}"
            log = own_modules.call_factory(what, entry.factory, run=told, **entry.options)
            direct = _Direct(entry.name, log)
            self._loggers.append(_Background(direct) if entry.background else direct)

    def begin(self, step: int, say: Callable[[str], None]) -> None:
        """Tells the loggers that the launch starts. Without it they are not told its end.

        Args:
          step: Step from which the launch starts.
          say: Function that prints a line for a logger; it may be called from another thread.
        """
        self._say, self._started = say, True
        self._tell(Event("start", step, {}, lambda: _on_host(None)))

    def __call__(self, kind: str, step: int, metrics: Mapping[str, float], state: Any = None) -> None:
        """Tells the loggers of an event.

        Args:
          kind: Kind of the event; see `loggers.base.Event`.
          step: Number of steps taken.
          metrics: Numbers by name.
          state: State after these steps, or None if there is none.
        """
        self._tell(Event(kind, step, dict(metrics), lambda: _on_host(state)))

    def __enter__(self) -> "Observers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not self._started:
            return
        status = "finished" if error is None else "stopped" if isinstance(error, Preempted) else "failed"
        until = time.monotonic() + (END_SECONDS if status == "finished" else STOP_SECONDS)
        event = Event("end", self._step, dict(self.results), lambda: _on_host(None), status)
        for logger in self._loggers:
            logger.end(_copied(event), until)
        for logger in self._loggers:
            logger.wait(until)

    def _print(self, line: str) -> None:
        """Prints a line of a logger. It raises nothing: a line that cannot be printed is no failure of the logger."""
        try:
            self._say(line)
        except Exception as error:
            _log.warning("a line of a logger cannot be kept (%s): %s", _described(error), line)

    def _tell(self, event: Event) -> None:
        self._step = event.step
        for logger in self._loggers:
            logger(_copied(event))


class _Direct:
    """Calls a logger; an exception becomes a warning, the first one with its place in the user's code.

    Args:
      name: Name of the entry in the config.
      log: Logger.
    """

    def __init__(self, name: str, log: Callable[[Event], Any]):
        self.name, self._call = name, log
        self._failed = 0
        self._dead = False

    def __call__(self, event: Event) -> None:
        if self._dead:
            return
        try:
            self._call(event)
        except (Exception, SystemExit) as error:
            self._failed += 1
            self._dead = event.kind == "start"
            if self._failed == 1:
                then = "It is not called again" if self._dead else "It is called again"
                _log.warning(
                    "the logger %r failed at step %d (%s): %s. %s, and training continues; %s",
                    self.name,
                    event.step,
                    event.kind,
                    _described(error),
                    then,
                    KEPT,
                )

    def end(self, event: Event, until: float) -> None:
        self(event)

    def wait(self, until: float) -> None:
        if self._failed > 1:
            _log.warning("the logger %r failed at %d events; %s", self.name, self._failed, KEPT)


class _Background:
    """Calls a logger in a thread, from a queue. It never waits.

    Args:
      direct: Logger.
    """

    def __init__(self, direct: _Direct):
        self._direct, self._left_out = direct, 0
        self._queue: queue.Queue[Event | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._work, name=f"logger {direct.name}", daemon=True)

    def __call__(self, event: Event) -> None:
        if event.kind == "start":
            self._thread.start()
        try:
            self._queue.put_nowait(event._replace(state=_no_state))
        except queue.Full:
            self._left_out += 1

    def end(self, event: Event, until: float) -> None:
        with contextlib.suppress(queue.Full):
            for last in (event._replace(state=_no_state), None):
                self._queue.put(last, timeout=max(until - time.monotonic(), 0.0))

    def wait(self, until: float) -> None:
        self._thread.join(max(until - time.monotonic(), 0.0))
        if self._thread.is_alive():
            _log.warning("the logger %r has not finished and is left behind; %s", self._direct.name, KEPT)
            return
        if self._left_out:
            _log.warning("the logger %r was too slow for %d events; %s", self._direct.name, self._left_out, KEPT)
        self._direct.wait(until)

    def _work(self) -> None:
        while (event := self._queue.get()) is not None:
            self._direct(event)


def _copied(event: Event) -> Event:
    """An event with numbers of its own, for one of several loggers."""
    return event._replace(metrics=dict(event.metrics))


def _no_state() -> Any:
    raise RuntimeError("a logger in the background gets no state: leave background=True out of its decorator")


def _described(error: BaseException) -> str:
    text = " ".join(str(error).split())
    text = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."
    place = own_modules.error_place(error)
    return f"{type(error).__name__}{': ' if text else ''}{text}" + (f", in {place}" if place else "")


def _on_host(state: Any) -> Any:
    """Copies a state to the host, as NumPy arrays that share no memory with it."""
    if state is None:
        raise RuntimeError("this event has no state: the events with a state are log, evaluation and checkpoint")

    def copy(x: Any) -> np.ndarray:
        if x.is_fully_addressable:
            return np.array(x)
        if x.is_fully_replicated:
            return np.array(x.addressable_data(0))
        raise RuntimeError("the state is spread over several processes: read a checkpoint of the run instead")

    return jax.tree.map(copy, state)
