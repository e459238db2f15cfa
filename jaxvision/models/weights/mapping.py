"""Between our variables and the named arrays of a file, both ways, as the tables say."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import paths
from jaxvision.errors import UserError, unknown
from jaxvision.models.positions import resize_positions
from jaxvision.models.weights.plan import Slot, dummies, rename, slots_by_name, unstack
from jaxvision.models.weights.table import OURS, SCANNED, Table
from jaxvision.models.weights.tables import TABLES

PyTree = Any
HEADS = ("keep", "new", "drop")
HEAD = re.compile(r"^(?:params|batch_stats)/(?:distillation_)?head/")
POSITIONS = re.compile(r"^(?!.*text_tower/)(?:.*/)?pos_embedding$")
LISTED = 20


class Imported(NamedTuple):
    """What an import gives.

    Attributes:
      variables: the tree that was asked for, filled with NumPy arrays. Leaves of a new head are as
        they were given.
      notes: what was replaced, resized, converted or left out, a line each.
    """

    variables: PyTree
    notes: tuple[str, ...]


def sources() -> list[str]:
    """The libraries whose files can be imported; "jaxvision" is this one.

    >>> "timm" in sources()
    True
    """
    return ["jaxvision", *TABLES]


def import_weights(
    arrays: Mapping[str, np.ndarray],
    source: str,
    model: str,
    variables: PyTree,
    *,
    head: str = "keep",
    ignore: tuple[str, ...] = (),
    positions: str = "bicubic",
) -> Imported:
    """Fills the variables of a model from the arrays of a file.

    Args:
      arrays: by their name in the file.
      source: who wrote it, of `sources()`: names and layouts are theirs.
      model: name of our model, a key of `models.NAMES`, `TEXT_NAMES` or `PAIR_NAMES`.
      variables: of the model, as `init` gives them; `ShapeDtypeStruct`s will do.
      head: "keep": the file's; "new": left as it is in `variables`, whatever the file has; "drop": the
        model has no head, and that of the file is not used.
      ignore: regular expressions over names in the file; what they match is not used.
      positions: how learned position embeddings of another image size are resized, "bicubic" or
        "bilinear". Tokens before the grid keep theirs; with `ignore`, the positions of tokens that the model
        lacks are dropped.

    Returns:
      The filled variables and notes.

    Raises:
      UserError: an unknown source, a model that the source has no names for, or arrays that are
        missing, surplus or of another shape; all are counted, and the first 20 named.

    >>> params = {"head": {"kernel": np.zeros((3, 2), np.float32), "bias": np.zeros(2, np.float32)}}
    >>> arrays = {"fc.weight": np.arange(6.0, dtype=np.float32).reshape(2, 3), "fc.bias": np.ones(2, np.float32)}
    >>> import_weights(arrays, "timm", "resnet", {"params": params}).variables["params"]["head"]["kernel"].tolist()
    [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    """
    if head not in HEADS:
        raise unknown("value of head", head, HEADS)
    targets = dummies(variables)
    tables = tables_of(source, model, targets)
    table = min(tables, key=lambda t: len(slots_by_name(t, targets).keys() - _given(t, arrays, ()).keys()))
    plan, given = slots_by_name(table, targets), _given(table, arrays, ignore)
    notes = _left_out(table, arrays, ignore)
    head_names = slots_by_name(table, {"params/head/kernel": np.zeros((1, 1)), "params/head/bias": np.zeros(1)})
    head_names |= {name: slots for name, slots in plan.items() if HEAD.search(slots[0].path)}
    if head != "keep":
        dropped = sorted(name for name in given if name in head_names or HEAD.search(name))
        given = {name: x for name, x in given.items() if name not in dropped}
        plan = {name: slots for name, slots in plan.items() if name not in head_names}
        if head == "new" or dropped:
            made = "initialised anew; " if head == "new" else ""
            notes.append(f"head: {made}of the file not used: {_some(dropped) or 'nothing'}")

    values: dict[str, np.ndarray] = {}
    missing, misshapen = [], []
    for name, slots in plan.items():
        if name not in given:
            missing.append(f"missing    {name} (our {slots[0].path})")
            continue
        array, wanted = given[name], _shape(slots, targets)
        if array.shape != wanted and table.positions_of_grid and POSITIONS.search(slots[0].path):
            array, note = _resize(array, wanted, positions, may_drop=bool(ignore))
            notes += note
        if array.shape != wanted:
            misshapen.append(f"misshapen  {name} {list(array.shape)}, the model's is {list(wanted)}")
            continue
        parts = np.split(array, len(slots)) if len(slots) > 1 else [array]
        values |= {s.path: s.layout.home(x, s.path, targets[s.path].shape) for s, x in zip(slots, parts)}
    surplus = [f"surplus    {name} {list(given[name].shape)}" for name in given.keys() - plan.keys()]
    _refuse(source, model, missing, sorted(surplus), misshapen, head)
    casts = Counter(str(x.dtype) for path, x in values.items() if x.dtype != targets[path].dtype)
    notes += [f"dtype: {count} arrays converted from {dtype}" for dtype, count in casts.items()]
    return Imported(_fill(variables, values), tuple(notes))


def export_weights(variables: PyTree, target: str, model: str) -> dict[str, np.ndarray]:
    """The variables of a model as another library names and lays them out.

    Args:
      variables: of the model, filled.
      target: of `sources()`; where a library has several ways to name a model, the first in the tables.
      model: its name, a key of `models.NAMES`.

    Returns:
      Arrays by name, for `files.write`. Importing them again gives the same variables bit for bit.

    Raises:
      UserError: an unknown target, or a model that it has no names for.
    """
    values = paths.flatten(jax.device_get(variables))
    if target != "jaxvision":
        values = unstack(values, *SCANNED)
    table = tables_of(target, model, values)[0]
    arrays = {}
    for name, slots in slots_by_name(table, values).items():
        parts = [slot.layout.away(np.asarray(values[slot.path]), slot.path) for slot in slots]
        array = np.concatenate(parts) if len(parts) > 1 else parts[0]
        arrays[table.prefixes[0] + name] = np.asarray(array, order="C")
    return arrays


def find(arrays: Mapping[str, np.ndarray], source: str, model: str, path: str) -> np.ndarray | None:
    """The array of a file that holds our array `path`, laid out as there; None where there is none.

    >>> find({"fc.bias": np.zeros(10)}, "timm", "resnet", "params/head/bias").shape
    (10,)
    """
    found = (_given(table, arrays, ()).get(rename(path, table)) for table in tables_of(source, model))
    return next((array for array in found if array is not None), None)


def options(arrays: Mapping[str, np.ndarray], source: str, model: str) -> dict[str, Any]:
    """The options of our model that a library's weights need: its own usual ones, and what names in the file tell.

    >>> options({"cls_token": np.zeros((1, 1, 8))}, "timm", "vit")
    {'posemb': 'learned', 'gelu': 'exact', 'pool': 'token'}
    """
    found: dict[str, Any] = {}
    for pattern, values in tables_of(source, model)[0].options:
        if any(re.search(pattern, name) for name in arrays):
            found |= values
    return found


def tables_of(source: str, model: str, ours: Mapping[str, Any] | None = None) -> list[Table]:
    """The tables of a library for a model; with the paths of `ours`, for these variables of it."""
    if source == "jaxvision":
        return [OURS]
    if source not in TABLES:
        raise unknown("source of weights", source, sources())
    if model not in TABLES[source]:
        raise unknown(f"model for weights of {source!r}", model, TABLES[source])
    tables = TABLES[source][model]
    if ours is None:
        return list(tables)
    meant = [table for table in tables if table.when and any(re.search(table.when, path) for path in ours)]
    return meant or [table for table in tables if table.when is None]


def _given(table: Table, arrays: Mapping[str, np.ndarray], ignore: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays of the file that belong to the model, without their prefix."""
    prefix = _prefix(table, arrays)
    mine = {
        name.removeprefix(prefix): x
        for name, x in arrays.items()
        if name.startswith(prefix) and not _any(table.unused, name.removeprefix(prefix)) and not _any(ignore, name)
    }
    return unstack(mine, *table.scanned) if table.scanned else mine


def _any(patterns: tuple[str, ...], name: str) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _prefix(table: Table, arrays: Mapping[str, np.ndarray]) -> str:
    """The longest prefix of the table that some array has."""
    return max((p for p in table.prefixes if any(name.startswith(p) for name in arrays)), key=len, default="")


def _left_out(table: Table, arrays: Mapping[str, np.ndarray], ignore: tuple[str, ...]) -> list[str]:
    """Notes on the arrays of the file that are not those of the model."""
    prefix = _prefix(table, arrays)
    for pattern in ignore:
        if not any(re.search(pattern, name) for name in arrays):
            raise UserError(f"ignore: no array matches {pattern!r}; they look like {', '.join(list(arrays)[:5])}")
    mine = [name for name in arrays if name.startswith(prefix)]
    left = {
        f"outside {prefix!r}": [name for name in arrays if not name.startswith(prefix)],
        "not of this model": [n for n in mine if arrays[n].size > 1 and _any(table.unused, n.removeprefix(prefix))],
        "ignored": [name for name in arrays if _any(ignore, name)],
    }
    return [f"{why}: {_some(names)}" for why, names in left.items() if names]


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _shape(slots: list[Slot], targets: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """The shape of the array of the file that holds the slots."""
    shapes = [slot.layout.away(targets[slot.path], slot.path).shape for slot in slots]
    return shapes[0] if len(shapes) == 1 else (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _resize(array: np.ndarray, wanted: tuple[int, ...], method: str, may_drop: bool) -> tuple[np.ndarray, list[str]]:
    """Position embeddings [..., N, D] of a square grid, brought to the number that the model has, if that can be."""
    if array.shape[-1] != wanted[-1] or array.ndim < 2:
        return array, []
    (old_extra, old), (extra, new) = (grid(shape[-2]) for shape in (array.shape, wanted))
    if old_extra < extra or (old_extra > extra and not may_drop):
        return array, []
    tokens = array.reshape(1, -1, array.shape[-1])
    tokens = np.concatenate([tokens[:, :extra], tokens[:, old_extra:]], axis=1)
    resized = np.asarray(resize_positions(tokens, (old, old), (new, new), extra, method))
    dropped = f", {old_extra - extra} position(s) before the grid dropped" if old_extra > extra else ""
    return resized.reshape(wanted), [f"positions: {old}x{old} resized to {new}x{new}, {method}{dropped}"]


def grid(tokens: int) -> tuple[int, int]:
    """Tokens before a square grid of patches, and its side in patches, of so many position embeddings.

    >>> grid(197), grid(196)
    ((1, 14), (0, 14))
    """
    side = math.isqrt(tokens)
    return tokens - side * side, side


def _refuse(source: str, model: str, missing: list, surplus: list, misshapen: list, head: str) -> None:
    problems = missing + misshapen + surplus
    if not problems:
        return
    lines = problems[:LISTED] + ([f"... and {len(problems) - LISTED} more"] if len(problems) > LISTED else [])
    hint = "\nhead='new' replaces the file's head by a new one." if head == "keep" and misshapen else ""
    raise UserError(
        f"these weights, read as {source!r}, do not fit the model {model!r}: {len(missing)} missing, {len(misshapen)} "
        f"misshapen, {len(surplus)} surplus\n  " + "\n  ".join(lines) + hint
    )


def _fill(variables: PyTree, values: Mapping[str, np.ndarray]) -> PyTree:
    """The tree with its leaves replaced by those of `values`, layers of a scan stacked again."""

    def leaf(path: str, x: Any) -> Any:
        if path in values:
            return np.asarray(values[path], x.dtype, order="C")
        layers = unstack({path: range(x.shape[0])}, *SCANNED) if re.search(SCANNED[0], path) else {}
        return np.stack([values[layer] for layer in layers]).astype(x.dtype) if layers else x

    leaves = [leaf(path, x) for path, x in paths.flatten(variables).items()]
    return jax.tree.unflatten(jax.tree.structure(variables), leaves)
