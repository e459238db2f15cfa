"""A run that starts from weights: of a converted folder, of another library, or of another run (`config.init`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxvision import workdir as workdirs
from jaxvision.errors import UserError, unknown
from jaxvision.models import weights
from jaxvision.models.weights import folder, mapping
from jaxvision.sections import InitSection
from jaxvision.train.checkpoint import Checkpoints
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


def load(init: InitSection, model: Mapping[str, Any], variables: PyTree) -> weights.Imported:
    """Reads the weights that a config starts from.

    Args:
      init: section of the config.
      model: its section `model`.
      variables: shapes of the model's variables.

    Returns:
      The filled variables, and what was loaded, replaced or resized, a line each.

    Raises:
      UserError: nothing to read there, weights of another model, or arrays that do not fit; all are named.
    """
    path = Path(init.weights)
    if init.source != "jaxvision" or path.is_file():
        arrays = weights.read(path)
    else:
        arrays, meta = open_own(path)
        if meta["model"]["name"] != model["name"]:
            raise UserError(f"{path} holds weights of the model {meta['model']['name']!r}, not {model['name']!r}")
    imported = weights.import_weights(
        arrays, init.source, model["name"], variables, head=init.head, ignore=init.ignore, positions=init.positions
    )
    filled = [x for x in jax.tree.leaves(imported.variables) if isinstance(x, np.ndarray)]
    count = len(jax.tree.leaves(variables))
    numbers = sum(x.size for x in filled)
    line = f"init: {len(filled)} of {count} arrays, {numbers:,} numbers, from {path} ({init.source})"
    return imported._replace(notes=(line, *(f"init: {note}" for note in imported.notes)))


def open_own(path: str | Path, step: int | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by our paths and what is known of them, from a converted folder or from the workdir of a run.

    Of a run, the averaged variables are taken where it keeps an average, and of its latest checkpoint
    unless `step` names another.

    Raises:
      UserError: it is neither.
    """
    path = Path(path)
    if folder.is_folder(path):
        return folder.load(path)
    if not (path / "config.json").is_file():
        raise UserError(
            f"{path} is neither a folder of converted weights nor the workdir of a run. A file of another library "
            f"needs its name: {', '.join(weights.sources()[1:])}"
        )
    config = workdirs.saved_config(path)
    with Checkpoints(path) as checkpoints:
        arrays, meta = checkpoints.variables(step), checkpoints.meta(step)
    known = {"model": config.model.to_dict(), "num_classes": meta["data"]["classes"], "source": "jaxvision"}
    return arrays, known | {name: meta[name] for name in ("preprocessing", "classes")}


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
