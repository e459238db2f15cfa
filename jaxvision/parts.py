"""The parts of an experiment that sections of its config name: mesh, task, optimizer, initial state."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxvision import calls, durations, layout, models, paths, tasks
from jaxvision import config as configs
from jaxvision.data import sources
from jaxvision.data.text import Tokenizer
from jaxvision.errors import UserError, unknown
from jaxvision.evals import texts
from jaxvision.fields import Field
from jaxvision.models import two_towers
from jaxvision.models.order import layer_order
from jaxvision.optim import optimizers
from jaxvision.optim import rules as optimizer_rules
from jaxvision.optim.schedules import Schedule
from jaxvision.parallel.collectives import over_batch
from jaxvision.parallel.mesh import check_batch
from jaxvision.sections import InitSection, TrainSection
from jaxvision.tasks.task import Batch, Joint, Task, part_of_params
from jaxvision.train import players
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
    parts = 1 if isinstance(task.loss, Joint) else train.accumulate
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
    fields: Mapping[str, Field],
    pretrained: InitSection | None,
    steps: Callable[[str | int], int],
    total: int,
    mesh: Mesh | None = None,
) -> Task:
    """The task of the config, which will build the model of the config.

    Its factory gets those of the offers below that it has parameters for, and no more.

    Args:
      config: The config.
      train: Its section `train`.
      info: What is known of the training set.
      fields: Fields of a batch after its augmentation.
      pretrained: Section `init`, or None.
      steps: Function that turns a duration into steps.
      total: Number of steps of the run.
      mesh: Mesh of the devices; None leaves the layout to XLA.
    """
    factory = tasks.get_task(config.task.get("name"))
    model = {k: v for k, v in config.model.items() if k != "name"}
    for key, source in {"num_classes": "the classes of the data set", "dtype": "train.precision"}.items():
        if key in model:
            raise UserError(f"'model.{key}' is set by the program: it follows from {source}. Leave it out")
    dtype = PRECISIONS[train.precision]
    offers = {
        "model": partial(models.build, config.model.get("name"), dtype=dtype, **model),  # num_classes or None -> module
        "dtype": dtype,
        "num_classes": info.num_classes,
        "multi_label": info.multi_label,
        "fields": fields,
        "total_steps": total,
        "steps": steps,
        "over_batch": None if mesh is None else partial(over_batch, mesh=mesh),
        "freeze": pretrained.freeze if pretrained else None,
    }
    options = {k: v for k, v in config.task.items() if k != "name"}
    asked = calls.parameters(factory)
    given = {name: offers[name] for name in (*tasks.TASKS.given, *tasks.TASKS.offered) if name in asked}
    return configs.call(factory, options, "task", **given)


def check_texts(model: Mapping[str, Any], host: str) -> None:
    """UserError where a section `model` of two towers would misread the texts that the spec `host` makes."""
    if models.is_pair(model["name"]) and (made := texts.find_texts(host)):
        check_tokenizer(model, made.tokenizer)


def check_tokenizer(model: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    """UserError where the text tower of a section `model` would misread what a tokenizer makes.

    A user's own tower is looked at as far as its module has the attributes `vocab_size`, `end_token` and `pool`.
    """
    tower = models.build_text(**two_towers.towers(**model)["text_tower"])
    if tokenizer.vocabulary > getattr(tower, "vocab_size", tokenizer.vocabulary):
        raise UserError(
            f"the tokenizer has {tokenizer.vocabulary:,} ids, the text tower {tower.vocab_size:,}: set "
            f"model.text.vocab_size to {tokenizer.vocabulary}, or take the tokenizer that the tower was trained with"
        )
    if getattr(tower, "pool", None) != "end" or not hasattr(tower, "end_token"):
        return
    end = tokenizer.vocabulary - 1 if tower.end_token is None else tower.end_token
    if end != tokenizer.end:
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


def make_layout(config: ConfigDict, task: Task) -> layout.Layout:
    """What the variables of a task are made of, with the sections of the models that they are of."""
    sections = {
        name: config.task[name].to_dict() for name in task.parts if isinstance(config.task.get(name), ConfigDict)
    }
    return layout.Layout(task.parts, task.model, sections)


def make_optimizer(
    config: ConfigDict, pretrained: InitSection | None, task: Task, params: Any, steps: Callable, total: int
) -> optimizers.Optimizer | optimizers.Optimizers:
    """The optimizer chain of the config for parameters of these shapes, or one for each player of the task.

    The section of a player is the section `optimizer` with what `optimizer.players.NAME` says otherwise. A player that
    moves in every n-th step makes that many updates fewer, and its durations count them.
    """
    made, order = {}, partial(_layer_order, config)
    for name, section in optimizer_sections(config.optimizer, task).items():
        every = task.players[name].every if task.players else 1
        mine, where = (
            players.params_of(task, name, params),
            f"optimizer.players.{name}" if task.players else "optimizer",
        )
        if freeze := _frozen_rules(section, pretrained, task, mine, order):
            section = {**section, "freeze": freeze}
        one = _optimizer(section, where, mine, partial(_fewer, steps, every), -(-total // every), order)
        made[name] = one._replace(learning_rate=partial(_at, one.learning_rate, every))
    if not task.players:
        return made[players.ALL]
    return optimizers.Optimizers(made, players.merge_players(params, {name: of.frozen for name, of in made.items()}))


def _fewer(steps: Callable[[str | int], int], every: int, duration: str | int) -> int:
    return -(-steps(duration) // every)


def _at(rate: Schedule, every: int, step: Any) -> Any:
    return rate(step // every)


def optimizer_sections(section: Mapping[str, Any], task: Task) -> dict[str, Mapping[str, Any]]:
    """The section `optimizer` of each player: what all share, and what `players.NAME` says otherwise.

    Raises:
      UserError: A name that is no player's, or players of a task that has none.
    """
    shared = {key: value for key, value in section.items() if key != "players"}
    own = section.get("players") or {}
    if own and not task.players:
        raise UserError("optimizer.players is for a task of several players, and this one has none: take it out")
    for name in own:
        if name not in task.players:
            raise calls.ConfigKeys("optimizer.players").unknown(name, task.players)
    return {name: {**shared, **dict(own.get(name) or {})} for name in task.players} or {players.ALL: shared}


def _optimizer(
    section: Mapping[str, Any], where: str, params: Any, steps: Callable, total: int, order: Callable
) -> optimizers.Optimizer:
    for key in durations.KEYS["optimizer"]:
        durations.check(section.get(key, 0), f"{where}.{key}")
    return configs.call(optimizers.make_optimizer, section, where, steps=steps, total=total, params=params, order=order)


def initializer(
    config: ConfigDict,
    train: TrainSection,
    task: Task,
    optimizer: optimizers.Optimizer | optimizers.Optimizers,
    augmented: Batch,
) -> Callable[[], states.TrainState]:
    """What makes the initial state; see `state.initializer`."""
    return states.initializer(task, optimizer.tx, augmented, config.get("seed", 0), train.ema is not None)


def _layer_order(config: ConfigDict) -> optimizer_rules.LayerOrder:
    """The order of the layers of the config's model."""
    section = {key: value for key, value in config.model.items() if key != "name"}
    return layer_order(models.build(config.model.name, None, **section))


def _frozen_rules(
    section: Mapping[str, Any], pretrained: InitSection | None, task: Task, params: Any, order: Callable
) -> paths.Rules:
    """The rules `freeze` for parameters that the task, `init.freeze` or the section `optimizer` freezes; or none."""
    spec, own = pretrained.freeze if pretrained else None, tuple(section.get("freeze") or ())
    if spec and task.frozen:
        raise UserError("init.freeze and task.locked exclude each other")
    if spec and own:
        raise UserError("init.freeze and optimizer.freeze exclude each other")
    if spec and spec not in task.parts:
        if spec.isidentifier():
            raise unknown("value of init.freeze", spec, [*task.parts, "all_but_last(2)"])
        return optimizer_rules.freeze_rules(params, spec, order)
    names = (spec,) if spec else task.frozen
    frozen = [(f"^{re.escape(path)}$", True) for path, name in part_of_params(task, params).items() if name in names]
    if spec and not frozen and not task.players:
        raise UserError(f"init.freeze {spec!r} freezes nothing: this model has no parameters in that part")
    return (*frozen, *(own or ((".*", False),))) if frozen or own else ()
