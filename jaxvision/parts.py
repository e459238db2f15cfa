"""The parts of an experiment that sections of its config name: mesh, task, optimizer, initial state."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxvision import calls, durations, models, tasks
from jaxvision import config as configs
from jaxvision.data import sources
from jaxvision.data.text import Tokenizer
from jaxvision.errors import UserError, unknown
from jaxvision.models import two_towers
from jaxvision.optim import optimizers
from jaxvision.optim import rules as optimizer_rules
from jaxvision.parallel.collectives import over_batch
from jaxvision.parallel.mesh import check_batch
from jaxvision.sections import InitSection, TrainSection
from jaxvision.tasks.task import Batch, Task
from jaxvision.train import state as states

PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def check_train(train: TrainSection, batch_size: int, mesh: Mesh) -> None:
    """UserError where the section `train` does not fit the batch and the devices."""
    for key in ("total", "log_every", "checkpoint_every"):
        durations.check(getattr(train, key), f"train.{key}")
    for key, low in {"keep": 1, "steps_per_dispatch": 0}.items():
        if getattr(train, key) < low:
            raise UserError(f"train.{key} must be at least {low}, not {getattr(train, key)}")
    check_batch(batch_size, mesh)
    if train.accumulate < 1 or batch_size % train.accumulate:
        raise UserError(f"train.accumulate={train.accumulate} does not divide data.batch_size={batch_size}")
    check_batch(batch_size // train.accumulate, mesh)
    if train.precision not in PRECISIONS:
        raise unknown("precision", train.precision, PRECISIONS)
    if train.ema is not None and not 0 < train.ema < 1:
        raise UserError(f"train.ema must be in (0, 1) or None, not {train.ema}")


def check_compared(task: Task, train: TrainSection, batch_size: int) -> None:
    """UserError where the parts of a batch are so small that the loss of the task compares an example with nothing."""
    parts = 1 if task.joint else train.accumulate
    if batch_size // parts < task.least:
        part = f" in {parts} parts (train.accumulate), of {batch_size // parts} each" if parts > 1 else ""
        raise UserError(
            f"the loss of this task compares the examples of a batch with one another, at least {task.least}, but "
            f"data.batch_size is {batch_size}{part}: there would be nothing to tell apart"
        )


def make_task(
    config: ConfigDict,
    train: TrainSection,
    info: sources.Info,
    pretrained: InitSection | None,
    mesh: Mesh | None = None,
) -> Task:
    """The task of the config, which will build the model of the config; with a mesh, laid out for it where it asks."""
    factory = tasks.get(config.task.get("name"))
    given = {}
    if "over_batch" in calls.parameters(factory):
        given["over_batch"] = None if mesh is None else partial(over_batch, mesh=mesh)
    model = {k: v for k, v in config.model.items() if k != "name"}
    for key, source in {"num_classes": "the classes of the data set", "dtype": "train.precision"}.items():
        if key in model:
            raise UserError(f"'model.{key}' is set by the program: it follows from {source}. Leave it out")
    options = {k: v for k, v in config.task.items() if k != "name"}
    if pretrained and pretrained.freeze and "statistics" in calls.parameters(factory):
        options.setdefault("statistics", "running")
    return configs.call(
        factory,
        options,
        "task",
        model=partial(models.build, config.model.get("name"), dtype=PRECISIONS[train.precision], **model),
        num_classes=info.num_classes,
        multi_label=info.multi_label,
        **given,
    )


def check_tokenizer(model: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    """UserError where the text tower of a section `model` would misread what a tokenizer makes."""
    tower = models.build_text(**two_towers.towers(**model)["text_tower"])
    if tokenizer.vocabulary > tower.vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocabulary:,} ids, the text tower {tower.vocab_size:,}: set "
            f"model.text.vocab_size to {tokenizer.vocabulary}, or take the tokenizer that the tower was trained with"
        )
    end = tokenizer.vocabulary - 1 if tower.end_token is None else tower.end_token
    if tower.pool == "end" and end != tokenizer.end:
        said = "the greatest id, as in CLIP" if tower.end_token is None else end
        mend = (
            "give model.text another pool" if tokenizer.end is None else f"set model.text.end_token to {tokenizer.end}"
        )
        raise UserError(
            f"the text tower takes its features where the text ends, at {said}; the tokenizer's texts end "
            f"with {tokenizer.end}: {mend}"
        )


def pretrained_model(config: ConfigDict, pretrained: InitSection) -> Mapping[str, Any]:
    """The section of the model that the weights are of."""
    if pretrained.part is None:
        return config.model
    if models.is_pair(config.model.get("name")):
        return two_towers.towers(**config.model).get(pretrained.part, config.model)
    return config.task.get(pretrained.part, config.model)


def make_optimizer(
    config: ConfigDict, pretrained: InitSection | None, task: Task, params: Any, steps: Callable, total: int
) -> optimizers.Optimizer:
    """The optimizer chain of the config for parameters of these shapes; see `optimizers.make`."""
    section = _optimizer_section(config, pretrained, task, params)
    for key in durations.KEYS["optimizer"]:
        durations.check(section.get(key, 0), f"optimizer.{key}")
    return configs.call(optimizers.make, section, "optimizer", steps=steps, total=total, params=params)


def initializer(
    config: ConfigDict, train: TrainSection, task: Task, optimizer: optimizers.Optimizer, augmented: Batch
) -> Callable[[], states.TrainState]:
    """What makes the initial state; see `state.initializer`."""
    return states.initializer(task, optimizer.tx, augmented, config.get("seed", 0), train.ema is not None)


def _optimizer_section(
    config: ConfigDict, pretrained: InitSection | None, task: Task, params: Any
) -> Mapping[str, Any]:
    """The section `optimizer`, with what the task or `init.freeze` freezes."""
    if task.frozen:
        if pretrained and pretrained.freeze:
            raise UserError("init.freeze and task.locked exclude each other")
        rest = tuple(config.optimizer.get("freeze") or ((".*", False),))
        return {**config.optimizer, "freeze": (*((pattern, True) for pattern in task.frozen), *rest)}
    if not (pretrained and pretrained.freeze):
        return config.optimizer
    if config.optimizer.get("freeze"):
        raise UserError("init.freeze and optimizer.freeze exclude each other")
    return {**config.optimizer, "freeze": optimizer_rules.freeze_rules(params, pretrained.freeze)}
