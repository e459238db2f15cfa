"""A trained model, opened again from the workdir of its run or from converted weights: for commands that look at it."""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp

from jaxvision import augment, evaluations, fields, inputs, layout, models, transfer
from jaxvision import config as configs
from jaxvision import experiment as experiments
from jaxvision import workdir as workdirs
from jaxvision.data.blank import Blank
from jaxvision.data.sources import Info
from jaxvision.errors import UserError
from jaxvision.evals.store import Store
from jaxvision.models.weights import folder
from jaxvision.parallel.distributed import is_main
from jaxvision.parallel.mesh import make_mesh, replicate
from jaxvision.reading import check_fields
from jaxvision.sections import DataSection
from jaxvision.storage import Path
from jaxvision.tasks import image_text
from jaxvision.train.checkpoint import Saved
from jaxvision.train.state import TrainState

_log = logging.getLogger(__name__)

BATCH_SIZE = 64  # a device, where neither run nor config says


class Frozen(NamedTuple):
    """A task that is never trained: what a model makes of images.

    Attributes:
      outputs: `(variables, batch) -> {"features": [B, D], ...}` as of any task.
    """

    outputs: Callable


def restore(workdir: Path, step: int | None = None) -> tuple[experiments.Experiment, TrainState, dict[str, Any]]:
    """Builds the saved config and restores a checkpoint. No config file is executed.

    The training set may be absent: what the model needs to know of it lies in the checkpoint.

    Args:
      workdir: folder of a run.
      step: of the checkpoint; the latest by default.

    Returns:
      The experiment, the state, and the metadata of the checkpoint.
    """
    saved = Saved(workdir)
    try:
        meta = saved.meta(step)
    except UserError:
        if not workdirs.is_run(workdir):
            raise UserError(f"{workdir} holds no run (no config.json)") from None
        raise
    config = workdirs.config_of(meta, workdir)
    if is_main() and (words := workdirs.describe_edit(workdir, config)):
        _log.warning("%s: the checkpoint's own config is taken", words)
    workdirs.close_folder(workdir, config.to_dict(), meta.get("own"))
    with config.unlocked(), config.data.ignore_type():
        config.data.update({key: value for key, value in meta["data"].items() if key != "fields"})
    stored = meta["data"].get("fields")
    stored = None if stored is None else fields.from_json(stored)  # None: of an earlier version
    experiment = experiments.build(
        config, training_data="ignored", statistics=meta.get("statistics", {}), stored=stored
    )
    return experiment, saved.restore(experiment.abstract_state(), step), meta


def open_weights(
    path: Path, data: Mapping[str, Any] | None = None, features: str | Path | None = None
) -> tuple[evaluations.Judged, TrainState, dict[str, Any]]:
    """The model of a folder that `jaxvision convert` wrote, with its preprocessing.

    Args:
      path: the folder.
      data: section `data` of a config: the set and the size of batches that evaluations take by default. How images
        are prepared is known from the folder.
      features: a folder where features are kept.

    Returns:
      The model as evaluations take it, a state that holds its variables, and the metadata of the folder.

    Raises:
      UserError: preprocessing that needs statistics of a training set, which the folder has not.
    """
    arrays, meta = folder.load(path)
    workdirs.close_folder(path, {key: meta.get(key) for key in ("model", "preprocessing")}, meta.get("own"))
    check_fields(meta, f"{path}/{folder.META}", preprocessing=dict, classes=(list, type(None)))
    host, transform = (meta["preprocessing"][name] for name in ("host", "augment"))
    if augment.needs_statistics(transform):
        raise UserError(
            f"{path}: the preprocessing {transform!r} needs statistics of the training images, which a folder of "
            "weights has not: evaluate the run itself"
        )
    arrays, _ = transfer.of_model(arrays, layout.from_json(meta.get("parts")))
    classes = next((x.size for name, x in arrays.items() if name.endswith("head/bias")), None)
    options = configs.from_json(json.dumps(meta["model"])).to_dict()  # with tuples in place of lists
    module = models.build(num_classes=classes, **options)
    mesh, pair = make_mesh(), models.is_pair(options["name"])
    variables = replicate(flax.traverse_util.unflatten_dict(arrays, sep="/"), mesh)

    def outputs(variables, batch):
        if pair:
            return image_text.tower_outputs(module, variables, batch)
        found, out = module.apply(variables, batch["image"], train=False)
        return {"features": found, **out}

    params = variables.pop("params")
    state = TrainState(jnp.zeros((), jnp.int32), params, variables, opt_state=(), ema=None)
    section = {"name": str(path), "split": "", "batch_size": BATCH_SIZE * jax.device_count(), **(data or {})}
    judged = evaluations.Judged(
        Frozen(outputs),
        state.variables,
        configs.call(DataSection, section, "data"),
        host,
        transform,
        Info(str(path), "", 0, tuple(meta["classes"] or ()), classes),
        {},
        mesh,
        Store({"model": meta["model"], "versions": workdirs.versions()}, features),
    )
    return judged, state, meta


def image_shape(judged: evaluations.Judged, meta: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of the images that a model of converted weights takes, after its host operations."""
    blank = Blank(judged.info, meta.get("image_size"))
    data = judged.data._replace(host=judged.host, fields=("image",))
    return inputs.raw_batch(blank, data)["image"].shape[1:3]


def saved_statistics(saved: Saved) -> dict[str, Any] | None:
    """The statistics of the training set that the newest checkpoint carries; None where there is no checkpoint."""
    return None if saved.newest() is None else saved.meta().get("statistics", {})
