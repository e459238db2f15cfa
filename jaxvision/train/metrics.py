"""Writes the numbers of a run to `metrics.jsonl`, the source of truth, and as TensorBoard events."""

import itertools
import json
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxvision import line_files, storage
from jaxvision.reading import reading
from jaxvision.storage import Path
from jaxvision.train.board import make_board


class Records:
    """Writes lines `{"step": s, name: value, ...}`, and the same numbers as TensorBoard scalars.

    A run that was killed may have written lines after the checkpoint of `start`. They are dropped when the file is
    opened, because the run will write them again.

    Args:
      workdir: Folder of the run.
      start: Step from which the run starts or resumes.
      check: Function that is called before every write; it raises if this process no longer owns the workdir.
      lines: Number of lines of the step `start` at the time of its checkpoint, from `mark`; None to keep all of them.
    """

    def __init__(
        self, workdir: Path, start: int, check: Callable[[], None] = lambda: None, *, lines: int | None = None
    ):
        self.path, self._check = workdir / "metrics.jsonl", check
        check()
        written, damaged, _ = parse(self.path)
        if damaged:
            copy = _damaged_copy(self.path)
            numbers = ", ".join(map(str, damaged[:10])) + (", ..." if len(damaged) > 10 else "")
            logging.warning(
                "%s: lines %s cannot be read and are left out; %s keeps them", self.path, numbers, copy.name
            )
        kept, dropped = _split(written, start, lines)
        self._lines = line_files.Lines(self.path, [json.dumps(line) for line in kept])
        board = workdir / "tensorboard"
        # TensorBoard can purge whole steps only. If some lines of the step `start` itself were dropped, its events are
        # purged too, and those of the kept lines are written again.
        again = any(line["step"] == start for line in dropped)
        self._board = make_board(board, purge_step=start + (not again) if start or board.is_dir() else None)
        of_start = [line for line in kept if line["step"] == start]
        for line in of_start if again else ():
            self._board.write(start, {k: math.nan if v is None else v for k, v in line.items() if k != "step"})
        self._step, self._count = start, len(of_start)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends a line; it is stored when this returns (see `line_files.Lines`).

        Args:
          step: Number of steps taken.
          values: Numbers by name; those that are not finite become null.
        """
        self._check()
        line = {"step": step} | {k: (float(v) if math.isfinite(v) else None) for k, v in values.items()}
        self._lines.append(json.dumps(line))
        self._board.write(step, values)
        self._step, self._count = step, self.mark(step) + 1

    def mark(self, step: int) -> int:
        """Returns the number of lines of a step that have been written, which its checkpoint carries.

        Args:
          step: Number of steps taken.
        """
        return self._count if step == self._step else 0

    def flush(self) -> None:
        """Stores all lines and events on the disk. Call it before a checkpoint, because a run resumes after it."""
        self._check()
        self._lines.sync()
        self._board.flush()

    def close(self) -> None:
        """Closes the files."""
        self._lines.close()
        self._board.close()


class NoRecords:
    """Stands in for `Records` in processes that write nothing."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def mark(self, step: int) -> int:
        """Returns 0; only the process that writes knows the number."""
        return 0

    def flush(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def _damaged_copy(path: Path) -> Path:
    names = (path.with_name(f"metrics.damaged{number or ''}.jsonl") for number in itertools.count())
    copy = next(name for name in names if not name.exists())
    text = "".join(line + "\n" for line in line_files.read_lines(path))
    storage.write(copy, text.encode(errors="surrogateescape"))
    return copy


def _split(lines: list[dict], start: int, most: int | None) -> tuple[list[dict], list[dict]]:
    """Splits lines into those that a run at step `start` keeps, at most `most` of that step itself, and the others."""
    kept: list[dict] = []
    dropped: list[dict] = []
    of_start = 0
    for line in lines:
        of_start += line["step"] == start
        keep = line["step"] < start or (line["step"] == start and (most is None or of_start <= most))
        (kept if keep else dropped).append(line)
    return kept, dropped


class Lines(NamedTuple):
    """The lines of a metrics file.

    Attributes:
      lines: Objects with a key "step", in the order of the file.
      damaged: Numbers, from 1, of the lines that are no such object.
      cut_off: Text of the last line if it is no JSON, which a kill can leave; else empty.
    """

    lines: list[dict[str, Any]]
    damaged: list[int]
    cut_off: str


def read(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of a metrics file, without those that cannot be read; none if there is no file.

    Args:
      path: Path of metrics.jsonl.
    """
    return parse(path).lines


def parse(path: Path) -> Lines:
    """Parses a metrics file.

    Args:
      path: Path of metrics.jsonl.

    Returns:
      The lines, and the numbers of those that cannot be read.

    Raises:
      UserError: The file cannot be read at all.
    """
    lines: list[dict[str, Any]] = []
    damaged: list[int] = []
    with reading(path, only=OSError):
        texts = line_files.read_lines(path)
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            if number == len(texts):
                return Lines(lines, damaged, text)
            line = None
        if isinstance(line, dict) and type(line.get("step")) is int:
            lines.append(line)
        elif text.strip():
            damaged.append(number)
    return Lines(lines, damaged, "")
