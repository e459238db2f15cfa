"""The state of a run, which each step replaces."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.parallel.rules import Rules, shardings
from jaxvision.tasks.task import Batch, Task
from jaxvision.train import players

PyTree = Any


class TrainState(NamedTuple):
    """State after `step` updates. A run resumes from it alone, because keys and batches follow from the step.

    Attributes:
      step: Number of steps taken, int32 [].
      params: Parameters, which the optimizer trains.
      model_state: Collections of the model other than `params`, such as `batch_stats`.
      opt_state: State of the optax chain, or a dict of the states of the players' chains.
      ema: Exponential moving average of {"params", **model_state}, or None.
    """

    step: jax.Array
    params: PyTree
    model_state: PyTree
    opt_state: PyTree
    ema: PyTree | None

    @property
    def variables(self) -> PyTree:
        """The trained variables: all collections, as the model takes them."""
        return {"params": self.params, **self.model_state}

    @property
    def best_variables(self) -> PyTree:
        """The averaged variables if the run keeps an average, else the trained ones."""
        return self.variables if self.ema is None else self.ema


def root_of(seed: int) -> np.ndarray:
    """Returns the data of the key of a seed, uint32 [2], to pass to a program in place of the seed.

    A program that contains the seed must be compiled again for every seed.

    Args:
      seed: Seed of a run, at least 0.
    """
    return np.asarray(jax.random.key_data(jax.random.key(seed)))


def initializer(task: Task, tx: players.Transforms, batch: Batch, seed: int, ema: bool) -> Callable[..., TrainState]:
    """Makes a function `init(root=None)` that returns the state at step 0.

    Args:
      task: Task, which makes the variables.
      tx: Optimizer, or the optimizers of the players by name.
      batch: Augmented batch, arrays or `ShapeDtypeStruct`s; only shapes and dtypes are used.
      seed: Seed of the initial parameters.
      ema: True if the state keeps an average of the variables.
    """

    def init(root: jax.Array | None = None) -> TrainState:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), batch)
        key = jax.random.key(seed) if root is None else jax.random.wrap_key_data(root)
        variables = dict(task.init(key, zeros))
        params = variables.pop("params", {})  # a model may have none
        average = jax.tree.map(jnp.copy, {"params": params, **variables}) if ema else None
        return TrainState(
            jnp.zeros((), jnp.int32), params, variables, players.init_optimizers(task, tx, params), average
        )

    return init


def create(
    init: Callable[..., TrainState], mesh: jax.sharding.Mesh, rules: Rules, root: np.ndarray | None = None
) -> TrainState:
    """Makes the initial state on the devices. Each leaf is computed in its sharding, so no device holds all of it.

    Args:
      init: Function that makes the state, from `initializer`.
      mesh: Mesh of the devices.
      rules: Rules that map leaves to shardings.
      root: Seed as an array, uint32 [2], see `root_of`; None for that of `init`.
    """
    return jax.jit(init, out_shardings=shardings(jax.eval_shape(init), mesh, rules))(root)


def abstract(init: Callable[..., TrainState], mesh: jax.sharding.Mesh, rules: Rules) -> TrainState:
    """Returns the shapes, dtypes and shardings of the state as `ShapeDtypeStruct`s, without allocating it.

    Args:
      init: Function that makes the state, from `initializer`.
      mesh: Mesh of the devices.
      rules: Rules that map leaves to shardings.
    """
    shapes = jax.eval_shape(init)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings(shapes, mesh, rules)
    )
