"""Features of a whole split, for protocols that learn from frozen features."""

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jaxvision import paths
from jaxvision.errors import UserError
from jaxvision.evals import views
from jaxvision.evals.columns import Rows
from jaxvision.evals.dataset import Batch, EvalSet
from jaxvision.evals.passes import Examples, OfRows, Reading
from jaxvision.evals.store import Features

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables


def make_features(*, task: "Task", data: EvalSet, layer: str = "features") -> "Callable[[Variables], Features]":
    """Makes the function that computes the features of a split, in one pass, with the model as in evaluation.

    Args:
      task: Task whose `outputs` have the layer.
      data: Split to read.
      layer: Name of an output, as in "features", "pre_logits" or "stages/2"; see `pick_layer`.

    Returns:
      `run(variables) -> Features`. The variables do not change. The n x d floats stay on the devices if they are few
      (`columns.DEVICE_BYTES`), else on the host. If `data` has a store, features of the same variables and images are
      computed once.
    """
    run = make_layer_features(task=task, data=data, layers=(layer,))
    return lambda variables: run(variables)[layer]


def make_layer_features(
    *, task: "Task", data: EvalSet, layers: Sequence[str]
) -> "Callable[[Variables], dict[str, Features]]":
    """Makes the function that computes the features of several layers of a split in one pass.

    Args:
      task: Task whose `outputs` have the layers.
      data: Split to read.
      layers: Names of layers, see `pick_layer`.

    Returns:
      `run(variables) -> {layer: Features}`; see `make_features`.
    """

    def reading(layer: str) -> Reading[Features]:
        take = lambda outputs, batch: [pick_layer(outputs, layer)]
        return data.reading(task, take, partial(OfRows, finish=_features), layer=layer)

    readings = {layer: reading(layer) for layer in layers}

    def run(variables: "Variables") -> dict[str, Features]:
        results = data.read(variables, tuple(readings.values()))
        return {layer: results[reading] for layer, reading in readings.items()}

    return run


def _features(columns: list[Rows], examples: Examples) -> Features:
    return Features(columns[0], examples.labels, examples.rows)


def pick_layer(outputs: Mapping[str, Any], layer: str) -> jax.Array:
    """Picks one output of a model as features. Maps and sequences are averaged over their positions.

    Args:
      outputs: Outputs of a task: arrays [b, d], [b, n, d] or [b, h, w, d], or tuples and dicts of them.
      layer: Name of the output; for one inside a tuple or dict, its path, with slashes: "stages/1".

    Returns:
      float32 [b, d].

    Raises:
      UserError: If there is no such output, or it has no axis of features.

    >>> stages = (jnp.zeros((2, 8, 8, 16)), jnp.ones((2, 4, 4, 32)))
    >>> pick_layer({"stages": stages}, "stages/1").shape
    (2, 32)
    """
    output = paths.leaf(dict(outputs), layer, "layer").astype(jnp.float32)
    if output.ndim < 2:
        raise UserError(
            f"the layer {layer!r} has shape {output.shape}, not features for each image: name another layer"
        )
    return output.mean(axis=tuple(range(1, output.ndim - 1)))


def pick_layers(outputs: Mapping[str, Any], layers: Sequence[str]) -> dict[str, jax.Array]:
    """Picks several outputs of a model as features.

    Args:
      outputs: Outputs of a task.
      layers: Names of the outputs, see `pick_layer`.

    Returns:
      float32 [b, d] by name.
    """
    return {layer: pick_layer(outputs, layer) for layer in layers}


def _outputs(task: "Task", data: EvalSet, variables: "Variables", batch: Batch) -> dict[str, Any]:
    """The outputs of the task for a batch as it is read, averaged over views."""
    return views.averaged_outputs(task, variables, data.preprocess(batch), data.fields)


def _shapes(task: "Task", data: EvalSet, variables: "Variables") -> dict[str, Any]:
    """The outputs of a task for a batch, as `ShapeDtypeStruct`s."""
    return jax.eval_shape(lambda v, batch: _outputs(task, data, v, batch), variables, data.batch)


