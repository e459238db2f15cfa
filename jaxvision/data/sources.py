"""Where examples come from: the embedded set, a folder of images, or any prepared TFDS set.

A source has a length, gives the example dict at an index, and knows its classes. Images come out
encoded where they are stored encoded; `host_ops.decode` reads them.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder

from jaxvision.data import shapes
from jaxvision.errors import UserError, nearest, unknown

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_SHAPES_OPTIONS = ("image_size", "train", "validation", "test")


class Info(NamedTuple):
    """What a source says about itself.

    `classes` may be empty where there are no names; `num_classes` is None for a set without class labels.
    """

    name: str
    split: str
    num_examples: int
    classes: tuple[str, ...]
    num_classes: int | None


class Source:
    """A set of examples: subclasses give `info`, `__len__` and `__getitem__`."""

    info: Info

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> dict[str, Any]:
        raise NotImplementedError

    def describe(self, index: int) -> str:
        """Names an example in messages: a file where there is one."""
        return f"example {index} of {self.info.name} {self.info.split}"

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """The labels of all examples, int32 [n], read once and kept; no image is decoded.

        Raises:
          UserError: the examples have no class label.
        """
        if self.info.num_classes is None:
            raise UserError(f"{self.info.name} has no class labels")
        return self._read_labels()

    def _read_labels(self) -> np.ndarray:
        return np.array([self[i]["label"] for i in range(len(self))], np.int32)


def open_source(
    name: str,
    split: str,
    *,
    data_dir: str | None = None,
    options: Mapping[str, int] | None = None,
    fields: Sequence[str] | None = None,
) -> Source:
    """Opens one split of a data set.

    Args:
      name: "shapes", "folder", or the TFDS name of a prepared set: `cifar10`, `imagenet2012:5.1.0`, `coco/2017`.
      split: a split in the syntax of TFDS: `train`, `train[:90%]`, `train[1000:]`, `train+validation`.
        Percentages round as in TFDS, to the nearest example.
      data_dir: for "folder", the directory that holds `split/class/*.jpg` (or .jpeg, .png, .webp); for a TFDS set,
        TFDS's data_dir (default `~/tensorflow_datasets`); for "shapes", where it is cached (default: the environment
        variable JAXVISION_DATA, else `~/.cache/jaxvision`).
      options: for "shapes" only: `image_size`, and the sizes of `train`, `validation` and `test`. The set is rendered
        at first use.
      fields: which fields of a TFDS set or of "shapes" to decode; all if None. Fewer read several times faster.

    Raises:
      UserError: no such data set, split, directory, option or field; a TFDS set that is not prepared as ArrayRecord.
        Nothing is ever downloaded.
    """
    options = dict(options or {})
    if name == "shapes":
        for key in options:
            if key not in _SHAPES_OPTIONS:
                raise unknown("option of the data set 'shapes'", key, _SHAPES_OPTIONS)
        cache = data_dir or os.environ.get("JAXVISION_DATA", "~/.cache/jaxvision")
        return TfdsSource(shapes.prepare(Path(cache).expanduser(), **options), name, split, fields)
    if name == "folder":
        if data_dir is None:
            raise UserError("the data set 'folder' needs data_dir, the directory that holds split/class/*.jpg")
        source = FolderSource(Path(data_dir).expanduser(), split)
    else:
        source = TfdsSource(_prepared_builder(name, data_dir), name, split, fields)
    if options:
        raise UserError(f"the data set {name!r} takes no options (only 'shapes' does): {options}")
    return source


def check_classes(info: Info, num_classes: int) -> None:
    """Raises a UserError unless the labels of a set are those of a model with `num_classes` outputs."""
    if info.num_classes is not None and info.num_classes != num_classes:
        raise UserError(f"the config says {num_classes} classes, but {info.name} {info.split} has {info.num_classes}")


class FolderSource(Source):
    """Image files in a tree `split/class/*.jpg`, in sorted order: `{"image": bytes, "label": int}`.

    The classes are the sorted names of the class folders, which must be the same in every split. Files and
    folders whose names start with a dot, and files that are no images, are passed over. A change on disk
    after opening is not seen.
    """

    def __init__(self, root: Path, split: str):
        if not root.is_dir():
            raise UserError(f"no directory {root}; want one that holds split/class/*.jpg")
        splits = _folders(root)
        classes = _folder_classes(root, splits)
        # Listing a million files is slow: only the splits that the text can mean are listed.
        files = {s: _image_files(root / s, classes) if s in split or split == "all" else [] for s in splits}
        parts = _slices(split, {s: len(files[s]) for s in splits}, f"the folder {root}")
        self._files = [file for name, start, stop in parts for file in files[name][start:stop]]
        self.info = Info(root.resolve().name, split, len(self._files), tuple(classes), len(classes))

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, label = self._files[index]
        with open(path, "rb") as file:
            return {"image": file.read(), "label": label}

    def describe(self, index: int) -> str:
        return self._files[index][0]

    def _read_labels(self) -> np.ndarray:
        return np.array([label for _, label in self._files], np.int32)


class TfdsSource(Source):
    """A split of a prepared TFDS builder, read from ArrayRecord. `image` stays encoded, if it is stored so."""

    def __init__(self, builder: tfds.core.DatasetBuilder, name: str, split: str, fields: Sequence[str] | None = None):
        sizes = {s: info.num_examples for s, info in builder.info.splits.items()}
        _slices(split, sizes, f"the data set {name!r}")
        features = dict(builder.info.features.items())
        for field in fields or ():
            if field not in features:
                raise unknown(f"field of the data set {name!r}", field, features)
        # Decoding here instead of in TFDS skips the fields that nobody wants, most of the work in rich sets.
        self._records = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        self._features = tfds.features.FeaturesDict({f: features[f] for f in fields or features})
        encoded = "image" in self._features and isinstance(features["image"], tfds.features.Image)
        self._decoders = {"image": tfds.decode.SkipDecoding()} if encoded else None
        label = features.get("label")
        self._label = label if isinstance(label, tfds.features.ClassLabel) else None
        classes, num_classes = (tuple(label.names), label.num_classes) if self._label else ((), None)
        self.info = Info(name, split, len(self._records), classes, num_classes)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._features.deserialize_example_np(self._records[index], decoders=self._decoders)

    def _read_labels(self) -> np.ndarray:
        only_label = tfds.features.FeaturesDict({"label": self._label})
        n = len(self)
        chunks = (self._records.__getitems__(range(i, min(i + 1024, n))) for i in range(0, n, 1024))
        return np.array([only_label.deserialize_example_np(r)["label"] for chunk in chunks for r in chunk], np.int32)


def _slices(split: str, sizes: Mapping[str, int], where: str) -> list[tuple[str, int, int]]:
    """Reads a TFDS split text into (split name, start, stop), given the size of every split."""
    infos = {s: tfds.core.SplitInfo(name=s, shard_lengths=[n], num_bytes=0) for s, n in sizes.items()}
    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    except (ValueError, NotImplementedError) as error:
        choices = ", ".join(sizes)
        reason = str(error).splitlines()[-1]
        raise UserError(f"cannot read the split {split!r} of {where}, which has {choices}: {reason}") from None
    slices = [(p.splitname, p.from_ or 0, sizes[p.splitname] if p.to is None else p.to) for p in parts]
    if all(start >= stop for _, start, stop in slices):
        raise UserError(f"the split {split!r} of {where} is empty")
    return slices


def _folders(path: Path) -> list[str]:
    return sorted(e.name for e in os.scandir(path) if e.is_dir() and not e.name.startswith("."))


def _folder_classes(root: Path, splits: list[str]) -> list[str]:
    if not splits:
        raise UserError(f"{root} is empty; want split/class/*.jpg in it")
    classes = _folders(root / splits[0])
    for split in splits:
        other = _folders(root / split)
        if not other:
            raise UserError(f"{root / split} holds no class folders; want {split}/class/*.jpg in {root}")
        if other != classes:
            odd = ", ".join(sorted(set(other) ^ set(classes))[:5])
            raise UserError(f"the splits {splits[0]!r} and {split!r} of {root} differ in their class folders: {odd}")
    return classes


def _image_files(split_dir: Path, classes: list[str]) -> list[tuple[str, int]]:
    files = []
    for label, name in enumerate(classes):
        entries = (e for e in os.scandir(split_dir / name) if not e.name.startswith("."))
        files += [(path, label) for path in sorted(e.path for e in entries if e.name.lower().endswith(_IMAGE_SUFFIXES))]
    if not files:
        raise UserError(f"no images in {split_dir}; want class/*{{{','.join(_IMAGE_SUFFIXES)}}} in it")
    return files


def _prepared_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """The builder of a set that is prepared on disk. Never asks the network: TFDS would retry for minutes."""
    where = {} if data_dir is None else {"data_dir": os.path.expanduser(data_dir)}
    try:
        builder = read_only_builder.builder_from_files(name, **where)
    except tfds.core.DatasetNotFoundError:
        raise _not_prepared(name, where) from None
    except ValueError as error:
        raise UserError(f"cannot read the data set name {name!r}: {str(error).splitlines()[0]}") from None
    formats = {f.value for f in builder.info.available_file_formats()}
    if "array_record" not in formats:
        raise UserError(
            f"{name} is prepared in {builder.data_path} as {', '.join(sorted(formats))}, which has no random access. "
            f"Prepare it once more with file_format='array_record' in another data_dir, or convert it with "
            f"`tfds convert_format --dataset_version_dir={builder.data_path} --out_file_format=array_record "
            f"--out_dir=...` (which needs TensorFlow)"
        )
    return builder


def _not_prepared(name: str, where: dict[str, str]) -> UserError:
    catalog = tfds.list_builders(with_community_datasets=False)
    base = name.split(":")[0].split("/")[0]
    if base not in catalog:
        choices = "Choices: shapes, folder, or a name of https://www.tensorflow.org/datasets/catalog that is prepared"
        return UserError(f"unknown data set {name!r}{nearest(base, ['shapes', 'folder', *catalog]) or '.'} {choices}")
    arguments = "".join(f", {k}={v!r}" for k, v in {"file_format": "array_record", **where}.items())
    return UserError(
        f"the data set {name!r} is not prepared in {where.get('data_dir', tfds.core.constants.DATA_DIR)}. "
        f"Prepare it once, in Python:\n"
        f"  import tensorflow_datasets as tfds\n"
        f"  tfds.builder({name!r}{arguments}).download_and_prepare()\n"
        f"This step downloads; for many sets it needs TensorFlow (pip install tensorflow), which training does not."
    )
