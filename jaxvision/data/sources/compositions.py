"""Scenes of `shapes` by the colours and kinds they show, so that some pairs of both can be kept from training."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxvision.data import shapes
from jaxvision.data.shapes import CLASSES, COLOURS
from jaxvision.data.sources.base import Source, label_field
from jaxvision.data.sources.tfds import TfdsSource, of_features
from jaxvision.data.subsets import Subset
from jaxvision.errors import UserError, unknown
from jaxvision.fields import Field
from jaxvision.found import part

PAIRS: tuple[str, ...] = tuple(f"{colour} {kind}" for colour in COLOURS for kind in CLASSES)
LABELS = {"kind": CLASSES, "colour": COLOURS, "pair": PAIRS}
SCENES = ("all", "seen", "held_out")


def held_out(colour: int, kind: int) -> bool:
    """Whether a pair is one of the 20 of 100 that `scenes="seen"` never shows: two of each colour and of each kind.

    >>> sum(held_out(colour, kind) for colour in range(10) for kind in range(10))
    20
    """
    return (kind - colour) % len(CLASSES) < 2


def known_fields(
    *,
    image_size: int = 32,
    text: str = "text",
    label: str = "kind",
    features: Mapping[str, str] | None = None,
    **_: Any,
) -> dict[str, Field]:
    """The fields of `shapes` with these options, which are known before it is rendered."""
    fields = of_features(shapes.features(image_size), "shapes", text=text, others=features)
    names = LABELS.get(label, ())
    return {**fields, "label": label_field(len(names), names)}


@part("data set", "shapes", fields=known_fields, small={"image_size": 32, "train": 24, "validation": 12, "test": 12})
def open_shapes(
    data_dir: str | Path | None,
    split: str,
    fields: Sequence[str] | None = None,
    *,
    image_size: int = 32,
    train: int = 60_000,
    validation: int = 5_000,
    test: int = 5_000,
    text: str = "text",
    label: str = "kind",
    scenes: str = "all",
    features: Mapping[str, str] | None = None,
) -> Source:
    """Opens a split of `shapes`, which is rendered at first use; see `shapes.prepare` and `open_scenes`."""
    cache = Path(data_dir or os.environ.get("JAXVISION_DATA", "~/.cache/jaxvision")).expanduser()
    builder = shapes.prepare(cache, image_size=image_size, train=train, validation=validation, test=test)
    return open_scenes(builder, split, fields, text=text, label=label, scenes=scenes, features=features)


def open_scenes(
    builder: tfds.core.DatasetBuilder,
    split: str,
    fields: Sequence[str] | None = None,
    *,
    text: str = "text",
    label: str = "kind",
    scenes: str = "all",
    features: Mapping[str, str] | None = None,
) -> Source:
    """Opens a split of a prepared `shapes`.

    Args:
      builder: of `shapes.prepare`.
      split: in the syntax of TFDS.
      fields: of an example, which are wanted.
      text: the feature that becomes the field `text`: "caption".
      label: what is told of the main object: its "kind" (10 classes), "colour" (10) or "pair" of both (100, "red
        circle").
      scenes: "all"; "seen", those in which no object is of a held-out pair; or "held_out", those whose main object
        is of one.
      features: paths of features by the names of the fields that they become, see `TfdsSource`.

    Raises:
      UserError: an unknown label or choice of scenes, or a split in which there are no such scenes.
    """
    if label not in LABELS:
        raise unknown("label of shapes", label, LABELS)
    if scenes not in SCENES:
        raise unknown("choice of scenes of shapes", scenes, SCENES)
    source = TfdsSource(builder, "shapes", split, fields, text=text, features=features)
    if (label, scenes) == ("kind", "all"):
        return source
    shown = _objects(TfdsSource(builder, "shapes", split, ("objects/colour", "objects/label")))
    if label != "kind":
        colours, kinds = np.array([objects[0] for objects in shown]).T
        source = _Relabelled(source, colours if label == "colour" else colours * len(CLASSES) + kinds, LABELS[label])
    if scenes == "all":
        return source
    asked = [any(held_out(*o) for o in (objects if scenes == "seen" else objects[:1])) for objects in shown]
    chosen = np.flatnonzero(np.array(asked) == (scenes == "held_out"))
    if not len(chosen):
        raise UserError(f"the split {split!r} of shapes has no scenes that are {scenes!r}")
    return Subset(source, chosen)


def _objects(source: Source) -> list[list[tuple[int, int]]]:
    """(colour, kind) of the objects of each scene, the main one first."""
    read = (source[i] for i in range(len(source)))
    return [list(zip(map(int, one["objects/colour"]), map(int, one["objects/label"]))) for one in read]


class _Relabelled(Source):
    """The examples of a source with other labels."""

    def __init__(self, source: Source, labels: np.ndarray, classes: tuple[str, ...]):
        self._source, self._new = source, labels.astype(np.int32)
        fields = {**source.fields, "label": label_field(len(classes), classes)}
        self.info = source.info._replace(classes=classes, num_classes=len(classes), fields=fields)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self._source[index], "label": int(self._new[index])}

    def describe(self, index: int) -> str:
        return self._source.describe(index)

    def _read_labels(self) -> np.ndarray:
        return self._new