def check_layers(task: "Task", data: EvalSet, variables: "Variables", layers: Sequence[str]) -> None:
    """Checks that the outputs of a task have the layers, without computing anything.

    Args:
      task: Task with the outputs.
      data: Split that the task reads.
      variables: Variables of the task, arrays or `ShapeDtypeStruct`s.
      layers: Names of layers.

    Raises:
      UserError: If a layer is unknown, or has no axis of features.
    """
    jax.eval_shape(partial(pick_layers, layers=layers), _shapes(task, data, variables))


def find_layers(task: "Task", data: EvalSet, variables: "Variables", layers: Sequence[str]) -> tuple[str, ...]:
    """Expands patterns to the layers of a task, and checks these as `check_layers` does.

    Args:
      task: Task with the outputs.
      data: Split that the task reads.
      variables: Variables of the task, arrays or `ShapeDtypeStruct`s.
      layers: Names and patterns, see `match_layers`.

    Raises:
      UserError: If a layer is unknown, or has no axis of features.
    """
    check_layer_names(layers)
    shapes = _shapes(task, data, variables)
    expanded = match_layers(paths.names(shapes), layers)
    jax.eval_shape(partial(pick_layers, layers=expanded), shapes)
    return expanded


def match_layers(names: Iterable[str], layers: Sequence[str]) -> tuple[str, ...]:
    """Expands patterns with `*` to the names that match, in the order of the names. Each name appears once.

    Args:
      names: Names of all outputs.
      layers: Names and patterns. A pattern that matches nothing stays as it is.

    >>> match_layers(("features", "stages/0", "stages/1"), ("stages/*", "features", "stages/1"))
    ('stages/0', 'stages/1', 'features')
    """
    fitting = lambda layer: fnmatch.filter(names, layer) if "*" in layer else ()
    return tuple(dict.fromkeys(name for layer in layers for name in fitting(layer) or (layer,)))


def check_layer_names(layers: Sequence[str]) -> None:
    """Checks that `layers` is a tuple of names.

    Args:
      layers: Value of the option.

    Raises:
      UserError: If it is empty, one text, or has anything but texts in it.
    """
    if not layers or isinstance(layers, str) or any(not isinstance(layer, str) for layer in layers):
        raise UserError(f"layers must be a tuple of names like ('stages/0', 'features'), not {layers!r}")


def check_sets(evaluator: str, data: EvalSet, train: EvalSet) -> int:
    """Checks that two splits have one label for each image, of the same number of classes.

    Args:
      evaluator: Name of the evaluator, for the message.
      data: Split to evaluate.
      train: Split to learn from.

    Returns:
      The number of classes.

    Raises:
      UserError: If a split has no classes or several labels for an image, or the numbers of classes differ.
    """
    for info in (data.info, train.info):
        if not info.num_classes:
            raise UserError(f"the evaluator {evaluator!r} needs labels; {info.name!r} names no classes")
        if info.multi_label:
            raise UserError(f"the evaluator {evaluator!r} needs one label for each image; {info.name!r} has several")
    if data.info.num_classes != train.info.num_classes:
        raise UserError(
            f"{train.info.name} {train.info.split} has {train.info.num_classes} classes, "
            f"{data.info.name} {data.info.split} has {data.info.num_classes}"
        )
    assert data.info.num_classes is not None
    return data.info.num_classes


def protocol_name(protocol: str, layer: str) -> str:
    """Names the results of a protocol on a layer. The layer "features" is left out of the name.

    Args:
      protocol: Name of the protocol.
      layer: Name of the layer.

    >>> protocol_name("knn20_t0.07", "features"), protocol_name("knn20_t0.07", "stages/2")
    ('knn20_t0.07', 'knn20_t0.07_stages.2')
    """
    return protocol if layer == "features" else f"{protocol}_{layer.replace('/', '.')}"
