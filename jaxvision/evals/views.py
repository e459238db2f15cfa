"""Test-time augmentation: what a model says of several views of an image, averaged."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.fields import Field


def averaged_outputs(
    task: Any,
    variables: Any,
    batch: Mapping[str, Any],
    fields: Mapping[str, Field],
    rng: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """`task.outputs(variables, batch)`, averaged over the views of each example where there are several.

    Softmax probabilities are averaged, as in Krizhevsky et al. 2012, sec. 4.1; features are, too.

    Args:
      task: its `outputs` gives "logits" [B, K] or "features" [B, D].
      variables: of the task.
      batch: Arrays [B, ...] by field, or [B, V, ...] where the field says that there are V views, as `ten_crop` and
        `flip_both` make them. Of a batch with views the task sees these fields only.
      fields: What the augmentation says of the fields of the batch.
      rng: Key of what the outputs draw, where they take one; None for the same one in every batch.

    Returns:
      All outputs for one view; for several "logits", whose softmax is the mean probability, and "features".

    Raises:
      UserError: several views of a task whose outputs are neither, or are of places in an image.
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
                f"views are averaged for {name} [B, D] of whole images; this task's have {out[name].ndim} axes: take "
                "the operation that makes views out of augment"
            )
    if "logits" in out:
        log_probabilities = jax.nn.log_softmax(out["logits"].reshape(b, views, -1).astype(jnp.float32))  # b v k
        averaged["logits"] = jax.nn.logsumexp(log_probabilities, axis=1) - jnp.log(views)
    if "features" in out:
        averaged["features"] = out["features"].reshape(b, views, -1).mean(1)
    if not averaged:
        raise UserError("views are averaged for tasks with logits or features; this one has neither")
    return averaged


def outputs_with_key(task: Any) -> Callable[[Any, Mapping[str, Any], jax.Array | None], dict[str, jax.Array]]:
    """The `outputs` of a task as `(variables, batch, rng) -> outputs`, whether they take a key or not."""
    if "rng" not in inspect.signature(task.outputs).parameters:
        return lambda variables, batch, rng: task.outputs(variables, batch)
    return lambda variables, batch, rng: task.outputs(variables, batch, rng=jax.random.key(0) if rng is None else rng)
