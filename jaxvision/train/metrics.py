"""Where numbers go: `metrics.jsonl`, the source of truth, and TensorBoard events beside it."""

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
    """Writes `{"step": s, name: value, ...}` lines and the same as TensorBoard scalars.

    Opening a file that has lines written after the checkpoint of `start` (by a run that died) drops them: they will be
    written again.

    Args:
      workdir: folder of the run.
      start: step that the run goes on from.
      check: called before anything is written; raises where this process is the writer no more.
      lines: how many lines of that step the file had when its checkpoint was saved, from `mark`; None for all of them.
    """

    def __init__(
        self, workdir: Path, start: int, check: Callable[[], None] = lambda: None, *, lines: int | None = None
    ):
        self.path, self._check = workdir / "metrics.jsonl", check
        check()
        found, damaged, _ = parse(self.path)
        if damaged:
            copy = _damaged_copy(self.path)
            numbers = ", ".join(map(str, damaged[:10])) + (", ..." if len(damaged) > 10 else "")
            logging.warning("%s: lines %s cannot be read and are left out; %s has them", self.path, numbers, copy.name)
        kept, dropped = _split(found, start, lines)
        self._lines = line_files.Lines(self.path, [json.dumps(line) for line in kept])
        board = workdir / "tensorboard"
        # Lines of the very step of the checkpoint may have been dropped. Events can be purged by whole steps only.
        again = any(line["step"] == start for line in dropped)
        self._board = make_board(board, purge_step=start + (not again) if start or board.is_dir() else None)
        own = [line for line in kept if line["step"] == start]
        for line in own if again else ():
            self._board.write(start, {k: math.nan if v is None else v for k, v in line.items() if k != "step"})
        self._step, self._count = start, len(own)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line; it is stored when this returns (see `line_files.Lines`). Non-finite numbers become null."""
        self._check()
        line = {"step": step} | {k: (float(v) if math.isfinite(v) else None) for k, v in values.items()}
        self._lines.append(json.dumps(line))
        self._board.write(step, values)
        self._step, self._count = step, self.mark(step) + 1

    def mark(self, step: int) -> int:
        """How many lines of this step have been written; a checkpoint carries it."""
        return self._count if step == self._step else 0

    def flush(self) -> None:
        """Stores all of it on the disk: before a checkpoint, since a run goes on behind it."""
        self._check()
        self._lines.sync()
        self._board.flush()

    def close(self) -> None:
        self._lines.close()
        self._board.close()


class NoRecords:
    """Takes the place of `Records` in processes that write nothing."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def mark(self, step: int) -> int:
        """The process that writes knows better."""
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
    """Lines that a run at a step keeps, at most so many of them of that step itself, and the others."""
    kept, dropped, of_start = [], [], 0
    for line in lines:
        of_start += line["step"] == start
        keep = line["step"] < start or (line["step"] == start and (most is None or of_start <= most))
        (kept if keep else dropped).append(line)
    return kept, dropped


class Lines(NamedTuple):
    """The lines of a metrics file.

    Attributes:
      lines: objects with a step, in their order in the file.
      damaged: numbers, from 1, of the lines that are none.
      cut_off: text of a last line that is no JSON, as a kill leaves it; empty where there is none.
    """

    lines: list[dict[str, Any]]
    damaged: list[int]
    cut_off: str


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file, without those that cannot be read. Empty where there is none."""
    return parse(path).lines


def parse(path: Path) -> Lines:
    """The lines of a metrics file, and what in it is none.

    Raises:
      UserError: the file cannot be read at all.
    """
    lines, damaged = [], []
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
