"""Writes the TensorBoard events of a run. Its `metrics.jsonl` is the source of truth."""

import functools
import os
import pathlib
import re
import socket
import struct
import tempfile
import time
from collections.abc import Mapping

from google.protobuf.message import DecodeError

from jaxvision import path_names, storage
from jaxvision.data.tfrecord import masked_crc
from jaxvision.storage import Path
from jaxvision.train.events import Event, SessionLog, Summary

UPLOAD_SECONDS = 60.0  # interval of uploads of the events since the last checkpoint

_OURS = re.compile(r"events\.out\.tfevents\.\d+\..*\.(\d+-)?\d{6}")


def make_board(folder: Path, purge_step: int | None = None) -> "Board | RemoteBoard":
    """Makes a writer of events into a folder, which may be in a bucket.

    Args:
      folder: Folder of the files of events.
      purge_step: First step that this launch writes. Events from this step on, which a launch that was killed left, are
        deleted. None for a new run.
    """
    if purge_step is not None and folder.is_dir():
        for file in folder.iterdir():
            if _OURS.fullmatch(file.name):
                _purge(file, purge_step)
    return (RemoteBoard if path_names.is_remote(folder) else Board)(folder, purge_step)


class _Events:
    """Writes a file of events without a buffer, so that a kill of this process loses none.

    The `SummaryWriter` of tensorboardX writes from a thread, too late.

    Args:
      path: Path whose name the name of the file ends with.
      purge_step: First step of this launch; see `make_board`.
    """

    def __init__(self, path: pathlib.Path, purge_step: int | None):
        place = path.with_name(f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{path.name}")
        self._file = place.open("xb", buffering=0)
        self._add(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if purge_step is not None:
            log = SessionLog(status=SessionLog.START)
            self._add(Event(wall_time=time.time(), step=purge_step, session_log=log))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        scalars = [Summary.Value(tag=_clean_tag(name), simple_value=float(value)) for name, value in values.items()]
        self._add(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))

    def _add(self, event: Event) -> None:
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        check = struct.Struct("<I").pack
        with storage.naming(self._file.name):
            self._file.write(length + check(masked_crc(length)) + data + check(masked_crc(data)))

    def sync(self) -> None:
        with storage.naming(self._file.name):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _purge(file: Path, step: int) -> None:
    """Deletes the events from `step` on from a file that an earlier launch of this run wrote."""
    data, at, kept = file.read_bytes(), 0, []
    while at + 12 <= len(data):
        end = at + 16 + int.from_bytes(data[at : at + 8], "little")
        if end > len(data):  # cut off by a kill
            break
        try:
            if Event.FromString(data[at + 12 : end - 4]).step < step:
                kept.append(data[at:end])
        except DecodeError:  # damaged: TensorBoard reads no further
            break
        at = end
    if len(left := b"".join(kept)) < len(data):
        storage.write(file, left)


@functools.cache
def _clean_tag(name: str) -> str:
    """Returns the name of a metric as TensorBoard's own writers write it."""
    return re.sub(r"[^-/\w\.]", "_", name).lstrip("/")


class Board:
    """Writes events into a folder of this machine.

    Args:
      folder: Folder of the files of events.
      purge_step: First step of this launch; see `make_board`.
    """

    def __init__(self, folder: Path, purge_step: int | None):
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.iterdir()))  # files of one second would have one name
        self._events = _Events(folder / f"{number:06d}", purge_step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes scalars; a kill of this process does not lose them.

        Args:
          step: Number of steps taken.
          values: Scalars by name.
        """
        self._events.write(step, values)

    def flush(self) -> None:
        """Stores all events on the disk."""
        self._events.sync()

    def close(self) -> None:
        """Closes the file."""
        self._events.close()


class RemoteBoard:
    """Writes events on this machine, and uploads them now and then.

    tensorboardX can write to a bucket, but it does so from a thread that ends when the connection is lost, and then
    blocks its caller. A new file of events begins after each checkpoint, so that an upload never repeats all of them.

    Args:
      folder: Folder in a bucket.
      purge_step: First step of this launch; see `make_board`.
    """

    def __init__(self, folder: Path, purge_step: int | None):
        self._folder, self._purge, self._start = folder, purge_step, purge_step or 0
        self._here = tempfile.TemporaryDirectory(prefix="jaxvision-events-")
        self._events: _Events | None = None
        self._files, self._uploaded = 0, 0.0

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes scalars.

        Args:
          step: Number of steps taken.
          values: Scalars by name.
        """
        if self._events is None:
            suffix = f"{self._start}-{self._files:06d}"  # files of one second would have one name
            self._events = _Events(pathlib.Path(self._here.name, suffix), self._purge)
            self._files, self._purge, self._uploaded = self._files + 1, None, time.monotonic()
        self._events.write(step, values)
        if time.monotonic() - self._uploaded > UPLOAD_SECONDS:
            self._upload()

    def flush(self) -> None:
        """Uploads all events."""
        if self._events is not None:
            self._events.close()
            self._events = None
            for file in self._upload():
                file.unlink()

    def close(self) -> None:
        """Uploads all events and deletes the local files."""
        self.flush()
        self._here.cleanup()

    def _upload(self) -> list[pathlib.Path]:
        files = list(pathlib.Path(self._here.name).iterdir())
        for file in files:
            storage.write(self._folder / file.name, file.read_bytes())
        self._uploaded = time.monotonic()
        return files
