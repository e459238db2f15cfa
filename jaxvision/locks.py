"""One writer per folder: a lock that names its owner, and that a dead owner does not keep.

The lock is the file `lock.json` in the folder. It holds the user, host, process and command of its owner, the time when
it was taken, and a sign of life that a thread renews. The owner removes it when it releases the lock. If the owner
died, another process takes the lock over:

- On a file system of this machine by `flock`, which the kernel releases when the process ends, however it ends.
- Where `flock` may not reach other hosts (NFS, Lustre, FUSE) by the sign of life: the owner counts as dead if none
  is renewed for `STALE_SECONDS`. This process measures that time itself, since the clocks of hosts differ. A dead
  process of this machine is noticed at once.
- In a bucket also by the sign of life. Each write names the generation of the object that it replaces, so if two
  processes take the lock at the same moment, one of them is refused.

A lock can be taken over from a living owner if its host slept or its network failed. That owner learns it from `check`,
which must be called before every write.
"""

import contextlib
import secrets
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from jaxvision import path_names, processes, storage
from jaxvision.errors import UserError
from jaxvision.lock_files import LockFile, LockObject, SeenLock, age, describe_owner
from jaxvision.storage import Path

NAME = "lock.json"
BEAT_SECONDS = 20.0  # time between two signs of life
STALE_SECONDS = 120.0  # time without one after which an owner that cannot be seen from here counts as dead
LONG_AGO = 10 * STALE_SECONDS  # age of a sign of life, by the clocks of both hosts, that needs no watching
WAIT_SECONDS = 20.0  # wait for an owner that is alive: a requeued job may start before its predecessor has ended
SETTLE_SECONDS = 2.0  # time until others can read a record that was written over a network
_WORDS = 300  # number of characters of a command that the lock stores


class LockHeldError(UserError):
    """Another process writes in the folder, or took it over."""


class Lock:
    """Holds a folder for this process while entered; see the head of the file.

    Args:
      folder: Folder. It is made if it does not exist; if it was made for the lock and is empty at the end, it is
        removed.
      what: Name of the folder for messages, such as "the workdir".
      wait: Seconds to wait for an owner that is alive to end; `WAIT_SECONDS` if None.
      say: Function that is called with a line of text before waiting; by default it prints to stderr.
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
        self._store: LockFile | LockObject  # since `__enter__`
        self._mutex = threading.Lock()
        self._ended = threading.Event()
        self._lost: str | None = None
        self._checked = _clock()

    def __enter__(self) -> "Lock":
        """Takes the lock.

        Raises:
          LockHeldError: Another process has it and does not end soon.
          UserError: The folder cannot be written, or its lock.json is a file of another kind.
        """
        with storage.reaching(self.folder, f"write to {self._what}"):
            if not path_names.is_remote(self.folder):
                missing = [place for place in (self.folder, *self.folder.absolute().parents) if not place.exists()]
                storage.make_folder(self.folder)
                self._made = missing
            make = LockObject if path_names.is_remote(self.folder) else LockFile
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
        """Releases the lock; one that was lost stays with its new owner. Errors are ignored: they do no harm here."""
        self._ended.set()
        with self._mutex, contextlib.suppress(Exception):
            if self._lost is None:
                self._store.remove()
        self._store.close()
        self._remove_made()

    def check(self) -> None:
        """Checks that this process is still the one writer; call it before each write.

        Raises:
          LockHeldError: The lock was taken over, or the folder was moved or removed.
        """
        if self._lost is None and (self._store.quick or _clock() - self._checked > 1.5 * BEAT_SECONDS):
            try:
                self._look()
            except OSError:
                if _clock() - self._checked > STALE_SECONDS:
                    raise
        if self._lost is not None:
            raise LockHeldError(self._lost)

    def rename(self, aside: Path) -> None:
        """Renames the folder, and takes the lock of a new folder at the old place; for folders of file systems.

        If a symbolic link leads to the folder, the folder is renamed, and the link then leads to the new folder.

        Args:
          aside: New path of the folder.

        Raises:
          OSError: The folder cannot be renamed.
          LockHeldError: Another process was faster in the new folder. The old folder keeps its new name.
        """
        with self._mutex:
            folder = self.folder.resolve()
            folder.rename(aside)
            assert isinstance(self._store, LockFile)
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
        began, announced = _clock(), False
        watched: tuple[Any, float] | None = None  # version of the lock, and when it was first seen
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
                raise LockHeldError(self._refused(seen))
            if not announced and (self._wait or alive is None):
                announced = True
                most = self._wait if alive else STALE_SECONDS
                who = describe_owner(seen.record)
                self._say(f"{self.folder}: {who} holds it; waiting up to {most:.0f} s for it to end")
            time.sleep(0.25)
        if self._store.settles:
            time.sleep(SETTLE_SECONDS)
            if (seen := self._store.read()) is None or seen.record.get("token") != self._token:
                raise LockHeldError(self._refused(seen or SeenLock({}, None, None)))

    def _refused(self, seen: SeenLock) -> str:
        pid, host = seen.record.get("pid"), seen.record.get("host")
        lines = f"cannot write to {self._what} {self.folder}: {describe_owner(seen.record)} writes there"
        if command := seen.record.get("command"):
            lines += f"\n  {command}"
        stop = f"stop it (kill {pid} on {host}), " if pid else ""
        return (
            f"{lines}\nWait until it has ended, {stop}or give another folder. If that process is certainly gone, "
            f"remove {self.folder / NAME}"
        )

    def _look(self) -> None:
        """Reads the lock, and notes if it was lost."""
        with self._mutex:
            if self._lost is None and not self._ended.is_set():
                self._lost = self._store.lost(self._token)
                self._checked = _clock()

    def _renew(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with contextlib.suppress(Exception):  # the network may be down for a while; `check` tells if it stays so
                self._look()
                with self._mutex:
                    if self._lost is None and not self._ended.is_set():
                        self._store.beat()

    def _remove_made(self) -> None:
        with contextlib.suppress(OSError):  # as soon as one of them is not empty
            for folder in self._made:
                folder.rmdir()


def _clock() -> float:
    """Returns the seconds of a clock that also counts while the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()
