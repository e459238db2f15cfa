"""Keeps the lines that a run shows on the console, in `console.txt` of its workdir."""

import io
import threading
import time
from collections.abc import Callable

from rich.console import Console, RenderableType

from jaxvision import line_files
from jaxvision.storage import Path

NAME = "console.txt"
_WIDTH = 120  # columns of a table


class Transcript:
    """A file of the lines that a run shows. Every launch adds to it, so a run that was killed keeps its lines.

    Args:
      workdir: Folder of the run.
      check: Function that is called before every write; it raises if this process no longer owns the workdir.
    """

    def __init__(self, workdir: Path, check: Callable[[], None] = lambda: None):
        check()
        path = workdir / NAME
        self._check, self._lock = check, threading.Lock()
        self._lines = line_files.Lines(path, list(map(_plain, line_files.read_lines(path))))

    def launch(self, step: int, command: str) -> None:
        """Adds a line that says when a launch began, and from which step.

        Args:
          step: Step from which it starts.
          command: Command line.
        """
        at = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self.add(f"--- {at}: {f'resumed from step {step}' if step else 'started'} by {command}")

    def add(self, shown: RenderableType) -> None:
        """Adds what is shown, without colours and control characters.

        Args:
          shown: Text of one or more lines, or a table of rich.
        """
        text = shown if isinstance(shown, str) else _drawn(shown)
        with self._lock:
            self._check()
            for line in text.rstrip("\n").split("\n"):
                self._lines.append(_plain(line))

    def close(self) -> None:
        """Closes the file."""
        self._lines.close()


def _drawn(table: RenderableType) -> str:
    out = Console(file=io.StringIO(), width=_WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
    out.print(table)
    return out.file.getvalue()  # type: ignore[attr-defined]  # of the StringIO


def _plain(line: str) -> str:
    """A line without characters that a terminal would obey, or that UTF-8 cannot hold."""
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line.rstrip())
