"""Accuracy where an image has several right answers, as in the relabelled ImageNet of Beyer et al. 2020 (ReaL)."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from jaxvision.data import subsets
from jaxvision.data.sources import Source
from jaxvision.errors import UserError, shown, some
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.passes import Examples, OfRows
from jaxvision.reading import parse_json, read_text
from jaxvision.registry import part

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables


@part(
    "evaluator",
    "label_sets",
    fields=lambda options: ("image",) if options.get("sets") else ("image", "label"),
    metrics=lambda options, classes: ("top1",),
)
def make_label_sets(
    *, task: "Task", data: EvalSet, sets: str | None = None
) -> "Callable[[Variables], dict[str, float]]":
    """Makes the evaluator of predictions that are right if they are any of an image's labels.

    Beyer, Henaff, Kolesnikov, Zhai and van den Oord 2020, "Are we done with ImageNet?", sec. 3.2: an image counts as
    right if the class with the largest logit is in its set of labels; images with an empty set are left out.

    Args:
      task: Task whose `outputs` have "logits" [b, k].
      data: Split to evaluate.
      sets: JSON file with the labels of each image: a list of lists in the order of the split, or an object of lists by
        the names of the image files, without folders. None takes the labels of the split, of which an image has any
        number.

    Returns:
      `run(variables) -> {"top1": ..., "without_label": ..., "examples": n}`: the share of the n images with labels that
      are right, in [0, 1], and the number of images without labels. Of equal logits the first class is the prediction,
      and NaN is never right. `run` raises UserError if no image has a label.

    Raises:
      UserError: If the split has no classes, the file does not fit it, or there is no file and images have one label.
    """
    k = data.info.num_classes
    if not k:
        raise UserError(f"the evaluator 'label_sets' needs classes, and {data.info.name!r} names none")
    if sets is None and not data.info.multi_label:
        raise UserError(
            f"{data.info.name!r} has one label for each image: use the evaluator 'classify', or set 'sets' to a file "
            "with the labels of each image"
        )
    allowed = None if sets is None else read_sets(sets, data.source, k)

    def judge(outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> tuple:
        logits = outputs["logits"].astype(jnp.float32)
        predicted = jnp.where(jnp.isnan(logits).any(axis=1), -1, logits.argmax(axis=1))
        return (predicted,) if sets is not None else (predicted, batch["label"] > 0)

    def finish(columns: Sequence, examples: Examples) -> tuple[np.ndarray, np.ndarray]:
        predicted = np.asarray(columns[0])
        return predicted, (np.asarray(columns[1]) if allowed is None else allowed[examples.rows])

    reading = data.reading(task, judge, partial(OfRows, finish=finish))

    def run(variables: "Variables") -> dict[str, float]:
        return set_accuracy(*data.read(variables, [reading])[reading])

    return run


def set_accuracy(predicted: np.ndarray, allowed: np.ndarray) -> dict[str, float]:
    """Computes the share of predictions that are in the set of their image.

    Args:
      predicted: Predicted classes, int [n]; -1 is never right.
      allowed: Labels of each image, bool [n, k].

    Returns:
      `top1` in [0, 1] over the images with labels, `without_label` and `examples`, the numbers of the others and these.

    Raises:
      UserError: No image has a label.

    >>> allowed = np.array([[True, True, False], [False, False, False], [False, False, True]])
    >>> set_accuracy(np.array([1, 0, 0]), allowed)
    {'top1': 0.5, 'without_label': 1.0, 'examples': 2.0}
    """
    labelled = allowed.any(axis=1)
    if not labelled.any():
        raise UserError("no image has a label, so there is no accuracy")
    right = allowed[np.arange(len(predicted)), predicted] & (predicted >= 0)
    counts = {"without_label": float((~labelled).sum()), "examples": float(labelled.sum())}
    return {"top1": float(right[labelled].mean())} | counts


def read_sets(file: str, source: Source, classes: int) -> np.ndarray:
    """Reads the labels of the images of a split.

    Args:
      file: JSON file, see `make_label_sets`.
      source: Split.
      classes: Number of classes k.

    Returns:
      Labels of each image, bool [n, k].

    Raises:
      UserError: The file cannot be read, has not the images of the split, or a label is no class.
    """
    text = read_text(os.path.expanduser(file))
    content = parse_json(text, file, dict if text.lstrip().startswith("{") else list)
    if isinstance(content, dict):
        places = [name.partition("\0") for name in subsets.names(source)]  # (file, ..., member, if it is an archive)
        files = [os.path.basename(member or file) for file, _, member in places]
        if missing := [name for name in files if name not in content]:
            raise UserError(f"{file} has no labels for {len(missing):,} of {len(files):,} images: {some(missing)}")
        content = [content[name] for name in files]
    if len(content) != len(source):
        raise UserError(f"{file} has labels for {len(content):,} images, and the split {len(source):,}")
    allowed = np.zeros((len(content), classes), bool)
    for i, labels in enumerate(content):
        if not isinstance(labels, list) or not all(type(one) is int and 0 <= one < classes for one in labels):
            raise UserError(
                f"{file}: the labels of image {i}, {shown(labels)}, must be a list of numbers below {classes}"
            )
        allowed[i, labels] = True
    return allowed
