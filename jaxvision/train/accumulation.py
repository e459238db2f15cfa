"""The gradient of a large batch from its microbatches, which are computed one after the other."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.tasks.task import Batch, Joint, Loss, Metrics

PyTree = Any
# (params, model_state, batch, rng) -> (gradients, model_state, metrics, rows)
Gradients = Callable[[PyTree, PyTree, Batch, jax.Array], tuple[PyTree, PyTree, Metrics, PyTree]]


def make_gradients(loss: Loss, microbatches: int) -> Gradients:
    """Makes the function that computes the gradient of a loss: exactly if the loss is a `Joint`, else as a mean.

    Args:
      loss: Loss of a task or of a player.
      microbatches: Number of microbatches that a batch is split into; 1 for the whole batch at once.
    """
    if microbatches == 1:
        return whole(loss)
    return cached(loss, microbatches) if isinstance(loss, Joint) else averaged(loss, microbatches)


def whole(loss: Loss) -> Gradients:
    """Makes the function that computes the gradient of a whole batch at once.

    Args:
      loss: Loss of a task or of a player.
    """

    def gradients(params, model_state, batch, rng):
        def of(params):
            return loss({"params": params, **model_state}, batch, rng)

        (value, (metrics, updates, *rows)), grads = jax.value_and_grad(of, has_aux=True)(params)
        return grads, {**model_state, **updates}, {"loss": value, **metrics}, rows[0] if rows else None

    return gradients


def averaged(loss: Loss, microbatches: int) -> Gradients:
    """Makes the function that averages the gradients and the metrics of the microbatches of a batch.

    The result equals that of the whole batch if the loss is a mean over examples and the model has no BatchNorm, which
    takes its statistics from each microbatch. The rows of all microbatches are returned in the order of the batch.

    Args:
      loss: Loss of a task or of a player.
      microbatches: Number of microbatches; it divides the batch.
    """
    of_microbatch = whole(loss)

    def gradients(params, model_state, batch, rng):
        def body(carry, microbatch):
            total, model_state = carry
            index, batch = microbatch
            grads, model_state, metrics, rows = of_microbatch(
                params, model_state, batch, jax.random.fold_in(rng, index)
            )
            return (jax.tree.map(jnp.add, total, grads), model_state), (metrics, rows)

        carry = (jax.tree.map(jnp.zeros_like, params), model_state)
        (total, model_state), (metrics, rows) = _scan(body, carry, _split(batch, microbatches), microbatches)
        means = jax.tree.map(jnp.mean, metrics)
        return jax.tree.map(lambda g: g / microbatches, total), model_state, means, jax.tree.map(_join, rows)

    return gradients


def cached(joint: Joint, microbatches: int) -> Gradients:
    """Makes the function that computes the exact gradient of a loss over all pairs in the memory of a microbatch.

    Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited setup" (GradCache), sec. 3:

    1. Embed every microbatch, and keep only the embeddings.
    2. Take the gradient of the loss with respect to all embeddings, and to the parameters that it reads itself, once.
    3. Embed every microbatch again, and propagate its share of the gradient back to the parameters.

    Both passes of a microbatch draw the same dropout masks. BatchNorm sees it in both passes; only the second updates
    its running statistics.

    Args:
      joint: Loss that compares all examples of the batch.
      microbatches: Number of microbatches; it divides the batch.
    """
    embed, compare = joint.embed, joint.compare

    def gradients(params, model_state, batch, rng):
        split = _split(batch, microbatches)

        # No gradient is taken through this pass, so XLA keeps only the embeddings of a microbatch.
        def first(carry, microbatch):
            index, batch = microbatch
            return carry, embed({"params": params, **model_state}, batch, jax.random.fold_in(rng, index))[0]

        _, embeddings = _scan(first, None, split, microbatches)
        together = jax.tree.map(_join, embeddings)

        def loss(params, embeddings):
            value, *rest = compare({"params": params, **model_state}, embeddings, batch)
            return value, rest

        (value, (metrics, *rows)), (direct, of_embeddings) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
            params, together
        )

        # The cotangent of the embeddings is already the gradient over all pairs, so a sum over microbatches is exact.
        # `direct` is the gradient of parameters that the comparison reads itself, such as a temperature.
        def second(carry, microbatch):
            total, model_state = carry
            (index, batch), cotangent = microbatch

            def again(params):
                return embed({"params": params, **model_state}, batch, jax.random.fold_in(rng, index))

            _, pull, updates = jax.vjp(again, params, has_aux=True)
            (grads,) = pull(cotangent)
            return (jax.tree.map(jnp.add, total, grads), {**model_state, **updates}), None

        cotangents = jax.tree.map(lambda g: _microbatches(g, microbatches), of_embeddings)
        (total, model_state), _ = _scan(second, (direct, model_state), (split, cotangents), microbatches)
        return total, model_state, {"loss": value, **metrics}, rows[0] if rows else None

    return gradients


def _split(batch: Batch, microbatches: int) -> tuple[jax.Array, Batch]:
    """Returns the numbers of the microbatches, [m], and the microbatches, arrays [m, b / m, ...]."""
    return jnp.arange(microbatches), jax.tree.map(lambda x: _microbatches(x, microbatches), batch)


def _microbatches(x: jax.Array, microbatches: int) -> jax.Array:
    # Microbatch i takes the rows i, i + m, ..., so that each one is spread over all devices.
    return jnp.moveaxis(x.reshape(x.shape[0] // microbatches, microbatches, *x.shape[1:]), 1, 0)


def _join(x: jax.Array) -> jax.Array:
    """Undoes `_microbatches`."""
    return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:])


def _scan(body: Callable, carry: PyTree, xs: PyTree, microbatches: int) -> tuple[PyTree, PyTree]:
    # XLA's CPU backend runs the gradient of a convolution many times slower inside a loop.
    return jax.lax.scan(body, carry, xs, unroll=microbatches if jax.default_backend() == "cpu" else 1)
