"""The contract between what is learned and the engine that trains it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Batch = dict[str, Any]
Variables = dict[str, Any]
Metrics = dict[str, jax.Array]


class Task(NamedTuple):
    """Pure functions over variables and batches; the engine knows nothing else of a task.

    Variables are a dict of collections: `params` is trained, the others (such as `batch_stats`) are
    carried from step to step. Batches have been through the augmentation: float images.

    Attributes:
      init: `(rng, batch) -> variables`.
      loss: `(variables, batch, rng) -> (loss, (metrics, updated collections))`. The loss is the mean
        over the batch; metrics are scalars that average over the batch likewise.
      outputs: `(variables, batch) -> {"features": [B, D], "logits": [B, K], ...}` for evaluators,
        without dropout and with running statistics.
      ask: `(batch, rng) -> pretext.Questions`, what `loss` shows the network in place of the images; None where it
        sees them as they are.
    """

    init: Callable[[jax.Array, Batch], Variables]
    loss: Callable[[Variables, Batch, jax.Array], tuple[jax.Array, tuple[Metrics, Variables]]]
    outputs: Callable[[Variables, Batch], dict[str, Any]]
    ask: Callable[[Batch, jax.Array], Any] | None = None
