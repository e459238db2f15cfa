"""Starts a run from weights (`config.init`): of a converted folder, of another library, or of another run."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from jaxvision import layout, models, paths, storage
from jaxvision import workdir as workdirs
from jaxvision.errors import UserError, some, unknown
from jaxvision.models import two_towers, weights
from jaxvision.models.weights import folder, hub, mapping, properties
from jaxvision.models.weights.table import Stated
from jaxvision.sections import InitSection
from jaxvision.storage import Path
from jaxvision.train.best import step_of
from jaxvision.train.checkpoint import Saved
from jaxvision.train.state import TrainState

PyTree = Any


def check(init: InitSection, model: Mapping[str, Any]) -> None:
    """Checks the section `init` against the section `model`, without reading weights.

    Args:
      init: Section `init` of the config.
      model: Section `model`, or that of the part that `init.part` names.

    Raises:
      UserError: A value is unknown, or `init.model` is another model.
    """
    for key, value, choices in (("head", init.head, mapping.HEADS), ("source", init.source, weights.sources())):
        if value not in choices:
            raise unknown(f"value of init.{key}", value, choices)
    if init.model is not None:
        name, _, variant = init.model.partition(":")
        mine = str(model.get("variant", variant))
        if (name, variant or mine) != (model["name"], mine):
            raise UserError(f"init.model is {init.model!r}, but config.model is {model['name']}:{mine}")


def load(init: InitSection, model: Mapping[str, Any], variables: PyTree, mine: layout.Layout) -> weights.Imported:
    """Reads the weights that a config starts from.

    If the weights are those of a run, what it trained in addition to its model, such as the layers of a projection
    head, is left out, with a note. From a model of two towers, a single model takes one tower: the image tower, or the
    one that `init.part` names. A tower that is filled alone keeps its new projection.

    Args:
      init: Section `init` of the config.
      model: Section `model`, or that of the part that `init.part` names.
      variables: Shapes of the task's variables.
      mine: Layout of these variables.

    Returns:
      The filled variables, and notes on what was loaded, replaced or resized, a line each.

    Raises:
      UserError: There is nothing to read, the weights are those of another model, arrays do not fit (the message names
        all of them), or the model computes something else than the weights were trained with (another GELU or epsilon,
        other shortcuts) and its section does not ask for it.
    """
    hosted = (
        hub.fetch(init.weights, None if init.source == "jaxvision" else init.source)
        if hub.is_hosted(init.weights)
        else None
    )
    if hosted is not None:
        init = init._replace(weights=str(hosted.path), source=hosted.source)
    path = storage.path(init.weights, "config.init.weights")
    there = [part for part in dict.fromkeys(mine.part_of(paths.names(variables)).values()) if part != layout.ONLINE]
    if init.part is not None and init.part not in there:
        raise unknown("value of init.part", init.part, there)
    notes: tuple[str, ...] = () if hosted is None else (hosted.note,)
    stated: dict[str, Stated] = {}
    their_layout, their_part = layout.EARLIER if init.source == "jaxvision" else None, None
    if init.source != "jaxvision" or path.is_file():
        arrays = weights.read(path)
        if init.source != "jaxvision":
            used, _ = mapping.select(arrays, init.source, model["name"], init.prefix, init.ignore)
            stated = properties.stated_of_file(path, used, init.source, model["name"])
    else:
        arrays, meta = open_own(path, init.step)
        their_layout = _layout_of(meta)
        their_part = init.from_part
        if their_part is not None and their_part not in their_layout.parts:
            raise unknown("value of init.from_part", their_part, their_layout.parts)
        if their_part is None and models.is_pair(meta["model"]["name"]) and not models.is_pair(model["name"]):
            their_part = init.part if init.part in their_layout.sections else two_towers.TOWERS[0]
        their_model = meta["model"] if their_part is None else their_layout.sections.get(their_part, meta["model"])
        if their_model["name"] != model["name"]:
            raise UserError(f"{path} holds weights of the model {their_model['name']!r}, not {model['name']!r}")
        stated = {name: Stated(x, f"of {path}") for name, x in properties.computed(_built(their_model)).items()}
    if init.from_part is not None and their_layout is None:
        raise UserError(f"init.from_part={init.from_part!r} is a part of a run, and {path} is none: take it out")
    if init.step is not None and (their_layout is None or folder.is_folder(path)):
        raise UserError(f"init.step={init.step!r} is a step of a run, and {path} is none: take it out")
    names = _names(init, variables, mine, arrays)
    names, new = _without_new(init.new, names)
    if init.source == "jaxvision":
        arrays = {name: x for name, x in arrays.items() if name not in new}
    flat = paths.flatten(variables)
    target = flax.traverse_util.unflatten_dict({called: flat[name] for name, called in names.items()}, sep="/")
    if their_layout is not None:
        arrays, others = of_model(arrays, their_layout, names.values(), their_part)
        notes += left_out(others)
    imported = weights.import_weights(
        arrays,
        init.source,
        model["name"],
        target,
        head=init.head,
        ignore=init.ignore,
        positions=init.positions,
        prefix=init.prefix,
    )
    if stated:
        notes += _compare(model, stated, path)
    notes += (f"new, not from the weights: {some(new)}",) if new else ()
    filled = [x for x in jax.tree.leaves(imported.variables) if isinstance(x, np.ndarray)]
    count = len(jax.tree.leaves(target))
    numbers = sum(x.size for x in filled)
    line = f"init: {len(filled)} of {count} arrays, {numbers:,} numbers, from {path} ({init.source})"
    loaded = paths.flatten(imported.variables)
    leaves = [loaded[names[name]] if name in names else leaf for name, leaf in flat.items()]
    whole = jax.tree.unflatten(jax.tree.structure(variables), leaves)
    return weights.Imported(whole, (line, *(f"init: {note}" for note in (*notes, *imported.notes))))


def _built(section: Mapping[str, Any]) -> Any:
    """Builds the model of a section, without a head."""
    options = {name: value for name, value in section.items() if name not in ("name", "dtype")}
    if section["name"] in models.TEXT_NAMES:
        return models.build_text(section["name"], **options)
    return models.build(section["name"], None, **options)


def _compare(model: Mapping[str, Any], stated: Mapping[str, Stated], path: Path) -> tuple[str, ...]:
    """Returns notes on what the model computes differently from the weights because its section asks for it.

    Raises:
      UserError: The model computes something else and its section does not ask for it.
    """
    section = dict(model)
    differences = properties.differences(properties.computed(_built(section)), stated, properties.flat(section))
    key = lambda name, value: f"config.model.{name} = {'...' if value is None else repr(value)}"
    return tuple(properties.refuse_or_note(differences, properties.flat(section), section, str(path), key))


def _names(
    init: InitSection, variables: PyTree, mine: layout.Layout, arrays: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """Returns the paths that the weights fill, all or those of a part, and their names within the part.

    What watches a run (`online`) is new in every run.
    """
    names = [name for name in paths.names(variables) if not name.startswith(f"{layout.ONLINE}/")]
    if init.part is not None:
        return mine.paths_in(init.part, names)
    others = [name for name, collection in variables.items() if name != "params" and "params" in collection]
    if others and not set(names) <= set(arrays):  # of a run of the same task they fill everything
        several = [*others, *(name for name in mine.model if name != "head")]
        raise UserError(f"the task has several models: say with init.part which one the weights are of: {several}")
    return {name: name for name in names}


def _without_new(patterns: Collection[str], names: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Returns the entries of `_names` that the weights fill, and the names of those that `init.new` leaves out.

    Raises:
      UserError: A pattern that matches no parameter.
    """
    new: dict[str, str] = {}
    for pattern in patterns:
        try:
            found = {path: called for path, called in names.items() if re.search(pattern, called)}
        except re.error as error:
            raise UserError(f"init.new: {pattern!r} is no regular expression: {error}") from None
        if not found:
            raise UserError(f"init.new: {pattern!r} matches no parameter; they are {some(names.values())}")
        new |= found
    return {path: called for path, called in names.items() if path not in new}, list(new.values())


