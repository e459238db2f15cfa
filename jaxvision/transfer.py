"""A run that starts from weights: of a converted folder, of another library, or of another run (`config.init`)."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np

from jaxvision import models, paths, storage
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

# What a run trains beside its model: heads of pretraining, and the teacher of a distillation.
_BESIDE_THE_MODEL = re.compile(r"^(?:teacher/|(?:params|batch_stats)/projection/)")


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


def load(init: InitSection, model: Mapping[str, Any], variables: PyTree) -> weights.Imported:
    """Reads the weights that a config starts from.

    What a run of ours trained beside its model, such as the layers of a projection head that this model has not, is
    left out, and the notes say so. Of a model of two towers, one is taken for a model that is a single one: the image
    tower, or the one that `init.part` names. A tower that is filled by itself keeps its new projection.

    Args:
      init: section of the config.
      model: its section `model`, or that of the part that `init.part` names.
      variables: shapes of the task's variables.

    Returns:
      The filled variables, and what was loaded, replaced or resized, a line each.

    Raises:
      UserError: nothing to read there, weights of another model, arrays that do not fit, all of which are named, or a
        model that computes something else than the weights were trained with (another GELU or epsilon, other
        shortcuts) without its section saying so.
    """
    path = storage.path(init.weights, "config.init.weights")
    target = _part(init, variables)
    notes: tuple[str, ...] = ()
    said: dict[str, Stated] = {}
    if init.source != "jaxvision" or path.is_file():
        arrays = weights.read(path)
        if init.source != "jaxvision":
            mine, _ = mapping.select(arrays, init.source, model["name"], init.prefix, init.ignore)
            said = properties.of_file(path, mine, init.source, model["name"])
    else:
        arrays, meta = open_own(path)
        theirs = meta["model"]
        if models.is_pair(theirs["name"]) and not models.is_pair(model["name"]):
            tower = init.part if init.part in two_towers.TOWERS else "image_tower"
            arrays, theirs = _of_tower(arrays, theirs, tower)
        if theirs["name"] != model["name"]:
            raise UserError(f"{path} holds weights of the model {theirs['name']!r}, not {model['name']!r}")
        said = {name: Stated(x, f"of {path}") for name, x in properties.computed(_built(theirs)).items()}
    if init.source == "jaxvision":
        arrays, beside = of_model(arrays, paths.names(target))
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
    whole = _with_part(init.part, imported.variables, variables)
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


def _part(init: InitSection, variables: PyTree) -> PyTree:
    """The variables that the weights fill: all, or those of one model of several."""
    parts = [name for name, collection in variables.items() if "params" in collection]
    towers = [name for name in two_towers.TOWERS if name in variables["params"]]
    if init.part is not None and init.part not in parts + towers:
        raise unknown("value of init.part", init.part, parts + towers or ["None"])
    if init.part is None and parts:
        raise UserError(f"the task has several models: say with init.part which one the weights are of: {parts}")
    if init.part in towers:
        of_tower = {
            name: dict(collection[init.part]) for name, collection in variables.items() if init.part in collection
        }
        of_tower["params"].pop("projection", None)
        return of_tower
    return variables if init.part is None else variables[init.part]


def _with_part(part: str | None, filled: PyTree, variables: PyTree) -> PyTree:
    """All variables, those of the part being the filled ones."""
    if part is None:
        return filled
    if part in variables:
        return {**variables, part: filled}
    towers = {name: {**variables[name], part: {**variables[name][part], **tower}} for name, tower in filled.items()}
    return {**variables, **towers}


def _of_tower(
    arrays: Mapping[str, np.ndarray], model: Mapping[str, Any], tower: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of one tower of a model of two, by their paths in that tower alone, and the section of its model."""
    inside = f"/{tower}/"
    mine = {name.replace(inside, "/", 1): x for name, x in arrays.items() if inside in name}
    return mine, two_towers.towers(**model)[tower]


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
        workdirs.follow(path, {"model": meta["model"]}, meta.get("own"))
        return arrays, meta
    if not workdirs.is_run(path):
        raise UserError(
            f"{path} is neither a folder of converted weights nor the workdir of a run. A file of another library "
            f"needs its name: {', '.join(weights.sources()[1:])}"
        )
    saved = Saved(path)
    arrays, meta = saved.variables(step), saved.meta(step)
    model = workdirs.config_of(meta, path).model
    workdirs.follow(path, {"model": model.to_dict()}, meta.get("own"))
    known = {"model": model.to_dict(), "num_classes": meta["data"]["classes"], "source": "jaxvision"}
    known["image_size"] = meta["data"]["image_size"]
    known["own"] = meta.get("own", {})
    return arrays, known | {name: meta[name] for name in ("preprocessing", "classes")}


def of_model(arrays: Mapping[str, np.ndarray], wanted: Collection[str] = ()) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of a run's model and those of `wanted`, without what it trained beside them, which is named."""
    beside = [name for name in arrays if _BESIDE_THE_MODEL.search(name) and name not in wanted]
    return {name: x for name, x in arrays.items() if name not in beside}, beside


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
