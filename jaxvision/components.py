"""Makes the components of an experiment from the sections of its config: task, layout, optimizer, initial state."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxvision import calls, durations, layout, models, online, paths, tasks
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
from jaxvision.parallel.collectives import over_batch
from jaxvision.parallel.mesh import check_batch
from jaxvision.sections import InitSection, OnlineKnn, OnlineProbe, OnlineSection, TrainSection
from jaxvision.tasks.task import Batch, Joint, Task, part_of_params
from jaxvision.train import best, players
from jaxvision.train import state as states

PyTree = Any
PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def check_train(train: TrainSection, batch_size: int, mesh: Mesh) -> None:
    """Checks the section `train` against the batch and the devices.

    Args:
      train: Section `train` of the config.
      batch_size: Number of examples in a batch over all processes.
      mesh: Mesh of the devices.

    Raises:
      UserError: A value is out of range, unknown, or does not divide the batch.
    """
    for key in ("total", "log_every", "checkpoint_every"):
        durations.check(getattr(train, key), f"train.{key}")
    best.check_section(train)
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


def check_parts(config: ConfigDict) -> None:
    """Checks the names of model, task and optimizer and their options, which needs no data and no device.

    What depends on data or on other sections is checked by `make_task` and `make_optimizer`.

    Args:
      config: Config of the experiment.

    Raises:
      UserError: A part does not exist, or does not take an option or its value.
    """
    models.check_options(config.model.get("name"), {k: v for k, v in config.model.items() if k != "name"})
    factory = tasks.get_task(config.task.get("name"))
    of_task = {k: v for k, v in config.task.items() if k != "name"}
    calls.check(factory, of_task, calls.ConfigKeys("task"), program=(*tasks.TASKS.required, *tasks.TASKS.offered))
    if not config.optimizer.get("players"):  # whose sections are checked once the task has named them
        words = calls.ConfigKeys("optimizer")
        calls.check(optimizers.make_optimizer, config.optimizer, words, program=optimizers.GIVEN)
        optimizers.check_options(**config.optimizer)


def check_compared(task: Task, train: TrainSection, batch_size: int) -> None:
    """Checks that the microbatches are large enough for a loss that compares examples.

    Args:
      task: Task.
      train: Section `train` of the config.
      batch_size: Number of examples in a batch over all processes.

    Raises:
      UserError: A microbatch has fewer examples than the loss needs.
    """
    microbatches = 1 if isinstance(task.loss, Joint) else train.accumulate
    if batch_size // microbatches < task.least:
        split = f" in {microbatches} microbatches (train.accumulate), of {batch_size // microbatches} each"
        raise UserError(
            f"the loss of this task compares the examples of a batch with one another, at least {task.least}, but "
            f"data.batch_size is {batch_size}{split if microbatches > 1 else ''}: raise it"
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
    """Makes the task of the config, which builds the model of the config, with the watchers of the section `online`.

    The factory of the task gets those arguments, of a fixed list, for which it has parameters.

    Args:
      config: Config of the experiment.
      train: Section `train` of the config.
      info: Name, size and classes of the training set.
      fields: Fields of a batch after its augmentation.
      pretrained: Section `init`, or None.
      steps: Function that turns a duration into steps.
      total: Number of steps of the run.
      mesh: Mesh of the devices; None leaves the layout to XLA.

    Raises:
      UserError: The section `model` sets a value that follows from other sections, or an option does not fit.
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
    parameters = calls.parameters(factory)
    arguments = {name: offers[name] for name in (*tasks.TASKS.required, *tasks.TASKS.offered) if name in parameters}
    task = configs.call(factory, options, "task", **arguments)
    watchers = _watchers(config.get("online"), info, fields)
    return online.beside(task, watchers, fields) if watchers else task


