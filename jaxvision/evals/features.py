"""What a trained model makes of a whole split, for protocols that learn on frozen features."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import UserError, unknown
from jaxvision.evals import views
from jaxvision.evals.dataset import EvalSet
from jaxvision.parallel.distributed import gather


class Features(NamedTuple):
    """The features of a split, in its order, whole and equal on every process.

    Attributes:
      values: float32 [N, D].
      labels: int32 [N], or float32 [N, K] where an image has several.
      rows: int64 [N], the position of each in the split. Images that cannot be read are left out.
    """

    values: np.ndarray
    labels: np.ndarray
    rows: np.ndarray


def make(*, task: Any, data: EvalSet, layer: str = "features") -> Callable[[Any], Features]:
    """Prepares the features of a split for any variables: one pass over it, the model applied as in evaluation.

    Args:
      task: its `outputs` name the layers.
      data: the split; its batches must hold `label`.
      layer: an output, as in "features", "pre_logits" or "stages/2"; see `pick`.

    Returns:
      `run(variables) -> Features`. The variables are only read. N x D floats stay on the host.
    """

    @jax.jit
    def apply(variables, batch):
        return pick(views.outputs(task, variables, data.preprocess(batch)), layer)

    def run(variables: Any) -> Features:
        values, labels, masks = [], [], []
        for batch in data.batches():
            mask, *found = gather((batch["mask"], apply(variables, batch), batch["label"]))
            for rows, array in zip((values, labels), found):
                rows.append(array[mask])
            masks.append(mask)
        return Features(np.concatenate(values), np.concatenate(labels), np.flatnonzero(np.concatenate(masks)))

    return run


def pick(outputs: Mapping[str, Any], layer: str) -> jax.Array:
    """One output of a model as features: maps and sequences are averaged over their positions.

    Args:
      outputs: of a task; arrays [B, D], [B, N, D] or [B, h, w, D], some within tuples or dicts.
      layer: the name of one; within others, the names from the outside in with a slash between.

    Returns:
      float32 [B, D].

    Raises:
      UserError: there is no such output, or it has no axis of features.

    >>> stages = (jnp.zeros((2, 8, 8, 16)), jnp.ones((2, 4, 4, 32)))
    >>> pick({"stages": stages}, "stages/1").shape
    (2, 32)
    """
    leaves = jax.tree_util.tree_leaves_with_path(dict(outputs))
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}
    if layer not in named:
        raise unknown("layer", layer, named)
    found = named[layer].astype(jnp.float32)
    if found.ndim < 2:
        raise UserError(f"the layer {layer!r} has shape {found.shape}: no features of each image")
    return found.mean(axis=tuple(range(1, found.ndim - 1)))
