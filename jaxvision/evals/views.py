"""Test-time augmentation: the outputs of a model, averaged over several views of an image."""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.fields import Field

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables


def averaged_outputs(
    task: "Task",
    variables: "Variables",
    batch: Mapping[str, Any],
    fields: Mapping[str, Field],
    rng: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Computes `task.outputs(variables, batch)`, and averages over views if an example has several.

    Softmax probabilities are averaged, as in Krizhevsky et al. 2012, sec. 4.1, and so are features.

    Args:
      task: Task whose `outputs` have "logits" [b, k] or "features" [b, d].
      variables: Variables of the task.
      batch: Arrays [b, ...] by field, or [b, v, ...] for a field with v views, as `ten_crop` and `flip_both` make them.
        If there are views, the task gets only the fields with views.
      fields: Fields of the batch after the augmentation.
      rng: Key for outputs that draw random numbers; None for the same key in every batch.

    Returns:
      All outputs if there are no views. Else "logits", whose softmax is the mean probability, and "features".

    Raises:
      UserError: If there are views and the task has neither logits nor features, or they are not one vector an image.
    """
    several = [name for name, field in fields.items() if field.views and name in batch]
    if not several:
        return outputs_with_key(task)(variables, batch, rng)
    b, views = batch[several[0]].shape[:2]
    flat = {name: batch[name].reshape(b * views, *batch[name].shape[2:]) for name in several}
    out = outputs_with_key(task)(variables, flat, rng)
    averaged = {}
    for name in ("logits", "features"):
        if name in out and out[name].ndim != 2:
            raise UserError(
                f"views can be averaged for {name} of whole images, with two axes; this task's have "
                f"{out[name].ndim} axes: take the operation that makes views out of augment"
            )
    if "logits" in out:
        log_probabilities = jax.nn.log_softmax(out["logits"].reshape(b, views, -1).astype(jnp.float32))  # b v k
        averaged["logits"] = jax.nn.logsumexp(log_probabilities, axis=1) - jnp.log(views)
    if "features" in out:
        averaged["features"] = out["features"].reshape(b, views, -1).mean(1)
    if not averaged:
        raise UserError(
            "views can be averaged for tasks with logits or features; this one has neither: take the operation that "
            "makes views out of augment"
        )
    return averaged


def outputs_with_key(
    task: "Task",
) -> "Callable[[Variables, Mapping[str, Any], jax.Array | None], dict[str, jax.Array]]":
    """Gives `task.outputs` the signature `(variables, batch, rng) -> outputs`, even if it takes no key.

    Args:
      task: Task with the outputs.
    """
    if "rng" not in inspect.signature(task.outputs).parameters:
        return lambda variables, batch, rng: task.outputs(variables, batch)
    return lambda variables, batch, rng: task.outputs(variables, batch, rng=jax.random.key(0) if rng is None else rng)
