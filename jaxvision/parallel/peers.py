"""Messages between the processes of a job, apart from their work: I am alive, stop, I am stuck, I failed.

A thread of each process writes and reads the key-value store of JAX's coordination service, which runs in process 0:

    alive/P   a number that grows with every beat, the ticks of P's gate, and the activity of P; or "ended"
    told/...  beat: the same of process 0; stop: the signal that a process has received; last: the tick after which all
              leave (see `gate.py`); suspect: a collective operation failed; dead: a process that is gone; hang: nothing
              moves; left-P: P failed
    count/P   the tick at which P has closed its gate

Process 0 reads all of `alive`, the others only its beat. A process that is silent for SILENCE_SECONDS counts as dead:
the others leave with one line and EXIT_PREEMPTED. JAX's own heartbeat, which takes longer, would abort them.
"""

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Protocol

import jax

from jaxvision import signals
from jaxvision.exits import EXIT_HUNG, EXIT_PREEMPTED
from jaxvision.parallel.gate import Gate, gate

BEAT_SECONDS = 1.0
AGREEING_SECONDS = 0.1  # time between two reads while the processes agree where to stop
SILENCE_SECONDS = 30.0  # long enough for a pause of the host, short enough that the others do not wait minutes
SUSPECT_SECONDS = 10.0  # the same, after a collective operation failed
GRACE_SECONDS = 5.0  # time for a process to end by itself, with its own message, after another one failed
TOLD_BEATS = 4  # beats that process 0, which runs the store, waits between telling the others and leaving
RESUME = "Run the same command to resume from the latest checkpoint."
SAFE = "what was saved is safe. Run the same command to resume."

_STATUS = re.compile(r"(?:UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION): ")

_peers: "Peers | None" = None
_write_stacks: Callable[[], str] | None = None


class Store(Protocol):
    """Texts by key, visible to all processes."""

    def set(self, key: str, value: str) -> None:
        """Sets a key, also one that was set before.

        Args:
          key: Key, FOLDER/NAME.
          value: Text to store.
        """

    def read(self, folder: str) -> dict[str, str]:
        """Reads all keys of a folder.

        Args:
          folder: First part of the keys.

        Returns:
          The texts by NAME of their keys, FOLDER/NAME.
        """