def read_online(section: Mapping[str, Any] | None) -> tuple[OnlineProbe | None, OnlineKnn | None]:
    """Reads the section `online`, without data.

    Args:
      section: Section of the config, or None.

    Returns:
      The entries `probe` and `knn`, None for those that the section does not have; two None without a section.

    Raises:
      UserError: An unknown key or a value out of range, or a section without entries.
    """
    if section is None:
        return None, None
    entries = configs.call(OnlineSection, section, "online")
    probe = None if entries.probe is None else configs.call(OnlineProbe, entries.probe, "online.probe")
    knn = None if entries.knn is None else configs.call(OnlineKnn, entries.knn, "online.knn")
    if probe is None and knn is None:
        raise UserError("config.online has neither probe nor knn: c.online = dict(probe=dict(), knn=dict()) has both")
    return probe, knn


def _watchers(
    section: Mapping[str, Any] | None, info: sources.Info, fields: Mapping[str, Field]
) -> dict[str, online.Watcher]:
    probe, knn = read_online(section)
    if probe is None and knn is None:
        return {}
    classes = online.check_labels(fields, info.num_classes, info.multi_label)
    if knn is not None and info.num_examples and knn.size >= info.num_examples:
        raise UserError(
            f"online.knn.size={knn.size:,} holds all {info.num_examples:,} images of the training set, so each "
            "would find itself: lower it"
        )
    made = {
        "probe": probe and online.make_probe(probe, classes),
        "knn": knn and online.make_knn(knn, classes),
    }
    return {name: watcher for name, watcher in made.items() if watcher is not None}


def check_texts(model: Mapping[str, Any], host: str) -> None:
    """Checks that a model of two towers can read the texts that a host spec makes; see `check_tokenizer`.

    Args:
      model: Section `model` of the config.
      host: Host spec.
    """
    if models.is_pair(model["name"]) and (operation := texts.find_texts(host)):
        check_tokenizer(model, operation.tokenizer)


