"""Objects of a Python program that hold examples: arrays, tables of Hugging Face `datasets`, and anything indexable.

Nothing here imports `datasets` or torch: their objects are known by their methods.
"""

import contextlib
import hashlib
import json
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import google_crc32c
import numpy as np

from jaxvision.data import any_image
from jaxvision.data.decoding import BadImage
from jaxvision.data.sources.base import ENCODED, BadExample
from jaxvision.data.sources.columns import likely_column
from jaxvision.data.sources.labels import Classes
from jaxvision.errors import UserError, shown
from jaxvision.fields import Field

SAMPLED = 16  # number of examples, spread over a set, that are read to check it
_PIXELS = Field("image", (None, None, 3), "uint8")
_HELP = (
    "give dict(image=..., label=...) or a pair (images, labels) of arrays, an object with __len__ and __getitem__ "
    "that returns (image, label) or a dict, or a dict of these by split: dict(train=..., validation=...)"
)


class Objects:
    """The examples of one split.

    Attributes:
      kind: Type of the object, in words.
      classes: Names of the classes, or their number, if the object says it; else None.
      labels: Label of every example, as the object has it, if that needs no image; else None.
      fields: Fields of an example except `label`.
      has_label: True if examples have a field `label`.
    """

    kind: str
    classes: Classes | None = None
    labels: Sequence[Any] | np.ndarray | None = None
    fields: Mapping[str, Field]
    has_label: bool = True

    def __len__(self) -> int:
        raise NotImplementedError

    def example(self, index: int) -> dict[str, Any]:
        """Returns an example: `image` as `decode` takes it, `label` as the object has it, and other fields.

        Args:
          index: Index of the example.

        Raises:
          BadExample: It cannot be read.
        """
        raise NotImplementedError

    def digest(self) -> str:
        """Returns a digest of the content as far as that is quick: here of all labels, if they need no image."""
        if self.labels is None:
            return ""
        labels = self.labels.tolist() if isinstance(self.labels, np.ndarray) else list(self.labels)
        plain = lambda label: label.tolist() if isinstance(label, np.ndarray | np.generic) else _label(label)
        return hashlib.sha256(json.dumps(labels, default=plain).encode()).hexdigest()


