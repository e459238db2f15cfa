"""Mean average precision of a classifier whose images have any number of labels."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from jaxvision.errors import UserError
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.passes import OfRows
from jaxvision.losses.classification import sigmoid_cross_entropy
from jaxvision.registry import part

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables


@part("evaluator", "multilabel", needs=lambda options: ("label",), metrics=lambda options, classes: ("map", "loss"))
def make_multilabel(*, task: "Task", data: EvalSet) -> "Callable[[Variables], dict[str, float]]":
    """Makes the evaluator that compares `logits` [b, k] with several labels, float32 [b, k] of ones and zeros.

    Args:
      task: Task whose `outputs` have "logits".
      data: Split to evaluate.

    Returns:
      `run(variables) -> {"map": ..., "loss": ..., "classes": k, "examples": n}`: `average_precision` in [0, 1],
      averaged over the k classes that occur in the split, since the others have no precision; and the sigmoid cross
      entropy in nats, averaged over examples. `run` raises UserError if no image of the split has a label.

    Raises:
      UserError: If the images of the set have one label each.
    """
    if not data.info.multi_label:
        raise UserError(f"{data.info.name!r} has one label for each image: use the evaluator 'classify'")

    def judge(outputs, batch):
        logits = outputs["logits"].astype(jnp.float32)
        return logits, sigmoid_cross_entropy(logits, batch["label"]), batch["label"]

    reading = data.reading(task, judge, partial(OfRows, finish=lambda columns, examples: columns))

    def run(variables: "Variables") -> dict[str, float]:
        logits, losses, labels = map(np.asarray, data.read(variables, [reading])[reading])
        present = np.flatnonzero(labels.any(axis=0))
        if not len(present):
            raise UserError(f"no image of {data.info.name} {data.info.split} has a label, so there is no precision")
        precision = [average_precision(logits[:, k], labels[:, k] > 0) for k in present]
        counts = {"classes": float(len(present)), "examples": float(len(labels))}
        return {"map": float(np.mean(precision)), "loss": float(losses.mean())} | counts

    return run


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Computes the mean, over positives, of the precision among all examples with at least the positive's score.

    Equal scores share one precision, in any order, as in scikit-learn's `average_precision_score` and torchmetrics:
    constant scores have the precision of guessing, the share of positives. A positive whose score is NaN is never
    found, and a negative whose score is NaN comes before all others.

    Args:
      scores: Scores, float [n].
      positive: Labels, bool [n], at least one True.

    Returns:
      The average precision, in (0, 1], or 0 if every positive is NaN.

    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True])).__round__(4)
    0.8333
    >>> average_precision(np.zeros(4), np.array([True, False, False, False]))
    0.25
    """
    broken = np.isnan(scores)
    ordered = np.sort(-np.where(broken & ~positive, np.inf, scores)[~(broken & positive)])
    of_positives = -scores[positive & ~broken]
    at_least = np.searchsorted(ordered, of_positives, side="right")
    positives = np.searchsorted(np.sort(of_positives), of_positives, side="right")
    return float(np.sum(positives / at_least) / positive.sum())
