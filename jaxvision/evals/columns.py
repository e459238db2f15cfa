"""Arrays with a row for each example of a split, which stay on the devices if they are small enough."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, Sharding

from jaxvision.parallel.distributed import gather
from jaxvision.parallel.gate import tick
from jaxvision.parallel.mesh import batch_sharding, replicated

DEVICE_BYTES = 2**28  # largest column that stays on the devices, with a copy on each
_AHEAD = 2  # number of results that the devices compute while the host takes the one before them

Result = TypeVar("Result")
Rows: TypeAlias = np.ndarray | jax.Array  # [n, ...], equal on every process; on the devices there is a copy on each


class Column:
    """A column that grows by the rows of a batch at a time, in the order of the split.

    Small columns stay on the devices.

    Args:
      rows: Number of rows, about; those of the last batch that only fill it up are not counted.
      mesh: Mesh of the devices.
    """

    def __init__(self, rows: int, mesh: Mesh):
        self._rows, self._place, self._filled = rows, replicated(mesh), 0
        self._buffer: jax.Array | None = None  # [rows and more, ...], if the column stays on the devices
        self._parts: list[np.ndarray] = []

    def add(self, part: jax.Array) -> None:
        """Adds the rows of a batch.

        Args:
          part: Rows, a global array [b, ...].
        """
        if self._filled == 0:
            length = -(-self._rows // len(part)) * len(part)
            if length * part.nbytes // len(part) <= DEVICE_BYTES:
                self._buffer = _zeros((length, *part.shape[1:]), part.dtype, self._place)
        if self._buffer is not None:
            self._buffer = _insert(self._buffer, part, self._filled, self._place)
        else:
            self._parts.append(gather(part))
        self._filled += len(part)

    def take(self, rows: np.ndarray) -> Rows:
        """Returns some of the rows. Call it once, at the end.

        Args:
          rows: Positions of the rows, int [n] in rising order.

        Returns:
          The rows, [n, ...].
        """
        if self._buffer is not None:
            return self._buffer if len(rows) == len(self._buffer) else _chosen(self._buffer, rows, self._place)
        whole = np.concatenate(self._parts)
        return whole if len(rows) == len(whole) else whole[rows]


def computed(results: Iterable[Result]) -> Iterator[Result]:
    """Yields results of jitted functions once they are computed, while the devices work on the next ones.

    So the devices do not wait for the host, and the host does not send them more than they have memory for.

    Args:
      results: Trees of arrays; drawing the next one begins to compute it.
    """
    running: deque[Result] = deque()
    for result in results:
        running.append(result)
        if len(running) > _AHEAD:
            yield jax.block_until_ready(running.popleft())
    while running:
        yield jax.block_until_ready(running.popleft())


def place(array: Rows, start: int, count: int, sharding: Sharding) -> jax.Array:
    """Puts some rows of a column on the devices. A column that is there already does not pass through the host.

    Args:
      array: Column, [n, ...].
      start: First row.
      count: Number of rows. Those beyond the end of the column are zeros.
      sharding: Sharding of the result.

    Returns:
      The rows, [count, ...].
    """
    if isinstance(array, jax.Array):
        there = array.sharding.is_equivalent_to(sharding, array.ndim) and start == 0 and count == len(array)
        return array if there else _part(array, start, count, sharding)
    some = array[start : start + count]
    filled = np.pad(some, [(0, count - len(some))] + [(0, 0)] * (some.ndim - 1))
    return jax.make_array_from_callback(filled.shape, sharding, lambda index: filled[index])


def blocks(arrays: Sequence[Rows], rows: int, mesh: Mesh, split: bool = False) -> Iterator[list[jax.Array]]:
    """Yields blocks of the rows of columns, on the devices.

    Args:
      arrays: Columns, [n, ...].
      rows: Number of rows in a block; the last one is filled up with zeros.
      mesh: Mesh of the devices.
      split: True to split the rows of a block over the devices, False for a copy on each.
    """
    sharding = batch_sharding(mesh) if split else replicated(mesh)
    for start in range(0, len(arrays[0]), rows):
        tick()
        yield [place(array, start, rows, sharding) for array in arrays]


def choose(array: Rows, rows: np.ndarray, mesh: Mesh) -> jax.Array:
    """Puts chosen rows of a column on the devices, split over them.

    Args:
      array: Column, [n, ...].
      rows: Positions of the rows, int [b]; the devices must divide b.
      mesh: Mesh of the devices.

    Returns:
      The rows, [b, ...].
    """
    sharding = batch_sharding(mesh)
    if isinstance(array, jax.Array):
        return _chosen(array, rows, sharding)
    some = array[rows]
    return jax.make_array_from_callback(some.shape, sharding, lambda index: some[index])


@partial(jax.jit, static_argnums=(0, 1, 2))
def _zeros(shape: tuple[int, ...], dtype: jnp.dtype, sharding: Sharding) -> jax.Array:
    return jax.lax.with_sharding_constraint(jnp.zeros(shape, dtype), sharding)


@partial(jax.jit, donate_argnums=0, static_argnums=3)
def _insert(buffer: jax.Array, part: jax.Array, start: int, sharding: Sharding) -> jax.Array:
    grown = jax.lax.dynamic_update_slice_in_dim(buffer, part, start, axis=0)
    return jax.lax.with_sharding_constraint(grown, sharding)


@partial(jax.jit, static_argnums=(2, 3))
def _part(array: jax.Array, start: int, count: int, sharding: Sharding) -> jax.Array:
    rows = jnp.take(array, start + jnp.arange(count), axis=0, mode="fill", fill_value=0)
    return jax.lax.with_sharding_constraint(rows, sharding)


@partial(jax.jit, static_argnums=2)
def _chosen(array: jax.Array, rows: np.ndarray, sharding: Sharding) -> jax.Array:
    return jax.lax.with_sharding_constraint(array[rows], sharding)
