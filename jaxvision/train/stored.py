"""Names and reads the arrays and the JSON of one checkpoint, as Orbax stores them in its folder.

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
META = "meta/metadata"  # path of the JSON in the folder


def words(place: Path) -> dict[str, Any]:
    """Reads the metadata of a checkpoint.

    Args:
      place: Folder of the checkpoint.

    Returns:
      The JSON of its metadata.
    """
    path = place / META
    return parse_json(path.read_bytes(), path)


def arrays(place: Path, choose: Callable[[dict], dict] = lambda saved: saved) -> dict:
    """Reads some of the arrays of an item of a checkpoint.

    Args:
      place: Folder of the item, such as STEP/state.
      choose: Function of the nested dict of the item's arrays that returns the part to read; the default takes all.

    Returns:
      Nested dicts of NumPy arrays.
    """
    handler = ocp.PyTreeCheckpointHandler()
    is_leaf = lambda x: hasattr(x, "shape")
    wanted = choose(handler.metadata(place).tree)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), wanted, is_leaf=is_leaf)
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
    return handler.restore(place, args=ocp.args.PyTreeRestore(shapes, restore_args=as_numpy, partial_restore=True))


def first_line(error: BaseException) -> str:
    """Returns the first line of an error, or the error of the operating system that TensorStore reports at its end.

    Args:
      error: Error of any type.

    >>> first_line(ValueError("Error writing x/0: Failed to write 8 bytes [os_error_code='28']"))
    'No space left on device'
    """
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    words = str(getattr(error, "strerror", None) or error).strip().partition("\n")[0]
    return f"{words[:300]}" if words else type(error).__name__


def restore(place: Path, target: PyTree) -> PyTree:
    """Reads the state of a checkpoint into the shardings of `target`.

    Args:
      place: Folder of the checkpoint.
      target: State of `ShapeDtypeStruct`s with shardings.

    Raises:
      UserError: Leaves are missing, surplus or of another shape; the message names all of them.
    """
    handler, wanted = ocp.StandardCheckpointHandler(), by_name(target)
    _check_leaves(wanted, handler.metadata(place / "state").tree, f"{place}")
    tree = handler.restore(place / "state", args=ocp.args.StandardRestore(wanted))
    leaves = [_get(tree, path) for path, _ in jax.tree_util.tree_leaves_with_path(target)]
    return jax.tree.unflatten(jax.tree.structure(target), leaves)


def names(path: tuple) -> list[str]:
    """Returns the names of the keys of a path.

    Args:
      path: Path of a leaf, as `jax.tree_util` gives it.
    """
    return [jax.tree_util.keystr((key,), simple=True) for key in path]


def by_name(tree: PyTree) -> dict:
    """Converts a tree to nested dicts by field name, key or index, which can be read without the classes of this code.

    Args:
      tree: Tree of arrays.

    >>> by_name({"a": (1, 2)})
    {'a': {'0': 1, '1': 2}}
    """
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