def _layout_of(meta: Mapping[str, Any]) -> layout.Layout:
    """Returns the layout of the variables of a run or of a converted folder."""
    parts = layout.from_json(meta.get("parts"))
    if not models.is_pair(meta["model"]["name"]):
        return parts
    return parts._replace(sections={**parts.sections, **two_towers.towers(**meta["model"])})


def open_own(path: str | Path, step: int | str | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads the variables of a converted folder, or of the workdir of a run.

    From a run it reads the averaged variables if the run keeps an average, else the trained ones.

    Args:
      path: Folder.
      step: Step of a run; "best" for the best by its `train.keep_best`, None for its latest checkpoint.

    Returns:
      Arrays of any shape by path, and the metadata of the weights.

    Raises:
      UserError: The folder is neither.
    """
    path = storage.path(path, "the folder of weights")
    if folder.is_folder(path):
        arrays, meta = folder.load(path)
        workdirs.close_folder(path, {"model": meta["model"]}, meta.get("own"))
        return arrays, meta
    if not workdirs.is_run(path):
        raise UserError(
            f"{path} is neither a folder of converted weights nor the workdir of a run. A file of another library "
            f"needs its name: {', '.join(weights.sources()[1:])}"
        )
    step, saved = step_of(path, step, workdirs.results(path)), Saved(path)
    arrays, meta = saved.variables(step), saved.meta(step)
    model = workdirs.config_of(meta, path).model
    workdirs.close_folder(path, {"model": model.to_dict()}, meta.get("own"))
    described = {"model": model.to_dict(), "num_classes": meta["data"]["classes"], "source": "jaxvision"}
    described |= {"own": meta.get("own", {}), "image_size": meta["data"]["image_size"]}
    described |= {"parts": meta["parts"]} if "parts" in meta else {}
    return arrays, described | {name: meta[name] for name in ("preprocessing", "classes")}


def of_model(
    arrays: Mapping[str, np.ndarray],
    layout_of_arrays: layout.Layout,
    wanted: Collection[str] = (),
    part: str | None = None,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Selects the arrays of a run's model, or of one of its parts, under their names there.

    Args:
      arrays: Arrays of any shape by path.
      layout_of_arrays: Layout of the arrays.
      wanted: Paths of the model that they will fill; arrays with these paths are taken even if they are not part of the
        run's model.
      part: Name of the part that is taken; None for the model.

    Returns:
      The selected arrays of any shape by name, and the paths of the others, which are left out.
    """
    inside = layout_of_arrays.paths_in(part, arrays)
    mine = {name: called for name, called in inside.items() if called == name or layout_of_arrays.in_model(called)}
    kept, others = {called: arrays[name] for name, called in mine.items()}, []
    for name in arrays:
        called = layout_of_arrays.path_in(part, name)
        if called in kept or (called == name and part not in (None, "backbone")):
            continue
        if called in wanted:
            kept[called] = arrays[name]
        else:
            others.append(name)
    return kept, others


def left_out(others: list[str]) -> tuple[str, ...]:
    """Returns a note on the arrays that `of_model` left out; () if there are none.

    Args:
      others: Paths of these arrays.
    """
    return (f"{len(others)} arrays outside the model left out, such as {others[0]}",) if others else ()


def fill(state: TrainState, variables: PyTree) -> TrainState:
    """Puts loaded variables into a state and its average, in their shardings. A new head keeps its initial values.

    Args:
      state: State at step 0.
      variables: Variables from `load`; leaves that are no NumPy arrays were not loaded.
    """

    def put(mine: jax.Array, loaded: Any) -> jax.Array:
        if not isinstance(loaded, np.ndarray):
            return mine
        return jax.make_array_from_callback(mine.shape, mine.sharding, lambda index: loaded[index])

    model_state = {name: variables[name] for name in state.model_state}
    average = state.ema if state.ema is None else jax.tree.map(put, state.ema, variables)
    return state._replace(
        params=jax.tree.map(put, state.params, variables["params"]),
        model_state=jax.tree.map(put, state.model_state, model_state),
        ema=average,
    )
