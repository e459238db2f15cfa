"""The arrays and the JSON of one checkpoint, as Orbax lays them out in its folder: how they are named, and read.

STEP/state         every leaf of the TrainState, by path: {"params": {...}, "opt_state": {"0": ...}, ...}
STEP/meta          JSON
STEP/statistics    arrays by name
"""

import os
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxvision.errors import UserError
from jaxvision.reading import parse_json
from jaxvision.storage import Path

PyTree = Any
META = "meta/metadata"  # the file of the JSON


def words(place: Path) -> dict[str, Any]:
    """The JSON of a checkpoint."""
    path = place / META
    return parse_json(path.read_bytes(), path)


def arrays(place: Path, choose: Callable[[dict], dict] = lambda saved: saved) -> dict:
    """Some of the arrays of an item of a checkpoint, as NumPy arrays."""
    handler = ocp.PyTreeCheckpointHandler()
    is_leaf = lambda x: hasattr(x, "shape")
    wanted = choose(handler.metadata(place).tree)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), wanted, is_leaf=is_leaf)
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
    return handler.restore(place, args=ocp.args.PyTreeRestore(shapes, restore_args=as_numpy, partial_restore=True))


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or the error of the system that TensorStore tells of at its end.

    >>> first_line(ValueError("Error writing x/0: Failed to write 8 bytes [os_error_code='28']"))
    'No space left on device'
    """
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    words = str(getattr(error, "strerror", None) or error).strip().partition("\n")[0]
    return f"{words[:300]}" if words else type(error).__name__


def restore(place: Path, target: PyTree) -> PyTree:
    """The state in the folder of a checkpoint, laid out as `target` says.

    Args:
      place: folder of the checkpoint.
      target: `ShapeDtypeStruct`s with shardings.

    Raises:
      UserError: leaves that are missing, surplus or of another shape; all are named.
    """
    handler, wanted = ocp.StandardCheckpointHandler(), by_name(target)
    _check_leaves(wanted, handler.metadata(place / "state").tree, f"{place}")
    tree = handler.restore(place / "state", args=ocp.args.StandardRestore(wanted))
    leaves = [_get(tree, path) for path, _ in jax.tree_util.tree_leaves_with_path(target)]
    return jax.tree.unflatten(jax.tree.structure(target), leaves)


def names(path: tuple) -> list[str]:
    return [jax.tree_util.keystr((key,), simple=True) for key in path]


def by_name(tree: PyTree) -> dict:
    """Nested dicts keyed by field name, key or index: a layout that any reader can open without this code."""
    nested: dict = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        *parents, last = names(path)
        place = nested
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = leaf
    return nested


def _get(nested: dict, path: tuple) -> Any:
    for name in names(path):
        nested = nested[name]
    return nested


def _check_leaves(wanted: dict, saved: dict, where: str) -> None:
    shapes = lambda tree: {
        "/".join(names(path)): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    }
    want, have = shapes(wanted), shapes(saved)
    problems = [f"missing {name} {want[name]}" for name in want if name not in have]
    problems += [f"surplus {name} {have[name]}" for name in have if name not in want]
    problems += [
        f"{name} is {have[name]}, the config's is {want[name]}"
        for name in want
        if name in have and have[name] != want[name]
    ]
    if problems:
        raise UserError(f"the checkpoint {where} does not fit the config:\n  " + "\n  ".join(problems))