class CoordinationStore:
    """The store of `jax.distributed`.

    Args:
      client: Client of the coordination service, see `coordination.Joined`.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def set(self, key: str, value: str) -> None:
        self._client.key_value_set(f"jaxvision/{key}", value, allow_overwrite=True)

    def read(self, folder: str) -> dict[str, str]:
        pairs = self._client.key_value_dir_get(f"jaxvision/{folder}/")
        return {key.rpartition("/")[2]: value for key, value in pairs}


class Peers:
    """The part of one process in the exchange of messages.

    Args:
      store: Store that all processes see.
      process, count: Number of this process, and number of all processes.
      watched: Gate of this process.
      heard: Module that knows which signal this process has received: `jaxvision.signals`.
      leave: Function `leave(status, line)` that ends the process; None for `signals.leave`.
      beat, silence, grace: Seconds; see the constants above.
    """

    def __init__(
        self,
        store: Store,
        process: int,
        count: int,
        watched: Gate = gate,
        heard: ModuleType = signals,
        leave: Callable[[int, str], None] | None = None,
        beat: float = BEAT_SECONDS,
        silence: float = SILENCE_SECONDS,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self._store, self._process, self._count, self._gate = store, process, count, watched
        self._heard, self._leave = heard, leave or signals.leave
        self._beat_seconds, self._silence, self._grace = beat, silence, grace
        self._wake, self._ended = threading.Event(), threading.Event()
        self._beats = 0
        self._tell: dict[str, str] = {}  # messages of this process for the next beat
        self._closed = self._opened = self._doubted = False
        self._seen: dict[str, tuple[str, float]] = {}  # process -> its last text in `alive`, and when that was new
        self._failed_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="jaxvision-peers", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; the other processes no longer wait for signs of life of this one."""
        self._ended.set()
        self._wake.set()
        self._thread.join(self._beat_seconds + 1)
        with contextlib.suppress(Exception):
            self._say_alive("ended")

    def wake(self) -> None:
        """Sends a received signal to the others now, without waiting for the next beat."""
        self._wake.set()

    def tell(self, what: str, value: str) -> None:
        """Sends a message to all processes, including this one.

        Args:
          what: Name of the message; see the module.
          value: Its text.
        """
        self._tell[what] = value
        self._wake.set()

    def doubt(self) -> None:
        """Handles a failed collective operation: another process may be gone. Returns if all turn out to be alive."""
        if self._doubted:
            return
        self._doubted = True
        self.tell("suspect", str(self._process))
        self._ended.wait(min(SUSPECT_SECONDS, self._silence) + 5 * self._beat_seconds)

    def failed(self, status: int, error: BaseException | None = None, says: Callable[[], None] = lambda: None) -> None:
        """Tells the others, who would wait for this process, that it ends because it failed.

        Process 0 returns after they have ended too: without the store they could not know the reason. If a dead process
        may have caused the error, this is checked first, and `says` prints the error afterwards.

        Args:
          status: Exit status of this process.
          error: Exception that ends it; None if there is none.
          says: Function that prints the error.
        """
        while error is not None:
            if _may_be_of_another(error):
                self.doubt()
            error = error.__cause__ or error.__context__
        says()
        with contextlib.suppress(Exception):
            self._store.set(f"told/left-{self._process}", str(status))
            until = time.monotonic() + self._grace + 2 * self._beat_seconds
            while self._process == 0 and time.monotonic() < until:
                left = {name.removeprefix("left-") for name in self._store.read("told") if name.startswith("left-")}
                ended = {name for name, value in self._store.read("alive").items() if value == "ended"}
                if len(left | ended) == self._count:
                    break
                time.sleep(AGREEING_SECONDS)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._beat()
                self._failed_since = None
            except Exception:
                self._no_answer()
            self._wake.wait(AGREEING_SECONDS if self._closed and not self._opened else self._beat_seconds)
            self._wake.clear()

    def _no_answer(self) -> None:
        now = time.monotonic()
        self._failed_since = self._failed_since or now
        if not self._ended.is_set() and now - self._failed_since > 3 * self._beat_seconds:
            self._leave(EXIT_PREEMPTED, lost(0))

    def _beat(self) -> None:
        self._beats += 1
        self._say_alive(f"{self._beats} {self._gate.passed} {self._gate.doing or 'steps'}")
        if self._heard.requested() and not self._closed:
            self._tell.setdefault("stop", self._heard.requested())
        for what in list(self._tell):
            self._store.set(f"told/{what}", self._tell.pop(what))
        messages = self._store.read("told")
        self._look_for_the_dead(messages)
        if "dead" in messages:
            self._go(EXIT_PREEMPTED, lost(int(messages["dead"])))
        elif "hang" in messages:
            self._hang(json.loads(messages["hang"]))
        elif left := [name for name in messages if name.startswith("left-")]:
            self._left(left[0], messages[left[0]])
        elif "stop" in messages:
            self._stop(messages)

    def _say_alive(self, value: str) -> None:
        self._store.set(f"alive/{self._process}", value)
        if self._process == 0:
            self._store.set("told/beat", value)

    def _go(self, status: int, line: str) -> None:
        if self._process == 0:  # the store goes with it: the others have to read it first
            time.sleep(TOLD_BEATS * self._beat_seconds)
        self._leave(status, line)

    def _look_for_the_dead(self, messages: dict[str, str]) -> None:
        now = time.monotonic()
        silence = min(SUSPECT_SECONDS, self._silence) if "suspect" in messages else self._silence
        if self._process == 0:
            alive = {str(p): "" for p in range(self._count)} | self._store.read("alive")
        else:
            alive = {"0": messages.get("beat", "")}
        for name, value in alive.items():
            if self._seen.get(name, ("?", 0))[0] != value:
                self._seen[name] = (value, now)
            elif now - self._seen[name][1] > silence and value != "ended" and name != str(self._process):
                messages["dead"] = name
                if self._process == 0:
                    self._store.set("told/dead", name)

    def _stop(self, messages: dict[str, str]) -> None:
        self._heard.request(messages["stop"])
        if not self._closed:
            passed = self._gate.close()
            # If no code holds signals here, there is nothing to save; all steps are common, so this holds everywhere.
            self._store.set(f"count/{self._process}", str(passed if self._heard.held() else 0))
            self._closed = True
        if "last" not in messages and self._process == 0:
            counts = self._store.read("count")
            ended = [name for name, (value, _) in self._seen.items() if value == "ended"]
            if len({*counts, *ended}) == self._count:
                ticks = [int(passed) for passed in counts.values()]
                messages["last"] = "ended" if ended else str(max(ticks) if min(ticks) else 0)
                self._store.set("told/last", messages["last"])
        if "last" in messages and not self._opened:
            self._opened = True
            if messages["last"] == "0":
                line = self._heard.stopped_early() if self._process == 0 else ""
                self._go(self._heard.status_when_stopped(), line)
            elif messages["last"] == "ended":  # no common work is left
                self._gate.open_until(2**62)
            else:
                self._gate.open_until(int(messages["last"]))

    def _hang(self, hang: dict[str, Any]) -> None:
        behind = _behind(self._store.read("alive"))
        written = _write_stacks() if _write_stacks else ""
        stacks = f"; {written}" if written else ""
        self._go(EXIT_HUNG, f"{hang['line']}{behind}{stacks}. {RESUME}")

    def _left(self, name: str, status: str) -> None:
        process = int(name.rpartition("-")[2])
        if process == self._process:
            return
        if not self._ended.wait(self._grace):
            self._store.set(f"told/left-{self._process}", status)
            self._leave(int(status), f"process {process} failed (exit status {status}); its own message says why.")


