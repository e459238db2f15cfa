"""A run that makes no progress is ended, with the stacks of all its threads written down.

Progress is a tick of the gate (`parallel.gate`), which precedes every step and every batch of an evaluation, or another
thing that the main thread begins to do. How long it may take is learned from the steps.
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

TIMES_SLOWEST = 20  # a step may take so many times as long as the slowest of the recent ones
TIMES_OTHER = 6  # and what is no step so many times `seconds`: it may compile, or read a whole set
RECENT = 100
WRITE_SECONDS = 10  # for the stacks, where the file system may be what hangs


class Watchdog:
    """While entered, a thread ends the process with EXIT_HUNG when nothing has moved for too long.

    A step may take `seconds`, or 20 times as long as the slowest of the recent steps if that is more; what compiles,
    starts, saves, or lies between the batches of an evaluation may take six times `seconds`. Time in which the process
    itself was stopped does not count. Of several processes, the first that notices tells the others, and each writes
    the stacks of its own threads.

    Args:
      workdir: folder that gets hang-PROCESS.txt.
      seconds: without progress, in steps; 0 turns it off.
      process: number of this process in the job.
      watched: the gate whose ticks are progress.
      wake: seconds between two looks.
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
        """Seconds that what the main thread is doing now may take."""
        learned = TIMES_SLOWEST * max(self._recent, default=0.0)
        is_step = self._gate.doing is None and not self._gate.compiles
        return max(self._seconds * (1 if is_step and self._recent else TIMES_OTHER), learned)

    def _watch(self) -> None:
        seen, idle, before = None, 0.0, time.monotonic()
        while not self._end.wait(self._wake):
            now = time.monotonic()
            idle += min(now - before, 2 * self._wake)  # more is a process that was stopped, or a laptop that slept
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
        alone = not peers.tell_hang(line)  # else the thread of the peers leaves
        if alone or not self._end.wait(60):  # nor does one leave that has ended meanwhile
            leave(f"{line}: {self.write()}")

    def write(self) -> str:
        """Writes the stacks of all threads; returns where they are, in words."""
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
    """Ends the process with EXIT_HUNG."""
    signals.leave(EXIT_HUNG, f"{line}. Run the same command to resume from the latest checkpoint.")


class Ahead:
    """Bounds how far the host runs ahead of the devices, so that a stop, or a hang, is not minutes of steps away.

    What was dispatched more than `seconds` ago is waited for, but for the latest two dispatches.
    """

    def __init__(self, seconds: float = 5.0, sample: float = 0.1) -> None:
        self._seconds, self._sample = seconds, sample
        self._waiting: collections.deque[tuple[float, Any]] = collections.deque()

    def dispatched(self, outputs: Any) -> None:
        """Takes note of arrays that a dispatch will give."""
        now = time.monotonic()
        if not self._waiting or now - self._waiting[-1][0] >= self._sample:
            self._waiting.append((now, outputs))
        while len(self._waiting) > 2 and now - self._waiting[0][0] > self._seconds:
            jax.block_until_ready(self._waiting.popleft()[1])
