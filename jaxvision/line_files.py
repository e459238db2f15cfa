"""Files of lines that grow during a run, such as metrics.jsonl, on a disk or in a bucket."""

import errno
import os
import time
from collections.abc import Sequence
from typing import Any

from jaxvision import path_names, storage
from jaxvision.storage import Path

PART_BYTES = 2**16  # size of the lines in one object
PART_SECONDS = 1.0  # shortest time between two writes of one object
SYNC_SHARE = 0.01  # largest share of the time between two lines that may be spent waiting for the disk


def read_lines(where: Path) -> list[str]:
    """Returns the lines of a file that `Lines` wrote or is writing; the last line may be incomplete.

    Args:
      where: File; if it does not exist, there are no lines.

    Returns:
      The lines. Bytes that are not UTF-8 become surrogates (`errors="surrogateescape"`).
    """
    lines = where.read_bytes().decode(errors="surrogateescape").split("\n") if where.exists() else []
    lines = lines[:-1] if lines and not lines[-1] else lines
    if not path_names.is_remote(where) or not (parts := _parts(where)).exists():
        return lines
    store = storage.filesystem()
    contents = store.cat(store.find(os.fspath(parts)))
    texts = [contents[name].decode(errors="surrogateescape") for name in sorted(contents)]
    more = [line for text in texts for line in text.split("\n") if line]
    # A writer that died while it joined its parts leaves some of the lines twice.
    return list(dict.fromkeys(lines + more))


class Lines:
    """A file of lines that grows; once `append` returns, the line is stored and survives a kill.

    A line also survives a loss of power once it is on the disk (fsync). `append` waits for that, unless lines come so
    fast that waiting would take more than `SYNC_SHARE` of the time; then a later `append`, `sync` or `close` waits.

    Objects in a bucket can only be replaced, each about once a second. There the file is kept in parts while it grows,
    `NAME.parts/000001` and so on: a line is added to the last part unless that part is large or was written just now.
    `close` joins the parts.

    Args:
      where: File.
      lines: Lines to begin with; they replace the previous content of the file.
    """

    _number: int  # of the last part
    _last: str  # content of the last part
    _written: float  # time when the last part was written, in seconds

    def __init__(self, where: Path, lines: Sequence[str] = ()):
        self._where, self._remote = where, path_names.is_remote(where)
        self._begin(lines)
        self._file: Any = None if self._remote else where.open("ab", buffering=0)
        self._synced, self._cost = float("-inf"), 0.0  # time and duration of the last fsync, in seconds

    def append(self, line: str) -> None:
        """Adds a line.

        Args:
          line: Text without a line end.

        Raises:
          OSError: The line cannot be written, such as on a full disk.
        """
        if not self._remote:
            data = line.encode() + b"\n"
            with storage.naming(self._where):
                if (written := self._file.write(data)) < len(data):  # a nearly full disk stores only a part
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
        """Waits until all lines are on the disk and closes the file; in a bucket it joins the parts."""
        if not self._remote:
            with self._file:
                self.sync()
        elif self._number:
            self._begin(read_lines(self._where))

    def _begin(self, lines: Sequence[str]) -> None:
        storage.write(self._where, "".join(line + "\n" for line in lines))
        self._number, self._last, self._written = 0, "", float("-inf")
        if self._remote and (parts := _parts(self._where)).exists():
            parts.rmtree()  # type: ignore[union-attr]  # of epath, since it is remote


def _parts(where: Path) -> Path:
    return where.with_name(where.name + ".parts")
