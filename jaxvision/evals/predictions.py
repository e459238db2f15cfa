"""The logits of every example of a split, for tables and pictures of what a classifier gets right."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import UserError
from jaxvision.evals import views
from jaxvision.evals.columns import Rows
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.passes import Examples, OfRows

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables


class Predictions(NamedTuple):
    """What a classifier says of the examples of a split, in its order, equal on every process.

    Attributes:
      logits: Logits, float32 [n, k].
      labels: True classes, int [n].
      rows: Positions in the split, int64 [n]. Examples that cannot be read are left out.
    """

    logits: np.ndarray
    labels: np.ndarray
    rows: np.ndarray

    @property
    def log_probabilities(self) -> np.ndarray:
        """Logarithms of the probabilities, float64 [n, k]."""
        from scipy.special import log_softmax  # late: SciPy takes half a second to import

        return log_softmax(self.logits.astype(np.float64), axis=-1)


def make_predictions(
    *, task: "Task", data: EvalSet, variables: "Variables", label: str = "label"
) -> "Callable[[Variables], Predictions]":
    """Makes the function that computes the logits of a split in one pass, as the evaluator `classify` does.

    Args:
      task: Task whose `outputs` have "logits" [b, k].
      data: Split to read.
      variables: Variables of the task, arrays or `ShapeDtypeStruct`s; only their shapes are used.
      label: Name of the field of the labels, with one class for each example.

    Returns:
      `run(variables) -> Predictions`.

    Raises:
      UserError: If the task has no such logits, or a batch no such labels.
    """

    def outputs(variables, batch):
        return views.averaged_outputs(task, variables, data.preprocess(batch), data.fields)

    shapes = jax.eval_shape(outputs, variables, data.batch)
    if "logits" not in shapes or shapes["logits"].ndim != 2:
        raise UserError("the predictions of a classifier are wanted, but the outputs of this task have no logits")
    if label not in data.batch or data.batch[label].ndim != 1:
        raise UserError(f"the field {label!r} of {data.info.name!r} does not hold one class for each image")

    def take(outputs, batch):
        return outputs["logits"].astype(jnp.float32), batch[label]

    def finish(columns: list[Rows], examples: Examples) -> Predictions:
        logits, labels = map(np.asarray, columns)
        return Predictions(logits, labels, examples.rows)

    reading = data.reading(task, take, partial(OfRows, finish=finish))
    return lambda variables: data.read(variables, [reading])[reading]
