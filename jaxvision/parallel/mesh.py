"""The mesh of devices, and the layout of batches on it.

A mesh has three axes, any of which may have size 1:

    data      copies of the model, each with its own part of the batch
    fsdp      splits the batch too, and every large parameter: fully sharded data parallelism
    tensor    splits single layers; all its devices get the same part of the batch
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxvision.errors import UserError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")

PyTree = Any


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Lays the devices out as a mesh of `data` x `fsdp` x `tensor`.

    Args:
      data, fsdp, tensor: Sizes of the axes. At most one is -1, for all remaining devices.
      devices: Devices to use; None for all devices of all processes.

    Raises:
      UserError: If the sizes do not multiply to the number of devices, or the tensor axis would
        cross processes, which read different parts of the batch.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
    wanted = " x ".join(f"{axis}={size}" for axis, size in sizes.items())
    if any(size < 1 and size != -1 for size in sizes.values()) or list(sizes.values()).count(-1) > 1:
        raise UserError(f"mesh {wanted}: sizes must be positive, or -1 (the rest) for one axis")
    product = math.prod(size for size in sizes.values() if size != -1)
    sizes = {axis: len(devices) // product if size == -1 else size for axis, size in sizes.items()}
    if math.prod(sizes.values()) != len(devices):
        raise UserError(f"mesh {wanted} does not fit {len(devices)} devices")
    per_process = len(devices) // len({d.process_index for d in devices})
    if per_process % sizes["tensor"]:
        raise UserError(f"mesh {wanted}: the tensor axis must divide the {per_process} devices of a process")
    # Auto: XLA propagates shardings inside jit. The default, Explicit, is not supported by Linen's layers.
    return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def batch_axis_size(mesh: Mesh) -> int:
    """Returns the number of parts that a batch is split into.

    Args:
      mesh: Mesh from `make_mesh`.
    """
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def check_batch(batch_size: int, mesh: Mesh) -> None:
    """Checks that a global batch splits evenly over the mesh.

    Args:
      batch_size: Examples in a batch, over all devices and processes.
      mesh: Mesh from `make_mesh`.

    Raises:
      UserError: If it does not; the message names both numbers and the nearest size that does.
    """
    parts = batch_axis_size(mesh)
    if batch_size < 1 or batch_size % parts:
        nearest = max(round(batch_size / parts), 1) * parts
        raise UserError(f"batch size {batch_size} does not divide over {parts} devices (data x fsdp); try {nearest}")


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding with a full copy on every device.

    Args:
      mesh: Mesh from `make_mesh`.
    """
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, leading: int = 0) -> NamedSharding:
    """Returns the sharding that splits the batch axis over the data and fsdp axes.

    Args:
      mesh: Mesh from `make_mesh`.
      leading: Number of unsplit axes before the batch axis, such as 1 for a stack of batches.
    """
    return NamedSharding(mesh, PartitionSpec(*[None] * leading, BATCH_AXES))


def chunk_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of the arrays that several steps read in one dispatch, [steps, B, ...].

    Args:
      mesh: Mesh from `make_mesh`.
    """
    return batch_sharding(mesh, leading=1)


def shard_batch(batch: PyTree, mesh: Mesh, leading: int = 0) -> PyTree:
    """Sends a batch to the devices.

    Args:
      batch: Arrays [..., B / processes, ...], the rows of this process. Process p holds the p-th block.
      mesh: Mesh from `make_mesh`.
      leading: Number of axes before the batch axis.

    Returns:
      Global `jax.Array`s [..., B, ...] split over the batch axis.
    """
    sharding = batch_sharding(mesh, leading)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch)


def split_rows(tree: PyTree, mesh: Mesh, leading: int = 0) -> PyTree:
    """Splits arrays over the batch axis, like `shard_batch`, but from arrays that are whole in every process.

    Args:
      tree: Arrays [..., B, ...], equal in every process.
      mesh: Mesh from `make_mesh`.
      leading: Number of axes before the batch axis.
    """
    sharding = batch_sharding(mesh, leading)
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, sharding, lambda index: x[index]), tree)


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Sends whole arrays to every device. Their values must be equal in all processes, which is not checked here.

    Args:
      tree: Arrays of any shape.
      mesh: Mesh from `make_mesh`.
    """
    sharding = replicated(mesh)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x), global_shape=np.shape(x)), tree
    )