def _behind(alive: dict[str, str]) -> str:
    """Names the processes that have passed the fewest ticks, if they differ."""
    ticks = {name: int(value.split()[1]) for name, value in alive.items() if value != "ended"}
    least = min(ticks.values(), default=0)
    slow = sorted(int(name) for name, passed in ticks.items() if passed == least)
    return f" (process {', '.join(map(str, slow))} is behind the others)" if len(slow) < len(ticks) else ""


def lost(process: int) -> str:
    """Returns the message of a process that leaves because another one is gone.

    Args:
      process: Number of the process that is gone.

    >>> lost(3)
    'process 3 died, or its host does not answer; what was saved is safe. Run the same command to resume.'
    """
    return f"process {process} died, or its host does not answer; {SAFE}"


def start(store: Store, process: int, count: int) -> None:
    """Starts the thread of this process.

    Args:
      store: Store that all processes see.
      process, count: Number of this process, and number of all processes.
    """
    global _peers
    gate.alone = False
    _peers = Peers(store, process, count)
    signals.join(_peers.wake, _peers.failed, speaks=process == 0)
    _peers.start()


def stop() -> None:
    """Ends the thread, before `jax.distributed` shuts down."""
    global _peers
    if _peers:
        _peers.stop()
        _peers = None


def on_hang(write: Callable[[], str] | None) -> None:
    """Sets the function that writes the stacks of this process.

    Args:
      write: Function that writes them and returns a line about where; None for none.
    """
    global _write_stacks
    _write_stacks = write


def tell_hang(line: str) -> bool:
    """Tells all processes that nothing moves.

    Args:
      line: Message to print.

    Returns:
      False if this process is alone.
    """
    if _peers is None:
        return False
    _peers.tell("hang", json.dumps({"line": line}))
    return True


@contextlib.contextmanager
def explaining() -> Iterator[None]:
    """Delays errors of JAX's runtime inside the `with` block until it is known whether another process has died."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if _peers and _may_be_of_another(error):
            _peers.doubt()
        raise


def _may_be_of_another(error: BaseException) -> bool:
    """Checks for an error of JAX's runtime that another process may have caused; some of them are plain ValueErrors.

    >>> _may_be_of_another(ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer"))
    True
    >>> _may_be_of_another(ValueError("Incompatible shapes")), _may_be_of_another(OSError("UNKNOWN: it is not there"))
    (False, False)
    """
    of_runtime = isinstance(error, ValueError) and _STATUS.match(str(error))
    return bool(of_runtime or isinstance(error, jax.errors.JaxRuntimeError)) and "RESOURCE_EXHAUSTED" not in str(error)
