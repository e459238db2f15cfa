"""Every row of a batch against every other, for losses and measures over pairs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any
Axes = str | tuple[str, ...]


def unit(x: jax.Array) -> jax.Array:
    """Scales vectors to length 1.

    Args:
      x: Vectors, float [..., d].

    Returns:
      float32 [..., d]. A vector shorter than 1e-6 is multiplied by 1e6 instead, so that the gradient is finite at 0.

    >>> unit(jnp.array([3.0, 4.0])).round(3).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))


def similarities(keys: jax.Array, row: jax.Array) -> jax.Array:
    """Computes inner products in full float32.

    Accelerators multiply with fewer bits by default, and dividing by a small temperature would magnify that error.

    Args:
      keys: Vectors, float32 [n, d].
      row: Vector, float32 [d].

    Returns:
      Inner product of each key with the row, float32 [n].

    >>> similarities(jnp.eye(2), jnp.array([1.0, 2.0])).tolist()
    [1.0, 2.0]
    """
    return jnp.matmul(keys, row, precision=jax.lax.Precision.HIGHEST)


def against_all(
    fn: Callable[[PyTree, jax.Array, PyTree], PyTree],
    rows: PyTree,
    columns: PyTree | None = None,
    *,
    chunk: int | None = None,
    axis_name: Axes | None = None,
) -> PyTree:
    """Calls `fn(row, index, everyone)` for each row, with all rows, or all columns, of the global batch.

    Args:
      fn: Function of one row, its index among all rows, and the rows (or columns) of all devices. It is traced by JAX.
      rows: Arrays [m, ...]: all rows or, under `shard_map`, the m rows of this device out of n.
      columns: Arrays [m, ...] with which each row is compared instead; None for the rows themselves.
      chunk: Number of rows that are computed at a time. It bounds memory, forward and backward, by chunk x n results
        of pairs instead of m x n; the backward pass computes each chunk again. None for all rows at once.
      axis_name: Names of the mesh axes over which the rows are split, under `shard_map`; rows are gathered over them.

    Returns:
      The results of `fn`, stacked: [m, ...].

    >>> against_all(lambda x, i, all: (all * x).sum(), jnp.array([1.0, 2.0, 3.0]), chunk=2).tolist()
    [6.0, 12.0, 18.0]
    """
    m = len(jax.tree.leaves(rows)[0])
    everyone = rows if columns is None else columns
    indices = jnp.arange(m)
    if axis_name is not None:
        everyone = jax.tree.map(lambda x: jax.lax.all_gather(x, axis_name, tiled=True), everyone)
        indices = jax.lax.axis_index(axis_name) * m + indices

    def call(row_and_index: tuple[PyTree, jax.Array]) -> PyTree:
        return fn(*row_and_index, everyone)

    if chunk is None or chunk >= m:
        return jax.vmap(call)((rows, indices))
    return jax.lax.map(jax.checkpoint(call), (rows, indices), batch_size=chunk)
