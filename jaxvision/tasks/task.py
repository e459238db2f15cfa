"""The contract between what is learned and the engine that trains it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxvision.errors import UserError

Batch = dict[str, Any]
Variables = dict[str, Any]
Metrics = dict[str, jax.Array]


def check_classes(task: str, num_classes: int | None, multi_label: bool = False) -> None:
    """Raises UserError where a data set has one class for all images, so that no answer could be wrong."""
    if num_classes == 1 and not multi_label:
        raise UserError(
            f"the task {task!r} tells classes apart, but this data set has one class, so that every answer is right "
            "and nothing is learned: see which files and labels it was made of (`jaxvision inspect`), and set "
            "data.split or the options of its source"
        )


class Joint(NamedTuple):
    """A loss over all pairs of a batch, cut where its examples first meet; see train/accumulation.py.

    Attributes:
      embed: `(variables, batch, rng) -> (embeddings, updated collections)`: arrays [B, ...], of each example alone
        (but for BatchNorm, which sees those that are embedded together).
      compare: `(variables, embeddings, batch) -> (loss, metrics)`, of all of them.
    """

    embed: Callable[[Variables, Batch, jax.Array], tuple[Any, Variables]]
    compare: Callable[[Variables, Any, Batch], tuple[jax.Array, Metrics]]


class Task(NamedTuple):
    """Pure functions over variables and batches; the engine knows nothing else of a task.

    Variables are a dict of collections: `params` is trained, the others (such as `batch_stats`) are
    carried from step to step. Batches have been through the augmentation: float images.

    Attributes:
      init: `(rng, batch) -> variables`.
      loss: `(variables, batch, rng) -> (loss, (metrics, updated collections))`. The loss is the mean
        over the batch; metrics are scalars that average over the batch likewise. A metric `loss_over_chance`, the
        loss divided by that of the best answer that looks at nothing, lets the loop warn where it stays at 1.
      outputs: `(variables, batch) -> {"features": [B, D], "logits": [B, K], ...}` for evaluators,
        without dropout and with running statistics.
      ask: `(batch, rng) -> pretext.Questions`, what `loss` shows the network in place of the images; None where it
        sees them as they are.
      joint: the same loss in two stages, where it compares examples with one another, so that it can be accumulated.
      constrain: `params -> params`, applied after each update.
      frozen: patterns over the paths of parameters that the optimizer never changes.
      least: examples that are needed at a time for the loss to compare one with another; 1 where it compares none.
    """

    init: Callable[[jax.Array, Batch], Variables]
    loss: Callable[[Variables, Batch, jax.Array], tuple[jax.Array, tuple[Metrics, Variables]]]
    outputs: Callable[[Variables, Batch], dict[str, Any]]
    ask: Callable[[Batch, jax.Array], Any] | None = None
    joint: Joint | None = None
    constrain: Callable[[Any], Any] = lambda params: params
    frozen: tuple[str, ...] = ()
    least: int = 1


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
