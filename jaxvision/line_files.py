"""Files of lines that grow while a run goes on, such as metrics.jsonl, on a disk or in a bucket."""

import errno
import os
import time
from collections.abc import Sequence

from jaxvision import storage
from jaxvision.storage import Path

PART_BYTES = 2**16  # of the lines in one object
PART_SECONDS = 1.0  # between two writes of one object
SYNC_SHARE = 0.01  # of the time between two lines, at most, may go into waiting for the disk


def read_lines(where: Path) -> list[str]:
    """The lines of a file that `Lines` wrote or is writing; none where there is no file. The last may be cut off.

    Bytes that are not UTF-8 come as surrogates (`errors="surrogateescape"`).
    """
    lines = where.read_bytes().decode(errors="surrogateescape").split("\n") if where.exists() else []
    lines = lines[:-1] if lines and not lines[-1] else lines
    if not storage.is_remote(where) or not (parts := _parts(where)).exists():
        return lines
    store = storage.filesystem()
    found = store.cat(store.find(os.fspath(parts)))
    texts = [found[name].decode(errors="surrogateescape") for name in sorted(found)]
    more = [line for text in texts for line in text.split("\n") if line]
    # A writer that died while it joined its parts has left some of the lines twice.
    return list(dict.fromkeys(lines + more))


class Lines:
    """A file of lines that grows; a line is stored when `append` returns, and survives a kill.

    It survives a loss of power, too, once it is on the disk (fsync). `append` waits for that unless lines come so fast
    that it would take more than `SYNC_SHARE` of the time; then the next `append` after a while, `sync` or `close` does.

    In a bucket it lies in parts, `NAME.parts/000001`, ..., while it grows, since objects can only be replaced, and each
    about once a second: a line goes to the last part unless that is large or was written just now. `close` joins them.

    Args:
      where: file.
      lines: content that it has at first, in place of what it held.
    """

    def __init__(self, where: Path, lines: Sequence[str] = ()):
        self._where, self._remote = where, storage.is_remote(where)
        self._begin(lines)
        self._file = None if self._remote else where.open("ab", buffering=0)
        self._synced, self._cost = float("-inf"), 0.0  # when it was on the disk, and what that took, in seconds

    def append(self, line: str) -> None:
        if not self._remote:
            data = line.encode() + b"\n"
            with storage.naming(self._where):
                if (written := self._file.write(data)) < len(data):  # a disk that is nearly full takes a part
                    self._file.truncate(self._file.seek(0, os.SEEK_END) - written)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._cost < SYNC_SHARE * (time.monotonic() - self._synced):
                self.sync()
            return
        if len(self._last) > PART_BYTES or time.monotonic() - self._written < PART_SECONDS or not self._number:
            self._number, self._last = self._number + 1, ""
        self._last += line + "\n"
        storage.write(_parts(self._where) / f"{self._number:06d}", self._last)
        self._written = time.monotonic()

    def sync(self) -> None:
        """Waits until all lines are on the disk."""
        if not self._remote:
            began = time.monotonic()
            with storage.naming(self._where):
                os.fsync(self._file.fileno())
            self._synced = time.monotonic()
            self._cost = self._synced - began

    def close(self) -> None:
        if not self._remote:
            with self._file:
                self.sync()
        elif self._number:
            self._begin(read_lines(self._where))

    def _begin(self, lines: Sequence[str]) -> None:
        storage.write(self._where, "".join(line + "\n" for line in lines))
        self._number, self._last, self._written = 0, "", float("-inf")
        if self._remote and _parts(self._where).exists():
            _parts(self._where).rmtree()


def _parts(where: Path) -> Path:
    return where.with_name(where.name + ".parts")
