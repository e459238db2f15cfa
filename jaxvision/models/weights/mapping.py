"""Conversion between our variables and the named arrays of a file, both ways, driven by the tables."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import paths
from jaxvision.errors import UserError, some, unknown
from jaxvision.models.positions import resize_positions
from jaxvision.models.weights import mismatch, prefixes
from jaxvision.models.weights.plan import Slot, dummies, rename, slots_by_name, unstack
from jaxvision.models.weights.table import SCANNED, Table
from jaxvision.models.weights.tables import TABLES, lacking, served_by, tables_of

PyTree = Any
HEADS = ("keep", "new", "drop")
HEAD = re.compile(r"^(?:params|batch_stats)/(?:distillation_)?head/")
POOLED_NORM = re.compile(r"^params/fc_norm/")
TOKENS_NORM = ("params/encoder/norm/scale", "params/encoder/norm/bias")
POSITIONS = re.compile(r"^(?!.*text_tower/)(?:.*/)?pos_embedding$")


class Imported(NamedTuple):
    """The result of an import.

    Attributes:
      variables: Variables of the model, filled with NumPy arrays. Leaves of a new head are unchanged.
      notes: Lines on what was replaced, resized, converted or left out.
    """

    variables: PyTree
    notes: tuple[str, ...]


def import_weights(
    arrays: Mapping[str, np.ndarray],
    source: str,
    model: str,
    variables: PyTree,
    *,
    head: str = "keep",
    ignore: tuple[str, ...] = (),
    positions: str = "bicubic",
    prefix: str | None = None,
) -> Imported:
    """Fills the variables of a model from the arrays of a file.

    Args:
      arrays: Arrays by their names in the file.
      source: Library whose names and layouts the file has, one of `sources()`.
      model: Name of our model, a key of `models.NAMES`, `TEXT_NAMES` or `PAIR_NAMES`.
      variables: Variables of the model, as from `init`; `ShapeDtypeStruct`s will do.
      head: Treatment of the head. "keep" takes the file's. "new" leaves that of `variables` as it is, and "drop" is for
        a model without a head; neither uses the file's. With "new", a norm of pooled features (`fc_norm`) is new too if
        the file has none, and the file's norm of tokens is not used, as in the fine-tuning of BEiT and MAE.
      ignore: Regular expressions; arrays of the file whose names match one are not used.
      positions: Method that resizes learned position embeddings for another image size, "bicubic" or "bilinear". The
        positions of tokens before the grid stay as they are. With `ignore`, those of tokens that the model does not
        have are dropped.
      prefix: Prefix of the names that are used, such as "teacher." or "backbone.". None removes a prefix that all
        arrays share, and chooses the average among several sets of weights; see `prefixes.select`.

    Returns:
      The filled variables, and notes.

    Raises:
      UserError: An unknown source or a model that it has no names for; arrays that are missing, surplus or of another
        shape (all are counted, some of each are named); integers; or numbers that are not finite.

    >>> params = {"head": {"kernel": np.zeros((3, 2), np.float32), "bias": np.zeros(2, np.float32)}}
    >>> arrays = {"fc.weight": np.arange(6.0, dtype=np.float32).reshape(2, 3), "fc.bias": np.ones(2, np.float32)}
    >>> import_weights(arrays, "timm", "resnet", {"params": params}).variables["params"]["head"]["kernel"].tolist()
    [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    """
    if head not in HEADS:
        raise unknown("value of head", head, HEADS)
    targets = dummies(variables)
    tables = tables_of(source, model, targets)
    # `ignore` applies twice: here to the names in the file, and in `_model_arrays` to the names without a prefix.
    all_names, ignored = list(arrays), [name for name in arrays if _any(ignore, name)]
    arrays = {name: x for name, x in arrays.items() if name not in ignored}
    arrays, removed_prefix, prefix_notes = prefixes.select(arrays, tables, prefix)
    # A library may have written the model in several ways. The table that misses the fewest names fits the file.
    table = min(tables, key=lambda t: len(slots_by_name(t, targets).keys() - _model_arrays(t, arrays, ()).keys()))
    plan, available = slots_by_name(table, targets), _model_arrays(table, arrays, ignore)
    notes = [*prefix_notes, *_left_out(table, arrays, ignore, ignored)]
    zeros, note = _zeros(table, plan, available, targets)
    available, notes = available | zeros, notes + note
    # Names of the head in the file, even if our model has none: the plan alone would not have them.
    head_names = slots_by_name(table, {"params/head/kernel": np.zeros((1, 1)), "params/head/bias": np.zeros(1)})
    head_names |= {name: slots for name, slots in plan.items() if HEAD.search(slots[0].path)}
    if head != "keep":
        dropped = sorted(name for name in available if name in head_names or HEAD.search(name))
        available = {name: x for name, x in available.items() if name not in dropped}
        plan = {name: slots for name, slots in plan.items() if name not in head_names}
        norm = [name for name, slots in plan.items() if POOLED_NORM.search(slots[0].path)]
        behind = head == "new" and norm and not any(name in available for name in norm)
        if behind:
            plan = {name: slots for name, slots in plan.items() if name not in norm}
            of_tokens = [rename(path, table) for path in TOKENS_NORM if rename(path, table) in available]
            available = {name: x for name, x in available.items() if name not in of_tokens}
            dropped += of_tokens
        if head == "new" or dropped:
            new = ("new, with its norm; " if behind else "new; ") if head == "new" else ""
            notes.append(f"head: {new}not used from the file: {some(dropped) or 'nothing'}")

    values: dict[str, np.ndarray] = {}
    misfit = mismatch.Misfit({}, {}, {n: x.shape for n, x in available.items() if n not in plan})
    for name, slots in plan.items():
        shape = _shape(slots, targets)
        if name not in available:
            misfit.missing[name] = (shape, slots[0].path)
            continue
        array = available[name]
        if array.shape != shape and table.positions_of_grid and POSITIONS.search(slots[0].path):
            array, note = _resize(array, shape, positions, may_drop=bool(ignore))
            notes += note
        # Axes of length 1 carry no numbers: a linear layer stored as a 1x1 convolution, a scalar as [1].
        if array.shape != shape and _long_axes(array.shape) == _long_axes(shape):
            array = array.reshape(shape)
        if array.shape != shape:
            misfit.misshapen[name] = (array.shape, shape)
            continue
        # One array of the file may hold several of ours, such as query, key and value, along its first axis.
        parts = np.split(array, len(slots)) if len(slots) > 1 else [array]
        values |= {s.path: s.layout.home(x, s.path, targets[s.path].shape) for s, x in zip(slots, parts)}
    if misfit:
        what = f"these weights, read as {source!r}, do not fit the model {model!r}"
        readings = _readings(arrays, source, model, targets)
        hints = mismatch.hints(misfit, plan, all_names, removed_prefix, readings, table.reasons)
        if head == "keep" and (
            misfit.misshapen.keys() & head_names or (misfit.missing and misfit.missing.keys() <= head_names.keys())
        ):
            hints.append("head='new' replaces the file's head by a new one.")
        raise mismatch.error(what, misfit, hints)
    _check_numbers({name: available[name] for name in plan})
    casts = Counter(str(x.dtype) for path, x in values.items() if x.dtype != targets[path].dtype)
    notes += [f"dtype: {count} arrays converted from {dtype}" for dtype, count in casts.items()]
    return Imported(_fill(variables, values), tuple(notes))


def export_weights(variables: PyTree, target: str, model: str) -> dict[str, np.ndarray]:
    """Converts the variables of a model to the names and layouts of another library.

    Args:
      variables: Variables of the model, filled.
      target: Library, one of `sources()`. If it has several ways to name a model, the first of its tables is taken.
      model: Name of the model, a key of `models.NAMES`.

    Returns:
      Arrays by name, for `files.write`. Importing them again gives the same variables bit for bit.

    Raises:
      UserError: An unknown target, or a model or a part of it that the target has no names for.
    """
    values = paths.flatten(jax.device_get(variables))
    if target != "jaxvision":
        values = unstack(values, *SCANNED)
    tables = tables_of(target, model, values)
    table = next((table for table in tables if not lacking(table, values)), None)
    if table is None:
        what, path = lacking(tables[0], values) or ("", "")
        raise UserError(f"{target!r} has no names for {what} of this model ({path}){served_by(model, values, target)}")
    arrays = {}
    for name, slots in slots_by_name(table, values).items():
        parts = [slot.layout.away(np.asarray(values[slot.path]), slot.path) for slot in slots]
        array = np.concatenate(parts) if len(parts) > 1 else parts[0]
        arrays[table.prefixes[0] + name] = np.asarray(array, order="C")
    return arrays


def select(
    arrays: Mapping[str, np.ndarray],
    source: str,
    model: str,
    prefix: str | None = None,
    ignore: tuple[str, ...] = (),
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Removes the prefix of the names in a file and the ignored arrays, as `import_weights` does.

    Args:
      arrays: Arrays by their names in the file.
      source: Library whose names the file has, one of `sources()`.
      model: Name of our model.
      prefix: Prefix of the names that are used, see `import_weights`.
      ignore: Regular expressions; arrays whose names match one are left out.

    Returns:
      The arrays by the library's names, and notes on the prefix.

    Raises:
      UserError: An unknown source, a model that it has no names for, or a prefix that no name has.

    >>> sorted(select({"module.fc.bias": np.zeros(2), "module.bn1.bias": np.zeros(3)}, "timm", "resnet")[0])
    ['bn1.bias', 'fc.bias']
    """
    used = {name: x for name, x in arrays.items() if not _any(ignore, name)}
    selected, _, notes = prefixes.select(used, tables_of(source, model), prefix)
    return {name: x for name, x in selected.items() if not _any(ignore, name)}, notes


def find_array(arrays: Mapping[str, np.ndarray], source: str, model: str, path: str) -> np.ndarray | None:
    """Finds the array of a file that holds one of our arrays.

    Args:
      arrays: Arrays by the library's names.
      source: Library whose names these are, one of `sources()`.
      model: Name of our model.
      path: Path of our array.

    Returns:
      The array in the layout of the file, or None if the file has no such array.

    >>> find_array({"fc.bias": np.zeros(10)}, "timm", "resnet", "params/head/bias").shape
    (10,)
    """
    matches = (_model_arrays(table, arrays, ()).get(rename(path, table)) for table in tables_of(source, model))
    return next((array for array in matches if array is not None), None)


def options(arrays: Mapping[str, np.ndarray], source: str, model: str) -> dict[str, Any]:
    """Returns the options of our model that a library's weights need.

    They are the library's usual ones, and those that follow from names and shapes in the file.

    Args:
      arrays: Arrays by the library's names.
      source: Library whose names these are, one of `sources()`.
      model: Name of our model.

    >>> options({"cls_token": np.zeros((1, 1, 8))}, "timm", "vit")
    {'posemb': 'learned', 'gelu': 'exact', 'pool': 'token'}
    """
    merged: dict[str, Any] = {}
    for pattern, values in (pair for table in tables_of(source, model) for pair in table.options):
        if any(re.search(pattern, name) for name in arrays):
            merged = _merged(merged, values(dict(arrays)) if callable(values) else values)
    return merged


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options with new values. Sections are merged: options that are not new stay."""
    sections = {name for name in old.keys() & new.keys() if isinstance(old[name], dict) and isinstance(new[name], dict)}
    return {**old, **new, **{name: {**old[name], **new[name]} for name in sections}}


def _model_arrays(table: Table, arrays: Mapping[str, np.ndarray], ignore: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Returns the arrays of the file that belong to the model, by their names without the prefix."""
    prefix = _prefix(table, arrays)
    mine = {
        name.removeprefix(prefix): x
        for name, x in arrays.items()
        if name.startswith(prefix) and not _any(table.unused, name.removeprefix(prefix)) and not _any(ignore, name)
    }
    return unstack(mine, *table.scanned) if table.scanned else mine


def _any(patterns: tuple[str, ...], name: str) -> bool:
    try:
        return any(re.search(pattern, name) for pattern in patterns)
    except re.error as error:
        raise UserError(f"ignore: {', '.join(patterns)} is not a regular expression: {error}") from None


def _prefix(table: Table, arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the longest prefix of the table that some array has."""
    return max((p for p in table.prefixes if any(name.startswith(p) for name in arrays)), key=len, default="")


def _left_out(table: Table, arrays: Mapping[str, np.ndarray], ignore: tuple[str, ...], ignored: list[str]) -> list[str]:
    """Returns notes on the arrays of the file that do not belong to the model."""
    prefix = _prefix(table, arrays)
    for pattern in ignore:
        if not any(re.search(pattern, name) for name in (*ignored, *arrays)):
            raise UserError(f"ignore: no array matches {pattern!r}; they look like {', '.join(list(arrays)[:5])}")
    mine = [name for name in arrays if name.startswith(prefix)]
    left = {
        f"outside {prefix!r}": [name for name in arrays if not name.startswith(prefix)],
        "not of this model": [n for n in mine if arrays[n].size > 1 and _any(table.unused, n.removeprefix(prefix))],
        "ignored": [*ignored, *(name for name in arrays if _any(ignore, name))],
    }
    return [f"{why}: {some(names)}" for why, names in left.items() if names]


def _shape(slots: list[Slot], targets: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """Returns the shape of the array of the file that holds the slots."""
    shapes = [slot.layout.away(targets[slot.path], slot.path).shape for slot in slots]
    return shapes[0] if len(shapes) == 1 else (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _resize(array: np.ndarray, wanted: tuple[int, ...], method: str, may_drop: bool) -> tuple[np.ndarray, list[str]]:
    """Resizes position embeddings [..., n, d] of a square grid, and returns a note; unchanged if that is impossible."""
    if array.shape[-1] != wanted[-1] or array.ndim < 2:
        return array, []
    # Numbers of tokens before the grid, and sides of the grid.
    (old_extra, old), (extra, new) = (grid(shape[-2]) for shape in (array.shape, wanted))
    if old_extra < extra or (old_extra > extra and not may_drop):
        return array, []
    tokens = array.reshape(1, -1, array.shape[-1])
    tokens = np.concatenate([tokens[:, :extra], tokens[:, old_extra:]], axis=1)
    resized = np.asarray(resize_positions(jnp.asarray(tokens), (old, old), (new, new), extra, method))
    dropped = f", {old_extra - extra} position(s) before the grid dropped" if old_extra > extra else ""
    return resized.reshape(wanted), [f"positions: {old}x{old} resized to {new}x{new}, {method}{dropped}"]


def grid(tokens: int) -> tuple[int, int]:
    """Splits a number of positions into tokens before a square grid of patches, and the grid.

    Args:
      tokens: Number of position embeddings.

    Returns:
      (number of tokens before the grid, side of the grid in patches).

    >>> grid(197), grid(196)
    ((1, 14), (0, 14))
    """
    side = math.isqrt(tokens)
    return tokens - side * side, side


def _long_axes(shape: tuple[int, ...]) -> list[int]:
    return [length for length in shape if length != 1]


def _zeros(
    table: Table, plan: Mapping[str, list[Slot]], available: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Makes zeros for the biases that no layer of the file has, and a note.

    A missing bias is zero only if all layers of its kind lack it and have a kernel. If some have one, the file is
    incomplete, and the missing ones stay missing.
    """
    made: dict[str, np.ndarray] = {}
    for pattern in table.zeros:
        names = [name for name, slots in plan.items() if re.search(pattern, slots[0].path)]
        kernels = [rename(plan[name][0].path.removesuffix("bias") + "kernel", table) for name in names]
        if names and not any(name in available for name in names) and all(name in available for name in kernels):
            made |= {name: np.zeros(_shape(plan[name], targets), np.float32) for name in names}
    return made, [f"not in the file, so zero: {some(list(made))}"] if made else []


def _readings(
    arrays: Mapping[str, np.ndarray], source: str, model: str, targets: Mapping[str, np.ndarray]
) -> dict[str, int]:
    """Counts, for each other library, the names of the model in the file when it is read as that library's."""
    counts: dict[str, int] = {}
    for other in TABLES:
        for table in TABLES[other].get(model, ()) if other != source else ():
            available = _model_arrays(table, prefixes.select(arrays, [table]).arrays, ())
            counts[other] = max(counts.get(other, 0), len(slots_by_name(table, targets).keys() & available.keys()))
    return counts


def _check_numbers(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises UserError if an array holds integers, or numbers that are not finite."""
    kinds = [(name, x) for name, x in arrays.items() if not jnp.issubdtype(x.dtype, jnp.floating)]
    if kinds:
        raise UserError(
            f"{len(kinds)} of {len(arrays)} arrays are not of floats, such as {kinds[0][0]} of {kinds[0][1].dtype}: "
            "quantised weights mean nothing without their scales, so use the weights before quantisation"
        )
    for name, x in arrays.items():
        with np.errstate(over="ignore"):
            finite = np.isfinite(np.asarray(x, np.float32))
        if not finite.all():
            raise UserError(
                f"{name} holds {finite.size - finite.sum():,} numbers of {finite.size:,} that are NaN, infinite or "
                "beyond float32: the training diverged, or the file is damaged"
            )


def _fill(variables: PyTree, values: Mapping[str, np.ndarray]) -> PyTree:
    """Returns the tree with its leaves replaced by those of `values`; the layers of a scan are stacked again."""

    def leaf(path: str, x: Any) -> Any:
        if path in values:
            return np.asarray(values[path], x.dtype, order="C")
        layers = unstack({path: range(x.shape[0])}, *SCANNED) if re.search(SCANNED[0], path) else {}
        return np.stack([values[layer] for layer in layers]).astype(x.dtype) if layers else x

    leaves = [leaf(path, x) for path, x in paths.flatten(variables).items()]
    return jax.tree.unflatten(jax.tree.structure(variables), leaves)
