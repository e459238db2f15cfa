"""Supervised classification: the label of an image."""

from typing import Annotated

import jax.numpy as jnp

from jaxvision import losses
from jaxvision.arguments import Range, check_value
from jaxvision.errors import UserError, unknown
from jaxvision.registry import part
from jaxvision.tasks.task import ModelFn, Task, check_classes, in_training, outputs_of

STATISTICS = ("batch", "running")


@part("task", "supervised")
def make_supervised(
    *,
    model: ModelFn,
    num_classes: int | None,
    multi_label: bool = False,
    loss: str = "softmax_cross_entropy",
    label_smoothing: float = 0.0,
    aux_weight: float = 0.3,
    statistics: str | None = None,
    freeze: str | None = None,
) -> Task:
    """Makes the task that predicts the `label` of each image.

    Batches: `image` float [b, h, w, 3]; `label` int32 [b] or float32 [b, k].

    Metrics: `top1`, the share of examples whose largest logit is at their label. Of equal logits the first counts; of
    several labels, any of the largest is right.

    Args:
      model: Function of the number of classes that builds the module; its `logits` are trained.
      num_classes: Number of classes of the data set.
      multi_label: True if an image of the set has any number of labels, which only `sigmoid_cross_entropy` fits.
      loss: Name of a loss in losses/classification.py, or "package.module:function" of your own.
      label_smoothing: Share of each label that is spread over all classes, in [0, 1).
      aux_weight: Weight, at least 0, of the loss of each auxiliary classifier that the model has in its outputs
        "aux_logits", as of `googlenet` with aux=True (Szegedy et al. 2015, arXiv 1409.4842, sec. 5).
      statistics: "batch" to apply the model as in training, or "running" to apply it as in evaluation: with the
        running statistics of BatchNorm, which then never change, and without dropout, so that frozen layers give the
        features that an evaluation sees. None takes "running" if `freeze` is set, else "batch".
      freeze: Value of `init.freeze` in the config.

    Raises:
      UserError: If the data set has no classes or only one, or an option is out of range.
    """
    if not num_classes:
        raise UserError("the task 'supervised' needs labels; this data set names no classes (set data.classes)")
    check_classes("supervised", num_classes, multi_label)
    check_value("task.label_smoothing", label_smoothing, Annotated[float, Range(0, 1, below=True)])
    check_value("task.aux_weight", aux_weight, Annotated[float, Range(0)])
    statistics = chosen_statistics(statistics, freeze)
    module = model(num_classes)
    loss_fn = losses.smoothed(loss, label_smoothing, multi_label)

    def init(rng, batch):
        return module.init(rng, batch["image"], train=False)

    def loss_of(variables, batch, rng):
        (_, out), updates = in_training(module, variables, batch["image"], rng=rng, train=statistics == "batch")
        logits, labels = out["logits"], batch["label"]
        value = loss_fn(logits, labels).mean()
        for auxiliary in out.get("aux_logits", ()):
            value += aux_weight * loss_fn(auxiliary, labels).mean()
        best = logits.argmax(-1)
        right = best == labels if labels.ndim == 1 else _at(labels, best) == labels.max(-1)
        return value, ({"top1": jnp.mean(right)}, updates)

    def outputs(variables, batch):
        return outputs_of(module, variables, batch["image"])

    return Task(init, loss_of, outputs, progress=("top1",), labelled=True)


def chosen_statistics(statistics: str | None, freeze: str | None) -> str:
    """Returns how a network is applied in training: "batch" or "running".

    Args:
      statistics: Value of `task.statistics`.
      freeze: Value of `init.freeze`, the default of `statistics`.

    Raises:
      UserError: If `statistics` is not one of the two.
    """
    if statistics is None:
        return "running" if freeze else "batch"
    if statistics not in STATISTICS:
        raise unknown("value of task.statistics", statistics, STATISTICS)
    return statistics


def _at(labels, classes):
    return jnp.take_along_axis(labels, classes[:, None], axis=1)[:, 0]
