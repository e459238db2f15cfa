"""Mean average precision of a classifier whose images have any number of labels."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import UserError
from jaxvision.evals import views
from jaxvision.evals.dataset import EvalSet
from jaxvision.losses.classification import sigmoid_cross_entropy
from jaxvision.parallel.distributed import gather


def make(*, task: Any, data: EvalSet) -> Callable[[Any], dict[str, float]]:
    """Judges `logits` [B, K] against labels float32 [B, K] of ones and zeros.

    Returns:
      `run(variables) -> {"map": ..., "loss": ..., "examples": n}`: the mean over classes that occur of
      `average_precision`, in [0, 1]; the mean over examples of the sigmoid cross entropy, in nats.
    """
    if not data.info.multi_label:
        raise UserError(f"{data.info.name!r} is no multi-label set: use the evaluator 'classify'")

    @jax.jit
    def judge(variables, batch):
        batch = data.preprocess(batch)
        logits = views.outputs(task, variables, batch)["logits"].astype(jnp.float32)
        return logits, sigmoid_cross_entropy(logits, batch["label"])

    def run(variables: Any) -> dict[str, float]:
        rows = []
        for batch in data.batches():
            mask, *found = gather((batch["mask"], *judge(variables, batch), batch["label"]))
            rows.append([x[mask] for x in found])
        logits, losses, labels = map(np.concatenate, zip(*rows))
        present = np.flatnonzero(labels.any(axis=0))
        precision = [average_precision(logits[:, k], labels[:, k] > 0) for k in present]
        return {"map": float(np.mean(precision)), "loss": float(losses.mean()), "examples": float(len(labels))}

    return run


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Mean over the positives of the precision at each one's rank; equal scores by position.

    Args:
      scores: float [n].
      positive: bool [n], at least one True.

    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True])).__round__(4)
    0.8333
    """
    hits = positive[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())
