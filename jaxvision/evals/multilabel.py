"""Mean average precision of a classifier whose images have any number of labels."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import UserError
from jaxvision.evals import views
from jaxvision.evals.dataset import EvalSet
from jaxvision.found import part
from jaxvision.losses.classification import sigmoid_cross_entropy
from jaxvision.parallel.distributed import gather


@part("evaluator", "multilabel", needs=lambda options: ("label",))
def make_multilabel(*, task: Any, data: EvalSet) -> Callable[[Any], dict[str, float]]:
    """Judges `logits` [B, K] against labels float32 [B, K] of ones and zeros.

    Returns:
      `run(variables) -> {"map": ..., "loss": ..., "classes": k, "examples": n}`: the mean of `average_precision`, in
      [0, 1], over the k classes that an image of the split has, the others having no precision; the mean over examples
      of the sigmoid cross entropy, in nats.

    Raises:
      UserError: a set whose images have one label each; when run, a split in which no image has a label.
    """
    if not data.info.multi_label:
        raise UserError(f"{data.info.name!r} is no multi-label set: use the evaluator 'classify'")

    @jax.jit
    def judge(variables, batch):
        batch = data.preprocess(batch)
        logits = views.averaged_outputs(task, variables, batch, data.fields)["logits"].astype(jnp.float32)
        return logits, sigmoid_cross_entropy(logits, batch["label"])

    def run(variables: Any) -> dict[str, float]:
        rows = []
        for batch in data.batches():
            mask, *found = gather((batch["mask"], *judge(variables, batch), batch["label"]))
            rows.append([x[mask] for x in found])
        logits, losses, labels = map(np.concatenate, zip(*rows))
        present = np.flatnonzero(labels.any(axis=0))
        if not len(present):
            raise UserError(f"no image of {data.info.name} {data.info.split} has a label, so there is no precision")
        precision = [average_precision(logits[:, k], labels[:, k] > 0) for k in present]
        counts = {"classes": float(len(present)), "examples": float(len(labels))}
        return {"map": float(np.mean(precision)), "loss": float(losses.mean())} | counts

    return run


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Mean over the positives of the precision among all whose score is at least as high as theirs.

    Equal scores share one precision, whatever their order: constant scores have that of guessing, the share of
    positives. So do scikit-learn's `average_precision_score` and torchmetrics. A positive whose score is no number is
    never found, and a negative one comes before all others.

    Args:
      scores: float [n].
      positive: bool [n], at least one True.

    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True])).__round__(4)
    0.8333
    >>> average_precision(np.zeros(4), np.array([True, False, False, False]))
    0.25
    """
    broken = np.isnan(scores)
    ordered = np.sort(-np.where(broken & ~positive, np.inf, scores)[~(broken & positive)])
    own = -scores[positive & ~broken]
    at_least = np.searchsorted(ordered, own, side="right")
    positives = np.searchsorted(np.sort(own), own, side="right")
    return float(np.sum(positives / at_least) / positive.sum())
