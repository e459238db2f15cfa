"""Between our variables and the named arrays of a file, both ways, as the tables say."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import paths
from jaxvision.errors import UserError, unknown
from jaxvision.models.positions import resize_positions
from jaxvision.models.weights import mismatch, prefixes
from jaxvision.models.weights.plan import Slot, dummies, rename, slots_by_name, unstack
from jaxvision.models.weights.table import SCANNED, Table
from jaxvision.models.weights.tables import TABLES, lacking, served_by, tables_of

PyTree = Any
HEADS = ("keep", "new", "drop")
HEAD = re.compile(r"^(?:params|batch_stats)/(?:distillation_)?head/")
POSITIONS = re.compile(r"^(?!.*text_tower/)(?:.*/)?pos_embedding$")


class Imported(NamedTuple):
    """What an import gives.

    Attributes:
      variables: the tree that was asked for, filled with NumPy arrays. Leaves of a new head are as
        they were given.
      notes: what was replaced, resized, converted or left out, a line each.
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
      prefix: what stands before the names that are used, "teacher." or "backbone."; None takes off what all arrays
        share, and of several sets of weights takes the average; see `prefixes.select`.

    Returns:
      The filled variables and notes.

    Raises:
      UserError: an unknown source, a model that the source has no names for, arrays that are missing, surplus or of
        another shape (all are counted, and some of each named), of whole numbers, or not finite.

    >>> params = {"head": {"kernel": np.zeros((3, 2), np.float32), "bias": np.zeros(2, np.float32)}}
    >>> arrays = {"fc.weight": np.arange(6.0, dtype=np.float32).reshape(2, 3), "fc.bias": np.ones(2, np.float32)}
    >>> import_weights(arrays, "timm", "resnet", {"params": params}).variables["params"]["head"]["kernel"].tolist()
    [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    """
    if head not in HEADS:
        raise unknown("value of head", head, HEADS)
    targets = dummies(variables)
    tables = tables_of(source, model, targets)
    whole, ignored = arrays, [name for name in arrays if _any(ignore, name)]  # whole names or those without a prefix
    arrays = {name: x for name, x in arrays.items() if name not in ignored}
    arrays, taken, names_notes = prefixes.select(arrays, tables, prefix)
    table = min(tables, key=lambda t: len(slots_by_name(t, targets).keys() - _given(t, arrays, ()).keys()))
    plan, given = slots_by_name(table, targets), _given(table, arrays, ignore)
    notes = [*names_notes, *_left_out(table, arrays, ignore, ignored)]
    zeros, note = _zeros(table, plan, given, targets)
    given, notes = given | zeros, notes + note
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
    misfit = mismatch.Misfit({}, {}, {n: x.shape for n, x in given.items() if n not in plan})
    for name, slots in plan.items():
        wanted = _shape(slots, targets)
        if name not in given:
            misfit.missing[name] = (wanted, slots[0].path)
            continue
        array = given[name]
        if array.shape != wanted and table.positions_of_grid and POSITIONS.search(slots[0].path):
            array, note = _resize(array, wanted, positions, may_drop=bool(ignore))
            notes += note
        if array.shape != wanted and _long_axes(array.shape) == _long_axes(wanted):
            array = array.reshape(wanted)  # a linear layer as a 1x1 convolution, a scalar as [1]
        if array.shape != wanted:
            misfit.misshapen[name] = (array.shape, wanted)
            continue
        parts = np.split(array, len(slots)) if len(slots) > 1 else [array]
        values |= {s.path: s.layout.home(x, s.path, targets[s.path].shape) for s, x in zip(slots, parts)}
    if misfit:
        what = f"these weights, read as {source!r}, do not fit the model {model!r}"
        readings = _readings(arrays, source, model, targets)
        hints = mismatch.hints(misfit, plan, whole, taken, readings, table.reasons)
        if head == "keep" and (
            misfit.misshapen.keys() & head_names or (misfit.missing and misfit.missing.keys() <= head_names.keys())
        ):
            hints.append("head='new' replaces the file's head by a new one.")
        raise mismatch.error(what, misfit, hints)
    _check_numbers({name: given[name] for name in plan})
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
      UserError: an unknown target, a model that it has no names for, or one with a part that it has none for.
    """
    values = paths.flatten(jax.device_get(variables))
    if target != "jaxvision":
        values = unstack(values, *SCANNED)
    tables = tables_of(target, model, values)
    served = [table for table in tables if not lacking(table, values)]
    if not served:
        what, path = lacking(tables[0], values)
        raise UserError(f"{target!r} has no names for {what} of this model ({path}){served_by(model, values, target)}")
    table = served[0]
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
    """The arrays of a file by the names of a library, what stands before these taken off, and notes on that.

    Args:
      arrays, source, model, prefix, ignore: as in `import_weights`, which does the same.

    >>> sorted(select({"module.fc.bias": np.zeros(2), "module.bn1.bias": np.zeros(3)}, "timm", "resnet")[0])
    ['bn1.bias', 'fc.bias']
    """
    used = {name: x for name, x in arrays.items() if not _any(ignore, name)}
    selected, _, notes = prefixes.select(used, tables_of(source, model), prefix)
    return {name: x for name, x in selected.items() if not _any(ignore, name)}, notes


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
    for pattern, values in (pair for table in tables_of(source, model) for pair in table.options):
        if any(re.search(pattern, name) for name in arrays):
            found = _merged(found, values(dict(arrays)) if callable(values) else values)
    return found


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The options with new values; of a section, single ones change."""
    sections = {name for name in old.keys() & new.keys() if isinstance(old[name], dict) and isinstance(new[name], dict)}
    return {**old, **new, **{name: {**old[name], **new[name]} for name in sections}}


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
    try:
        return any(re.search(pattern, name) for pattern in patterns)
    except re.error as error:
        raise UserError(f"ignore: {', '.join(patterns)} is no regular expression: {error}") from None


def _prefix(table: Table, arrays: Mapping[str, np.ndarray]) -> str:
    """The longest prefix of the table that some array has."""
    return max((p for p in table.prefixes if any(name.startswith(p) for name in arrays)), key=len, default="")


def _left_out(table: Table, arrays: Mapping[str, np.ndarray], ignore: tuple[str, ...], ignored: list[str]) -> list[str]:
    """Notes on the arrays of the file that are not those of the model."""
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
    return [f"{why}: {_some(names)}" for why, names in left.items() if names]


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _shape(slots: list[Slot], targets: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """The shape of the array of the file that holds the slots."""
    shapes = [slot.layout.away(targets[slot.path], slot.path).shape for slot in slots]
    return shapes[0] if len(shapes) == 1 else (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _resize(array: np.ndarray, wanted: tuple[int, ...], method: str, may_drop: bool) -> tuple[np.ndarray, list[str]]:
    """Position embeddings [..., n, d] of a square grid, brought to the number that the model has, if that can be."""
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


def _long_axes(shape: tuple[int, ...]) -> list[int]:
    return [length for length in shape if length != 1]


def _zeros(
    table: Table, plan: Mapping[str, list[Slot]], given: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Zeros for the biases that every layer of the file was made without, and a note."""
    made: dict[str, np.ndarray] = {}
    for pattern in table.zeros:
        names = [name for name, slots in plan.items() if re.search(pattern, slots[0].path)]
        kernels = [rename(plan[name][0].path.removesuffix("bias") + "kernel", table) for name in names]
        if names and not any(name in given for name in names) and all(name in given for name in kernels):
            made |= {name: np.zeros(_shape(plan[name], targets), np.float32) for name in names}
    return made, [f"not in the file, so zero: {_some(list(made))}"] if made else []


def _readings(
    arrays: Mapping[str, np.ndarray], source: str, model: str, targets: Mapping[str, np.ndarray]
) -> dict[str, int]:
    """How many names of the model the file has when it is read as another library's."""
    counts: dict[str, int] = {}
    for other in TABLES:
        for table in TABLES[other].get(model, ()) if other != source else ():
            given = _given(table, prefixes.select(arrays, [table]).arrays, ())
            counts[other] = max(counts.get(other, 0), len(slots_by_name(table, targets).keys() & given.keys()))
    return counts


def _check_numbers(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises UserError where arrays hold no numbers that a model computes with."""
    kinds = [(name, x) for name, x in arrays.items() if not jnp.issubdtype(x.dtype, jnp.floating)]
    if kinds:
        raise UserError(
            f"{len(kinds)} of {len(arrays)} arrays are not of floats, such as {kinds[0][0]} of {kinds[0][1].dtype}: "
            "quantised weights mean nothing without their scales, so take the weights they were made from"
        )
    for name, x in arrays.items():
        with np.errstate(over="ignore"):
            finite = np.isfinite(np.asarray(x, np.float32))
        if not finite.all():
            raise UserError(
                f"{name} holds {finite.size - finite.sum():,} numbers of {finite.size:,} that are NaN, infinite or "
                "beyond float32: the training that wrote it had diverged, or the file is damaged"
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
