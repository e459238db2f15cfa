"""Where numbers go: `metrics.jsonl`, the source of truth, and TensorBoard events beside it."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter


class Records:
    """Writes `{"step": s, name: value, ...}` lines and the same as TensorBoard scalars.

    Opening a file that has lines beyond `start` (a run that died after its last checkpoint) drops
    those lines, so that each step stands in it once.
    """

    def __init__(self, workdir: Path, start: int):
        self.path = workdir / "metrics.jsonl"
        kept = [line for line in read(self.path) if line["step"] <= start]
        temporary = self.path.with_suffix(".jsonl.tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(temporary, self.path)
        self._file = self.path.open("a")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start + 1 if start else None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line; it is on disk when this returns. Non-finite numbers become null."""
        line = {"step": step} | {k: (float(v) if math.isfinite(v) else None) for k, v in values.items()}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, float(value), step)

    def close(self) -> None:
        self._file.close()
        self._board.close()


class NoRecords:
    """Takes the place of `Records` in processes that write nothing."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def read(path: Path) -> list[dict]:
    """The lines of a metrics file; a last line cut off by a crash is left out. Empty where there is none."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines
