"""A trained run, opened again from its workdir alone: for commands that look at what was learned."""

from pathlib import Path
from typing import Any

from jaxvision import experiment as experiments
from jaxvision import workdir as workdirs
from jaxvision.train.checkpoint import Checkpoints
from jaxvision.train.state import TrainState


def restore(workdir: Path, step: int | None = None) -> tuple[experiments.Experiment, TrainState, dict[str, Any]]:
    """Builds the saved config and restores a checkpoint. No config file is executed.

    The training set may be absent: what the model needs to know of it lies in the checkpoint.

    Args:
      workdir: folder of a run.
      step: of the checkpoint; the latest by default.

    Returns:
      The experiment, the state, and the metadata of the checkpoint.
    """
    config = workdirs.saved_config(workdir)
    with Checkpoints(workdir) as checkpoints:
        meta = checkpoints.meta(step)
        with config.unlocked(), config.data.ignore_type():
            config.data.update(meta["data"])
        experiment = experiments.build(config, training_data="ignored", statistics=meta.get("statistics", {}))
        return experiment, checkpoints.restore(experiment.abstract_state(), step), meta


def saved_statistics(workdir: Path) -> dict[str, Any] | None:
    """The statistics of the training set that the latest checkpoint carries; None where there is no checkpoint."""
    if not (workdir / "checkpoints").is_dir():
        return None
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.meta().get("statistics", {}) if checkpoints.steps() else None
