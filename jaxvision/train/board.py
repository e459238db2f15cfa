"""TensorBoard events of a run, beside `metrics.jsonl`, which is the source of truth."""

import pathlib
import tempfile
import time
from collections.abc import Mapping

from tensorboardX import SummaryWriter

from jaxvision import storage
from jaxvision.storage import Path

UPLOAD_SECONDS = 60.0  # between two uploads of the events that have come since the last checkpoint


def make_board(folder: Path, purge_step: int | None = None) -> "Board | RemoteBoard":
    """What writes events into a folder, which may lie in a bucket.

    Args:
      folder: where the files of events lie.
      purge_step: first step that this run writes; TensorBoard forgets earlier events from there on. None for a new run.
    """
    return (RemoteBoard if storage.is_remote(folder) else Board)(folder, purge_step)


class Board:
    """Writes events into a folder of this machine."""

    def __init__(self, folder: Path, purge_step: int | None):
        self._writer = SummaryWriter(str(folder), purge_step=purge_step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds scalars by name."""
        for name, value in values.items():
            self._writer.add_scalar(name, float(value), step)

    def flush(self) -> None:
        """Stores what was written."""
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class RemoteBoard:
    """Writes events on this machine, and uploads them now and then.

    tensorboardX can write to a bucket, but from a thread that a lost connection ends, and then blocks its caller. A
    file of events is complete at each checkpoint, and the next ones go into another: nothing is uploaded for ever anew.
    """

    def __init__(self, folder: Path, purge_step: int | None):
        self._folder, self._purge, self._start = folder, purge_step, purge_step or 0
        self._here = tempfile.TemporaryDirectory(prefix="jaxvision-events-")
        self._writer: SummaryWriter | None = None
        self._files, self._uploaded = 0, 0.0

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds scalars by name."""
        if self._writer is None:
            suffix = f".{self._start}-{self._files:06d}"  # files of one second would have one name
            self._writer = SummaryWriter(self._here.name, purge_step=self._purge, filename_suffix=suffix)
            self._files, self._purge, self._uploaded = self._files + 1, None, time.monotonic()
        for name, value in values.items():
            self._writer.add_scalar(name, float(value), step)
        if time.monotonic() - self._uploaded > UPLOAD_SECONDS:
            self._writer.flush()
            self._upload()

    def flush(self) -> None:
        """Stores what was written."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            for file in self._upload():
                file.unlink()

    def close(self) -> None:
        self.flush()
        self._here.cleanup()

    def _upload(self) -> list[pathlib.Path]:
        files = list(pathlib.Path(self._here.name).iterdir())
        for file in files:
            storage.write(self._folder / file.name, file.read_bytes())
        self._uploaded = time.monotonic()
        return files
