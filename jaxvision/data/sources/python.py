"""Objects of a Python program as a data set: what `jaxvision.train(data=...)` reads.

A config names them by fingerprint: `data.name` is "python", and `data.options.splits` says of each split what it was.
So a run that is resumed with other objects is refused like one with another config. The fingerprint covers arrays of
numbers wholly, all labels that are known without the images, a table's own fingerprint, and 16 examples, spread over
the set; a change in other examples goes unnoticed.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.data.fingerprint import fingerprint
from jaxvision.data.sources.base import BadExample, Info, Source, label_field, parse_split
from jaxvision.data.sources.files import Rows
from jaxvision.data.sources.labels import Classes, Labels, infer_classes, read_classes
from jaxvision.data.sources.objects import SAMPLED, Objects, is_one_split, objects_of, spread
from jaxvision.errors import UserError
from jaxvision.registry import part

_WHERE = "the data given to jaxvision.train (of several splits a dict: data=dict(train=..., validation=...))"
_READS = 4  # of each example that is checked; transforms of low probability change few of them
_offered: dict[str, Mapping[str, Objects]] = {}  # by the fingerprints of their splits


class PythonSource(Source):
    """Examples of objects in this process.

    Args:
      objects: Objects by split.
      split: Split in the syntax of TFDS, such as `train[:90%]`.
      fields: Names of the fields to read; None for all.
      classes: Names of the classes, or their number; None for those that the objects know.

    Raises:
      UserError: There is no such split, labels are wrong, or the classes of a set are not known.
    """

    def __init__(
        self,
        objects: Mapping[str, Objects],
        split: str,
        fields: Sequence[str] | None = None,
        *,
        classes: str | Sequence[str] | int | None = None,
    ):
        parts = parse_split(split, {name: len(one) for name, one in objects.items()}, _WHERE)
        self._rows = Rows(parts, {name: [((name, one), len(one))] for name, one in objects.items()})
        self._wanted = None if fields is None else tuple(fields)
        self._labels: Labels | np.ndarray | None = None
        used = [objects[name] for name in dict.fromkeys(name for name, _, _ in parts)]
        self._classes: Classes | None = None
        count: int | None = None
        names: tuple[str, ...] = ()
        multi = False
        if any(one.has_label for one in used):
            self._classes = read_classes(classes, Path()) if classes is not None else _classes_of(objects)
            stated = [self._stated(one, start, stop) for (_, one), start, stop in self._rows.ranges]
            if all(labels is not None for labels in stated):
                self._labels = self._read(stated)
                multi = isinstance(self._labels, np.ndarray) or self._labels.multi
            elif self._classes is not None:
                multi = isinstance(_label_of_first(used[0]), list | np.ndarray)
            if self._classes is not None:
                names = () if isinstance(self._classes, int) else self._classes
                count = self._classes if isinstance(self._classes, int) else len(names)
        self.info = Info("python", split, len(self._rows), names, count, multi)
        label = {"label": label_field(count, names, multi)} if any(one.has_label for one in used) else {}
        self.info = self.info._replace(fields={**used[0].fields, **label})

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        (_, objects), row = self._rows[index]
        example = objects.example(row)
        if "label" in example and self._labels is not None:
            example["label"] = self._labels[index]
        elif "label" in example and self._classes is not None:
            example["label"] = self._number(example["label"])
        return {name: value for name, value in example.items() if self._wanted is None or name in self._wanted}

    def describe(self, index: int) -> str:
        """Returns the name of an example, as `Source.describe`."""
        (name, _), row = self._rows[index]
        return f"example {row} of data[{name!r}]"

    def _stated(self, objects: Objects, start: int, stop: int) -> Sequence[Any] | np.ndarray | None:
        return None if objects.labels is None else objects.labels[start:stop]

    def _number(self, label: Any) -> Any:
        """The label of one example as a class number, or as zeros and ones [k]."""
        assert self._classes is not None
        count = self._classes if isinstance(self._classes, int) else len(self._classes)
        if isinstance(label, np.ndarray) and label.shape == (count,) and np.isin(label, (0, 1)).all():
            return label.astype(np.float32)
        try:
            return Labels([label], self._classes, numbered=True)[0]
        except UserError as error:
            raise BadExample(str(error)) from error

    def _read(self, stated: Sequence[Any]) -> Labels | np.ndarray:
        """The labels of all examples; zeros and ones [n, k] stay as they are."""
        if all(isinstance(labels, np.ndarray) and labels.ndim == 2 for labels in stated):
            hot = np.concatenate(stated).astype(np.float32)
            if not np.isin(hot, (0, 1)).all():
                raise UserError(
                    "labels [n, k] must be zeros and ones, for the classes that an image does not have or has"
                )
            if self._classes is None:
                self._classes = hot.shape[1]
            return hot
        every = [x for labels in stated for x in (labels.tolist() if isinstance(labels, np.ndarray) else labels)]
        if self._classes is None:
            self._classes = infer_classes([(every, self.describe)])
        return Labels(every, self._classes, self.describe, numbered=True)

    def _read_labels(self) -> np.ndarray:
        if self._labels is None:
            return super()._read_labels()
        return self._labels if isinstance(self._labels, np.ndarray) else self._labels.array()


def _classes_of(objects: Mapping[str, Objects]) -> Classes | None:
    """The classes that the objects name, or those that the labels of all of them show; None if neither is known."""
    known = {classes for one in objects.values() if (classes := one.classes) is not None}
    if len(known) > 1:
        raise UserError(f"the splits {', '.join(objects)} name different classes: {' and '.join(map(str, known))}")
    if known:
        return known.pop()
    labelled = {name: one for name, one in objects.items() if one.has_label}
    if any(one.labels is None or np.ndim(one.labels) != 1 for one in labelled.values()):
        return None
    stated = {name: np.asarray(one.labels).tolist() for name, one in labelled.items()}  # plain numbers and texts
    return infer_classes((labels, _place(name)) for name, labels in stated.items())


def _label_of_first(objects: Objects) -> Any:
    for index in range(min(len(objects), 100)):
        with contextlib.suppress(BadExample):
            return objects.example(index).get("label")
    return None


def _place(name: str) -> Any:
    return lambda index: f"example {index} of data[{name!r}]"


@contextlib.contextmanager
def offered(data: Any, classes: Sequence[str] | int | None = None) -> Iterator[dict[str, Any]]:
    """Makes objects readable as the data set "python" while entered.

    Args:
      data: Data of the split `train`, or a dict of such data by split; see `objects.objects_of`.
      classes: Names of the classes, or their number, if the objects do not know them.

    Returns:
      A context whose value is the section `data.options` that names them.

    Raises:
      UserError: An object cannot be read, is empty, or returns something else for the same index each time.
    """
    splits = {"train": data} if is_one_split(data) else dict(data)
    if wrong := [name for name in splits if not isinstance(name, str) or not name.isidentifier()]:
        raise UserError(f"names of splits are words such as 'train' and 'validation', not {wrong[0]!r}")
    where = {name: "data" if is_one_split(data) else f"data[{name!r}]" for name in splits}
    objects = {name: objects_of(value, where[name]) for name, value in splits.items()}
    for name, one in objects.items():
        _check_constant(one, where[name])
    options: dict[str, Any] = {"splits": {name: _described(objects, name, classes) for name in objects}}
    if classes is not None:
        options["classes"] = classes if isinstance(classes, int) else tuple(classes)
    key = _key(options["splits"])
    before = _offered.get(key)
    _offered[key] = objects
    try:
        yield options
    finally:
        _offered.pop(key)
        if before is not None:
            _offered[key] = before


@part("data set", "python")
def open_python(
    data_dir: str | Path | None,
    split: str,
    fields: Sequence[str] | None = None,
    *,
    splits: Mapping[str, str],
    classes: str | Sequence[str] | int | None = None,
) -> Source:
    """Opens the objects of this program that `offered` made readable.

    Args:
      data_dir: Not used.
      split: Split in the syntax of TFDS, such as `train[:90%]`.
      fields: Names of the fields to read; None for all.
      splits: Descriptions of the objects by split, with their fingerprints.
      classes: Names of the classes, or their number; None for those that the objects know.

    Raises:
      UserError: The process has no such objects.
    """
    objects = _offered.get(_key(splits))
    if objects is None:
        were = "; ".join(f"{name}: {text}" for name, text in splits.items())
        raise UserError(
            f"the data are objects of a Python program, which only that program can give ({were}): call "
            "jaxvision.train(config, workdir, data=...) with the same objects, or give another data set"
        )
    return PythonSource(objects, split, fields, classes=classes)


def digest_of(example: Mapping[str, Any]) -> str:
    """Returns a digest of an example, with the names, types, shapes and contents of its fields.

    Args:
      example: Example of a split.
    """
    digest = hashlib.sha256()
    for name, value in sorted(example.items()):
        if isinstance(value, bytes | str):
            kind, content = type(value).__name__, value.encode() if isinstance(value, str) else value
        else:
            array = np.asarray(value)
            kind, content = f"{array.dtype} {array.shape}", array.tobytes()
        digest.update(f"{name} {kind}:".encode() + content + b"\0")
    return digest.hexdigest()


def _key(splits: Mapping[str, str]) -> str:
    return json.dumps(dict(splits), sort_keys=True)


def _check_constant(objects: Objects, where: str) -> None:
    """Raises a UserError if the same index gives two different examples."""
    first: dict[int, str] = {}
    for _ in range(_READS):
        for index in spread(len(objects), SAMPLED):
            try:
                digest = digest_of(objects.example(index))
            except BadExample:
                continue
            if first.setdefault(index, digest) != digest:
                raise UserError(
                    f"{where}[{index}] is different each time that it is read, so a run could not be repeated or "
                    "resumed: take random transforms out of the data set; the config's augment and host specs do that "
                    "work"
                )


def _described(objects: Mapping[str, Objects], split: str, classes: Any) -> str:
    """Describes the object of a split by its type, its size and its fingerprint."""
    facts = fingerprint(PythonSource(objects, split, classes=classes))
    content = json.dumps([facts, objects[split].digest()], sort_keys=True)
    return (
        f"{objects[split].kind}, {len(objects[split]):,} examples, {hashlib.sha256(content.encode()).hexdigest()[:12]}"
    )
