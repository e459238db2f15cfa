"""One writer a folder: a lock that says who holds it, and that a dead owner does not keep.

The lock is the file `lock.json` in the folder: user, host, process, command, since when, and a sign of life that a
thread renews. It is removed when its owner lets go. That of an owner which died is taken over:

- On a file system of this machine by `flock`, which the kernel releases with the process, whatever killed it.
- Where `flock` may not reach the other hosts (NFS, Lustre, FUSE) by the sign of life: no new one within
  `STALE_SECONDS`, as watched from here, for clocks of hosts differ. A dead process of this machine is seen at once.
- In a bucket by the sign of life, too; each write names the generation of the object that it replaces, so of two that
  take at the same moment one is refused.

An owner whose lock was taken over, since its host slept or the network was gone, is told by `check`, which belongs
before every write.
"""

import contextlib
import secrets
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from jaxvision import processes, storage
from jaxvision.errors import UserError
from jaxvision.lock_files import LockFile, LockObject, Seen, age, owner
from jaxvision.storage import Path

NAME = "lock.json"
BEAT_SECONDS = 20.0  # between two signs of life
STALE_SECONDS = 120.0  # without one, after which an owner that cannot be seen from here counts as dead
LONG_AGO = 10 * STALE_SECONDS  # by the clocks of both hosts; no watching is needed then
WAIT_SECONDS = 20.0  # for an owner that lives: a requeued job may start before its former self has ended
SETTLE_SECONDS = 2.0  # until a record that was written over a network can be read by others
_WORDS = 300  # characters of a command that the lock repeats


class Held(UserError):
    """Another process writes in the folder, or took it over."""


class Lock:
    """Holds a folder for this process while entered. See the head of the file.

    Args:
      folder: is made where it is absent; one that was made for the lock and is still empty at the end goes again.
      what: name of the folder for messages, such as "the workdir".
      wait: seconds for an owner that is alive to end.
      say: called with a line before waiting.
    """

    def __init__(
        self,
        folder: Path,
        what: str = "the folder",
        *,
        wait: float | None = None,
        say: Callable[[str], None] | None = None,
    ):
        self.folder, self._what = folder, what
        self._wait = WAIT_SECONDS if wait is None else wait
        self._say = say or (lambda line: print(f"jaxvision: {line}", file=sys.stderr, flush=True))
        self._token = secrets.token_hex(8)
        self._made: list[Path] = []
        self._store: LockFile | LockObject | None = None
        self._mutex = threading.Lock()
        self._ended = threading.Event()
        self._lost: str | None = None
        self._checked = _clock()

    def __enter__(self) -> "Lock":
        """Takes the lock.

        Raises:
          Held: another process has it, and does not end soon.
          UserError: the folder cannot be written, or its lock.json is a file of another kind.
        """
        with storage.reaching(self.folder, f"write to {self._what}"):
            if not storage.is_remote(self.folder):
                missing = [place for place in (self.folder, *self.folder.absolute().parents) if not place.exists()]
                storage.make_folder(self.folder)
                self._made = missing
            make = LockObject if storage.is_remote(self.folder) else LockFile
            self._store = make(self.folder / NAME, self._record)
            try:
                self._take()
            except BaseException:
                self._store.close()
                self._remove_made()
                raise
        self._checked = _clock()
        threading.Thread(target=self._renew, name=f"lock of {self.folder}", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Lets go; a lock that was lost is left to whom it belongs now. What goes wrong here harms nobody."""
        self._ended.set()
        with self._mutex, contextlib.suppress(Exception):
            if self._lost is None:
                self._store.remove()
        self._store.close()
        self._remove_made()

    def check(self) -> None:
        """Whether this process still is the one writer: to be called before each write.

        Raises:
          Held: the lock was taken over, or the folder was moved or removed.
        """
        if self._lost is None and (self._store.quick or _clock() - self._checked > 1.5 * BEAT_SECONDS):
            try:
                self._look()
            except OSError:
                if _clock() - self._checked > STALE_SECONDS:
                    raise
        if self._lost is not None:
            raise Held(self._lost)

    def rename(self, aside: Path) -> None:
        """Renames the folder, and takes the lock anew where it was; for folders of file systems.

        Where a symbolic link leads to the folder, it is the folder that is renamed, and the link leads to the new one.

        Raises:
          OSError: it cannot be renamed.
          Held: another process was faster in the new folder. What was moved stays moved.
        """
        with self._mutex:
            folder = self.folder.resolve()
            folder.rename(aside)
            self._store.moved(aside / NAME)
            with contextlib.suppress(OSError):
                self._store.remove()
            self._store.close()
            storage.make_folder(folder)
            self._store = LockFile(self.folder / NAME, self._record)
            self._take()

    def _record(self) -> dict[str, Any]:
        words = " ".join(sys.argv)
        return {
            "token": self._token,
            **processes.describe(),
            "command": words if len(words) <= _WORDS else words[:_WORDS] + "...",
            "since": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "beat": int(time.time()),
        }

    def _take(self) -> None:
        began, told, watched = _clock(), False, None  # watched: version, and since when
        while (seen := self._store.take()) is not None:
            now = _clock()
            renewed = watched is not None and watched[0] != seen.version
            if watched is None or renewed:
                watched = (seen.version, now)
            alive = True if renewed else seen.alive
            silent = now - watched[1] > STALE_SECONDS or age(seen.record) > LONG_AGO
            if alive is None and silent and self._store.take(over=seen) is None:
                break
            if alive is not None and now - began >= self._wait:
                raise Held(self._refused(seen))
            if not told and (self._wait or alive is None):
                told = True
                most = self._wait if alive else STALE_SECONDS
                self._say(f"{self.folder}: {owner(seen.record)} holds it; waiting up to {most:.0f} s for it to end")
            time.sleep(0.25)
        if self._store.settles:
            time.sleep(SETTLE_SECONDS)
            if (seen := self._store.read()) is None or seen.record.get("token") != self._token:
                raise Held(self._refused(seen or Seen({}, None, None)))

    def _refused(self, seen: Seen) -> str:
        pid, host = seen.record.get("pid"), seen.record.get("host")
        lines = f"cannot write to {self._what} {self.folder}: {owner(seen.record)} writes there"
        if command := seen.record.get("command"):
            lines += f"\n  {command}"
        stop = f"stop it (kill {pid} on {host}), " if pid else ""
        return (
            f"{lines}\nWait until it has ended, {stop}or give another folder. If that process is surely gone, "
            f"remove {self.folder / NAME}"
        )

    def _look(self) -> None:
        """Compares the lock with this owner, and notes what happened to it."""
        with self._mutex:
            if self._lost is None and not self._ended.is_set():
                self._lost = self._store.lost(self._token)
                self._checked = _clock()

    def _renew(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with contextlib.suppress(Exception):  # a network that is gone for a while; `check` tells if it stays away
                self._look()
                with self._mutex:
                    if self._lost is None and not self._ended.is_set():
                        self._store.beat()

    def _remove_made(self) -> None:
        with contextlib.suppress(OSError):  # as soon as one of them is not empty
            for folder in self._made:
                folder.rmdir()


def _clock() -> float:
    """Seconds that go on while the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()
