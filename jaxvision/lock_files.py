"""Where a lock is stored: as a file on a disk, local or shared, or as an object in a bucket; see `locks.py`."""

import fcntl
import json
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxvision import processes, storage
from jaxvision.errors import UserError
from jaxvision.storage import Path

# File systems of this machine: every process that can reach their files sees a `flock`.
_LOCAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay", "ramfs", "apfs", "hfs", "ufs"}


class SeenLock(NamedTuple):
    """A lock as it was last read.

    Attributes:
      record: Content of its file; empty if the file is empty.
      version: Value that changes with every sign of life.
      alive: True if its owner is running, False if it has ended, None if only time can tell.
    """

    record: dict[str, Any]
    version: Any
    alive: bool | None


class LockFile:
    """The lock as a file of a file system, local or shared.

    Args:
      path: File.
      record: Function that returns the content to write when the lock is taken.

    Attributes:
      quick: True if the lock can be read quickly.
      settles: True if a record needs time before other hosts can read it.
    """

    quick = True

    def __init__(self, path: Path, record: Callable[[], dict[str, Any]]):
        self._path, self._record = path, record
        self._file: int | None = None
        self._local = _file_system(path.parent) in _LOCAL
        self._flocked = False
        self.settles = False
        self._place = _identity(path.parent)

    def take(self, over: SeenLock | None = None) -> SeenLock | None:
        """Takes the lock, or returns the lock of its owner.

        Args:
          over: Lock of an owner that counts as dead; it is taken over unless it has changed since.

        Returns:
          None if the lock was taken, else the lock that another process has.
        """
        how = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            file = os.open(self._path, how, 0o666)
        except FileNotFoundError:  # its last owner had made the folder, and has just removed it
            storage.make_folder(self._path.parent)
            file = os.open(self._path, how, 0o666)
        keep = False
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                flocked = True
            except BlockingIOError:
                return SeenLock(*_parsed(_content(file), self._path), True)
            except OSError:  # a file system without it
                flocked = False
            if _identity(self._path) != _identity(file):  # its last owner has just removed it
                return self.take(over)
            record, version = _parsed(_content(file), self._path)
            alive = processes.is_alive(record) if record else False
            if alive is None and flocked and self._local:
                alive = False
            if alive or (alive is None and (over is None or over.version != version)):
                return SeenLock(record, version, alive)
            self.settles = not (flocked and self._local)
            self._file, self._flocked, keep = file, flocked, True
            self._place = _identity(self._path.parent)
            self.beat(first=True)
            return None
        finally:
            if not keep:
                os.close(file)

    def read(self) -> SeenLock | None:
        """Returns the lock as it is stored now, None if there is none."""
        try:
            return SeenLock(*_parsed(self._path.read_bytes(), self._path), None)
        except FileNotFoundError:
            return None

    def lost(self, token: str) -> str | None:
        """Returns why the lock no longer belongs to this process, in words; None if it still does.

        A file that was removed is written again.

        Args:
          token: Token of this process.
        """
        folder = self._path.parent
        if _identity(folder) != self._place:
            return f"{folder} was moved or removed while this process wrote there: it stops, to harm no other folder"
        try:
            seen = self.read()
        except UserError:  # it was overwritten with something else
            seen = SeenLock({}, None, None)
        is_empty = seen is not None and not seen.record
        if is_empty and self._flocked and _identity(self._path) == _identity(self._file):  # it is still ours
            self.beat()
            return None
        if seen is None:
            assert self._file is not None
            os.close(self._file)
            self._file = None
            if self.take() is None:
                return None
            seen = self.read() or SeenLock({}, None, None)
        if seen.record.get("token") == token:
            return None
        return _taken_over(folder, seen)

    def beat(self, first: bool = False) -> None:
        """Writes a sign of life into the file, in place, since the `flock` belongs to this very file.

        Args:
          first: True to write a new record.
        """
        if first:
            self._kept = self._record()
        text = json.dumps(self._kept | {"beat": int(time.time())}, indent=1).encode() + b"\n"
        assert self._file is not None
        os.pwrite(self._file, text, 0)
        os.ftruncate(self._file, len(text))
        if first and self.settles:
            os.fsync(self._file)

    def moved(self, path: Path) -> None:
        """Notes that the file was moved.

        Args:
          path: New path of the file.
        """
        self._path, self._place = path, _identity(path.parent)

    def remove(self) -> None:
        """Removes the lock if it belongs to this process."""
        seen = self.read()
        if self._file is not None and seen is not None and seen.record.get("token") == self._kept["token"]:
            self._path.unlink()

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            os.close(self._file)  # which releases it
            self._file = None


