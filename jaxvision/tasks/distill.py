"""Distillation: a student learns the predictions of a frozen teacher, on images that need no labels."""

from collections.abc import Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxvision import models
from jaxvision.arguments import POSITIVE, SHARE, Section, check_value
from jaxvision.errors import UserError
from jaxvision.losses.classification import softmax_cross_entropy
from jaxvision.registry import part
from jaxvision.tasks.task import (
    PARTS,
    ModelFn,
    Task,
    Variables,
    check_classes,
    collection_pattern,
    in_training,
    outputs_of,
)

TEACHER = "teacher"


@part("task", "distill", small={"teacher": {"name": "resnet", "variant": "8"}})
def make_distill(
    *,
    model: ModelFn,
    num_classes: int | None,
    multi_label: bool = False,
    teacher: Annotated[Mapping[str, Any], Section("model")],
    temperature: float = 1.0,
    alpha: float = 1.0,
) -> Task:
    """Makes the task that fits the class probabilities of a teacher.

    SimCLRv2 (Chen et al. 2020b, arXiv 2006.10029, sec. 2), eq. 2 and 3: with P the softmax of the logits divided by the
    temperature, the loss is alpha times the cross entropy between the teacher's P and the student's, plus 1 - alpha
    times the cross entropy with the labels. Teacher and student see the same augmented image; the teacher is applied
    with its running statistics.

    The teacher's variables are a collection `teacher` next to the student's. They are saved in checkpoints and never
    change. `config.init` fills them: `dict(weights=..., part="teacher")`.

    Batches: `image` float [b, h, w, 3]; `label` int32 [b] or float32 [b, k] if alpha is below 1.

    Metrics: `agreement`, the share of images for which student and teacher choose the same class;
    `teacher_confidence`, the mean of the teacher's largest probability.

    Outputs: the outputs of the student.

    Args:
      model: Function of the number of classes that builds the student.
      num_classes: Number of classes of the data set and of the teacher.
      multi_label: True if an image of the set has any number of labels, which is refused.
      teacher: Section `model` of the teacher.
      temperature: Divisor of the logits of both, above 0.
      alpha: Weight of the teacher in [0, 1]; 1 reads no labels.
    """
    _check(num_classes, multi_label, teacher, temperature, alpha)
    student = model(num_classes)
    expert = models.build(**teacher, num_classes=num_classes, dtype=student.dtype)

    def init(rng, batch):
        variables = student.init(rng, batch["image"], train=False)
        return {**variables, TEACHER: expert.init(jax.random.fold_in(rng, 1), batch["image"], train=False)}

    def loss_of(variables, batch, rng):
        (_, out), updates = in_training(student, _of_student(variables), batch["image"], rng=rng)
        _, theirs = expert.apply(variables[TEACHER], batch["image"], train=False)
        logits = out["logits"]
        targets = jax.nn.softmax(jax.lax.stop_gradient(theirs["logits"]) / temperature)
        value = softmax_cross_entropy(logits / temperature, targets).mean()
        if alpha != 1:
            value = alpha * value + (1 - alpha) * softmax_cross_entropy(logits, batch["label"]).mean()
        metrics = {
            "agreement": jnp.mean(logits.argmax(-1) == targets.argmax(-1)),
            "teacher_confidence": targets.max(-1).mean(),
        }
        return value, (metrics, updates)

    def outputs(variables, batch):
        return outputs_of(student, _of_student(variables), batch["image"])

    return Task(
        init,
        loss_of,
        outputs,
        parts={TEACHER: collection_pattern(TEACHER), **PARTS},
        progress=("agreement",),
        labelled=alpha != 1,
    )


def _of_student(variables: Variables) -> Variables:
    return {name: value for name, value in variables.items() if name != TEACHER}


def _check(num_classes, multi_label, teacher, temperature, alpha) -> None:
    if not num_classes or multi_label:
        raise UserError("the task 'distill' needs a data set with one class for each image (set data.classes)")
    check_classes("distill", num_classes)
    if "name" not in teacher:
        raise UserError("task.teacher must be a section like config.model: dict(name='resnet', variant='50')")
    for key in ("num_classes", "dtype"):
        if key in teacher:
            raise UserError(f"'task.teacher.{key}' is set by the program, as for the student: leave it out")
    check_value("task.temperature", temperature, POSITIVE)
    check_value("task.alpha", alpha, SHARE)
