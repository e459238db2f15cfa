"""The gradient of a large batch from parts of it that are computed one after the other."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.tasks.task import Batch, Joint, Loss, Metrics

PyTree = Any
# (params, model_state, batch, rng) -> (gradients, model_state, metrics, rows)
Gradients = Callable[[PyTree, PyTree, Batch, jax.Array], tuple[PyTree, PyTree, Metrics, PyTree]]


def gradients(loss: Loss, parts: int) -> Gradients:
    """The gradient of a loss from that many parts of a batch: exact where the loss is a `Joint`, else their mean."""
    if parts == 1:
        return whole(loss)
    return cached(loss, parts) if isinstance(loss, Joint) else averaged(loss, parts)


def whole(loss: Loss) -> Gradients:
    """The gradient of a batch at once."""

    def gradients(params, model_state, batch, rng):
        def of(params):
            return loss({"params": params, **model_state}, batch, rng)

        (value, (metrics, updates, *rows)), grads = jax.value_and_grad(of, has_aux=True)(params)
        return grads, {**model_state, **updates}, {"loss": value, **metrics}, rows[0] if rows else None

    return gradients


def averaged(loss: Loss, parts: int) -> Gradients:
    """The mean of the gradients and of the metrics of `parts` parts, and the rows of all in the order of the batch.

    Equal to the whole batch where the loss is a mean over examples and the model has no BatchNorm (whose statistics
    are then those of a part).
    """
    of_part = whole(loss)

    def gradients(params, model_state, batch, rng):
        def body(carry, part):
            total, model_state = carry
            index, batch = part
            grads, model_state, metrics, rows = of_part(params, model_state, batch, jax.random.fold_in(rng, index))
            return (jax.tree.map(jnp.add, total, grads), model_state), (metrics, rows)

        carry = (jax.tree.map(jnp.zeros_like, params), model_state)
        (total, model_state), (metrics, rows) = _scan(body, carry, _split(batch, parts), parts)
        means = jax.tree.map(jnp.mean, metrics)
        return jax.tree.map(lambda g: g / parts, total), model_state, means, jax.tree.map(_join, rows)

    return gradients


def cached(joint: Joint, parts: int) -> Gradients:
    """The exact gradient of a `Joint`, a loss that compares all examples of the batch, in the memory of a part.

    Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited setup" (GradCache), sec. 3:
    embed every part and keep the embeddings alone; take the gradient of the loss to all embeddings, and to the
    parameters that it reads itself, once; embed every part again and pull its share of that gradient through. Both
    passes of a part draw the same dropout masks. BatchNorm sees a part in both, and its running statistics move in the
    second.
    """
    embed, compare = joint.embed, joint.compare

    def gradients(params, model_state, batch, rng):
        parted = _split(batch, parts)

        def first(carry, part):
            index, batch = part
            return carry, embed({"params": params, **model_state}, batch, jax.random.fold_in(rng, index))[0]

        _, embeddings = _scan(first, None, parted, parts)
        together = jax.tree.map(_join, embeddings)

        def loss(params, embeddings):
            value, *rest = compare({"params": params, **model_state}, embeddings, batch)
            return value, rest

        (value, (metrics, *rows)), (direct, of_embeddings) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
            params, together
        )

        def second(carry, part):
            total, model_state = carry
            (index, batch), cotangent = part

            def again(params):
                return embed({"params": params, **model_state}, batch, jax.random.fold_in(rng, index))

            _, pull, updates = jax.vjp(again, params, has_aux=True)
            (grads,) = pull(cotangent)
            return (jax.tree.map(jnp.add, total, grads), {**model_state, **updates}), None

        cotangents = jax.tree.map(lambda g: _parts_of(g, parts), of_embeddings)
        (total, model_state), _ = _scan(second, (direct, model_state), (parted, cotangents), parts)
        return total, model_state, {"loss": value, **metrics}, rows[0] if rows else None

    return gradients


def _split(batch: Batch, parts: int) -> tuple[jax.Array, Batch]:
    """The parts, stacked, and their numbers."""
    return jnp.arange(parts), jax.tree.map(lambda x: _parts_of(x, parts), batch)


def _parts_of(x: jax.Array, parts: int) -> jax.Array:
    # Part i takes the rows i, i + parts, ...: each part stays spread over all devices.
    return jnp.moveaxis(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 1, 0)


def _join(x: jax.Array) -> jax.Array:
    """The inverse of `_parts_of`."""
    return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:])


def _scan(body: Callable, carry: PyTree, xs: PyTree, parts: int) -> tuple[PyTree, PyTree]:
    # XLA's CPU backend runs the gradient of a convolution many times slower inside a loop.
    return jax.lax.scan(body, carry, xs, unroll=parts if jax.default_backend() == "cpu" else 1)
