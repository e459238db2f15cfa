"""Scenes of `shapes` by the colours and kinds they show, so that some pairs of both can be excluded from training."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxvision import path_names
from jaxvision.data import shapes
from jaxvision.data.shapes import CLASSES, COLOURS
from jaxvision.data.sources.base import Source, label_field
from jaxvision.data.sources.tfds import TfdsSource, of_features
from jaxvision.data.subsets import Subset
from jaxvision.errors import UserError, unknown
from jaxvision.fields import Field
from jaxvision.registry import part

PAIRS: tuple[str, ...] = tuple(f"{colour} {kind}" for colour in COLOURS for kind in CLASSES)
LABELS = {"kind": CLASSES, "colour": COLOURS, "pair": PAIRS}
SCENES = ("all", "seen", "held_out")


def held_out(colour: int, kind: int) -> bool:
    """Returns whether a pair is held out: `scenes="seen"` never shows it.

    20 of the 100 pairs are held out, two of each colour and of each kind.

    Args:
      colour: Number of the colour.
      kind: Number of the kind.

    >>> sum(held_out(colour, kind) for colour in range(10) for kind in range(10))
    20
    """
    return (kind - colour) % len(CLASSES) < 2


def known_fields(
    *,
    image_size: int = 32,
    text: str = "text",
    label: str = "kind",
    question: str = "kind",
    features: Mapping[str, str] | None = None,
    **_: Any,
) -> dict[str, Field]:
    """Returns the fields of `shapes` with these options, known before it is rendered.

    Args:
      image_size: Side of the images in pixels.
      text: Feature that becomes the field `text`.
      label: Label, a key of `LABELS`.
      question: Question that the labels answer, a key of `shapes.QUESTIONS`.
      features: Paths of further features by the names of their fields.
      **_: Other options of `shapes`, which do not change the fields.
    """
    check_question(question, label=label)
    fields = of_features(shapes.features(image_size, question), "shapes", text=text, others=features)
    names = LABELS.get(label, ()) if question == "kind" else shapes.QUESTIONS[question]
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
    question: str = "kind",
    text: str = "text",
    label: str = "kind",
    scenes: str = "all",
    features: Mapping[str, str] | None = None,
) -> Source:
    """Opens a split of `shapes`, scenes of coloured objects that are rendered on first use.

    Args:
      data_dir: Folder of the cache; by default the environment variable JAXVISION_DATA, else `~/.cache/jaxvision`.
      split: Split in the syntax of TFDS, such as `train[:90%]`.
      fields: Names of the fields to read; None for all.
      image_size: Side of the images in pixels, at least 32.
      train: Number of examples in the training split.
      validation: Number of examples in the validation split.
      test: Number of examples in the test split.
      question: Question that the labels answer: "kind", that of the main object; "same", "larger", "nearest", "count",
        "kind_same", "kind_of_larger" or "odd_one", which have scenes of their own.
      text: Feature that becomes the field `text`: "caption".
      label: Label of the main object: its "kind" (10 classes), its "colour" (10), or the "pair" of both (100, "red
        circle").
      scenes: Choice of scenes: "all"; "seen", those in which no object is of a held-out pair; or "held_out", those
        whose main object is of one.
      features: Paths of further features by the names of their fields.

    Raises:
      UserError: The question, the label or the choice of scenes is unknown, or they do not go together; an image size
        or a number of examples is out of range; or the folder cannot be written.
    """
    check_question(question, label=label, scenes=scenes)
    builder = shapes.prepare_shapes(
        cache_folder(data_dir), image_size=image_size, train=train, validation=validation, test=test, question=question
    )
    return open_scenes(builder, split, fields, text=text, label=label, scenes=scenes, features=features)


def cache_folder(data_dir: str | Path | None) -> Path:
    """Returns the folder in which `shapes` is rendered.

    Args:
      data_dir: Folder of a config; None for the environment variable JAXVISION_DATA, else `~/.cache/jaxvision`.
    """
    return path_names.expanded(data_dir or os.environ.get("JAXVISION_DATA", "~/.cache/jaxvision"), "data_dir")


def check_question(question: str, **choices: str) -> None:
    """Refuses an unknown question, and choices among scenes or labels that go only with "kind".

    Args:
      question: Question that the labels answer.
      **choices: Values of the options `label` and `scenes`.

    Raises:
      UserError: The question is unknown, or an option does not go with it.
    """
    shapes.check_question(question)
    changed = [f"{name}={value!r}" for name, value in choices.items() if value not in ("kind", "all")]
    if question != "kind" and changed:
        raise UserError(
            f"shapes with question={question!r} has the answer as its label and no main object, so it takes no "
            f"{' or '.join(changed)}: leave out one of them"
        )


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
      builder: Builder from `shapes.prepare_shapes`.
      split: Split in the syntax of TFDS, such as `train[:90%]`.
      fields: Names of the fields to read; None for all.
      text: Feature that becomes the field `text`: "caption".
      label: Label of the main object: its "kind" (10 classes), its "colour" (10), or the "pair" of both (100, "red
        circle").
      scenes: Choice of scenes: "all"; "seen", those in which no object is of a held-out pair; or "held_out", those
        whose main object is of one.
      features: Paths of further features by the names of their fields, see `TfdsSource`.

    Raises:
      UserError: The label or the choice of scenes is unknown, or the split has no such scenes.
    """
    if label not in LABELS:
        raise unknown("label of shapes", label, LABELS)
    if scenes not in SCENES:
        raise unknown("choice of scenes of shapes", scenes, SCENES)
    source: Source = TfdsSource(builder, "shapes", split, fields, text=text, features=features)
    if (label, scenes) == ("kind", "all"):
        return source
    shown = _objects(TfdsSource(builder, "shapes", split, ("objects/colour", "objects/label")))
    if label != "kind":
        colours, kinds = np.array([objects[0] for objects in shown]).T
        source = _Relabelled(source, colours if label == "colour" else colours * len(CLASSES) + kinds, LABELS[label])
    if scenes == "all":
        return source
    excluded = [any(held_out(*o) for o in (objects if scenes == "seen" else objects[:1])) for objects in shown]
    chosen = np.flatnonzero(np.array(excluded) == (scenes == "held_out"))
    if not len(chosen):
        raise UserError(f"the split {split!r} of shapes has no scenes that are {scenes!r}")
    return Subset(source, chosen)


def _objects(source: Source) -> list[list[tuple[int, int]]]:
    """Returns (colour, kind) of the objects of each scene, the main one first."""
    examples = (source[i] for i in range(len(source)))
    return [list(zip(map(int, e["objects/colour"]), map(int, e["objects/label"]))) for e in examples]


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
