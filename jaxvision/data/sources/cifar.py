"""CIFAR-10 and CIFAR-100, binary or python version (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html)."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.arguments import is_whole
from jaxvision.data.signatures import describe_page
from jaxvision.data.sources import files, plain_pickle
from jaxvision.data.sources.base import Info, Source, parse_split, standard_fields
from jaxvision.errors import UserError, shown, unknown
from jaxvision.fields import Field
from jaxvision.reading import read_text, reading
from jaxvision.registry import part

_CIFAR10 = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
_CIFAR100 = {"train": ["train"], "test": ["test"]}
_KINDS = ("coarse", "fine")  # kinds of labels of CIFAR-100, in the order of their bytes
_PIXELS = 3 * 32 * 32  # bytes of an image


@part("data set", "cifar")
class CifarSource(Source):
    """The splits `train` and `test`: `{"image": uint8 [32, 32, 3], "label": int}`, in the order of the files.

    A record of the binary version is one label byte in CIFAR-10, a coarse and a fine one in CIFAR-100, then the three
    planes of the image. The binary version stays on the disk. The python version (pickles, whose plain data is read
    without running anything) is loaded into memory.

    Args:
      data_dir: Folder `cifar-10-batches-bin`, `cifar-10-batches-py`, `cifar-100-binary` or `cifar-100-python`,
        unpacked.
      split: Split in the syntax of TFDS, such as `train[:90%]`.
      fields: Not used; every example has both fields.
      labels: Kind of labels of CIFAR-100, `fine` (100 classes) or `coarse` (20).

    Raises:
      UserError: A file is missing or damaged, its size is not a whole number of records, or a label is out of range.
    """

    def __init__(
        self, data_dir: str | Path | None, split: str, fields: Sequence[str] | None = None, *, labels: str = "fine"
    ):
        root = files.directory("cifar", data_dir, "data_batch_1.bin (CIFAR-10), train.bin (CIFAR-100), or data_batch_1")
        if labels not in _KINDS:
            raise unknown("kind of labels of cifar", labels, _KINDS)
        self._root, self._kind = root, labels
        stems = [name for files_of in (_CIFAR10, _CIFAR100) for names in files_of.values() for name in names]
        binary = any((root / f"{name}.bin").is_file() for name in stems)  # other .bin files are not of the set
        python = not binary and any((root / name).is_file() for name in stems)
        suffix = "" if python else ".bin"
        ten = not (root / f"train{suffix}").is_file()
        if ten and labels != "fine":
            raise UserError(f"labels={labels!r}: CIFAR-10 in {root} has one kind of labels; CIFAR-100 has two")
        self._label_byte = 0 if ten or labels == "coarse" else 1
        stems_of = _CIFAR10 if ten else _CIFAR100
        used = files.possible_splits(split, stems_of)
        read = _read_pickle if python else _map_records
        records = {s: [read(root / f"{name}{suffix}", 1 if ten else 2) for name in stems_of[s]] for s in used}
        parts = parse_split(split, {s: sum(map(len, records.get(s, ()))) for s in stems_of}, f"CIFAR in {root}")
        self._rows = files.Rows(parts, {s: [(r, len(r)) for r in records[s]] for s in used})
        classes = _python_names(root, ten, labels) if python else _binary_names(root, ten, labels)
        if not classes or len(set(classes)) < len(classes):
            raise UserError(f"CIFAR in {root} names its classes {', '.join(classes) or '(none)'}: want different names")
        info = Info(root.resolve().name, split, len(self._rows), classes, len(classes))
        image = Field("image", (32, 32, 3), "uint8")
        self.info = info._replace(fields=standard_fields(info, image, text=False))
        paths = {id(r): root / f"{n}{suffix}" for s in used for n, r in zip(stems_of[s], records[s])}
        for r, a, b in self._rows.ranges:
            largest = int(r[a:b, self._label_byte].max())
            if largest >= len(classes):
                row = a + int(r[a:b, self._label_byte].argmax())
                raise UserError(
                    f"record {row:,} of {paths[id(r)]} has a label {largest}, but the set names only {len(classes)} "
                    "classes: it is damaged"
                )

    def __reduce__(self):  # a copy for another process maps the files again
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


def _map_records(file: Path, label_bytes: int) -> np.ndarray:
    """Maps the records of the binary version: uint8 [n, label_bytes + 3072]."""
    if not file.is_file():
        raise UserError(f"no file {file}: unpack the binary version of the set, whole")
    record = label_bytes + _PIXELS
    size = file.stat().st_size
    if size == 0 or size % record:
        with reading(file), open(file, "rb") as stream:
            what = describe_page(stream.read(512))
        raise UserError(f"{file} is truncated: {what or f'{size} bytes are not a number of records of {record}'}")
    with reading(file):
        return np.memmap(file, np.uint8, "r").reshape(-1, record)


def _read_pickle(file: Path, label_bytes: int) -> np.ndarray:
    """Reads the records of a file of the python version, in the form of the binary one."""
    batch = _load(file)
    keys = ("labels",) if label_bytes == 1 else tuple(f"{kind}_labels" for kind in _KINDS)
    for key in (*keys, "data"):
        if key not in batch:
            raise UserError(f"{file} has no {key!r}; want the python version of CIFAR")
    labels = np.array([_labels(batch[key], f"{key!r} of {file}") for key in keys], np.uint8).T
    with reading(file):
        pixels = np.asarray(batch["data"])
    if pixels.shape != (len(labels), _PIXELS):
        raise UserError(f"{file} has data of shape {pixels.shape} beside {len(labels)} labels; want [n, {_PIXELS}]")
    return np.concatenate([labels, pixels], axis=1)


def _labels(stated: Any, where: str) -> list[int]:
    """Checks that the labels of a pickle are whole numbers that fit in a byte, and returns them."""
    if not isinstance(stated, list | tuple | np.ndarray):
        raise UserError(f"{where} is {shown(stated)}, not a list of labels")
    for record, label in enumerate(stated):
        if not is_whole(label, least=0) or label > 255:
            raise UserError(f"{where}: the label of record {record:,} is {shown(label)}; want a whole number from 0 on")
    return [int(label) for label in stated]


def _load(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UserError(f"no file {file}: unpack the python version of the set, whole")
    with reading(file):
        data = file.read_bytes()
        if reason := describe_page(data) or ("" if data else "the file is empty"):
            raise UserError(f"{file} is damaged: {reason}")
        content = plain_pickle.load_plain(data)
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no dict; want the python version of CIFAR")
    return content


def _python_names(root: Path, ten: bool, labels: str) -> tuple[str, ...]:
    file, key = (root / "batches.meta", "label_names") if ten else (root / "meta", f"{labels}_label_names")
    names = _load(file).get(key)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"{file} has no list {key!r}, which names the classes")
    return tuple(names)


def _binary_names(root: Path, ten: bool, labels: str) -> tuple[str, ...]:
    file = root / ("batches.meta.txt" if ten else f"{labels}_label_names.txt")
    if not file.is_file():
        raise UserError(f"no {file.name} in {root}: it names the classes and comes with the data")
    return tuple(read_text(file).split())