def check_tokenizer(model: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    """Checks that the text tower of a model can read the tokens of a tokenizer.

    Of a user's own tower, it checks the attributes `vocab_size`, `end_token` and `pool`, if the module has them.

    Args:
      model: Section `model` of the config.
      tokenizer: Tokenizer of the texts.

    Raises:
      UserError: The tokenizer has more ids than the tower, or the tower looks for the end of a text elsewhere.
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
        expected = "the greatest id, as in CLIP" if tower.end_token is None else end
        advice = (
            "give model.text another pool" if tokenizer.end is None else f"set model.text.end_token to {tokenizer.end}"
        )
        raise UserError(
            f"the text tower takes its features where the text ends, at {expected}; the tokenizer's texts end "
            f"with {tokenizer.end}: {advice}"
        )


def pretrained_model(config: ConfigDict, pretrained: InitSection) -> Mapping[str, Any]:
    """Returns the section of the model that the weights of `init` belong to.

    Args:
      config: Config of the experiment.
      pretrained: Section `init` of the config.
    """
    if pretrained.part is None:
        return config.model
    if models.is_pair(config.model.get("name")):
        return two_towers.towers(**config.model).get(pretrained.part, config.model)
    return config.task.get(pretrained.part, config.model)


def make_layout(config: ConfigDict, task: Task) -> layout.Layout:
    """Makes the layout of the variables of a task: their parts, and the sections of the models of these parts.

    Args:
      config: Config of the experiment.
      task: Task.
    """
    sections = {
        name: config.task[name].to_dict() for name in task.parts if isinstance(config.task.get(name), ConfigDict)
    }
    return layout.Layout(task.parts, task.model, sections)


def make_optimizer(
    config: ConfigDict, pretrained: InitSection | None, task: Task, params: PyTree, steps: Callable, total: int
) -> optimizers.Optimizer | optimizers.Optimizers:
    """Makes the optimizer of the config, or one for each player of the task.

    The section of a player is the section `optimizer`, changed by `optimizer.players.NAME`. For a player that is
    updated in every n-th step, there are n times fewer updates, and its durations count updates.

    Args:
      config: Config of the experiment.
      pretrained: Section `init` of the config, or None.
      task: Task.
      params: Shapes of the parameters.
      steps: Function that turns a duration into steps.
      total: Number of steps of the run.

    Raises:
      UserError: A section `optimizer` has a mistake, or asks a task with players for `log_weights`.
    """
    by_player, order = {}, partial(_layer_order, config)
    for name, section in optimizer_sections(config.optimizer, task).items():
        every = task.players[name].every if task.players else 1
        mine = players.params_of(task, name, params)
        where = f"optimizer.players.{name}" if task.players else "optimizer"
        if freeze := _frozen_rules(section, pretrained, task, mine, order):
            section = {**section, "freeze": freeze}
        optimizer = _optimizer(section, where, mine, partial(_fewer, steps, every), -(-total // every), order)
        if task.players and optimizer.of_weights is not None:
            raise UserError(f"{where}.log_weights: a task with several players has no such metrics, leave it out")
        by_player[name] = optimizer.every(every)
    if not task.players:
        return by_player[players.ALL]
    frozen = players.merge_players(params, {name: optimizer.frozen for name, optimizer in by_player.items()})
    return optimizers.Optimizers(by_player, frozen)


def _fewer(steps: Callable[[str | int], int], every: int, duration: str | int) -> int:
    return -(-steps(duration) // every)


def optimizer_sections(section: Mapping[str, Any], task: Task) -> dict[str, Mapping[str, Any]]:
    """Returns the section `optimizer` of each player: the shared values, changed by `players.NAME`.

    Args:
      section: Section `optimizer` of the config.
      task: Task; one without players gets a single section under `players.ALL`.

    Raises:
      UserError: `players` names no player of the task, or the task has none.
    """
    shared = {key: value for key, value in section.items() if key != "players"}
    changes = section.get("players") or {}
    if changes and not task.players:
        raise UserError("optimizer.players is for a task of several players, and this one has none: take it out")
    for name in changes:
        if name not in task.players:
            raise calls.ConfigKeys("optimizer.players").unknown(name, task.players)
    return {name: {**shared, **dict(changes.get(name) or {})} for name in task.players} or {players.ALL: shared}


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
) -> Callable[..., states.TrainState]:
    """Makes the function that makes the initial state; see `state.initializer`.

    Args:
      config: Config of the experiment.
      train: Section `train` of the config.
      task: Task.
      optimizer: Optimizer, or the optimizers of the players.
      augmented: Shapes and dtypes of an augmented batch.
    """
    return states.initializer(task, optimizer.tx, augmented, config.get("seed", 0), train.ema is not None)


def _layer_order(config: ConfigDict) -> optimizer_rules.LayerOrder:
    """Returns the order of the layers of the config's model."""
    section = {key: value for key, value in config.model.items() if key != "name"}
    return layer_order(models.build(config.model.name, None, **section))


def _frozen_rules(
    section: Mapping[str, Any], pretrained: InitSection | None, task: Task, params: Any, order: Callable
) -> paths.Rules:
    """Makes the rules for parameters that the task, `init.freeze` or the section `optimizer` freezes; () for none."""
    spec, rules = pretrained.freeze if pretrained else None, tuple(section.get("freeze") or ())
    if spec and task.frozen:
        raise UserError("init.freeze and task.locked exclude each other")
    if spec and rules:
        raise UserError("init.freeze and optimizer.freeze exclude each other")
    if spec and spec not in task.parts:
        if spec.isidentifier():
            raise unknown("value of init.freeze", spec, [*task.parts, "all_but_last(2)"])
        return optimizer_rules.freeze_rules(params, spec, order)
    names = (spec,) if spec else task.frozen
    frozen = [(f"^{re.escape(path)}$", True) for path, name in part_of_params(task, params).items() if name in names]
    if spec and not frozen and not task.players:
        raise UserError(f"init.freeze {spec!r} freezes nothing: this model has no parameters in that part")
    return (*frozen, *(rules or ((".*", False),))) if frozen or rules else ()
