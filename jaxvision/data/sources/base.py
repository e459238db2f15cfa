"""The interface of a source, and the syntax of splits."""

import functools
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from jaxvision.data import order
from jaxvision.data.sources.passed_over import PassedOver
from jaxvision.errors import MAX_CHOICES, UserError, listed, nearest
from jaxvision.fields import Field


class BadExample(Exception):
    """An example of a source lacks something. Like a picture that cannot be decoded, it is skipped and counted."""


class Info(NamedTuple):
    """The description of a source.

    Attributes:
      name: Name of the set.
      split: Text of the split.
      num_examples: Number of examples.
      classes: Names of the classes; may be empty if there are no names.
      num_classes: Number of classes; None for a set without class labels.
      multi_label: True if an example may have several classes.
      fields: All fields that an example can have, as they are stored; if empty, those of `standard_fields` are assumed.
    """

    name: str
    split: str
    num_examples: int
    classes: tuple[str, ...]
    num_classes: int | None
    multi_label: bool = False
    fields: Mapping[str, Field] = {}


ENCODED = Field("image", (None, None, 3), "bytes")  # an image file


def label_field(num_classes: int | None, names: tuple[str, ...] = (), multi_label: bool = False) -> Field:
    """Returns the field of the class, or classes, of an example.

    Args:
      num_classes: Number of classes, None if it is unknown.
      names: Names of the classes.
      multi_label: True if an example may have several classes.

    >>> label_field(10).dtype, label_field(10, multi_label=True).shape
    ('int32', (10,))
    """
    if multi_label:
        return Field("label", (num_classes,), "float32", num_classes, tuple(names))
    return Field("label", (), "int32", num_classes, tuple(names))


def standard_fields(info: Info, image: Field | None = ENCODED, text: bool = True) -> dict[str, Field]:
    """Returns the usual fields: `image`, `label` if there are classes, and `text`.

    Args:
      info: Description of the labels.
      image: Field of the images; None if there are none.
      text: True if there are texts.
    """
    fields = {} if image is None else {"image": image}
    if info.num_classes is not None:
        fields["label"] = label_field(info.num_classes, info.classes, info.multi_label)
    return {**fields, "text": Field("text", (), "str")} if text else fields


class Source:
    """A set of examples. Subclasses define `info`, `__len__` and `__getitem__`, and must be thread-safe.

    An example is a dict with some of these fields: `image`, the bytes of a file, or uint8 [h, w, 3] or [h, w]; `label`,
    an int, or float32 [k] of zeros and ones if `info.multi_label`; `text`, a str, or a tuple of several alternatives.
    `info.fields` lists them, and may name others. Reading an example raises OSError or BadExample if it cannot be read.

    Attributes:
      info: Description of the set.
      root: Folder of the set, or None; `subsets.names` leaves it out of the names of files.
      passed_over: Counts of the files beside the examples that are not read, or None; `open_source` warns of them.
    """

    info: Info
    root: str | None = None
    passed_over: PassedOver | None = None

    @property
    def fields(self) -> Mapping[str, Field]:
        """The fields that an example can have, as they are stored."""
        return self.info.fields or standard_fields(self.info)

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> dict[str, Any]:
        raise NotImplementedError

    def order(self, seed: int, start: int, stop: int) -> np.ndarray:
        """Returns the examples at positions `start` to `stop` of the endless training stream.

        Args:
          seed: Seed of the shuffling.
          start: First position.
          stop: Position after the last.

        Returns:
          Indices, int64 [stop - start].
        """
        return order.indices(seed, len(self), start, stop)

    def describe(self, index: int) -> str:
        """Returns the name of an example for messages: its file if there is one.

        Args:
          index: Index of the example.
        """
        return f"example {index} of {self.info.name} {self.info.split}"

    def place(self, index: int) -> tuple[str, str]:
        """Returns what identifies an example among those of its kind of source.

        Args:
          index: Index of the example.

        Returns:
          (place in its file, file); the place is empty if the file is the example.
        """
        return "", self.describe(index)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """The labels of all examples, read once and kept; no image is decoded.

        Returns:
          int32 [n], or float32 [n, k] of zeros and ones if `info.multi_label`.

        Raises:
          UserError: The examples have no class label.
        """
        if self.info.num_classes is None:
            raise UserError(f"{self.info.name} has no class labels")
        return self._read_labels()

    def _read_labels(self) -> np.ndarray:
        dtype = np.float32 if self.info.multi_label else np.int32
        return np.array([self[i]["label"] for i in range(len(self))], dtype)


def first_readable(source: Source, most: int = 1000) -> dict[str, Any]:
    """Returns the first example that can be read, as it is stored; it shows which fields a set has.

    Args:
      source: Source of examples.
      most: Number of examples to try.

    Raises:
      UserError: None of the first `most` examples can be read.
    """
    reason = ""
    for index in range(min(len(source), most)):
        try:
            return source[index]
        except (BadExample, OSError) as error:
            reason = reason or f"{source.describe(index)}: {error}"
    where = f"{source.info.name} {source.info.split}"
    raise UserError(f"none of the first {min(len(source), most):,} examples of {where} can be read ({reason})")


def check_classes(info: Info, num_classes: int) -> None:
    """Checks that a set has as many classes as a model has outputs; a set without classes passes.

    Args:
      info: Description of the set.
      num_classes: Number of outputs of the model.

    Raises:
      UserError: The numbers differ.
    """
    if info.num_classes is not None and info.num_classes != num_classes:
        raise UserError(f"the config says {num_classes} classes, but {info.name} {info.split} has {info.num_classes}")


def parse_split(split: str, sizes: Mapping[str, int], where: str) -> list[tuple[str, int, int]]:
    """Parses the text of a split.

    Args:
      split: Split in the syntax of TFDS.
      sizes: Number of examples of every split, by name.
      where: Name of the set, for messages.

    Returns:
      Tuples (split name, start, stop).

    Raises:
      UserError: The text cannot be parsed, names another split, means no example, or some twice; or a split is called
        `all`, which means all splits.

    >>> parse_split("train[:75%]+test", {"train": 10, "test": 5}, "the set")
    [('train', 0, 8), ('test', 0, 5)]
    """
    if "all" in sizes:
        raise UserError(f"{where} has a split that is called 'all', which means all splits: give it another name")
    infos = {s: tfds.core.SplitInfo(name=s, shard_lengths=[n], num_bytes=0) for s, n in sizes.items()}
    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    except (ValueError, NotImplementedError) as error:
        choices = ", ".join(sizes) if len(sizes) <= MAX_CHOICES else listed(split, sizes)
        reason = str(error).splitlines()[-1]
        if reason.startswith("Unknown split"):  # TFDS would list all choices again
            reason = f"there is no split of that name{nearest(split, sizes)}"
        raise UserError(f"cannot read the split {split!r} of {where}, which has {choices}: {reason}") from None
    ranges = [(p.splitname, p.from_ or 0, sizes[p.splitname] if p.to is None else p.to) for p in parts]
    if all(start >= stop for _, start, stop in ranges):
        raise UserError(f"the split {split!r} of {where} is empty")
    ordered = sorted(ranges)
    for (name, _, stop), (other, start, end) in itertools.pairwise(ordered):
        if name == other and start < min(stop, end):
            raise UserError(
                f"the split {split!r} of {where} holds examples of {name!r} twice: name each once. The data set "
                "'mixture' has weights for examples that should come more often"
            )
    return ranges
