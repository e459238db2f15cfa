"""What a classifier confuses: the confusion matrix, scores by class, the pairs that are confused most, and a figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxvision.analysis.plots import canvas, literal

MOST_CLASSES = 40  # most classes whose matrix can be read as a figure
_NUMBERED = 20  # most classes whose cells have room for numbers


class ClassScores(NamedTuple):
    """Scores of each class; NaN where a score is not defined.

    Attributes:
      precision: Share of the predictions of the class that are right, [k].
      recall: Share of the examples of the class that are predicted as it, [k].
      f1: Harmonic mean of both, [k].
      examples: Number of examples of the class, int [k].
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    examples: np.ndarray


class Pair(NamedTuple):
    """Examples of one class that are predicted as another.

    Attributes:
      true, predicted: Numbers of the classes.
      examples: Number of the examples.
      share: Their share of all examples of the true class.
    """

    true: int
    predicted: int
    examples: int
    share: float


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts the examples of each class by their predicted class.

    Args:
      labels: True classes, int [n].
      predicted: Predicted classes, int [n].
      classes: Number of classes k.

    Returns:
      Counts, int64 [k, k]; rows are true classes, columns are predicted ones.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    pairs = np.asarray(labels, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def class_scores(matrix: np.ndarray) -> ClassScores:
    """Computes precision, recall and F1 of each class.

    Args:
      matrix: Counts of `confusion_matrix`, [k, k].

    >>> scores = class_scores(np.array([[1, 1], [0, 2]]))
    >>> scores.recall.tolist(), scores.precision.round(2).tolist(), scores.f1.round(2).tolist()
    ([0.5, 1.0], [1.0, 0.67], [0.67, 0.8])
    """
    right, of_class, of_prediction = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return ClassScores(
            right / of_prediction, right / of_class, 2 * right / (of_class + of_prediction), of_class.astype(np.int64)
        )


def confused_pairs(matrix: np.ndarray, most: int = 20) -> list[Pair]:
    """Returns the pairs of classes that are confused most often, the most frequent first.

    Args:
      matrix: Counts of `confusion_matrix`, [k, k].
      most: Largest number of pairs.

    >>> confused_pairs(np.array([[1, 3], [0, 2]]))
    [Pair(true=0, predicted=1, examples=3, share=0.75)]
    """
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    rows, columns = np.unravel_index(order, matrix.shape)
    totals = matrix.sum(1)
    found = [(int(i), int(j), int(wrong[i, j])) for i, j in zip(rows, columns) if wrong[i, j]]
    return [Pair(i, j, count, count / int(totals[i])) for i, j, count in found]


def draw_matrix(matrix: np.ndarray, names: Sequence[str], path: str | Path) -> None:
    """Draws a confusion matrix whose rows add up to 100 %.

    Args:
      matrix: Counts of `confusion_matrix`, [k, k], of at most `MOST_CLASSES` classes.
      names: Names of the classes.
      path: File of the picture; see `plots.canvas` for its suffix.
    """
    k = len(matrix)
    shares = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    cell = 0.42 if k <= _NUMBERED else 0.24
    side = max(3.2, 1.6 + cell * k)
    with canvas(path, size=(side + 0.7, side)) as axis:
        image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        short = [literal(name, 20) for name in names]
        axis.set_xticks(range(k), short, rotation=90 if max(map(len, short)) > 3 else 0)
        axis.set_yticks(range(k), short)
        axis.set(xlabel="predicted class", ylabel="true class")
        axis.tick_params(length=0, labelsize=8 if k <= _NUMBERED else 6)
        axis.grid(visible=False)
        axis.spines[:].set_visible(False)
        axis.set_xticks(np.arange(k + 1) - 0.5, minor=True)
        axis.set_yticks(np.arange(k + 1) - 0.5, minor=True)
        axis.grid(visible=True, which="minor", color="white", lw=1, alpha=1)
        axis.tick_params(which="minor", length=0)
        for i, j in np.argwhere(shares >= 0.5) if k <= _NUMBERED else ():
            colour = "white" if shares[i, j] > 55 else "0.15"
            axis.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", fontsize=7, color=colour)
        bar = axis.get_figure().colorbar(image, ax=axis, shrink=0.7)
        bar.set_label("% of the true class")
        bar.outline.set_visible(False)
