"""Checks before a run starts, in addition to those of `experiment.build`, and warnings."""

from pathlib import Path

from jaxvision import cautions, components, loggers
from jaxvision.errors import UserError
from jaxvision.experiment import Experiment
from jaxvision.train import players
from jaxvision.train.best import make_best


def check_run(experiment: Experiment) -> tuple[list[str], list[str]]:
    """Checks the loggers and opens evaluations, initial weights and the training data of a run.

    Args:
      experiment: Experiment of the run.

    Returns:
      Two lists of lines: checks that were left out because a file or a set is missing, and warnings.

    Raises:
      UserError: Data, weights or an evaluation cannot be opened, or do not fit.
    """
    loggers.read_entries(experiment.config.get("loggers"))
    missing, lines = [], cautions_of(experiment)
    pretrained = experiment.pretrained
    if pretrained is not None and pretrained.weights.startswith("hf:"):
        try:
            experiment.load_pretrained()
        except UserError as error:  # as on a machine without a network
            missing.append(f"init.weights, {error}")
    elif pretrained is not None and not Path(pretrained.weights).exists():
        missing.append(f"init.weights, {pretrained.weights} is not here")
    else:
        experiment.load_pretrained()
    if experiment.source is not None:
        experiment.in_memory()
        evaluations = experiment.evaluations()
        make_best(experiment.train, evaluations, experiment.durations)
        lines += [line for evaluation in evaluations for line in evaluation.cautions]
    elif experiment.evals:
        missing.append(f"evals {', '.join(experiment.config.evals)}, because the training set is not here")
    return missing, list(dict.fromkeys(lines))  # several evaluations may read one split


def cautions_of(experiment: Experiment) -> list[str]:
    """Returns warnings about the data and the optimizer, to read before training.

    Args:
      experiment: Experiment of the run.
    """
    source, host = experiment.source, experiment.data.host
    has_texts = any(field.kind == "tokens" for field in experiment.fields.values())
    lines = [
        *(cautions.warn_of_classes(source, trained=True) if source and experiment.task.labelled else ()),
        *(cautions.warn_of_captions(source, host) if source and has_texts else ()),
        *cautions.warn_of_augmentation(experiment.config.get("augment", ""), experiment.data.batch_size),
    ]
    for player, section in components.optimizer_sections(experiment.config.optimizer, experiment.task).items():
        optimizer, warmup = experiment.optimizer.of_player(player), experiment.durations(section.get("warmup", 0))
        params = players.params_of(experiment.task, player, experiment.params)
        lines += cautions.warn_of_optimizer(section, optimizer, params, experiment.total, warmup)
    return lines
