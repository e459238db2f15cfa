"""Test-time augmentation: what a model says of several views of an image, averaged."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.errors import UserError


def outputs(task: Any, variables: Any, batch: Mapping[str, Any], rng: jax.Array | None = None) -> dict[str, jax.Array]:
    """`task.outputs(variables, batch)`, averaged over the views of each image where there are several.

    Softmax probabilities are averaged, as in Krizhevsky et al. 2012, sec. 4.1; features are, too.

    Args:
      task: its `outputs` gives "logits" [B, K] or "features" [B, D].
      variables: of the task.
      rng: Key of what the outputs draw, where they take one; None for the same one in every batch.
      batch: `image` float32 [B, H, W, C], or [B, V, H, W, C] as `ten_crop` and `flip_both` make it.

    Returns:
      All outputs for one view; for several "logits", whose softmax is the mean probability, and "features".

    Raises:
      UserError: several views of a task whose outputs are neither.
    """
    images = batch["image"]
    if images.ndim == 4:
        return outputs_of(task)(variables, batch, rng)
    b, views = images.shape[:2]
    out = outputs_of(task)(variables, {"image": images.reshape(b * views, *images.shape[2:])}, rng)
    averaged = {}
    if "logits" in out:
        log_probabilities = jax.nn.log_softmax(out["logits"].reshape(b, views, -1).astype(jnp.float32))  # b v k
        averaged["logits"] = jax.nn.logsumexp(log_probabilities, axis=1) - jnp.log(views)
    if "features" in out:
        averaged["features"] = out["features"].reshape(b, views, -1).mean(1)
    if not averaged:
        raise UserError("views are averaged for tasks with logits or features; this one has neither")
    return averaged


def outputs_of(task: Any) -> Callable[[Any, Mapping[str, Any], jax.Array | None], dict[str, jax.Array]]:
    """The `outputs` of a task as `(variables, batch, rng) -> outputs`, whether they take a key or not."""
    if "rng" not in inspect.signature(task.outputs).parameters:
        return lambda variables, batch, rng: task.outputs(variables, batch)
    return lambda variables, batch, rng: task.outputs(variables, batch, rng=jax.random.key(0) if rng is None else rng)
