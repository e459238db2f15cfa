"""Shards a train state over mesh axes, by rules over the paths of its leaves.

Optimizer moments and averages have the path of their parameter as a suffix
(`opt_state/0/mu/encoder/block_00/mlp/dense_0/kernel`), so one rule places a parameter and everything that
belongs to it.
"""

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxvision import paths
from jaxvision.errors import UserError, unknown

PyTree = Any

# Name of a preset, or pairs (regular expression, placement). A placement is "replicated", "fsdp", or one
# entry per dimension: a mesh axis, a tuple of axes, or None.
Rules = str | paths.Rules

# Below this many elements a split saves less memory than its collectives cost time.
MIN_FSDP_SIZE = 2**14

PRESETS: dict[str, paths.Rules] = {
    "replicated": ((".*", "replicated"),),
    # Rajbhandari et al. 2020 (ZeRO stage 3), arXiv 1910.02054: XLA gathers a layer's parameters where it is used.
    "fsdp": ((".*", "fsdp"),),
    # Shoeybi et al. 2019 (Megatron-LM), arXiv 1909.08053, sec. 3: attention is split by heads, the MLP by its
    # hidden units, so each of the two needs one all-reduce; over the fsdp axis the other dimension is split.
    "tensor": (
        (r"(^|/)v_(row|col)/", "fsdp"),  # Adafactor's factored moments lack a dimension of their parameter
        (r"attention(_2)?/(query|key|value)/kernel$", ("fsdp", "tensor", None)),  # D heads head_dim
        (r"attention(_2)?/(query|key|value)/bias$", ("tensor", None)),  # heads head_dim
        (r"attention(_2)?/out/kernel$", ("tensor", None, "fsdp")),  # heads head_dim D
        (r"mlp(_2)?/dense_0/kernel$", ("fsdp", "tensor")),  # D M
        (r"mlp(_2)?/dense_0/bias$", ("tensor",)),  # M
        (r"mlp(_2)?/dense_1/kernel$", ("tensor", "fsdp")),  # M D
        (r".*", "fsdp"),
    ),
}


def shardings(tree: PyTree, mesh: Mesh, rules: Rules, min_fsdp_size: int = MIN_FSDP_SIZE) -> PyTree:
    """Returns the sharding of every leaf of a train state.

    Args:
      tree: Arrays or `ShapeDtypeStruct`s of any shape; only paths and shapes are used.
      mesh: Mesh from `make_mesh`.
      rules: Name of a preset, "replicated", "fsdp" or "tensor", or pairs (regular expression, placement); the first
        pattern that matches a leaf's path decides, and every leaf must be covered. Placements:
        - "replicated": a copy on every device.
        - "fsdp": the largest dimension that is a multiple of the fsdp axis is split over it; replicated if
          there is none, or the leaf has fewer than `min_fsdp_size` elements.
        - a tuple such as `(None, "tensor")`: one entry for each of the last dimensions; earlier dimensions
          (the layers of a scanned stack) are not split. Leaves of lower rank, such as
          Adafactor's factored moments, are replicated.
      min_fsdp_size: Smallest number of elements that "fsdp" splits.

    Returns:
      The same tree with a `NamedSharding` at every leaf.

    Raises:
      UserError: If a preset, placement or axis is unknown, no rule covers a leaf, a rule decides nothing, or a
        dimension is not a multiple of its axes.
    """
    if isinstance(rules, str):
        if rules not in PRESETS:
            raise unknown("sharding rules", rules, PRESETS)
        chosen = paths.match(PRESETS[rules], tree, "sharding rules", check_unused=False)
    else:
        chosen = paths.match(rules, tree, "sharding rules")
    leaves = jax.tree.leaves(tree)
    structure: Any = jax.tree.structure(tree)
    placements = structure.flatten_up_to(chosen)
    specs = [
        _spec(path, np.shape(leaf), placement, mesh, min_fsdp_size)
        for path, leaf, placement in zip(paths.names(tree), leaves, placements)
    ]
    return structure.unflatten([NamedSharding(mesh, spec) for spec in specs])


def _spec(path: str, shape: tuple[int, ...], placement: Any, mesh: Mesh, min_fsdp_size: int) -> PartitionSpec:
    if placement == "replicated":
        return PartitionSpec()
    if placement == "fsdp":
        return _fsdp(shape, mesh.shape["fsdp"], min_fsdp_size)
    if isinstance(placement, str):
        raise unknown(f"placement for {path}", placement, ["replicated", "fsdp", "a tuple of mesh axes"])
    if len(shape) < len(placement):
        return PartitionSpec()
    entries = [None] * (len(shape) - len(placement)) + list(placement)
    for size, entry in zip(shape, entries):
        axes = (entry,) if isinstance(entry, str) else entry or ()
        for axis in axes:
            if axis not in mesh.shape:
                raise unknown("mesh axis", axis, mesh.shape)
        parts = math.prod(mesh.shape[axis] for axis in axes)
        if size % parts:
            raise UserError(f"{path} {shape}: {size} does not divide over {entry!r}, which has {parts} parts")
    return PartitionSpec(*[tuple(entry) if isinstance(entry, list) else entry for entry in entries])


def _fsdp(shape: tuple[int, ...], parts: int, min_size: int) -> PartitionSpec:
    dims = [d for d, size in enumerate(shape) if size % parts == 0]
    if parts == 1 or not dims or math.prod(shape) < min_size:
        return PartitionSpec()
    largest = max(dims, key=lambda d: shape[d])
    return PartitionSpec(*["fsdp" if d == largest else None for d in range(largest + 1)])
