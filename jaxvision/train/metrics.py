"""Where numbers go: `metrics.jsonl`, the source of truth, and TensorBoard events beside it."""

import json
import math
from collections.abc import Mapping

from jaxvision import storage
from jaxvision.storage import Path
from jaxvision.train.board import make_board


class Records:
    """Writes `{"step": s, name: value, ...}` lines and the same as TensorBoard scalars.

    Opening a file that has lines beyond `start` (a run that died after its last checkpoint) drops
    those lines, so that each step stands in it once.
    """

    def __init__(self, workdir: Path, start: int):
        self.path = workdir / "metrics.jsonl"
        kept = [line for line in read(self.path) if line["step"] <= start]
        self._lines = storage.Lines(self.path, [json.dumps(line) for line in kept])
        self._board = make_board(workdir / "tensorboard", purge_step=start + 1 if start else None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line; it is stored when this returns. Non-finite numbers become null."""
        line = {"step": step} | {k: (float(v) if math.isfinite(v) else None) for k, v in values.items()}
        self._lines.append(json.dumps(line))
        self._board.write(step, values)

    def flush(self) -> None:
        """Stores the TensorBoard events, too: before a checkpoint, since a run goes on behind it."""
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


def read(path: Path) -> list[dict]:
    """The lines of a metrics file; a last line cut off by a crash is left out. Empty where there is none."""
    lines = []
    for text in storage.read_lines(path):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines
