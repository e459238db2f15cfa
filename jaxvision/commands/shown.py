"""What `train` prints, and keeps in the workdir of the run."""

import contextlib
import pathlib
import shlex
import sys
from collections.abc import Iterator
from typing import NamedTuple

from rich.table import Table

from jaxvision import storage
from jaxvision.errors import UserError
from jaxvision.locks import Lock
from jaxvision.storage import Path
from jaxvision.train.progress import console
from jaxvision.train.transcript import Transcript
from jaxvision.train.watch import Preempted


class Made(NamedTuple):
    """What a run keeps of a config that was made for it, see `recipes`.

    Attributes:
      file: Text of the config as a Python file.
      lines: Lines that say what was found and chosen; they have been printed.
    """

    file: str
    lines: tuple[str, ...]


class Show:
    """Prints what a run shows, and keeps it in console.txt.

    Args:
      transcript: Open file; None to do neither.
    """

    def __init__(self, transcript: Transcript | None):
        self._transcript = transcript

    def __call__(self, line: Table | str) -> None:
        """Prints and keeps a line, or a table.

        Args:
          line: Text or table.
        """
        if self._transcript is not None:
            console().print(line, markup=False)
            self._transcript.add(line)

    def keep(self, line: str) -> None:
        """Keeps a line that something else prints, such as the `Reporter`.

        Args:
          line: Text.
        """
        if self._transcript is not None:
            self._transcript.add(line)


@contextlib.contextmanager
def shown(lock: Lock | None, workdir: Path, step: int, made: Made | None) -> Iterator[Show]:
    """Opens console.txt of a run, and writes config.py if its config was made for it.

    Args:
      lock: Lock of the workdir; None in a process that shows nothing, whose run is quiet or which is not the first.
      workdir: Folder of the run.
      step: Step from which the launch starts.
      made: Config that was made for the run, or None.

    Yields:
      A function that prints and keeps a line.
    """
    if lock is None:
        yield Show(None)
        return
    transcript = Transcript(workdir, lock.check)
    with contextlib.closing(transcript):
        transcript.launch(step, shlex.join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]))
        show = Show(transcript)
        if made is not None:
            for line in made.lines:
                show.keep(line)
            _write_config(workdir, made.file, show)
        try:
            yield show
        except (Preempted, UserError) as error:
            show.keep(str(error))
            raise


def _write_config(workdir: Path, text: str, show: Show) -> None:
    """Writes config.py into a workdir that has none: a file that is there may have been edited."""
    path = workdir / "config.py"
    if not path.exists():
        storage.write(path, text)
        show(f"config written to {path}: edit a copy of it, and give it as --config=FILE.py")
