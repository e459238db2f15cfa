"""What a source is, and how the text of a split is read."""

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
    """What a source says about itself.

    `classes` may be empty where there are no names; `num_classes` is None for a set without class labels.
    `multi_label` is True where an example may be of several classes. `fields` are all that an example can have, as they
    are stored; a source that does not say is taken to have those of `standard_fields`.
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
    """The field of the class of an example, or of its classes.

    >>> label_field(10).dtype, label_field(10, multi_label=True).shape
    ('int32', (10,))
    """
    if multi_label:
        return Field("label", (num_classes,), "float32", num_classes, tuple(names))
    return Field("label", (), "int32", num_classes, tuple(names))


def standard_fields(info: Info, image: Field | None = ENCODED, text: bool = True) -> dict[str, Field]:
    """The usual fields: `image`, `label` where there are classes, and `text`.

    Args:
      info: what is known of the labels.
      image: what the images are; None where there are none.
      text: whether there are texts.
    """
    fields = {} if image is None else {"image": image}
    if info.num_classes is not None:
        fields["label"] = label_field(info.num_classes, info.classes, info.multi_label)
    return {**fields, "text": Field("text", (), "str")} if text else fields


class Source:
    """A set of examples: subclasses give `info`, `__len__` and `__getitem__`, and are safe to read from threads.

    An example is a dict with some of these fields: `image`, the bytes of a file or uint8 [H, W, 3] (or [H, W]);
    `label`, an int, or float32 [K] of zeros and ones where `info.multi_label`; `text`, a str, or a tuple of several
    that say the same. `info.fields` says which, and may name others. Reading an example raises OSError or
    BadExample where it is not there. `passed_over` counts what lies beside the examples and is not read; `open_source`
    warns of it.
    """

    info: Info
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
        """The examples at positions `start` to `stop` of the endless training stream: int64 [stop - start]."""
        return order.indices(seed, len(self), start, stop)

    def describe(self, index: int) -> str:
        """Names an example in messages: a file where there is one."""
        return f"example {index} of {self.info.name} {self.info.split}"

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """The labels of all examples, read once and kept; no image is decoded.

        Returns:
          int32 [n], or float32 [n, K] of zeros and ones where `info.multi_label`.

        Raises:
          UserError: the examples have no class label.
        """
        if self.info.num_classes is None:
            raise UserError(f"{self.info.name} has no class labels")
        return self._read_labels()

    def _read_labels(self) -> np.ndarray:
        dtype = np.float32 if self.info.multi_label else np.int32
        return np.array([self[i]["label"] for i in range(len(self))], dtype)


def first_readable(source: Source, most: int = 1000) -> dict[str, Any]:
    """The first example that is there, as it is stored: what tells which fields a set has.

    Raises:
      UserError: none of the first `most` is there.
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
    """Raises a UserError unless the labels of a set are those of a model with `num_classes` outputs."""
    if info.num_classes is not None and info.num_classes != num_classes:
        raise UserError(f"the config says {num_classes} classes, but {info.name} {info.split} has {info.num_classes}")


def slices(split: str, sizes: Mapping[str, int], where: str) -> list[tuple[str, int, int]]:
    """Reads a TFDS split text into (split name, start, stop), given the size of every split.

    Raises:
      UserError: the text cannot be read, names another split, means no example, or some twice; or a split is called
        `all`, which stands for all of them. `where` is the set in the message.

    >>> slices("train[:75%]+test", {"train": 10, "test": 5}, "the set")
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
        if reason.startswith("Unknown split"):  # which TFDS says with all choices again
            reason = f"it has none of that name{nearest(split, sizes)}"
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
