"""What a run carries from step to step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxvision.parallel.rules import Rules, shardings
from jaxvision.tasks.task import Batch, Task
from jaxvision.train import players

PyTree = Any


class TrainState(NamedTuple):
    """State after `step` updates. Nothing else is needed to go on: keys and batches follow from the step.

    Attributes:
      step: int32 scalar.
      params: the trained variables.
      model_state: the other collections of the model, such as `batch_stats`.
      opt_state: state of the optax chain, or of those of the players by name.
      ema: exponential moving average of {"params", **model_state}, or None.
    """

    step: jax.Array
    params: PyTree
    model_state: PyTree
    opt_state: PyTree
    ema: PyTree | None

    @property
    def variables(self) -> PyTree:
        """The collections as the model takes them, as trained."""
        return {"params": self.params, **self.model_state}

    @property
    def best_variables(self) -> PyTree:
        """The averaged variables where an average is kept, else the trained ones."""
        return self.variables if self.ema is None else self.ema


def initializer(task: Task, tx: players.Transforms, batch: Batch, seed: int, ema: bool) -> Callable:
    """A function of no arguments that makes the state at step 0.

    Args:
      task: gives the variables.
      tx: gives the optimizer state: an optimizer, or those of the players by name.
      batch: an augmented batch, arrays or `ShapeDtypeStruct`s; only shapes and dtypes matter.
      seed: of the initial parameters.
      ema: whether the state keeps an average.
    """

    def init() -> TrainState:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), batch)
        variables = dict(task.init(jax.random.key(seed), zeros))
        params = variables.pop("params")
        average = jax.tree.map(jnp.copy, {"params": params, **variables}) if ema else None
        return TrainState(jnp.zeros((), jnp.int32), params, variables, players.start(task, tx, params), average)

    return init


def create(init: Callable[[], TrainState], mesh: jax.sharding.Mesh, rules: Rules) -> TrainState:
    """Makes the initial state on the devices, each leaf straight into its sharding."""
    return jax.jit(init, out_shardings=shardings(jax.eval_shape(init), mesh, rules))()


def abstract(init: Callable[[], TrainState], mesh: jax.sharding.Mesh, rules: Rules) -> TrainState:
    """Shapes, dtypes and shardings of the state, without allocating it."""
    shapes = jax.eval_shape(init)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings(shapes, mesh, rules)
    )
