"""The contract between what is learned and the engine that trains it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from jaxvision import paths
from jaxvision.errors import UserError
from jaxvision.fields import Field
from jaxvision.layout import Layout, collection_pattern, module_pattern

__all__ = ["collection_pattern", "module_pattern"]  # patterns of parts, which tasks take from here

Batch = dict[str, Any]
Variables = dict[str, Any]
Metrics = dict[str, jax.Array]
# (variables, batch, rng) -> (loss, (metrics, updated collections)), or (loss, (metrics, updated collections, rows))
Loss = Callable[[Variables, Batch, jax.Array], tuple[jax.Array, tuple]]


PARTS = {"head": module_pattern("(?:distillation_)?head"), "backbone": r".*"}  # of a task that trains one model
PAIRS = {"image": Field("image", (None, None, 3), "float32", views=2)}  # fields of a batch of two views of each image


def check_classes(task: str, num_classes: int | None, multi_label: bool = False) -> None:
    """Raises UserError where a data set has one class for all images, so that no answer could be wrong."""
    if num_classes == 1 and not multi_label:
        raise UserError(
            f"the task {task!r} tells classes apart, but this data set has one class, so that every answer is right "
            "and nothing is learned: see which files and labels it was made of (`jaxvision inspect`), and set "
            "data.split or the options of its source"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Joint:
    """A loss over all pairs of a batch, cut where its examples first meet; it is called like any other loss.

    So it can be accumulated exactly; see train/accumulation.py.

    Attributes:
      embed: `(variables, batch, rng) -> (embeddings, updated collections)`: arrays [B, ...], of each example alone
        (but for BatchNorm, which sees those that are embedded together).
      compare: `(variables, embeddings, batch) -> (loss, metrics)`, of all of them, or `(loss, metrics, rows)`.
    """

    embed: Callable[[Variables, Batch, jax.Array], tuple[Any, Variables]]
    compare: Callable[[Variables, Any, Batch], tuple]

    def __call__(self, variables: Variables, batch: Batch, rng: jax.Array) -> tuple[jax.Array, tuple]:
        """The loss of a batch at once."""
        embeddings, updates = self.embed(variables, batch, rng)
        value, metrics, *rows = self.compare(variables, embeddings, batch)
        return value, (metrics, updates, *rows)


class After(NamedTuple):
    """What a task sees after an optimizer step.

    Attributes:
      step: Number of the step, int32: 0 in the first, the last of a run has `total_steps - 1`.
      variables: All collections, with the parameters and the statistics that the step made.
      rows: Arrays [B, ...] that the loss gave of the examples, of the whole batch in its order, however many parts it
        was computed in and devices it lies on; of several players a dict of theirs by player. None where the loss
        gives none.
      rng: Key of the step, for what is drawn here.
    """

    step: jax.Array
    variables: Variables
    rows: Any
    rng: jax.Array


class Player(NamedTuple):
    """One of several that train against or beside one another, each a part of the parameters.

    Attributes:
      part: Name of the part of the parameters that it moves, one of `Task.parts`.
      loss: Loss of its own, which may read all variables; only the gradient of its part is taken.
      every: Number of steps from one move to the next: it moves in the steps 0, every, 2 every, ... In the others its
        loss and gradient are computed for the metrics, and left.
    """

    part: str
    loss: Loss
    every: int = 1


class Task(NamedTuple):
    """Pure functions over variables and batches; the engine knows nothing else of a task.

    Variables are a dict of collections: `params` is trained, the others (such as `batch_stats`) are
    carried from step to step. Batches have been through the augmentation: float images.

    Attributes:
      init: `(rng, batch) -> variables`.
      loss: `(variables, batch, rng) -> (loss, (metrics, updated collections))`, or a `Joint`. The loss is the mean
        over the batch; metrics are scalars that average over the batch likewise. A third element beside metrics and
        collections is `rows`, arrays [B, ...] of the examples, for `after`. A metric `loss_over_chance`, the loss
        divided by that of the best answer that looks at nothing, lets the loop warn where it stays at 1. None where
        there are players.
      outputs: `(variables, batch) -> {"features": [B, D], "logits": [B, K], ...}` for evaluators,
        without dropout and with running statistics. It may take a key, `outputs(variables, batch, rng)`, for what it
        draws.
      after: `After -> updated collections`, called once an optimizer step, after it, and never for a part of an
        accumulated batch: averages of weights, centres, queues, limits of parameters. None where there is nothing to
        do. A step that is skipped skips it too.
      players: By name, those who train in turn within a step, each seeing what those before it made. Empty where one
        loss trains all parameters.
      parts: Patterns over the paths of variables ("params/head/bias") by the name of a part; the first that is found
        in a path decides, and every path must have one. Transfer, freezing and players go by these names.
      model: Names of the parts that make up `config.model`. The others lie beside it: a run that starts from this one
        leaves out those that it does not have.
      frozen: Names of parts that the optimizer never changes.
      progress: Names of metrics that a person sees while it trains, beside the loss.
      kinds: What outputs are that are no features and no logits of an image, by their names: `predict` draws those
        that are segmentations.
      labelled: True where the loss reads the labels of the data, so that a run can warn of classes without examples.
      ask: `(batch, rng) -> pretext.Questions`, what `loss` shows the network in place of the images; None where it
        sees them as they are.
      least: Number of examples that are needed at a time for the loss to compare one with another; 1 where it
        compares none.
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
    ask: Callable[[Batch, jax.Array], Any] | None = None
    least: int = 1


def part_of_params(task: Task, params: Any) -> dict[str, str]:
    """The part of every trained variable by its path, which begins below `params`.

    >>> part_of_params(Task(None, None, None), {"head": {"bias": 0}, "stem": {"kernel": 0}})
    {'head/bias': 'head', 'stem/kernel': 'backbone'}
    """
    found = Layout(task.parts, task.model).part_of(f"params/{path}" for path in paths.names(params))
    return {path.removeprefix("params/"): part for path, part in found.items()}


def in_training(module: Any, variables: Variables, *inputs: Any, rng: jax.Array, train: bool = True) -> tuple:
    """What a Linen module returns in training, and its updated collections, such as running statistics.

    Args:
      module: `module.apply(variables, *inputs, train)`.
      rng: of its dropout.
      train: False applies it as in evaluation, and the collections stay as they are.
    """
    collections = [name for name in variables if name != "params"]
    return module.apply(variables, *inputs, train=train, rngs={"dropout": rng}, mutable=collections)


def outputs_of(module: Any, variables: Variables, images: jax.Array) -> dict[str, Any]:
    """The `outputs` of a task for a model: its features and every intermediate."""
    features, out = module.apply(variables, images, train=False)
    return {"features": features, **out}