class LockObject:
    """The lock as an object in a bucket; its methods are those of `LockFile`."""

    quick, settles = False, False

    def __init__(self, path: Path, record: Callable[[], dict[str, Any]]):
        from google.cloud import storage as gcs

        self._path, self._record = path, record
        bucket, _, name = os.fspath(path).partition("://")[2].partition("/")
        # Requests for objects name no project.
        self._bucket, self._name = gcs.Client(project="none").bucket(bucket), name
        self._generation = 0

    def take(self, over: SeenLock | None = None) -> SeenLock | None:
        seen = self.read()
        if seen is None:
            return None if self._write(0) else self._other()
        alive = processes.is_alive(seen.record)
        if alive is False or (over is not None and over.version == seen.version):
            return None if self._write(seen.version) else self._other()
        return seen._replace(alive=alive)

    def read(self) -> SeenLock | None:
        from google.api_core.exceptions import NotFound

        try:
            blob = self._bucket.get_blob(self._name)
            if blob is None:
                return None
            record, _ = _parsed(blob.download_as_bytes(), self._path)
        except NotFound:  # removed just now
            return None
        return SeenLock(record, blob.generation, None)

    def lost(self, token: str) -> str | None:
        seen = self.read()
        if seen is None:
            if self._write(0):
                return None
            seen = self._other()
        if seen.record.get("token") == token:
            self._generation = seen.version
            return None
        return _taken_over(self._path.parent, seen)

    def beat(self) -> None:
        self._write(self._generation, first=False)

    def remove(self) -> None:
        blob = self._bucket.blob(self._name)
        blob.delete(if_generation_match=self._generation)

    def close(self) -> None:
        """Nothing is open."""

    def _write(self, generation: int, first: bool = True) -> bool:
        """Replaces the object of that generation, 0 for none; returns False if another process was faster."""
        from google.api_core.exceptions import PreconditionFailed

        if first:
            self._kept = self._record()
        text = json.dumps(self._kept | {"beat": int(time.time())}, indent=1)
        blob = self._bucket.blob(self._name)
        try:
            blob.upload_from_string(text + "\n", if_generation_match=generation)
        except PreconditionFailed:
            # If the answer to a write is lost, the library writes again, and that fails because of the first write.
            seen = self.read()
            if seen is None or seen.record.get("token") != self._kept["token"]:
                return False
            self._generation = seen.version
            return True
        self._generation = blob.generation
        return True

    def _other(self) -> SeenLock:
        return self.read() or SeenLock({}, None, None)


def _parsed(content: bytes, path: Path) -> tuple[dict[str, Any], Any]:
    """Returns the record of a lock and its version; an empty record if its owner died before it wrote one."""
    if not content.strip(b"\0 \n"):
        return {}, content
    try:
        record = json.loads(content)
        if isinstance(record, dict) and "token" in record:
            return record, (record["token"], record.get("beat"))
    except ValueError:
        pass
    raise UserError(f"{path} has the name of a run's lock, but is not one: move it away, or give another folder")


def _content(file: int) -> bytes:
    return os.pread(file, 2**16, 0)


def _identity(what: Path | int) -> tuple[int, int] | None:
    try:
        status = os.stat(what)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _file_system(folder: Path) -> str:
    """Returns the kind of file system of a folder; empty if the system does not tell."""
    try:
        device = os.stat(folder).st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                head, _, tail = line.partition(" - ")
                if head.split()[2] == wanted:
                    return tail.split()[0]
    except (OSError, IndexError):
        pass
    return ""


def _taken_over(folder: Path, seen: SeenLock) -> str:
    return (
        f"{folder} was taken over by {describe_owner(seen.record)}, since this process gave no sign of life for a "
        "while (was its host asleep, or the network gone?). It stops, so that the folder has one writer"
    )


def describe_owner(record: dict[str, Any]) -> str:
    """Describes the owner of a lock in words.

    Args:
      record: Record of the lock.
    """
    if not record:
        return "another process"
    who = f"process {record.get('pid')} of {record.get('user')} on {record.get('host')}"
    return f"{who} (since {record.get('since')}, last sign of life {_ago(age(record))} ago)"


def age(record: dict[str, Any]) -> float:
    """Returns the seconds since the last sign of life of a lock, by the clocks of both hosts.

    Args:
      record: Record of the lock.

    Returns:
      Seconds, at least 0; infinite if the record holds no sign of life.
    """
    beat = record.get("beat")
    return max(time.time() - beat, 0.0) if isinstance(beat, int) else float("inf")


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
