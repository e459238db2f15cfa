"""The contract between a task, which defines what is learned, and the engine that trains it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax

from jaxvision import paths
from jaxvision.errors import UserError
from jaxvision.fields import Field
from jaxvision.layout import Layout, collection_pattern, module_pattern

if TYPE_CHECKING:
    from flax import linen as nn

    from jaxvision.tasks.pretext import Questions

__all__ = ["collection_pattern", "module_pattern"]  # patterns of parts, which tasks take from here

Batch = dict[str, Any]
Variables = dict[str, Any]
Metrics = dict[str, jax.Array]
# The argument `model` of a task's factory: builds the module for a number of classes, or None for no classifier.
ModelFn: TypeAlias = "Callable[[int | None], nn.Module]"
# (variables, batch, rng) -> (loss, (metrics, updated collections)), or (loss, (metrics, updated collections, rows));
# see `Task.loss`.
Loss = Callable[[Variables, Batch, jax.Array], tuple[jax.Array, tuple]]


PARTS = {"head": module_pattern("(?:distillation_)?head"), "backbone": r".*"}  # of a task that trains one model
PAIRS = {"image": Field("image", (None, None, 3), "float32", views=2)}  # fields of a batch of two views of each image


def check_classes(task: str, num_classes: int | None, multi_label: bool = False) -> None:
    """Refuses a data set that has one class for all images, since no answer could be wrong.

    Args:
      task: Name of the task, for the message.
      num_classes: Number of classes of the data set, or None.
      multi_label: True if an image has any number of labels.

    Raises:
      UserError: If there is one class.
    """
    if num_classes == 1 and not multi_label:
        raise UserError(
            f"the task {task!r} tells classes apart, but this data set has one class, so every answer is right and "
            "nothing is learned: look at its files and labels with `jaxvision inspect`, and set data.split or the "
            "options of its source"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Joint:
    """A loss that compares examples, as two functions: one embeds each example, one compares all of them.

    It is called like any other loss. The split allows exact accumulation: microbatches are embedded one after the
    other, and compared at once (train/accumulation.py).

    Attributes:
      embed: Function `(variables, batch, rng) -> (embeddings, updated collections)`. Embeddings are arrays [b, ...],
        computed from each example alone (except for BatchNorm, whose statistics are those of the microbatch).
      compare: Function `(variables, embeddings, batch) -> (loss, metrics)`, or `(loss, metrics, rows)`, of the
        embeddings of the whole batch.
    """

    embed: Callable[[Variables, Batch, jax.Array], tuple[Any, Variables]]
    compare: Callable[[Variables, Any, Batch], tuple]

    def __call__(self, variables: Variables, batch: Batch, rng: jax.Array) -> tuple[jax.Array, tuple]:
        """Computes the loss of a whole batch.

        Args:
          variables: Variables of the task.
          batch: Batch as it comes from the augmentation.
          rng: Key of the step.

        Returns:
          The loss, float32 [], and a tuple of metrics, updated collections and, if `compare` returns them, rows.
        """
        embeddings, updates = self.embed(variables, batch, rng)
        value, metrics, *rows = self.compare(variables, embeddings, batch)
        return value, (metrics, updates, *rows)


class After(NamedTuple):
    """The argument of `Task.after`: the state of training after an optimizer step.

    Attributes:
      step: Number of the step, int32 []: 0 for the first, `total_steps - 1` for the last of a run.
      variables: All collections, with the parameters and statistics after the step.
      rows: Arrays [b, ...] that the loss returned for the examples, in the order of the whole batch, even if the batch
        was computed in microbatches or on several devices. With several players, a dict of them by player. None if the
        loss returns no rows.
      rng: Key of the step, for random draws in `after`.
    """

    step: jax.Array
    variables: Variables
    rows: Any
    rng: jax.Array


class Player(NamedTuple):
    """One of several networks that train against or with each other, such as the generator of a GAN.

    Attributes:
      part: Name of the part of the parameters that it updates, one of `Task.parts`.
      loss: Loss that it minimises. It may read all variables; only the gradient of `part` is taken.
      every: Number of steps between two updates: it updates in the steps 0, every, 2 every, ... In other steps its
        loss and gradient are computed for the metrics only.
    """

    part: str
    loss: Loss
    every: int = 1


class Pictures(NamedTuple):
    """Pictures that a task draws of images, such as reconstructions, for `jaxvision visualize`.

    Attributes:
      title: Heading of the pictures.
      text: Sentences on what they show.
      draw: Function `(variables, batch, rng) -> {caption: images float [b, h, w, 3]}`, with one picture of each image
        under each caption, on the scale of the images of the batch.
    """

    title: str
    text: str
    draw: Callable[[Variables, Batch, jax.Array], dict[str, jax.Array]]


class Task(NamedTuple):
    """Pure functions over variables and batches: all that the engine knows of a task.

    Variables are a dict of collections. `params` is trained; the others, such as `batch_stats`, are carried from step
    to step. Batches come from the augmentation, so images are float.

    Attributes:
      init: Function `(rng, batch) -> variables`.
      loss: Function `(variables, batch, rng) -> (loss, (metrics, updated collections))`, or a `Joint`. The loss is the
        mean over the batch; metrics are scalars, and means over the batch too. The inner tuple may have a third
        element, `rows`: arrays [b, ...] with a row for each example, which `after` gets. If there is a metric
        `loss_over_chance` (the loss divided by the best loss possible without looking at the input), the loop warns
        when it stays at 1. None if there are players.
      outputs: Function `(variables, batch) -> {"features": [b, d], "logits": [b, k], ...}` for evaluators, without
        dropout and with running statistics. If it draws random numbers, it takes a key: `outputs(variables, batch,
        rng)`.
      after: Function `After -> updated collections`, called once after each optimizer step, not after each
        microbatch, and not if the step is skipped. It is for averages of weights, centres, queues and limits of
        parameters. None for nothing.
      players: Players by name. They train in turn within a step, each with the updates of those before it. Empty if
        one loss trains all parameters.
      parts: Pattern over the paths of variables ("params/head/bias") by name of the part. A path belongs to the first
        part whose pattern is found in it, and every path must have one. Transfer, freezing and players use these
        names.
      model: Names of the parts that make up `config.model`. Another run that starts from this one ignores the other
        parts if it has none of that name.
      frozen: Names of the parts that the optimizer never changes.
      progress: Names of the metrics that are shown during training, next to the loss.
      kinds: Fields that describe outputs other than features and logits, by name of the output; `predict` draws those
        that are segmentations.
      labelled: True if the loss reads the labels of the data, so that a run can warn of classes without examples.
      ask: Function `(batch, rng) -> pretext.Questions` that makes the network's input, if `loss` does not show it the
        images themselves; else None.
      pictures: Pictures that it draws of images, or None.
      least: Number of examples that the loss needs at a time, 2 if it compares examples with each other.
    """

    init: Callable[[jax.Array, Batch], Variables]
    loss: Loss | None
    outputs: Callable[..., dict[str, Any]]
    after: Callable[[After], Variables] | None = None
    players: Mapping[str, Player] = {}
    parts: Mapping[str, str] = PARTS
    model: tuple[str, ...] = ("backbone", "head")
    frozen: tuple[str, ...] = ()
    progress: tuple[str, ...] = ()
    kinds: Mapping[str, Field] = {}
    labelled: bool = False
    ask: "Callable[[Batch, jax.Array], Questions] | None" = None
    pictures: Pictures | None = None
    least: int = 1


def part_of_params(task: Task, params: Mapping[str, Any]) -> dict[str, str]:
    """Returns the part of every trained variable by path.

    Args:
      task: Task that defines the parts.
      params: Collection `params` of its variables, which the paths leave out.

    >>> part_of_params(Task(None, None, None), {"head": {"bias": 0}, "stem": {"kernel": 0}})
    {'head/bias': 'head', 'stem/kernel': 'backbone'}
    """
    parts = Layout(task.parts, task.model).part_of(f"params/{path}" for path in paths.names(params))
    return {path.removeprefix("params/"): part for path, part in parts.items()}


def in_training(module: "nn.Module", variables: Variables, *inputs: Any, rng: jax.Array, train: bool = True) -> tuple:
    """Applies a Linen module as in training.

    Args:
      module: Module, called as `module(*inputs, train=train)`.
      variables: Variables of the module.
      *inputs: Arrays that the module takes, such as images [b, h, w, 3].
      rng: Key of its dropout.
      train: False to apply it as in evaluation; then the collections stay as they are.

    Returns:
      The outputs of the module, and its updated collections, such as running statistics.
    """
    collections = [name for name in variables if name != "params"]
    return module.apply(variables, *inputs, train=train, rngs={"dropout": rng}, mutable=collections)


def outputs_of(module: "nn.Module", variables: Variables, images: jax.Array) -> dict[str, Any]:
    """Computes the `outputs` of a task from a model: its features and every intermediate.

    Args:
      module: Linen module that returns features and a dict of intermediates.
      variables: Variables of the module.
      images: Images, float [b, h, w, 3].
    """
    features, out = module.apply(variables, images, train=False)
    return {"features": features, **out}
