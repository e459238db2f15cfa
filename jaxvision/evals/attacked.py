"""Accuracy under attack: how often a classifier is right when the pixels are changed against it."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import jax
import jax.numpy as jnp

from jaxvision.arguments import Range
from jaxvision.errors import UserError, unknown
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.views import outputs_with_key
from jaxvision.explain import adversarial
from jaxvision.registry import part

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables


@part("evaluator", "attacked", small={"steps": 1}, needs=lambda options: ("label",))
def make_attacked(
    *,
    task: "Task",
    data: EvalSet,
    method: str = "pgd",
    epsilon: Annotated[float, Range(0, 1)] = adversarial.EPSILON,
    steps: Annotated[int, Range(1)] = 10,
    seed: Annotated[int | None, Range(0)] = 0,
) -> "Callable[[Variables], dict[str, float]]":
    """Makes the evaluator of accuracy under attack by someone who knows the network (Madry et al. 2018, sec. 2.1).

    Images are changed before they are normalised, so epsilon is in units of the pixel range [0, 1], whatever the
    normalisation. The attack raises the loss of the label.

    Args:
      task: Task whose `outputs` have "logits" [b, k].
      data: Split to evaluate, with one class for each image.
      method: Name of the attack: "fgsm", one step (Goodfellow et al. 2015), or "pgd", several (Madry et al. 2018).
      epsilon: Largest change in each channel of each pixel; 8 / 255 is eight grey levels.
      steps: Number of steps of "pgd".
      seed: Seed of the random start of "pgd"; None to start at the images.

    Returns:
      `run(variables) -> {"pgd10_eps0.0314/top1": ..., "top1": ..., "examples": n}`: the accuracies in [0, 1] with the
      attack and without it. The first has the name of the attack, its steps and epsilon.

    Raises:
      UserError: If the set has no classes, several labels or several views for an image, or the attack is unknown.
    """
    if not data.info.num_classes or data.info.multi_label:
        raise UserError(
            f"the evaluator 'attacked' needs one class for each image, and {data.info.name!r} does not have it: take a "
            "set with classes"
        )
    if method not in adversarial.ATTACKS:
        raise unknown("value of method of the evaluator 'attacked'", method, adversarial.ATTACKS)
    if data.fields["image"].views:
        raise UserError(
            f"the evaluator 'attacked' takes one view of an image, and augment={data.augment!r} makes several: leave "
            "that operation out"
        )
    keyed = outputs_with_key(task)
    name = f"{method}{steps if method == 'pgd' else ''}_eps{epsilon:.3g}/top1"

    def outputs(variables, images):
        return keyed(variables, data.preprocess({"image": images}), None)

    @jax.jit
    def right(variables, images, labels, mask):
        return jnp.sum((outputs(variables, images)["logits"].argmax(-1) == labels) & mask)

    def run(variables: "Variables") -> dict[str, float]:
        counts = []
        for i, batch in enumerate(data.batches()):
            images, labels, mask = batch["image"].astype(jnp.float32) / 255, batch["label"], batch["mask"]
            rng = None if seed is None else jax.random.fold_in(jax.random.key(seed), i)
            changed = adversarial.attack(outputs, variables, images, labels, method, epsilon, steps, False, rng)
            before, after = (right(variables, x, labels, mask) for x in (images, changed))
            counts.append((after, before, mask.sum()))
        after, before, examples = (math.fsum(map(float, column)) for column in zip(*jax.device_get(counts)))
        return {name: after / examples, "top1": before / examples, "examples": examples}

    return run
