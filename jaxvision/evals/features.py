"""What a trained model makes of a whole split, for protocols that learn on frozen features."""

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import paths
from jaxvision.errors import UserError
from jaxvision.evals import views
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.store import Features, digest
from jaxvision.parallel.distributed import any_process, gather


def make_features(*, task: Any, data: EvalSet, layer: str = "features") -> Callable[[Any], Features]:
    """Prepares the features of a split for any variables: one pass over it, the model applied as in evaluation.

    Args:
      task: its `outputs` name the layers.
      data: the split.
      layer: an output, as in "features", "pre_logits" or "stages/2"; see `pick_layer`.

    Returns:
      `run(variables) -> Features`. The variables are only read. N x D floats stay on the host. Where `data` has a
      store, features of the same variables and images are not computed twice.
    """
    run = make_layer_features(task=task, data=data, layers=(layer,))
    return lambda variables: run(variables)[layer]


def make_layer_features(*, task: Any, data: EvalSet, layers: Sequence[str]) -> Callable[[Any], dict[str, Features]]:
    """The same for several layers in one pass: `run(variables) -> {layer: Features}`."""

    @partial(jax.jit, static_argnames="wanted")
    def apply(variables, batch, wanted):
        return tuple(pick_layers(_outputs(task, data, variables, batch), wanted).values())

    def compute(variables: Any, wanted: tuple[str, ...]) -> dict[str, Features]:
        values, labels, masks = [[] for _ in wanted], [], []
        for batch in data.batches():
            told = {field: batch[field] for field in ("mask", "label") if field in batch}
            told, found = gather((told, apply(variables, batch, wanted)))
            mask = told["mask"]
            masks.append(mask)
            labels.append(told.get("label", np.zeros(len(mask), np.int32))[mask])
            for rows, array in zip(values, found):
                rows.append(array[mask])
        rest = np.concatenate(labels), np.flatnonzero(np.concatenate(masks))
        return {layer: Features(np.concatenate(rows), *rest) for layer, rows in zip(wanted, values)}

    def run(variables: Any) -> dict[str, Features]:
        if data.store is None:
            return compute(variables, tuple(layers))
        of = digest(variables)
        found = {layer: data.store.find(of, data.identity, layer) for layer in layers}
        # Every process takes part in a pass, so all compute what one of them lacks.
        missing = tuple(layer for layer in layers if any_process(found[layer] is None))
        for layer, features in (compute(variables, missing) if missing else {}).items():
            data.store.keep(of, data.identity, layer, features)
            found[layer] = features
        return found

    return run


def pick_layer(outputs: Mapping[str, Any], layer: str) -> jax.Array:
    """One output of a model as features: maps and sequences are averaged over their positions.

    Args:
      outputs: of a task; arrays [B, D], [B, N, D] or [B, h, w, D], some within tuples or dicts.
      layer: the name of one; within others, the names from the outside in with a slash between.

    Returns:
      float32 [B, D].

    Raises:
      UserError: there is no such output, or it has no axis of features.

    >>> stages = (jnp.zeros((2, 8, 8, 16)), jnp.ones((2, 4, 4, 32)))
    >>> pick_layer({"stages": stages}, "stages/1").shape
    (2, 32)
    """
    found = paths.leaf(dict(outputs), layer, "layer").astype(jnp.float32)
    if found.ndim < 2:
        raise UserError(f"the layer {layer!r} has shape {found.shape}: no features of each image")
    return found.mean(axis=tuple(range(1, found.ndim - 1)))


def pick_layers(outputs: Mapping[str, Any], layers: Sequence[str]) -> dict[str, jax.Array]:
    """`pick_layer` for each of the layers."""
    return {layer: pick_layer(outputs, layer) for layer in layers}


def _outputs(task: Any, data: EvalSet, variables: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
    """What the task makes of a batch as it is read, as one view."""
    return views.averaged_outputs(task, variables, data.preprocess(batch), data.fields)


def _shapes(task: Any, data: EvalSet, variables: Any) -> dict[str, Any]:
    """The outputs of a task for a batch, as `ShapeDtypeStruct`s."""
    return jax.eval_shape(lambda v, batch: _outputs(task, data, v, batch), variables, data.batch)


def check_layers(task: Any, data: EvalSet, variables: Any, layers: Sequence[str]) -> None:
    """Raises UserError where the task has no such outputs, without computing anything.

    Args:
      variables: of the task; `ShapeDtypeStruct`s will do.
    """
    jax.eval_shape(partial(pick_layers, layers=layers), _shapes(task, data, variables))


def find_layers(task: Any, data: EvalSet, variables: Any, layers: Sequence[str]) -> tuple[str, ...]:
    """The layers that the names and patterns stand for, checked as by `check_layers`; see `match_layers`."""
    check_layer_names(layers)
    shapes = _shapes(task, data, variables)
    found = match_layers(paths.names(shapes), layers)
    jax.eval_shape(partial(pick_layers, layers=found), shapes)
    return found


def match_layers(names: Iterable[str], layers: Sequence[str]) -> tuple[str, ...]:
    """Layers, where one with `*` stands for all outputs whose names fit it, in their order; each appears once.

    A pattern that nothing fits is left as it is.

    >>> match_layers(("features", "stages/0", "stages/1"), ("stages/*", "features", "stages/1"))
    ('stages/0', 'stages/1', 'features')
    """
    fitting = lambda layer: fnmatch.filter(names, layer) if "*" in layer else ()
    return tuple(dict.fromkeys(name for layer in layers for name in fitting(layer) or (layer,)))


def check_layer_names(layers: Sequence[str]) -> None:
    """Raises UserError unless `layers` is a tuple of names."""
    if not layers or isinstance(layers, str) or any(not isinstance(layer, str) for layer in layers):
        raise UserError(f"layers must be a tuple of names like ('stages/0', 'features'), not {layers!r}")


def check_sets(evaluator: str, data: EvalSet, train: EvalSet) -> int:
    """The number of classes of two splits; UserError unless images of both are of one of the same classes."""
    for info in (data.info, train.info):
        if not info.num_classes:
            raise UserError(f"the evaluator {evaluator!r} needs labels; {info.name!r} names no classes")
        if info.multi_label:
            raise UserError(f"the evaluator {evaluator!r} needs one label an image; {info.name!r} has several")
    if data.info.num_classes != train.info.num_classes:
        raise UserError(
            f"{train.info.name} {train.info.split} has {train.info.num_classes} classes, "
            f"{data.info.name} {data.info.split} has {data.info.num_classes}"
        )
    return data.info.num_classes


def protocol_name(protocol: str, layer: str) -> str:
    """The name of a protocol on a layer, for its results.

    >>> protocol_name("knn20_t0.07", "features"), protocol_name("knn20_t0.07", "stages/2")
    ('knn20_t0.07', 'knn20_t0.07_stages.2')
    """
    return protocol if layer == "features" else f"{protocol}_{layer.replace('/', '.')}"
