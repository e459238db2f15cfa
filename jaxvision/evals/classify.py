"""Accuracy and loss of a classifier over a whole split."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.data.sources import Info
from jaxvision.data.text import class_names
from jaxvision.errors import UserError
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.passes import InTurn
from jaxvision.losses.classification import softmax_cross_entropy
from jaxvision.registry import part

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables


def _metrics(options: Mapping[str, Any], classes: int | None) -> list[str]:
    if options.get("only") is not None:  # then they begin with the name of the choice
        return []
    return [f"top{k}" for k in options.get("topk", (1, 5)) if not classes or k <= classes] + ["loss"]


@part("evaluator", "classify", needs=lambda options: (options.get("label", "label"),), metrics=_metrics)
def make_classify(
    *,
    task: "Task",
    data: EvalSet,
    trained: Info | None = None,
    topk: tuple[int, ...] = (1, 5),
    label: str = "label",
    only: str | tuple | None = None,
) -> "Callable[[Variables], dict[str, float]]":
    """Makes the evaluator that compares `logits` with labels.

    Args:
      task: Task whose `outputs` have "logits" [b, k].
      data: Split to evaluate.
      trained: Description of the training set, whose classes the logits are; None for the classes of `data`.
      topk: Numbers k for the metrics `topK`: the share of examples whose label is among the k largest logits. A k
        above the number of classes is left out. Of equal logits the first class counts as the largest, and NaN is never
        right, see `rank`.
      label: Name of the field of the labels, with one class for each example.
      only: Classes of the model to choose from, as in `zeroshot`: the other logits are left out before the arg max and
        the softmax, and so are images of other classes. For test sets with some of the classes, such as ImageNet-R
        (Hendrycks et al. 2021, sec. 3); if the classes of the split are others than those of training, they are
        matched by name.

    Returns:
      `run(variables) -> {"top1": ..., "top5": ..., "loss": ..., "examples": n}`: shares in [0, 1], and the mean cross
      entropy in nats, over exactly the examples of the split. With `only`, the names begin with the choice,
      `only_imagenet_r/top1`. `run` raises UserError if no image of these classes is there.

    Raises:
      UserError: If the set has no classes, several labels for an image, or other classes than the model.
    """
    field = data.source.fields.get(label)
    classes = data.info.num_classes if label == "label" or field is None else field.classes
    if not classes:
        raise UserError(f"the evaluator 'classify' needs labels; {label!r} of {data.info.name!r} names no classes")
    if label == "label" and data.info.multi_label:
        raise UserError(f"{data.info.name!r} has several labels for an image: use the evaluator 'multilabel'")
    prefix = ""
    kept = places = None
    if only is not None:
        kept, places, prefix = restricted(data.info, trained or data.info, label, only)
        classes = len(kept)
    elif label == "label" and trained is not None and trained.num_classes != classes:
        raise UserError(
            f"{data.info.name!r} has {classes} classes, the training set {trained.name!r} has {trained.num_classes}: "
            "for a set with some of the classes of training, choose them with 'only'"
        )
    ks = [k for k in topk if k <= classes]

    def sums(outputs, batch):
        logits, labels, mask = outputs["logits"].astype(jnp.float32), batch[label], batch["mask"]
        if kept is not None:
            logits, labels = logits[:, kept], jnp.asarray(places)[labels]
            mask, labels = mask & (labels >= 0), jnp.maximum(labels, 0)
        ranks, loss = rank(logits, labels), softmax_cross_entropy(logits, labels)
        counts = {f"top{k}": jnp.sum((ranks < k) & mask) for k in ks}
        return counts | {"loss": jnp.sum(jnp.where(mask, loss, 0.0)), "examples": jnp.sum(mask)}

    reading = data.reading(task, sums, InTurn)

    def run(variables: "Variables") -> dict[str, float]:
        parts = jax.device_get(data.read(variables, [reading])[reading])
        totals = {name: math.fsum(float(part[name]) for part in parts) for name in parts[0]}
        examples = totals.pop("examples")
        if not examples:
            raise UserError(f"{data.info.name} {data.info.split} has no image of the classes of only={only!r}")
        return {f"{prefix}{name}": total / examples for name, total in totals.items()} | {"examples": examples}

    return run


def restricted(info: Info, trained: Info, label: str, only: str | tuple) -> tuple[np.ndarray, np.ndarray, str]:
    """Chooses among the classes of a model, for a set that has some of them, perhaps under other numbers.

    Args:
      info: Description of the set.
      trained: Description of the training set, whose classes the logits are.
      label: Name of the field of the labels.
      only: Classes of the model to choose from, see `make_classify`.

    Returns:
      The chosen labels of the model, int [m]; for each class of the set its place among them, or -1 for none, int [k];
      and the prefix of the names of metrics, "only_imagenet_r/".

    Raises:
      UserError: The choice is unknown, it is not of the field "label", or the classes do not match.
    """
    if label != "label":
        raise UserError(f"only={only!r} chooses among the classes of 'label', not of {label!r}: leave one of them out")
    labels, suffix = class_names.candidate_labels(trained, only)
    if info.classes and trained.classes and info.classes != trained.classes:
        of_set = [trained.classes.index(name) if name in trained.classes else -1 for name in info.classes]
        if max(of_set) < 0:
            raise UserError(
                f"{info.name!r} and the training set {trained.name!r} have no class in common by name, such as "
                f"{info.classes[0]!r} and {trained.classes[0]!r}"
            )
    elif info.num_classes == trained.num_classes:
        of_set = list(range(len(info.classes) or trained.num_classes or 0))
    else:
        raise UserError(
            f"{info.name!r} has {info.num_classes} classes, the training set {trained.name!r} has "
            f"{trained.num_classes}, and they do not both name them, so which are the same is not known"
        )
    place = {k: i for i, k in enumerate(labels)}
    return np.array(labels), np.array([place.get(k, -1) for k in of_set]), f"{suffix[1:]}/"


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
