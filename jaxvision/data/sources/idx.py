"""IDX files: MNIST (LeCun, Cortes, Burges 1998), Fashion-MNIST, KMNIST, EMNIST."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import unpacking
from jaxvision.data.signatures import describe_bytes
from jaxvision.data.sources import files
from jaxvision.data.sources.base import Source, parse_split
from jaxvision.data.sources.labels import Labels, make_info, read_classes
from jaxvision.errors import UserError
from jaxvision.fields import Field
from jaxvision.reading import reading
from jaxvision.registry import part

_SPLITS = {"train": ("train",), "test": ("t10k", "test")}


@part("data set", "idx")
class IdxSource(Source):
    """The splits `train` and `test`: `{"image": uint8 [h, w], "label": int}`, in the order of the files.

    Args:
      data_dir: Folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, and the same with `t10k` or `test`.
        Plain files are not loaded into memory, those with .gz are.
      split: Split in the syntax of TFDS, such as `train[:90%]`.
      fields: Not used; every example has both fields.
      prefix: Beginning of the file names before `train-images`, without the hyphen: `emnist-letters`.
      classes: Names of the classes (a file with one name per line, or a tuple), or their number. By default one more
        than the largest label of both splits.
      transpose: True to swap rows and columns, as EMNIST needs.

    Raises:
      UserError: A file is missing, truncated or no IDX file, or images and labels differ in number.
    """

    def __init__(
        self,
        data_dir: str | Path | None,
        split: str,
        fields: Sequence[str] | None = None,
        *,
        prefix: str = "",
        classes: str | Sequence[str] | int | None = None,
        transpose: bool = False,
    ):
        root = files.directory("idx", data_dir, "train-images-idx3-ubyte")
        self._root, self._options = root, {"prefix": prefix, "classes": classes, "transpose": transpose}
        start_of_name = f"{prefix}-" if prefix else ""
        pairs = {s: pair for s, words in _SPLITS.items() if (pair := _find(root, start_of_name, words))}
        if not pairs:
            raise UserError(
                f"want {start_of_name}train-images-idx3-ubyte and {start_of_name}train-labels-idx1-ubyte, or .gz of "
                f"them, in {root}{files.listing(root)}"
            )
        stated = {s: read_idx(labels) for s, (_, labels) in pairs.items()}
        for name, array in stated.items():
            if array.ndim != 1:
                raise UserError(f"{pairs[name][1]} has {array.ndim} axes, want 1")
        parts = parse_split(split, {s: len(x) for s, x in stated.items()}, f"the IDX files in {root}")
        images = {s: read_idx(pairs[s][0]) for s, _, _ in parts}
        for s in images:
            if images[s].ndim != 3:
                raise UserError(f"{pairs[s][0]} has {images[s].ndim} axes, want 3")
            if len(images[s]) != len(stated[s]):
                raise UserError(f"{pairs[s][0]} has {len(images[s])} images, but there are {len(stated[s])} labels")
        self._rows = files.Rows(parts, {s: [(x, len(x))] for s, x in images.items()})
        self._transpose = transpose
        names_or_count = read_classes(classes, root) or 1 + max(int(x.max()) for x in stated.values() if len(x))
        chosen = np.concatenate([stated[s][start:stop] for s, start, stop in parts])
        self._labels = Labels(chosen.tolist(), names_or_count, lambda i: f"example {i} of {root}")
        height, width = next(iter(images.values())).shape[1:]
        shape = (width, height) if transpose else (height, width)
        image = Field("image", shape, "uint8")
        self.info = make_info(root.resolve().name, split, len(chosen), self._labels, image)

    def __reduce__(self):  # a copy for another process maps the files again
        return functools.partial(IdxSource, **self._options), (self._root, self.info.split)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        images, row = self._rows[index]
        image = np.asarray(images[row])
        return {"image": image.T if self._transpose else image, "label": self._labels[index]}

    def _read_labels(self) -> np.ndarray:
        return self._labels.array()


def _find(root: Path, start: str, words: Sequence[str]) -> tuple[Path, Path] | None:
    """Finds the files of images and labels of a split. Some archives have a dot in place of the second hyphen."""
    for word in words:
        pair: list[Path | None] = []
        for kind in ("images-idx3", "labels-idx1"):
            names = (f"{start}{word}-{k}-ubyte{z}" for k in (kind, kind.replace("-", ".")) for z in ("", ".gz"))
            pair.append(next((root / name for name in names if (root / name).is_file()), None))
        images, labels = pair
        if images and labels:
            return images, labels
        if any(pair):
            missing = "labels-idx1" if images else "images-idx3"
            raise UserError(f"{images or labels} has no counterpart: want {start}{word}-{missing}-ubyte[.gz] in {root}")
    return None


def read_idx(file: Path) -> np.ndarray:
    """Reads the uint8 array of an IDX file, with its axes as stored; a file that is not compressed is memory-mapped.

    The header is two zero bytes, the type (8 for uint8), the number of axes, and each length as a big-endian uint32.

    Args:
      file: File, compressed if its suffix is .gz.

    Returns:
      uint8, with the axes of the header: [n, h, w] for images, [n] for labels.

    Raises:
      UserError: The file is no IDX file of bytes, or is truncated.
    """
    with reading(file):
        if file.suffix == ".gz":
            with open(file, "rb") as stream:
                beginning = stream.read(512)
            if not beginning.startswith(b"\x1f\x8b") and (reason := describe_bytes(beginning)):
                raise UserError(f"{file} is not a gzip file: {reason}")
            data = np.frombuffer(unpacking.read_gzip(file), np.uint8)
        else:
            data = np.memmap(file, np.uint8, "r") if file.stat().st_size else np.zeros(0, np.uint8)
    if len(data) < 4 or data[:3].tolist() != [0, 0, 8]:
        reason = describe_bytes(data[:512].tobytes())
        raise UserError(f"{file} is not an IDX file of bytes{f': {reason}' if reason else ''}")
    axes = int(data[3])
    head = 4 + 4 * axes
    if axes == 0 or len(data) < head:
        raise UserError(f"{file} is truncated or damaged: its header of {axes} axes is not whole")
    shape = np.frombuffer(data[4:head], ">u4").tolist()
    body = data[head:]
    if len(body) != math.prod(shape):
        what = "truncated" if len(body) < math.prod(shape) else "damaged"
        raise UserError(f"{file} is {what}: {len(body)} bytes, but its header says {shape}")
    return body.reshape(shape)
