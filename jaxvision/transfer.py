"""A run that starts from weights: of a converted folder, of another library, or of another run (`config.init`)."""

from collections.abc import Collection, Mapping
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from jaxvision import layout, models, paths, storage
from jaxvision import workdir as workdirs
from jaxvision.errors import UserError, unknown
from jaxvision.models import two_towers, weights
from jaxvision.models.weights import folder, mapping, properties
from jaxvision.models.weights.table import Stated
from jaxvision.sections import InitSection
from jaxvision.storage import Path
from jaxvision.train.checkpoint import Saved
from jaxvision.train.state import TrainState

PyTree = Any


def check(init: InitSection, model: Mapping[str, Any]) -> None:
    """Raises UserError where the section does not fit the model section, without reading any weights."""
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

    What a run of ours trained beside its model, such as the layers of a projection head that this model has not, is
    left out, and the notes say so. Of a model of two towers, one is taken for a model that is a single one: the image
    tower, or the one that `init.part` names. A tower that is filled by itself keeps its new projection.

    Args:
      init: section of the config.
      model: its section `model`, or that of the part that `init.part` names.
      variables: shapes of the task's variables.
      mine: what these are made of.

    Returns:
      The filled variables, and what was loaded, replaced or resized, a line each.

    Raises:
      UserError: nothing to read there, weights of another model, arrays that do not fit, all of which are named, or a
        model that computes something else than the weights were trained with (another GELU or epsilon, other
        shortcuts) without its section saying so.
    """
    path = storage.path(init.weights, "config.init.weights")
    there = list(dict.fromkeys(mine.part_of(paths.names(variables)).values()))
    if init.part is not None and init.part not in there:
        raise unknown("value of init.part", init.part, there)
    notes: tuple[str, ...] = ()
    said: dict[str, Stated] = {}
    given, taken = layout.EARLIER if init.source == "jaxvision" else None, None
    if init.source != "jaxvision" or path.is_file():
        arrays = weights.read(path)
        if init.source != "jaxvision":
            used, _ = mapping.select(arrays, init.source, model["name"], init.prefix, init.ignore)
            said = properties.stated_of_file(path, used, init.source, model["name"])
    else:
        arrays, meta = open_own(path)
        given = _layout_of(meta)
        taken = init.from_part
        if taken is not None and taken not in given.parts:
            raise unknown("value of init.from_part", taken, given.parts)
        if taken is None and models.is_pair(meta["model"]["name"]) and not models.is_pair(model["name"]):
            taken = init.part if init.part in given.sections else two_towers.TOWERS[0]
        theirs = meta["model"] if taken is None else given.sections.get(taken, meta["model"])
        if theirs["name"] != model["name"]:
            raise UserError(f"{path} holds weights of the model {theirs['name']!r}, not {model['name']!r}")
        said = {name: Stated(x, f"of {path}") for name, x in properties.computed(_built(theirs)).items()}
    if init.from_part is not None and given is None:
        raise UserError(f"init.from_part={init.from_part!r} is a part of a run, and {path} is none: take it out")
    names = _names(init, variables, mine, arrays)
    flat = paths.flatten(variables)
    target = flax.traverse_util.unflatten_dict({called: flat[name] for name, called in names.items()}, sep="/")
    if given is not None:
        arrays, beside = of_model(arrays, given, names.values(), taken)
        notes = left_out(beside)
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
    if said:
        notes += _compare(model, said, path)
    filled = [x for x in jax.tree.leaves(imported.variables) if isinstance(x, np.ndarray)]
    count = len(jax.tree.leaves(target))
    numbers = sum(x.size for x in filled)
    line = f"init: {len(filled)} of {count} arrays, {numbers:,} numbers, from {path} ({init.source})"
    found = paths.flatten(imported.variables)
    leaves = [found[names[name]] if name in names else leaf for name, leaf in flat.items()]
    whole = jax.tree.unflatten(jax.tree.structure(variables), leaves)
    return weights.Imported(whole, (line, *(f"init: {note}" for note in (*notes, *imported.notes))))


def _built(section: Mapping[str, Any]) -> Any:
    """The model of a section, without a head."""
    options = {name: value for name, value in section.items() if name not in ("name", "dtype")}
    if section["name"] in models.TEXT_NAMES:
        return models.build_text(section["name"], **options)
    return models.build(section["name"], None, **options)


def _compare(model: Mapping[str, Any], said: Mapping[str, Stated], path: Path) -> tuple[str, ...]:
    """Notes on what the config's model computes otherwise than the weights, because the config says so itself.

    Raises:
      UserError: it computes something else and the config does not say that it should.
    """
    section = dict(model)
    found = properties.differences(properties.computed(_built(section)), said, properties.flat(section))
    key = lambda name, value: f"config.model.{name} = {'...' if value is None else repr(value)}"
    return tuple(properties.refuse_or_note(found, properties.flat(section), section, str(path), key))


def _names(
    init: InitSection, variables: PyTree, mine: layout.Layout, arrays: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """The paths that the weights fill, all or those of one part, and what they are called in it."""
    names = paths.names(variables)
    if init.part is not None:
        return mine.paths_in(init.part, names)
    others = [name for name, collection in variables.items() if name != "params" and "params" in collection]
    if others and not set(names) <= set(arrays):  # of a run of the same task they fill everything
        several = [*others, *(name for name in mine.model if name != "head")]
        raise UserError(f"the task has several models: say with init.part which one the weights are of: {several}")
    return {name: name for name in names}


def _layout_of(meta: Mapping[str, Any]) -> layout.Layout:
    """What the variables of a run or of a converted folder are made of."""
    found = layout.from_json(meta.get("parts"))
    if not models.is_pair(meta["model"]["name"]):
        return found
    return found._replace(sections={**found.sections, **two_towers.towers(**meta["model"])})


def open_own(path: str | Path, step: int | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by our paths and what is known of them, from a converted folder or from the workdir of a run.

    Of a run, the averaged variables are taken where it keeps an average, and of its latest checkpoint
    unless `step` names another.

    Raises:
      UserError: it is neither.
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
    saved = Saved(path)
    arrays, meta = saved.variables(step), saved.meta(step)
    model = workdirs.config_of(meta, path).model
    workdirs.close_folder(path, {"model": model.to_dict()}, meta.get("own"))
    known = {"model": model.to_dict(), "num_classes": meta["data"]["classes"], "source": "jaxvision"}
    known |= {"own": meta.get("own", {}), "image_size": meta["data"]["image_size"]} | (
        {"parts": meta["parts"]} if "parts" in meta else {}
    )
    return arrays, known | {name: meta[name] for name in ("preprocessing", "classes")}


def of_model(
    arrays: Mapping[str, np.ndarray],
    given: layout.Layout,
    wanted: Collection[str] = (),
    part: str | None = None,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of a run's model, or of a part of it, as they are called there.

    Args:
      arrays: Arrays by path.
      given: What they are made of.
      wanted: Paths of the model that they are for: what it has is taken from beside the model, too.
      part: Name of the part that is taken; None for the model.

    Returns:
      The arrays, and the paths of those beside them that are left out.
    """
    inside = given.paths_in(part, arrays)
    mine = {name: called for name, called in inside.items() if called == name or given.in_model(called)}
    kept, beside = {called: arrays[name] for name, called in mine.items()}, []
    for name in arrays:
        called = given.path_in(part, name)
        if called in kept or (called == name and part not in (None, "backbone")):
            continue
        if called in wanted:
            kept[called] = arrays[name]
        else:
            beside.append(name)
    return kept, beside


def left_out(beside: list[str]) -> tuple[str, ...]:
    """The note on the arrays that `of_model` left out."""
    return (f"{len(beside)} arrays beside the model left out, such as {beside[0]}",) if beside else ()


def fill(state: TrainState, variables: PyTree) -> TrainState:
    """The state with the loaded variables in its shardings, in the average too; a new head stays as it was made."""

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
