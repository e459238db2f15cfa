"""Every row of a batch against every other: what losses and measures over pairs share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any
Axes = str | tuple[str, ...]


def unit(x: jax.Array) -> jax.Array:
    """Vectors of length 1, float32 [..., D]; a vector shorter than 1e-6 keeps its direction and is shorter than 1.

    >>> unit(jnp.array([3.0, 4.0])).round(3).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))


def similarities(keys: jax.Array, row: jax.Array) -> jax.Array:
    """Inner products of `keys` [N, D] with `row` [D]: float32 [N].

    In full float32: accelerators multiply in fewer bits by default, and dividing by a temperature magnifies the error.

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
      fn: of one row, its position among all and the rows of all; jax transforms it.
      rows: arrays [n, ...]: all rows or, under `shard_map`, those of this device.
      columns: likewise, where each row is compared with something else than the rows.
      chunk: rows that are held at a time, with what `fn` makes of them and everyone: for n rows of N the memory is
        chunk x N, forward and backward, instead of n x N. The backward pass computes each chunk again. None for all
        at once.
      axis_name: of the mesh axes over which the rows are split, under `shard_map`; their rows are gathered.

    Returns:
      The results, stacked: [n, ...].

    >>> against_all(lambda x, i, all: (all * x).sum(), jnp.array([1.0, 2.0, 3.0]), chunk=2).tolist()
    [6.0, 12.0, 18.0]
    """
    n = len(jax.tree.leaves(rows)[0])
    everyone, start = rows if columns is None else columns, 0
    if axis_name is not None:
        everyone = jax.tree.map(lambda x: jax.lax.all_gather(x, axis_name, tiled=True), everyone)
        start = jax.lax.axis_index(axis_name) * n

    def one(args: tuple[PyTree, jax.Array]) -> PyTree:
        return fn(*args, everyone)

    given = (rows, start + jnp.arange(n))
    if chunk is None or chunk >= n:
        return jax.vmap(one)(given)
    return jax.lax.map(jax.checkpoint(one), given, batch_size=chunk)
