"""Ends a run that makes no progress, and writes the stacks of all its threads to a file.

Progress is a tick of the gate (`parallel.gate`), before every step and every batch of an evaluation, or the begin of
other work of the main thread. How long a step may take is learned from the steps before.
"""

import collections
import contextlib
import faulthandler
import tempfile
import threading
import time
from types import TracebackType
from typing import Any

import jax

from jaxvision import signals, storage
from jaxvision.exits import EXIT_HUNG
from jaxvision.parallel import peers
from jaxvision.parallel.gate import Gate, gate
from jaxvision.storage import Path

PyTree = Any

TIMES_SLOWEST = 20  # limit of a step, as a multiple of the slowest recent one
TIMES_OTHER = 6  # limit of other work, as a multiple of `seconds`: it may compile, or read a whole data set
RECENT = 100  # number of recent steps
WRITE_SECONDS = 10  # limit for writing the stacks, because it may be the file system that hangs


class Watchdog:
    """While entered, a thread ends the process with EXIT_HUNG if there is no progress for too long.

    A step may take `seconds`, or 20 times as long as the slowest recent step if that is more. Compiling, starting,
    saving and the batches of an evaluation may take six times `seconds`. Time in which the process itself was stopped
    does not count. The first of several processes that notices tells the others, and each writes the stacks of its own
    threads.

    Args:
      workdir: Folder for the file hang-PROCESS.txt.
      seconds: Limit of a step without progress; 0 turns the watchdog off.
      process: Number of this process in the job.
      watched: Gate whose ticks are progress.
      wake: Interval of the checks in seconds.
    """

    def __init__(
        self, workdir: Path, seconds: float, process: int = 0, watched: Gate = gate, wake: float = 1.0
    ) -> None:
        self._workdir, self._seconds, self._process, self._gate, self._wake = workdir, seconds, process, watched, wake
        self._recent: collections.deque[float] = collections.deque(maxlen=RECENT)
        self._end = threading.Event()

    def __enter__(self) -> "Watchdog":
        peers.on_hang(self.write)
        if self._seconds:
            threading.Thread(target=self._watch, name="jaxvision-watchdog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        peers.on_hang(None)

    def limit(self) -> float:
        """Returns the seconds that the present work of the main thread may take."""
        learned = TIMES_SLOWEST * max(self._recent, default=0.0)
        is_step = self._gate.doing is None and not self._gate.compiles
        return max(self._seconds * (1 if is_step and self._recent else TIMES_OTHER), learned)

    def _watch(self) -> None:
        seen, idle, before = None, 0.0, time.monotonic()
        while not self._end.wait(self._wake):
            now = time.monotonic()
            idle += min(
                now - before, 2 * self._wake
            )  # a longer time means that the process was stopped, or the laptop slept
            before = now
            look = (self._gate.passed, self._gate.doing, self._gate.compiles)
            if look != seen:
                if seen and seen[1:] == look[1:] == (None, False):
                    self._recent.append(idle)
                seen, idle = look, 0.0
            elif idle > self.limit():
                self._hung(idle)

    def _hung(self, idle: float) -> None:
        doing = self._gate.doing or "the training steps"
        line = f"no progress for {idle:.0f} s in {doing}"
        alone = not peers.tell_hang(line)  # else the thread of the peers ends the process
        if alone or not self._end.wait(60):  # unless the run ends meanwhile
            leave(f"{line}: {self.write()}")

    def write(self) -> str:
        """Writes the stacks of all threads, and returns in words where they are."""
        path = self._workdir / f"hang-{self._process}.txt"
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file)
            file.seek(0)
            text = file.read()
        done = threading.Event()

        def put() -> None:
            with contextlib.suppress(Exception):
                storage.write(path, text)
                done.set()

        threading.Thread(target=put, daemon=True).start()
        if done.wait(WRITE_SECONDS):
            return f"the stacks of its threads are in {path}"
        return f"its stacks cannot be written to {path}, so here they are:\n{text}"


def leave(line: str) -> None:
    """Ends the process with EXIT_HUNG.

    Args:
      line: Message, without a full stop; advice to resume is added.
    """
    signals.leave(EXIT_HUNG, f"{line}. Run the same command to resume from the latest checkpoint.")


class Ahead:
    """Limits how far the host runs ahead of the devices, so that a stop or a hang is noticed soon.

    It waits for all that was dispatched more than `seconds` ago, except for the latest two dispatches.

    Args:
      seconds: Time that the host may be ahead.
      sample: Shortest interval in seconds of the dispatches that are recorded.
    """

    def __init__(self, seconds: float = 5.0, sample: float = 0.1) -> None:
        self._seconds, self._sample = seconds, sample
        self._waiting: collections.deque[tuple[float, Any]] = collections.deque()

    def dispatched(self, outputs: PyTree) -> None:
        """Records a dispatch, and waits for old ones.

        Args:
          outputs: Arrays that the dispatch will return.
        """
        now = time.monotonic()
        if not self._waiting or now - self._waiting[-1][0] >= self._sample:
            self._waiting.append((now, outputs))
        while len(self._waiting) > 2 and now - self._waiting[0][0] > self._seconds:
            jax.block_until_ready(self._waiting.popleft()[1])
