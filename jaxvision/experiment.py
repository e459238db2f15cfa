"""Builds the pure functions, and opens the data, that a config names. Every command starts here."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxvision import (
    arguments,
    augment,
    components,
    durations,
    evaluations,
    feeding,
    fields,
    inputs,
    layout,
    own_modules,
    traced,
    transfer,
)
from jaxvision import config as configs
from jaxvision import workdir as workdirs
from jaxvision.data import host_ops, sources
from jaxvision.data.bad import Bad
from jaxvision.errors import UserError, reading_fields
from jaxvision.evals.store import Store
from jaxvision.fields import Field
from jaxvision.models import weights
from jaxvision.optim import optimizers
from jaxvision.parallel.mesh import batch_sharding, make_mesh, replicated
from jaxvision.parallel.rules import Rules, shardings
from jaxvision.sections import DataSection, InitSection, MeshSection, TrainSection
from jaxvision.tasks.task import Batch, Task
from jaxvision.train import feed as feeds
from jaxvision.train import finite
from jaxvision.train import state as states
from jaxvision.train import step as steps
from jaxvision.train.loop import Evaluation, Schedule

PyTree = Any


class Experiment(NamedTuple):
    """Everything that a config names, built and checked. Nothing is allocated on the devices yet.

    Attributes:
      config: Config of the experiment.
      data: Section `data`, with defaults filled in.
      train: Section `train`, with defaults filled in.
      pretrained: Section `init`, the weights to start from; None for random ones.
      evals: Entries of the section `evals`.
      source, absent, info, stored, fields, batch: Training set and its batches; see `inputs.Inputs`.
      statistics: Statistics of the training set that the augmentations need, name -> array.
      augmented: `ShapeDtypeStruct`s of a batch after the augmentation.
      params: `ShapeDtypeStruct`s of the parameters.
      mesh: Mesh of the devices.
      rules: Rules of the sharding, or the name of built-in ones.
      task, augment, optimizer: Pure functions.
      durations: Function `duration -> steps`.
      total: Number of steps of the run.
      init: Function that makes the initial state; see `state.initializer`.
    """

    config: ConfigDict
    data: DataSection
    train: TrainSection
    pretrained: InitSection | None
    evals: Sequence[evaluations.Entry]
    source: sources.Source | None
    absent: str
    info: sources.Info
    stored: Mapping[str, Field]
    fields: Mapping[str, Field]
    batch: Batch
    statistics: Mapping[str, np.ndarray]
    augmented: Batch
    params: PyTree
    mesh: Mesh
    rules: Rules | str
    task: Task
    augment: Callable
    optimizer: optimizers.Optimizer | optimizers.Optimizers
    durations: Callable[[str | int], int]
    total: int
    init: Callable[..., states.TrainState]

    @property
    def seed(self) -> int:
        """Seed of the initial parameters, the order of the examples, and all random draws."""
        return self.config.get("seed", 0)

    @property
    def image(self) -> str | None:
        """Name of the images of a batch, the first of several; None if it has none."""
        return inputs.image_of(self.fields)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Stored size of the images of the training set, (height, width); None if there are none."""
        image = inputs.image_of(self.stored)
        return None if image is None else inputs.size_of(self.stored[image])

    @property
    def schedule(self) -> Schedule:
        """Length of the run, intervals of logs and checkpoints, and length of the warm-up, in steps."""
        warmup = self.config.optimizer.get("warmup", 0)
        return Schedule(self.total, *map(self.durations, (self.train.log_every, self.train.checkpoint_every, warmup)))

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata that is needed to use a checkpoint, as JSON, except for the arrays under "statistics"."""
        host, transform = self.deployment()
        return {
            "config": self.config.to_dict(),
            "preprocessing": {"host": host, "augment": transform},
            "statistics": self.statistics,
            "data": {
                "classes": self.info.num_classes,
                "examples": self.info.num_examples,
                "image_size": None if self.image_size is None else list(self.image_size),
                "multi_label": self.info.multi_label,
                "fields": fields.to_json(self.stored),
            },
            "classes": list(self.info.classes),
            "own": own_modules.files(self.config.to_dict()),
            "parts": layout.to_json(self.layout),
        }

    def vary(self, changes: Mapping[str, Any]) -> "Experiment":
        """Returns this experiment with other numbers in its config; data and shapes stay the same.

        Args:
          changes: New values by dotted key of the sections `task`, `model` and `optimizer`, or for `seed`; `augment`
            may be a list of `specs.Call`. Numbers may be traced: `jax.vmap` over them makes several runs one program.

        Raises:
          UserError: A key does not exist, or a number that is not traced is out of range.
        """
        config = configs.override(self.config, traced.varied(changes))
        transform = augment.make_augmentation(
            config.get("augment", ""), self.info.num_classes, self.statistics, self.fields
        )
        task = components.make_task(
            config, self.train, self.info, transform.fields, self.pretrained, self.durations, self.total
        )
        optimizer = components.make_optimizer(config, self.pretrained, task, self.params, self.durations, self.total)
        return self._replace(
            config=config,
            task=task,
            augment=transform,
            optimizer=optimizer,
            init=components.initializer(config, self.train, task, optimizer, self.augmented),
        )

    @property
    def layout(self) -> layout.Layout:
        """Layout of the variables: their named parts."""
        return components.make_layout(self.config, self.task)

    def abstract_state(self) -> states.TrainState:
        """Returns the shapes, dtypes and shardings of the state."""
        return states.abstract(self.init, self.mesh, self.rules)

    def load_pretrained(self) -> weights.Imported | None:
        """Reads the weights that the run starts from; None if the config names none. See `transfer.load`."""
        if self.pretrained is None:
            return None
        model = components.pretrained_model(self.config, self.pretrained)
        return transfer.load(self.pretrained, model, jax.eval_shape(self.init).variables, self.layout)

    def initial_state(self, pretrained: weights.Imported | None = None) -> states.TrainState:
        """Makes the state at step 0 on the devices.

        Args:
          pretrained: Variables from `load_pretrained`; None for random ones.
        """
        state = states.create(self.init, self.mesh, self.rules, states.root_of(self.seed))
        return state if pretrained is None else transfer.fill(state, pretrained.variables)

    def step(self) -> jax.stages.Wrapped:
        """Returns one update as a pure function, jitted; see `step.make_train_step`. Each call returns a new one."""
        return jax.jit(
            steps.make_train_step(
                self.task,
                self.augment,
                self.optimizer.tx,
                seed=self.seed,
                accumulate=self.train.accumulate,
                ema=self.train.ema,
                max_skipped=self.train.max_skipped,
                skip_spikes=self.train.skip_spikes,
                frozen=self.optimizer.frozen,
                of_weights=self.optimizer.of_weights,
            )
        )

    def trace(self, step: jax.stages.Wrapped) -> jax.stages.Traced:
        """Traces a step, which finds its mistakes before the data are read.

        Args:
          step: Function from `step`. Give the same one to `runner`, which then does not trace it again.

        Returns:
          The trace; see `jax.jit(...).trace`.

        Raises:
          UserError: The task, the augmentation or the optimizer does not fit the batch.
        """
        # With the shardings of the runner, without which JAX would trace again.
        place = lambda spec, tree: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=spec), tree)
        batch, guard = place(batch_sharding(self.mesh), self.batch), place(replicated(self.mesh), finite.start())
        return step.trace(self.abstract_state(), batch, guard, root=states.root_of(self.seed))

    def runner(self, step: jax.stages.Wrapped, fetch: Callable, guard: finite.Guard | None = None) -> steps.Runner:
        """Returns the jitted, sharded steps; see `step.make_runner`.

        Args:
          step: Function from `step`.
          fetch: Function `(constants, item) -> batch`, from the feed.
          guard: Guard from the steps before; None for a new run.
        """
        placed = shardings(jax.eval_shape(self.init), self.mesh, self.rules)
        judged = finite.start() if guard is None else guard
        return steps.make_runner(step, fetch, placed, judged, states.root_of(self.seed))

    def in_memory(self) -> bool:
        """Returns whether the training set is held in memory; if not, it is streamed. See `feeding.in_memory`."""
        return feeding.in_memory(self._training_set(), self.data, self.train)

    def feed(self) -> feeds.Feed:
        """Opens the training data; see `feeding.feed`."""
        return feeding.feed(self._training_set(), self.data, self.train, self.seed, self.mesh)

    def bad_example(self, index: int) -> Bad | None:
        """Returns what is wrong with an example of the training set, or None if it can be read now.

        Args:
          index: Index of the example.
        """
        return feeding.bad_example(self._training_set(), self.data, index)

    def _training_set(self) -> sources.Source:
        if self.source is None:
            raise UserError(f"the training set is needed: {self.absent}")
        return self.source

    def judged(self, features: str | Path | None = None) -> evaluations.Judged:
        """Returns the model and what evaluations need to know of it.

        Args:
          features: Folder to store features in, for other evaluations of the same variables; None to store none.
        """
        named = {name: self.config[name].to_dict() for name in ("task", "model")}
        store = Store({**named, "precision": self.train.precision, "versions": workdirs.versions()}, features)
        variables = jax.eval_shape(self.init).variables
        specs = self.preprocessing()
        return evaluations.Judged(
            self.task,
            variables,
            self.data,
            *specs,
            self.info,
            self.statistics,
            self.mesh,
            store,
            self.source,
            self.fields,
        )

    def evaluations(self, features: str | Path | None = None) -> list[Evaluation]:
        """Makes the evaluations of the config, and opens their data.

        Args:
          features: Folder to store features in, or None; see `judged`.
        """
        return evaluations.make_evaluations(self.evals, self.judged(features), self.durations)

    def preprocessing(self) -> tuple[str, str]:
        """Returns the (host, augment) specs of training without their random operations."""
        return host_ops.host_ops.evaluation(self.data.host), augment.evaluation(self.config.get("augment", ""))

    def deployment(self) -> tuple[str, str]:
        """Returns the (host, augment) specs for new images: those of the first evaluation."""
        host, transform = self.preprocessing()
        first = self.evals[0].common if self.evals else None
        if first is not None and first.host is not None:
            host = first.host
        if first is not None and first.augment is not None:
            transform = first.augment
        return host, transform


def build(
    config: ConfigDict,
    *,
    training_data: str = "required",
    statistics: Mapping[str, np.ndarray] | None = None,
    stored: Mapping[str, Field] | None = None,
) -> Experiment:
    """Builds and checks everything that `config` names.

    Args:
      config: Config, as `get_config` returns it.
      training_data: "required"; "optional" to let the config's `data.classes`, `data.examples` and `data.image_size`
        describe an absent set; or "ignored" to use this description in any case.
      statistics: Statistics of the training set from a checkpoint. None to compute those that the augmentation needs,
        which reads the whole set; if the set is absent, they are zeros.
      stored: Fields of the training set as they are stored, from a checkpoint; None to read them from the set.

    Returns:
      The experiment.

    Raises:
      UserError: Something in the config does not fit; the message names its key.
    """
    config = configs.normalised(config)
    sections = _read_sections(config)
    data, train, pretrained = sections.data, sections.train, sections.pretrained
    # Mistakes in names come first: opening the data may render or read a whole set.
    components.check_parts(config)
    host_ops.host_ops.evaluation(data.host)
    augment.evaluation(config.get("augment", ""))
    mesh = make_mesh(sections.mesh.data, sections.mesh.fsdp, sections.mesh.tensor)
    components.check_train(train, data.batch_size, mesh)

    opened = inputs.open_inputs(data, training_data, stored)
    if opened.source:
        components.check_texts(config.model, data.host)
    to_steps = partial(durations.steps, batch_size=data.batch_size, examples=opened.info.num_examples)
    total = to_steps(train.total)
    to_steps = partial(to_steps, total=total)

    # The statistics of the set are computed last, because that reads all of it. Until then zeros stand in for them.
    compute = partial(inputs.statistics, opened, data, _statistics_names(config, sections.evals))
    make_augment = partial(
        augment.make_augmentation, config.get("augment", ""), num_classes=opened.info.num_classes, fields=opened.fields
    )
    transform = make_augment(statistics=compute(blank=True) if statistics is None else statistics)
    task = components.make_task(config, train, opened.info, transform.fields, pretrained, to_steps, total, mesh)
    components.check_compared(task, train, data.batch_size)
    augmented = jax.eval_shape(transform, jax.random.key(0), opened.batch)
    with reading_fields(f"the task {config.task.name!r}", augmented):
        params = jax.eval_shape(task.init, jax.random.key(0), augmented).get("params", {})
    optimizer = components.make_optimizer(config, pretrained, task, params, to_steps, total)
    if statistics is None:
        statistics = compute(blank=False)
        transform = make_augment(statistics=statistics)

    return Experiment(
        config=config,
        data=data,
        train=train,
        pretrained=pretrained,
        evals=sections.evals,
        **opened._asdict(),
        statistics=statistics,
        augmented=augmented,
        params=params,
        mesh=mesh,
        rules=sections.mesh.rules,
        task=task,
        augment=transform,
        optimizer=optimizer,
        durations=to_steps,
        total=total,
        init=components.initializer(config, train, task, optimizer, augmented),
    )


class _Sections(NamedTuple):
    """The sections of a config that the engine reads, checked one by one, with defaults filled in."""

    data: DataSection
    train: TrainSection
    mesh: MeshSection
    pretrained: InitSection | None
    evals: Sequence[evaluations.Entry]


def _read_sections(config: ConfigDict) -> _Sections:
    configs.check_sections(config)
    data = configs.call(DataSection, config.data, "data")
    train = configs.call(TrainSection, config.train, "train")
    evals = evaluations.read_entries(config.get("evals"))
    arguments.check_value("seed", config.get("seed", 0), Annotated[int, arguments.Range(0, 2**63 - 1)])
    mesh = configs.call(MeshSection, config.get("mesh") or {}, "mesh")
    components.read_online(config.get("online"))
    pretrained = configs.call(InitSection, config.init, "init") if config.get("init") else None
    if pretrained:
        transfer.check(pretrained, components.pretrained_model(config, pretrained))
    return _Sections(data, train, mesh, pretrained, evals)


def _statistics_names(config: ConfigDict, evals: Sequence[evaluations.Entry]) -> frozenset[str]:
    """Returns the names of the statistics that the augmentations of training and of the evaluations need."""
    specs = [config.get("augment", ""), *(entry.common.augment or "" for entry in evals)]
    return augment.needs_statistics("|".join(spec for spec in specs if spec))
