"""Accuracy and loss of a classifier over a whole split."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.passes import InTurn
from jaxvision.losses.classification import softmax_cross_entropy
from jaxvision.registry import part

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables


@part("evaluator", "classify", needs=lambda options: (options.get("label", "label"),))
def make_classify(
    *, task: "Task", data: EvalSet, topk: tuple[int, ...] = (1, 5), label: str = "label"
) -> "Callable[[Variables], dict[str, float]]":
    """Makes the evaluator that compares `logits` with labels.

    Args:
      task: Task whose `outputs` have "logits" [b, k].
      data: Split to evaluate.
      topk: Numbers k for the metrics `topK`: the share of examples whose label is among the k largest logits. A k
        above the number of classes is left out. Of equal logits the first class counts as the largest, and NaN is never
        right, see `rank`.
      label: Name of the field of the labels, with one class for each example.

    Returns:
      `run(variables) -> {"top1": ..., "top5": ..., "loss": ..., "examples": n}`: shares in [0, 1], and the mean cross
      entropy in nats, over exactly the examples of the split.

    Raises:
      UserError: If the set has no classes, or several labels for an image.
    """
    field = data.source.fields.get(label)
    classes = data.info.num_classes if label == "label" or field is None else field.classes
    if not classes:
        raise UserError(f"the evaluator 'classify' needs labels; {label!r} of {data.info.name!r} names no classes")
    if label == "label" and data.info.multi_label:
        raise UserError(f"{data.info.name!r} has several labels for an image: use the evaluator 'multilabel'")
    ks = [k for k in topk if k <= classes]

    def sums(outputs, batch):
        logits = outputs["logits"].astype(jnp.float32)
        mask, ranks = batch["mask"], rank(logits, batch[label])
        loss = softmax_cross_entropy(logits, batch[label])
        counts = {f"top{k}": jnp.sum((ranks < k) & mask) for k in ks}
        return counts | {"loss": jnp.sum(jnp.where(mask, loss, 0.0)), "examples": jnp.sum(mask)}

    reading = data.reading(task, sums, InTurn)

    def run(variables: "Variables") -> dict[str, float]:
        parts = jax.device_get(data.read(variables, [reading])[reading])
        totals = {name: math.fsum(float(part[name]) for part in parts) for name in parts[0]}
        examples = totals.pop("examples")
        return {name: total / examples for name, total in totals.items()} | {"examples": examples}

    return run


def rank(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Counts the classes before the label, when classes are sorted by falling logit, and equal logits by class number.

    A constant output is therefore right for the examples of the first class only. If a logit is NaN, the rank is k.

    Args:
      logits: Logits, float [b, k].
      labels: Labels, int [b].

    Returns:
      int32 [b] in [0, k]; 0 if the label is the arg max.

    >>> rank(jnp.array([[0.1, 0.7, 0.2], [0.5, 0.5, 0.5]]), jnp.array([2, 2])).tolist()
    [1, 2]
    """
    of_label = jnp.take_along_axis(logits, labels[:, None], axis=1)  # b 1
    earlier = jnp.arange(logits.shape[1]) < labels[:, None]  # b k
    before = (logits > of_label) | ((logits == of_label) & earlier)
    broken = jnp.isnan(logits).any(axis=1)
    return jnp.where(broken, logits.shape[1], before.sum(axis=1)).astype(jnp.int32)
