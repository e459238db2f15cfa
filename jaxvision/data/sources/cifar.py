"""CIFAR-10 and CIFAR-100 in their binary version (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html)."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.data.sources import files
from jaxvision.data.sources.base import Info, Source, slices
from jaxvision.errors import UserError, unknown

_CIFAR10 = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
_CIFAR100 = {"train": ["train.bin"], "test": ["test.bin"]}
_PIXELS = 3 * 32 * 32


class CifarSource(Source):
    """The splits `train` and `test`: `{"image": uint8 [32, 32, 3], "label": int}`, in the order of the files.

    A record is one label byte in CIFAR-10, a coarse and a fine one in CIFAR-100, then the three planes of the image.

    Args:
      data_dir: `cifar-10-batches-bin` or `cifar-100-binary`, unpacked.
      split: in the syntax of TFDS.
      labels: for CIFAR-100, `fine` (100 classes) or `coarse` (20).

    Raises:
      UserError: a file is missing, or its size is not a number of whole records.
    """

    def __init__(
        self, data_dir: str | Path | None, split: str, fields: Sequence[str] | None = None, *, labels: str = "fine"
    ):
        root = files.directory("cifar", data_dir, "data_batch_1.bin (CIFAR-10) or train.bin (CIFAR-100)")
        if labels not in ("fine", "coarse"):
            raise unknown("kind of labels of cifar", labels, ("fine", "coarse"))
        self._root, self._kind = root, labels
        ten = not (root / "train.bin").is_file()
        meta = "batches.meta.txt" if ten else f"{labels}_label_names.txt"
        self._label_byte = 0 if ten or labels == "coarse" else 1
        names = _CIFAR10 if ten else _CIFAR100
        used = files.named(split, names)
        records = {s: [_records(root / name, 1 if ten else 2) for name in names[s]] for s in used}
        parts = slices(split, {s: sum(map(len, records.get(s, ()))) for s in names}, f"CIFAR in {root}")
        self._rows = files.Rows(parts, {s: [(r, len(r)) for r in records[s]] for s in used})
        if not (root / meta).is_file():
            raise UserError(f"no {meta} in {root}: it names the classes and comes with the data")
        classes = tuple((root / meta).read_text().split())
        self.info = Info(root.resolve().name, split, len(self._rows), classes, len(classes))

    def __reduce__(self):  # a copy for another process maps the files anew
        return functools.partial(CifarSource, labels=self._kind), (self._root, self.info.split)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        records, row = self._rows[index]
        record = records[row]
        image = record[-_PIXELS:].reshape(3, 32, 32).transpose(1, 2, 0)
        return {"image": np.ascontiguousarray(image), "label": int(record[self._label_byte])}

    def _read_labels(self) -> np.ndarray:
        return np.concatenate([r[a:b, self._label_byte] for r, a, b in self._rows.ranges]).astype(np.int32)


def _records(file: Path, label_bytes: int) -> np.ndarray:
    if not file.is_file():
        raise UserError(f"no file {file}: unpack the binary version of the set, whole")
    record = label_bytes + _PIXELS
    size = file.stat().st_size
    if size == 0 or size % record:
        raise UserError(f"{file} is truncated: {size} bytes are not a number of records of {record}")
    return np.memmap(file, np.uint8, "r").reshape(-1, record)
