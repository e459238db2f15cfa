"""Every row of a batch against every column of it, the columns handed round the devices."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.losses.pairs import Axes

PyTree = Any
Results = tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]  # of rows, of columns
Block = Callable[[PyTree, PyTree, PyTree], Results]

# How the results of blocks become one: of two, of a stack, and a block's share of the gradient of the whole.
COMBINATIONS = {
    "sum": (jnp.add, lambda x: x.sum(0), lambda g, part, whole: g),
    "logsumexp": (jnp.logaddexp, lambda x: jax.nn.logsumexp(x, 0), lambda g, part, whole: g * jnp.exp(part - whole)),
    "max": (jnp.maximum, lambda x: x.max(0), lambda g, part, whole: 0 * g),
}


def around(
    block: Block,
    combine: tuple[tuple[str, ...], tuple[str, ...]],
    rows: PyTree,
    columns: PyTree,
    tags: PyTree = None,
    *,
    chunk: int | None = None,
    axis_name: Axes | None = None,
) -> Results:
    """Calls `block(rows, columns, (tags of rows, tags of columns))` with this device's rows and each device's columns.

    The columns go round the devices with the results that belong to them, until both are home; the backward pass sends
    them round again and computes each block again. So a device holds one block and the columns of one device, never
    those of all. Source: Zhai et al. 2023 (SigLIP), sec. 3.3.

    Args:
      block: makes results of its rows, float [c] each, and of its columns, float [n] each, from arrays [c, ...] and
        [n, ...]. It closes over no traced arrays.
      combine: for each result of the rows, and of the columns, how those of several blocks become one: "sum",
        "logsumexp", or "max", through which no gradient goes.
      rows, columns: arrays float [n, ...]: all or, under `shard_map`, those of this device.
      tags: arrays of integers [n, ...] that go with both.
      chunk: greatest number of rows of a block; the nearest divisor of n below is taken. None for all n.
      axis_name: of the mesh axes over which rows and columns are split, under `shard_map`.

    Returns:
      The results of the rows for all columns, float [n] each, and of the columns for all rows.

    >>> largest = lambda x, y, tags: ((jnp.outer(x, y).max(1),), ())
    >>> (found,), _ = around(largest, (("max",), ()), jnp.array([1.0, 2.0]), jnp.array([3.0, -4.0]), chunk=1)
    >>> found.tolist()
    [3.0, 6.0]
    """
    n = len(jax.tree.leaves(rows)[0])
    size = next(c for c in range(min(chunk or n, n), 0, -1) if n % c == 0)
    return _around(functools.partial(_in_chunks, block, combine, size), combine, axis_name, rows, columns, tags)


def _in_chunks(block: Block, combine, size: int, rows: PyTree, columns: PyTree, tags: PyTree) -> Results:
    """The results of a block, computed for `size` rows at a time."""
    mine, theirs = tags
    pieces = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), (rows, mine))
    one = jax.checkpoint(lambda piece: block(piece[0], columns, (piece[1], theirs)))
    of_rows, of_columns = jax.lax.map(one, pieces)
    stacked = tuple(COMBINATIONS[how][1](x) for how, x in zip(combine[1], of_columns))
    return tuple(x.reshape(-1) for x in of_rows), stacked


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _around(block: Block, combine, axis_name: Axes | None, rows: PyTree, columns: PyTree, tags: PyTree) -> Results:
    def meet(columns, theirs):
        return block(rows, columns, (tags, theirs))

    of_rows, of_columns = meet(columns, tags)  # begins with the own block: no constants to mark as varying

    def step(carry, _):
        of_rows, travelling = carry
        columns, theirs, of_columns = _hand_on(travelling, axis_name)
        new_rows, new_columns = meet(columns, theirs)
        of_rows = tuple(COMBINATIONS[how][0](a, b) for how, a, b in zip(combine[0], of_rows, new_rows))
        of_columns = tuple(COMBINATIONS[how][0](a, b) for how, a, b in zip(combine[1], of_columns, new_columns))
        return (of_rows, (columns, theirs, of_columns)), None

    carry = of_rows, (columns, tags, of_columns)
    (of_rows, travelling), _ = jax.lax.scan(step, carry, length=_devices(axis_name) - 1)
    return of_rows, _hand_on(travelling[2], axis_name)


def _forward(block: Block, combine, axis_name: Axes | None, rows: PyTree, columns: PyTree, tags: PyTree):
    results = _around(block, combine, axis_name, rows, columns, tags)
    return results, (rows, columns, tags, results)


def _backward(block: Block, combine, axis_name: Axes | None, kept: PyTree, gradients: Results):
    rows, columns, tags, (of_rows, of_columns) = kept

    def meet(columns, theirs, of_columns, g_columns):
        parts, pull = jax.vjp(lambda r, c: block(r, c, (tags, theirs)), rows, columns)
        share = lambda hows, gs, ps, wholes: tuple(
            COMBINATIONS[how][2](g, part, whole) for how, g, part, whole in zip(hows, gs, ps, wholes)
        )
        return pull(
            (share(combine[0], gradients[0], parts[0], of_rows), share(combine[1], g_columns, parts[1], of_columns))
        )

    g_rows, g_columns = meet(columns, tags, of_columns, gradients[1])

    def step(carry, _):
        g_rows, travelling = carry
        theirs, total = _hand_on(travelling, axis_name)
        new_rows, new = meet(*theirs)
        return (jax.tree.map(jnp.add, g_rows, new_rows), (theirs, jax.tree.map(jnp.add, total, new))), None

    carry = g_rows, ((columns, tags, of_columns, gradients[1]), g_columns)
    (g_rows, travelling), _ = jax.lax.scan(step, carry, length=_devices(axis_name) - 1)
    return g_rows, _hand_on(travelling[1], axis_name), None


_around.defvjp(_forward, _backward)


def _devices(axis_name: Axes | None) -> int:
    return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def _hand_on(tree: PyTree, axis_name: Axes | None) -> PyTree:
    """What the device before this one held; with one device, nothing moves."""
    count = _devices(axis_name)
    if count == 1:
        return tree
    ring = [(i, (i + 1) % count) for i in range(count)]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, axis_name, ring), tree)
