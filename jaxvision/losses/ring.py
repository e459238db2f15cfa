"""Compares every row of a batch with every column, while the columns travel around a ring of devices."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxvision.losses.pairs import Axes

PyTree = Any
Results = tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]  # results of rows, results of columns
Combine = tuple[tuple[str, ...], tuple[str, ...]]  # names of combinations, for each result of rows and of columns
Compare = Callable[[PyTree, PyTree, PyTree], Results]


class Combination(NamedTuple):
    """How the results of several blocks become one result.

    Attributes:
      pair: Function of the results of two blocks.
      stack: Function of the results of many blocks, stacked along the first axis.
      gradient: Function (gradient of the whole, result of a block, result of the whole) -> gradient of the block.
    """

    pair: Callable[[jax.Array, jax.Array], jax.Array]
    stack: Callable[[jax.Array], jax.Array]
    gradient: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


COMBINATIONS = {
    "sum": Combination(jnp.add, lambda x: x.sum(0), lambda g, block, whole: g),
    # d logsumexp(blocks) / d block is the softmax over the blocks.
    "logsumexp": Combination(
        jnp.logaddexp, lambda x: jax.nn.logsumexp(x, 0), lambda g, block, whole: g * jnp.exp(block - whole)
    ),
    "max": Combination(jnp.maximum, lambda x: x.max(0), lambda g, block, whole: 0 * g),
}


def ring_compare(
    compare: Compare,
    combine: Combine,
    rows: PyTree,
    columns: PyTree,
    tags: PyTree = None,
    *,
    chunk: int | None = None,
    axis_name: Axes | None = None,
) -> Results:
    """Calls `compare(rows, columns, (row tags, column tags))` with this device's rows and every device's columns.

    The columns travel around the devices, together with the results of these columns, until both are back on their own
    device. The backward pass sends them around once more and recomputes each block. So a device holds one block and the
    columns of one device at a time, never all columns. Source: Zhai et al. 2023 (SigLIP), sec. 3.3.

    Args:
      compare: Function of c rows and b columns, arrays [c, ...] and [b, ...], that returns results of the rows, float
        [c] each, and of the columns, float [b] each. It must not close over traced arrays.
      combine: Names of combinations, for each result of the rows and for each of the columns: how the results of
        several blocks become one. "sum", "logsumexp", or "max", which stops gradients.
      rows: Arrays, float [b, ...]: all rows or, under `shard_map`, those of this device.
      columns: Arrays, float [b, ...]: all columns or, under `shard_map`, those of this device.
      tags: Arrays, int [b, ...], that accompany both rows and columns.
      chunk: Greatest number c of rows in a block; the next smaller divisor of b is taken. None for all b.
      axis_name: Names of the mesh axes over which rows and columns are split, under `shard_map`.

    Returns:
      Results of the rows, compared with all columns, and of the columns, compared with all rows, float [b] each.

    >>> largest = lambda x, y, tags: ((jnp.outer(x, y).max(1),), ())
    >>> (results,), _ = ring_compare(largest, (("max",), ()), jnp.array([1.0, 2.0]), jnp.array([3.0, -4.0]), chunk=1)
    >>> results.tolist()
    [3.0, 6.0]
    """
    b = len(jax.tree.leaves(rows)[0])
    size = next(c for c in range(min(chunk or b, b), 0, -1) if b % c == 0)
    return _ring_compare(functools.partial(_in_chunks, compare, combine, size), combine, axis_name, rows, columns, tags)


def _in_chunks(compare: Compare, combine: Combine, size: int, rows: PyTree, columns: PyTree, tags: PyTree) -> Results:
    """Computes the results of a block for `size` rows at a time."""
    row_tags, column_tags = tags
    pieces = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), (rows, row_tags))
    compare_piece = jax.checkpoint(lambda piece: compare(piece[0], columns, (piece[1], column_tags)))
    row_results, column_results = jax.lax.map(compare_piece, pieces)
    combined = tuple(COMBINATIONS[name].stack(x) for name, x in zip(combine[1], column_results))
    return tuple(x.reshape(-1) for x in row_results), combined


# A custom gradient, because that of the scan would keep every device's columns and results for the backward pass.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _ring_compare(
    compare: Compare, combine: Combine, axis_name: Axes | None, rows: PyTree, columns: PyTree, tags: PyTree
) -> Results:
    # Start with the device's own columns: shard_map would require zeros to be marked as varying over the devices.
    row_results, column_results = compare(rows, columns, (tags, tags))

    def step(carry, _):
        row_results, travelling = carry
        columns, column_tags, column_results = _pass_on(travelling, axis_name)
        new_rows, new_columns = compare(rows, columns, (tags, column_tags))
        row_results = _combine_pairs(combine[0], row_results, new_rows)
        column_results = _combine_pairs(combine[1], column_results, new_columns)
        return (row_results, (columns, column_tags, column_results)), None

    # After d - 1 steps on d devices each column has met all rows, and is one device before its own.
    carry = row_results, (columns, tags, column_results)
    (row_results, travelling), _ = jax.lax.scan(step, carry, length=_devices(axis_name) - 1)
    return row_results, _pass_on(travelling[2], axis_name)


def _combine_pairs(names: tuple[str, ...], a: tuple[jax.Array, ...], b: tuple[jax.Array, ...]) -> tuple:
    return tuple(COMBINATIONS[name].pair(x, y) for name, x, y in zip(names, a, b))


def _forward(compare: Compare, combine: Combine, axis_name: Axes | None, rows: PyTree, columns: PyTree, tags: PyTree):
    results = _ring_compare(compare, combine, axis_name, rows, columns, tags)
    return results, (rows, columns, tags, results)


def _backward(compare: Compare, combine: Combine, axis_name: Axes | None, saved: PyTree, gradients: Results):
    """Gradients of rows and columns, by the chain rule through each block.

    A whole result W combines the results P of the blocks. With g the gradient of W, a block receives g dW/dP, and that
    needs only P and W (`Combination.gradient`). W is saved from the forward pass; P is computed again here. The
    gradients of rows add up on their own device. A column collects its gradient from every device that it visits, so
    the gradient travels with it. W and g of the column's results travel too: every device that it visits needs them.
    """
    rows, columns, tags, (row_results, column_results) = saved

    def block_gradients(columns, column_tags, column_results, g_columns):
        block_results, pull_back = jax.vjp(lambda r, c: compare(r, c, (tags, column_tags)), rows, columns)
        return pull_back(
            (
                _block_shares(combine[0], gradients[0], block_results[0], row_results),
                _block_shares(combine[1], g_columns, block_results[1], column_results),
            )
        )

    g_rows, g_columns = block_gradients(columns, tags, column_results, gradients[1])

    def step(carry, _):
        g_rows, travelling = carry
        visitors, g_visitors = _pass_on(travelling, axis_name)
        new_rows, new_visitors = block_gradients(*visitors)
        g_visitors = jax.tree.map(jnp.add, g_visitors, new_visitors)
        return (jax.tree.map(jnp.add, g_rows, new_rows), (visitors, g_visitors)), None

    carry = g_rows, ((columns, tags, column_results, gradients[1]), g_columns)
    (g_rows, travelling), _ = jax.lax.scan(step, carry, length=_devices(axis_name) - 1)
    return g_rows, _pass_on(travelling[1], axis_name), None  # tags are integers: no gradient


def _block_shares(names: tuple[str, ...], gradients: tuple, blocks: tuple, wholes: tuple) -> tuple:
    """Returns the gradients of one block's results from the gradients of the whole results."""
    return tuple(
        COMBINATIONS[name].gradient(g, block, whole) for name, g, block, whole in zip(names, gradients, blocks, wholes)
    )


_ring_compare.defvjp(_forward, _backward)


def _devices(axis_name: Axes | None) -> int:
    return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def _pass_on(tree: PyTree, axis_name: Axes | None) -> PyTree:
    """Sends a tree to the next device and returns the tree of the device before; with one device, nothing moves."""
    count = _devices(axis_name)
    if count == 1:
        return tree
    ring = [(i, (i + 1) % count) for i in range(count)]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, axis_name, ring), tree)