class Arrays(Objects):
    """Arrays [n, ...] by field; they are not copied.

    Args:
      arrays: Arrays by field: `image`, [n, h, w], [n, h, w, c] or any sequence of images; `label`, integers or names
        [n], or zeros and ones [n, k]; and others.
      where: Name of the object, for messages.

    Raises:
      UserError: They differ in length, or there are none.
    """

    kind = "arrays"

    def __init__(self, arrays: Mapping[str, Any], where: str):
        sizes = {name: len(array) for name, array in arrays.items()}
        if len(set(sizes.values())) != 1:
            raise UserError(f"{where}: the arrays of one set have one length, not {sizes}")
        self._arrays = {name: x if name == "image" else _array(x) for name, x in arrays.items()}
        self.labels, self.has_label = self._arrays.get("label"), "label" in arrays
        try:
            self.fields = {name: _field(name, x) for name, x in self._arrays.items() if name != "label"}
        except BadExample as error:
            raise UserError(f"{where}: in the first example, {error}") from error

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def example(self, index: int) -> dict[str, Any]:
        found = {name: array[index] for name, array in self._arrays.items()}
        return found | {"image": _stored(found["image"])} if "image" in found else found

    def digest(self) -> str:
        check = google_crc32c.Checksum()
        for name, array in sorted(self._arrays.items()):
            if not isinstance(array, np.ndarray) or array.dtype.hasobject:
                return super().digest()
            check.update(f"{name} {array.dtype} {array.shape};".encode())
            rows = max(1, 2**24 // max(1, array[:1].nbytes))
            for start in range(0, len(array), rows):
                check.update(np.ascontiguousarray(array[start : start + rows]).tobytes())
        return check.hexdigest().decode()


class Table(Objects):
    """A `datasets.Dataset` of Hugging Face. Image files stay encoded, and only the wanted columns are read.

    Args:
      table: Table with an image column.
      where: Name of the object, for messages.

    Raises:
      UserError: It has no column of images.
    """

    kind = "datasets.Dataset"

    def __init__(self, table: Any, where: str):
        kinds = {name: type(feature).__name__ for name, feature in table.features.items()}
        columns = {"image": _column("image", [name for name, kind in kinds.items() if kind == "Image"])}
        if columns["image"] is None:
            described = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
            raise UserError(
                f"{where} has no column of images: its columns are {described}. Cast one: table.cast_column"
            )
        labels = [name for name, feature in table.features.items() if _class_label(feature) is not None]
        columns["label"] = _column("label", labels) or likely_column("label", kinds)
        texts = [name for name in kinds if getattr(table.features[name], "dtype", None) in ("string", "large_string")]
        columns["text"] = likely_column("text", [name for name in texts if name != columns["label"]])
        self._columns = {field: column for field, column in columns.items() if column is not None}
        plain = table.with_format(None).select_columns(list(self._columns.values()))
        image = plain.features[self._columns["image"]]
        self._table = plain.cast_column(self._columns["image"], type(image)(decode=False))
        self.has_label = "label" in self._columns
        self.fields = {"image": ENCODED} | ({"text": Field("text", (), "str")} if "text" in self._columns else {})
        if self.has_label:
            feature = _class_label(table.features[self._columns["label"]])
            self.classes = None if feature is None else tuple(feature.names)
            self.labels = plain.select_columns([self._columns["label"]])[:][self._columns["label"]]

    def __len__(self) -> int:
        return len(self._table)

    def example(self, index: int) -> dict[str, Any]:
        row = self._table[int(index)]
        found = {field: row[column] for field, column in self._columns.items()}
        return found | {"image": _stored(found["image"])}

    def digest(self) -> str:
        return f"{getattr(self._table, '_fingerprint', '')} {super().digest()}"


class Indexable(Objects):
    """Anything with `__len__` and `__getitem__` that returns an image, a pair (image, label), or a dict.

    Class names and labels are taken from the attributes that sets of torchvision have: `classes`, and `targets`,
    `labels` or `_labels`; a `Subset` of torch is looked through. If examples have other labels than the attribute, as
    with a `target_transform`, both attributes are left out: what an example returns is its label.

    Args:
      examples: Object with the examples.
      where: Name of the object, for messages.

    Raises:
      UserError: Its examples are of another form.
    """

    def __init__(self, examples: Any, where: str):
        self._examples, self._where = examples, where
        self.kind = f"{type(examples).__module__.partition('.')[0]}.{type(examples).__qualname__}"
        first = self._first()
        self.has_label = "label" in first
        if "image" not in first:
            raise UserError(f"{where}: an example has {', '.join(first) or 'nothing'}, but no image: {_HELP}")
        self.fields = {name: _field_of_value(name, value) for name, value in first.items() if name != "label"}
        if self.has_label:
            names, labels = _known(examples)
            if labels is not None and not self._has_labels(labels):
                names = labels = None
            self.labels = labels
            self.classes = names if names is None or isinstance(names, int) else tuple(map(str, names))

    def __len__(self) -> int:
        return len(self._examples)

    def example(self, index: int) -> dict[str, Any]:
        """Returns an example, as `Objects.example`; an error of the object becomes a UserError with its place.

        Args:
          index: Index of the example.

        Raises:
          BadExample: It cannot be read.
          UserError: The object raises another error.
        """
        try:
            found = self._named(self._examples[int(index)])
        except BadExample:
            raise
        except OSError as error:
            raise BadExample(f"{error.strerror or error}: {error.filename}") from error
        except Exception as error:
            raise UserError(f"{self._where}[{index}] raises {type(error).__name__}: {error}") from error
        stated = None if self.labels is None else self.labels[int(index)]
        if stated is not None and "label" in found and not _same_label(found["label"], stated):
            raise UserError(
                f"{self._where}[{index}] has the label {shown(found['label'])}, but its attribute of all labels "
                f"(targets, labels or _labels) says {shown(_label(stated))}: make them equal, or remove the attribute"
            )
        return found

    def _has_labels(self, labels: Any) -> bool:
        """Whether examples spread over the set have these labels."""
        for index in spread(len(self), SAMPLED):
            with contextlib.suppress(BadExample):
                found = self.example(index)
                if "label" in found and not _same_label(found["label"], labels[index]):
                    return False
        return True

    def _first(self) -> dict[str, Any]:
        for index in range(min(len(self), 100)):
            try:
                return self.example(index)
            except BadExample as error:
                reason = str(error)
        raise UserError(f"{self._where}: none of its first examples can be read ({reason})")

    def _named(self, example: Any) -> dict[str, Any]:
        """The fields of an example by name."""
        if isinstance(example, Mapping) and not any_image.is_image(example):
            wanted = {field: likely_column(field, example) for field in ("image", "label", "text")}
            wanted |= {field: field for field in wanted if field in example}
            found = {field: example[column] for field, column in wanted.items() if column is not None}
            taken = {column for column in wanted.values() if column}
            found |= {name: value for name, value in example.items() if name not in taken}
        elif isinstance(example, tuple | list) and 1 <= len(example) <= 2:
            found = dict(zip(("image", "label"), example))
        elif any_image.is_image(example) or isinstance(example, str):
            found = {"image": example}
        else:
            raise BadExample(f"it is a {type(example).__name__}, {shown(example)}: {_HELP}")
        if "image" in found:
            found["image"] = _stored(found["image"])
        if "label" in found:
            found["label"] = _label(found["label"])
        return found


def objects_of(value: Any, where: str) -> Objects:
    """Returns the examples that an object of the program holds.

    Args:
      value: Arrays by field, a pair (images, labels), a table of `datasets`, or anything indexable.
      where: Name of the object, for messages.

    Raises:
      UserError: It is none of these, or empty.
    """
    several = isinstance(value, Mapping) or (isinstance(value, tuple) and len(value) == 2)
    lengths = list(value.values() if isinstance(value, Mapping) else value if several else [value])
    if hasattr(value, "__len__") and (not lengths or any(hasattr(one, "__len__") and not len(one) for one in lengths)):
        raise UserError(f"{where} holds no examples")
    found: Objects
    if isinstance(value, Mapping):
        found = Arrays(value, where)
    elif isinstance(value, tuple) and len(value) == 2 and all(hasattr(x, "__len__") for x in value):
        found = Arrays(dict(zip(("image", "label"), value)), where)
    elif isinstance(value, np.ndarray):
        found = Arrays({"image": value}, where)
    elif hasattr(value, "cast_column") and hasattr(value, "select_columns") and hasattr(value, "__len__"):
        found = Table(value, where)
    elif hasattr(value, "__getitem__") and hasattr(value, "__len__") and not isinstance(value, str | bytes):
        found = Indexable(value, where)
    else:
        lacks = " without a length: a stream cannot be shuffled or resumed" if hasattr(value, "__iter__") else ""
        raise UserError(f"{where} is a {type(value).__name__}{lacks}; {_HELP}")
    return found


def is_one_split(value: Any) -> bool:
    """Returns whether a value is the data of one split, not a dict of several.

    Args:
      value: Data from a program.

    >>> is_one_split({"image": np.zeros(2)}), is_one_split({"train": [], "test": []})
    (True, False)
    """
    return not isinstance(value, Mapping) or "image" in value or not value


def spread(size: int, count: int) -> list[int]:
    """Returns indices of examples that are spread evenly over a set, with the first and the last one.

    Args:
      size: Number of examples of the set.
      count: Number of indices; all of them if the set is not larger.

    >>> spread(9, 3), spread(2, 3)
    ([0, 4, 8], [0, 1])
    """
    return list(range(size)) if size <= count else [i * (size - 1) // (count - 1) for i in range(count)]


def _array(values: Any) -> np.ndarray:
    return np.asarray(values.detach().cpu()) if hasattr(values, "detach") else np.asarray(values)


def _field(name: str, array: Any) -> Field:
    if name == "image":
        shape = getattr(array, "shape", ())
        known = isinstance(array, np.ndarray) and array.dtype == np.uint8 and len(shape) in (3, 4)
        return Field("image", (*shape[1:3], 3), "uint8") if known else _field_of_value(name, _stored(array[0]))
    return _field_of_value(name, array[0])


def _field_of_value(name: str, value: Any) -> Field:
    if name == "image":
        return ENCODED if isinstance(value, bytes) else _PIXELS
    if isinstance(value, str):
        return Field("text", (), "str")
    array = np.asarray(value)
    return Field("other", tuple(array.shape), str(array.dtype))


def _stored(image: Any) -> bytes | np.ndarray:
    """The image as `decode` takes it; an array of uint8 is not copied."""
    if (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and (image.ndim == 2 or image.shape[-1:] in ((1,), (3,)))
    ):
        return image
    try:
        return any_image.to_stored(image)
    except BadImage as error:
        raise BadExample(str(error)) from error


def _label(label: Any) -> Any:
    """The label as a whole number, a name, or an array."""
    if isinstance(label, str | bytes | list):
        return label
    array = _array(label)
    return array.item() if array.ndim == 0 else array


def _same_label(found: Any, stated: Any) -> bool:
    """Whether an example's label is the one that an attribute of all labels has, alone or as an array of one."""
    one = found.item() if isinstance(found, np.ndarray) and found.size == 1 else found
    return not isinstance(one, list | np.ndarray) and bool(one == _label(stated))


def _column(field: str, names: Sequence[str]) -> str | None:
    """The column of a field among those of its type: the one of its name, or of a usual one, else the first."""
    if field in names:
        return field
    return likely_column(field, names) or next(iter(names), None)


def _class_label(feature: Any) -> Any:
    """The `ClassLabel` of a column or of the lists in it; None if it has none."""
    inside = getattr(feature, "feature", feature[0] if isinstance(feature, list) and feature else feature)
    return inside if type(inside).__name__ == "ClassLabel" else None


def _known(examples: Any) -> tuple[Any, Any]:
    """The classes and the labels that an object has as attributes, as sets of torchvision do, or None for each."""
    if hasattr(examples, "dataset") and hasattr(examples, "indices"):  # torch's Subset
        classes, labels = _known(examples.dataset)
        chosen = None if labels is None else [labels[operator.index(i)] for i in examples.indices]
        return classes, chosen
    classes = getattr(examples, "classes", None)
    if not isinstance(classes, list | tuple) or not all(isinstance(name, str) for name in classes):
        classes = None
    for name in ("targets", "labels", "_labels"):
        labels = getattr(examples, name, None)
        if labels is not None and hasattr(labels, "__len__") and len(labels) == len(examples):
            array = _array(labels)
            return classes, array if array.ndim == 1 else None
    return classes, None
