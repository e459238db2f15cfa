"""Functions of a batch that each device runs on its own rows."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxvision.parallel.mesh import BATCH_AXES, batch_axis_size


def over_batch(fn: Callable, mesh: Mesh) -> Callable:
    """Makes `fn(*arrays, axis_name=...)` a function of the global batch that runs on each device's own rows.

    Args:
      fn: Function of arrays [b, ...], the rows of one device, that returns arrays [b, ...]. Its `axis_name` is the mesh
        axes over which the batch is split, for collectives; None if it is not split. Scalars are passed unchanged.
      mesh: Mesh from `make_mesh`.

    Returns:
      A function of arrays [B, ...] to arrays [B, ...], to be called under jit; it can be differentiated.
    """
    if batch_axis_size(mesh) == 1:
        return partial(fn, axis_name=None)
    rows = PartitionSpec(BATCH_AXES)

    def call(*arrays: Any) -> Any:
        specs = jax.tree.map(lambda x: rows if jnp.ndim(x) else PartitionSpec(), arrays)
        on_device = partial(fn, axis_name=BATCH_AXES)
        return jax.shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=rows)(*arrays)

    return call


def against_rows(fn: Callable, mesh: Mesh) -> Callable:
    """Makes `fn(queries, *rows)` run on each device with all queries and its own rows; the results are concatenated.

    Args:
      fn: Function of queries [Q, ...], whole, and arrays [n, ...], the rows of one device, that returns arrays [Q, m].
      mesh: Mesh from `make_mesh`.

    Returns:
      A function of queries [Q, ...] and arrays [N, ...] to arrays [Q, parts * m], to be called under jit.
    """
    rows = PartitionSpec(BATCH_AXES)

    def call(queries: jax.Array, *arrays: jax.Array) -> jax.Array:
        specs = (PartitionSpec(), *[rows] * len(arrays))
        columns = PartitionSpec(None, BATCH_AXES)
        # Loops in `fn` may begin with constants, which the check requires to be marked as varying over devices.
        return jax.shard_map(fn, mesh=mesh, in_specs=specs, out_specs=columns, check_vma=False)(queries, *arrays)

    return call
