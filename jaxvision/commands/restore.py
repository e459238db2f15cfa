"""Opens a trained model, from the workdir of its run or from converted weights."""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

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
from jaxvision.parallel import agreement
from jaxvision.parallel.distributed import is_main
from jaxvision.parallel.mesh import make_mesh, replicate
from jaxvision.reading import check_fields
from jaxvision.sections import DataSection
from jaxvision.storage import Path
from jaxvision.tasks import image_text
from jaxvision.tasks.task import Task
from jaxvision.train.best import step_of
from jaxvision.train.checkpoint import Saved
from jaxvision.train.state import TrainState

_log = logging.getLogger(__name__)

BATCH_SIZE = 64  # per device, if neither the run nor the config sets it


class Frozen(NamedTuple):
    """A task that is never trained, for converted weights.

    Attributes:
      outputs: Function `(variables, batch) -> {"features": [b, d], ...}`, as of any task.
      pictures: None: it draws nothing of images.
    """

    outputs: Callable
    pictures: None = None


def restore(workdir: Path, step: int | str | None = None) -> tuple[experiments.Experiment, TrainState, dict[str, Any]]:
    """Builds the saved config and restores a checkpoint. No config file is executed.

    The training set may be absent, because the checkpoint holds what the model needs of it.

    Args:
      workdir: Folder of a run.
      step: Step of the checkpoint; "best" for the best by `train.keep_best`, None for the latest.

    Returns:
      The experiment, the state, and the metadata of the checkpoint.

    Raises:
      UserError: The folder holds no run, or no such checkpoint that can be read.
    """
    step = step_of(workdir, step, workdirs.results(workdir))
    saved = Saved(workdir)
    try:
        meta = saved.meta(step)
    except UserError:
        if not workdirs.is_run(workdir):
            raise UserError(f"{workdir} holds no run (no config.json): give the --workdir of a run") from None
        raise
    config = workdirs.config_of(meta, workdir)
    if is_main() and (words := workdirs.describe_edit(workdir, config)):
        _log.warning("%s: using the config in the checkpoint instead", words)
    imported = {name: section for name, section in config.to_dict().items() if name != "loggers"}  # of training only
    workdirs.close_folder(workdir, imported, meta.get("own"))
    with config.unlocked(), config.data.ignore_type():
        config.data.update({key: value for key, value in meta["data"].items() if key != "fields"})
    stored = meta["data"].get("fields")
    stored = None if stored is None else fields.from_json(stored)  # None in checkpoints of earlier versions
    experiment = experiments.build(
        config, training_data="ignored", statistics=meta.get("statistics", {}), stored=stored
    )
    return experiment, saved.restore(experiment.abstract_state(), step), meta


def open_weights(
    path: Path, data: Mapping[str, Any] | None = None, features: str | Path | None = None
) -> tuple[evaluations.Judged, TrainState, dict[str, Any]]:
    """Opens the model of a folder that `jaxvision convert` wrote, with its preprocessing.

    Args:
      path: Folder of converted weights.
      data: Section `data` of a config, with the default data set and batch size of evaluations. The preprocessing comes
        from the folder.
      features: Folder that keeps features.

    Returns:
      The model for evaluations, a state with its variables, and the metadata of the folder.

    Raises:
      UserError: The preprocessing needs statistics of a training set, which the folder does not have, or another
        process of the job reads other weights.
    """
    arrays, meta = folder.load(path)
    workdirs.close_folder(path, {key: meta.get(key) for key in ("model", "preprocessing")}, meta.get("own"))
    check_fields(meta, f"{path}/{folder.META}", preprocessing=dict, classes=(list, type(None)))
    host, transform = (meta["preprocessing"][name] for name in ("host", "augment"))
    if augment.needs_statistics(transform):
        raise UserError(
            f"{path}: the preprocessing {transform!r} needs statistics of the training images, which converted weights "
            "do not have: give the --workdir of the run itself"
        )
    arrays, _ = transfer.of_model(arrays, layout.from_json(meta.get("parts")))
    agreement.check_arrays(arrays, f"the weights of {path}")
    classes = next((x.size for name, x in arrays.items() if name.endswith("head/bias")), None)
    options = configs.from_json(json.dumps(meta["model"])).to_dict()  # makes tuples of lists
    module = models.build(num_classes=classes, **options)
    mesh, pair = make_mesh(), models.is_pair(options["name"])
    variables = replicate(flax.traverse_util.unflatten_dict(arrays, sep="/"), mesh)

    def outputs(variables, batch):
        if pair:
            return image_text.tower_outputs(module, variables, batch)
        features, out = module.apply(variables, batch["image"], train=False)
        return {"features": features, **out}

    params = variables.pop("params")
    state = TrainState(jnp.zeros((), jnp.int32), params, variables, opt_state=(), ema=None)
    section = {"name": str(path), "split": "", "batch_size": BATCH_SIZE * jax.device_count(), **(data or {})}
    judged = evaluations.Judged(
        cast(Task, Frozen(outputs)),  # evaluations use its `outputs` only
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
    """Returns (height, width) of the images that a model of converted weights takes, after its host operations.

    Args:
      judged: Model, from `open_weights`.
      meta: Metadata of its folder.
    """
    blank = Blank(judged.info, meta.get("image_size"))
    data = judged.data._replace(host=judged.host, fields=("image",))
    return inputs.raw_batch(blank, data)["image"].shape[1:3]


def saved_statistics(saved: Saved) -> dict[str, Any] | None:
    """Returns the statistics of the training set in the newest checkpoint, or None if there is no checkpoint.

    Args:
      saved: Checkpoints of a run.
    """
    return None if saved.newest() is None else saved.meta().get("statistics", {})
