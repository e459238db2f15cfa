"""Where numbers go: `metrics.jsonl`, the source of truth, and TensorBoard events beside it."""

import itertools
import json
import logging
import math
from collections.abc import Callable, Mapping

from jaxvision import storage
from jaxvision.reading import reading
from jaxvision.storage import Path
from jaxvision.train.board import make_board


class Records:
    """Writes `{"step": s, name: value, ...}` lines and the same as TensorBoard scalars.

    Opening a file that has lines beyond `start` (a run that died after its last checkpoint) drops
    those lines, so that each step stands in it once.

    Args:
      workdir: of the run.
      start: step that the run goes on from.
      check: called before anything is written; raises where this process is the writer no more.
    """

    def __init__(self, workdir: Path, start: int, check: Callable[[], None] = lambda: None):
        self.path, self._check = workdir / "metrics.jsonl", check
        check()
        found, damaged = parse(self.path)
        if damaged:
            copy = _damaged_copy(self.path)
            numbers = ", ".join(map(str, damaged[:10])) + (", ..." if len(damaged) > 10 else "")
            logging.warning("%s: lines %s cannot be read and are left out; %s has them", self.path, numbers, copy.name)
        kept = [line for line in found if line["step"] <= start]
        self._lines = storage.Lines(self.path, [json.dumps(line) for line in kept])
        board = workdir / "tensorboard"
        self._board = make_board(board, purge_step=start + 1 if start or board.is_dir() else None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line; it is stored when this returns (see `storage.Lines`). Non-finite numbers become null."""
        self._check()
        line = {"step": step} | {k: (float(v) if math.isfinite(v) else None) for k, v in values.items()}
        self._lines.append(json.dumps(line))
        self._board.write(step, values)

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

    def flush(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def _damaged_copy(path: Path) -> Path:
    names = (path.with_name(f"metrics.damaged{number or ''}.jsonl") for number in itertools.count())
    copy = next(name for name in names if not name.exists())
    text = "".join(line + "\n" for line in storage.read_lines(path))
    storage.write(copy, text.encode(errors="surrogateescape"))
    return copy


def read(path: Path) -> list[dict]:
    """The lines of a metrics file, without those that cannot be read. Empty where there is none."""
    return parse(path)[0]


def parse(path: Path) -> tuple[list[dict], list[int]]:
    """The lines of a metrics file, and the numbers (from 1) of those that cannot be read.

    A last line cut off by a crash is none of them: a kill leaves it.

    Raises:
      UserError: the file cannot be read at all.
    """
    lines, damaged = [], []
    with reading(path, only=OSError):
        texts = storage.read_lines(path)
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
        elif text.strip() and number < len(texts):
            damaged.append(number)
    return lines, damaged
