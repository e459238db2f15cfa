"""Penalties R(W) on the weights: their values, and the proximal step that makes weights exactly zero.

`optimizer.weight_decay` adds `weight_decay * multiplier * w` to the update of a weight, the gradient of half of
`weight_decay` times the L2 penalty. The gradient of the L1 penalty, a sign, makes weights small but almost never zero.
So `optimizer.l1` is a proximal step after the update, which moves every weight towards zero by `rate * l1 * multiplier`
and stops there (Parikh and Boyd 2014, "Proximal algorithms", sec. 4.2 and 6.5.2; with plain SGD this is ISTA).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

PyTree = Any
Multipliers = PyTree  # tree of numbers with the structure of the parameters


def l2(params: PyTree, multipliers: Multipliers) -> jax.Array:
    """Computes R(W) = sum(multiplier * w**2). Weight decay is the gradient of `weight_decay / 2 * R(W)`.

    Args:
      params: Weights, arrays of any shape.
      multipliers: Multiplier of each array.

    Returns:
      The sum, float32 [].

    >>> float(l2(jnp.array([1.0, 0, 0, 0]), 1.0)), float(l2(jnp.full(4, 0.25), 1.0))
    (1.0, 0.25)
    """
    return _total(jnp.square, params, multipliers)


def l1(params: PyTree, multipliers: Multipliers) -> jax.Array:
    """Computes R(W) = sum(multiplier * |w|).

    Args:
      params: Weights, arrays of any shape.
      multipliers: Multiplier of each array.

    Returns:
      The sum, float32 [].

    >>> float(l1(jnp.array([1.0, 0, 0, 0]), 1.0)), float(l1(jnp.full(4, 0.25), 1.0))
    (1.0, 1.0)
    """
    return _total(jnp.abs, params, multipliers)


def zeros(params: PyTree, multipliers: Multipliers) -> jax.Array:
    """Computes the share of the penalised weights (those with a multiplier above 0) that are exactly zero.

    Args:
      params: Weights, arrays of any shape.
      multipliers: Multiplier of each array.

    Returns:
      Share in [0, 1], float32 []; 0 if no weight is penalised.

    >>> float(zeros({"kernel": jnp.array([0.0, 1.0]), "bias": jnp.zeros(9)}, {"kernel": 1.0, "bias": 0.0}))
    0.5
    """
    counted = jax.tree.map(float, jax.tree.map(bool, multipliers))
    count = sum(w.size * m for w, m in zip(jax.tree.leaves(params), jax.tree.leaves(counted), strict=True))
    return _total(lambda w: (w == 0).astype(jnp.float32), params, counted) / max(count, 1.0)


def soft_threshold(weights: jax.Array, threshold: jax.Array | float) -> jax.Array:
    """Moves weights towards zero by a threshold, and to exactly zero where they are not larger than it.

    It is the minimum over v of `(v - w)**2 / 2 + threshold * |v|`.

    Args:
      weights: Weights w, float of any shape.
      threshold: Threshold, float [], at least 0.

    >>> soft_threshold(jnp.array([-3.0, -0.5, 0.0, 1.0, 2.5]), 1.0).tolist()
    [-2.0, 0.0, 0.0, 0.0, 1.5]
    """
    return jnp.where(jnp.abs(weights) <= threshold, 0.0, weights - jnp.sign(weights) * threshold)


def shrink(strength: float, multipliers: Multipliers, rates: PyTree, start: int = 0) -> optax.GradientTransformation:
    """Makes the last transformation of a chain: the proximal step of the L1 penalty after the update.

    Args:
      strength: Strength of the penalty, above 0.
      multipliers: Multiplier of the threshold of each parameter; 0 leaves it alone.
      rates: Tree of functions from the step to the learning rate of each parameter.
      start: Step at which the updates begin.
    """

    def init(params: PyTree) -> optax.ScaleByScheduleState:
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))

    def update(updates: PyTree, state: optax.ScaleByScheduleState, params: PyTree = None) -> tuple:
        def one(u: jax.Array, w: jax.Array, multiplier: float, rate: Callable) -> jax.Array:
            if isinstance(multiplier, float | int) and multiplier == 0:
                return u
            threshold = (strength * multiplier * rate(start + state.count)).astype(w.dtype)
            return soft_threshold(w + u, threshold) - w  # w + (0 - w) is exactly 0

        shrunk = jax.tree.map(one, updates, params, multipliers, rates)
        return shrunk, optax.ScaleByScheduleState(optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)


def _total(of: Callable, params: PyTree, multipliers: Multipliers) -> jax.Array:
    parts = jax.tree.map(lambda w, m: m * jnp.sum(of(w.astype(jnp.float32))), params, multipliers)
    return jnp.asarray(sum(jax.tree.leaves(parts)), jnp.float32)
