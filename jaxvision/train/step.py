"""One update as a pure function of state and batch, and a runner that takes several updates in one dispatch."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvision.errors import UserError, reading_fields
from jaxvision.parallel.mesh import replicated
from jaxvision.tasks.task import After, Batch, Metrics, Task, Variables
from jaxvision.train import finite, players, turns
from jaxvision.train.state import TrainState

PyTree = Any
Step: TypeAlias = Callable[..., tuple[TrainState, Metrics]]  # of (state, batch), or of (state, batch, guard)

_AFTER = 2**31  # folded into the key of a step for `Task.after`; microbatches and players fold in small numbers


def step_keys(seed: int, step: jax.Array | int, root: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Returns the keys of a step, two scalars: one for the augmentation and one for the task.

    Args:
      seed: Seed of the run.
      step: Number of the step, an integer scalar.
      root: Data of the seed's key, uint32 [2], see `state.root_of`; None to make the key here.
    """
    key = jax.random.key(seed) if root is None else jax.random.wrap_key_data(root)
    augment_rng, task_rng = jax.random.split(jax.random.fold_in(key, step))
    return augment_rng, task_rng


def make_train_step(
    task: Task,
    augment: Callable[[jax.Array, Batch], Batch],
    tx: players.Transforms,
    *,
    seed: int,
    accumulate: int = 1,
    ema: float | None = None,
    max_skipped: int = finite.MAX_SKIPPED,
    skip_spikes: bool = False,
    frozen: PyTree | None = None,
    of_weights: Callable[[PyTree], dict[str, jax.Array]] | None = None,
) -> Step:
    """Builds `step(state, batch, guard=None, root=None) -> (state, metrics)`.

    Everything random in it (augmentation, dropout) follows from (seed, state.step), so a resumed run computes the same
    as an unbroken one. A step is skipped if its loss, gradient, new parameters, optimizer state, model state or average
    is not finite; `guard` is what this decision needs to know of the steps before (see finite.py). `root` is the seed
    as an array (`state.root_of`): with it, the program does not contain the seed, and runs with other seeds share it.

    The metrics are float32 scalars: `loss`, `grad_norm` (of the trained parameters, before clipping), `param_norm`, the
    metrics of the task, and the flags `skipped`, `stopped` and `spike`, which are 0 or 1. With several players, `loss`
    is the sum of their `NAME_loss`. `guard`, a `finite.Guard`, is the argument of the next step.

    Args:
      task: Task.
      augment: Function `(rng, batch) -> batch`, applied to the whole batch before it is split.
      tx: Optimizer chain, or the chains of the players by name.
      seed: Seed of all random draws.
      accumulate: Number of microbatches that a batch is split into. The gradient is the mean over them, or exactly that
        of the whole batch if the loss is a `Joint`; see accumulation.py.
      ema: Decay of the average of the variables, in (0, 1), or None. The average starts at the initial variables. In
        early steps the decay is min(ema, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage with
        num_updates.
      max_skipped: Largest number of steps in a row that may be skipped. After one more nothing changes, not even
        `step`.
      skip_spikes: True to skip also steps whose loss is a spike (`finite.DEVIATIONS`).
      frozen: Tree of bools with the structure of the parameters, True for those that `tx` never changes. The step does
        not compute their gradient, and it does not count in `grad_norm`. None if all are trained.
      of_weights: Function of the parameters after the step that returns more metrics; None for none.

    Returns:
      The step, a pure function.
    """

    def step(
        state: TrainState, batch: Batch, guard: finite.Guard | None = None, root: jax.Array | None = None
    ) -> tuple[TrainState, Metrics]:
        augment_rng, task_rng = step_keys(seed, state.step, root)
        batch = augment(augment_rng, batch)
        with reading_fields("the task", batch):
            grads, model_state, metrics, rows = turns.take_turns(task, tx, accumulate, state, batch, task_rng, frozen)

        def updated() -> TrainState:
            params, opt_state = turns.apply(task, tx, state, grads)
            variables = {"params": params, **model_state}
            if task.after is not None:
                key = jax.random.fold_in(task_rng, _AFTER)
                variables = _replaced(variables, task.after(After(state.step, variables, rows, key)))
            average = state.ema
            if ema is not None:
                decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
                average = _averaged(variables, state.ema, 1.0 - decay)
            return TrainState(state.step, variables.pop("params"), variables, opt_state, average)

        on_cpu = jax.default_backend() == "cpu"  # where XLA would store the squares, to share them with Adam's moment
        metrics |= {"grad_norm": optax.tree.norm(jax.lax.optimization_barrier(grads) if on_cpu else grads)}
        following, guarding = finite.guarded(
            state, updated, grads, metrics, guard, max_skipped=max_skipped, skip_spikes=skip_spikes
        )
        measured = {} if of_weights is None else of_weights(following.params)
        return following, metrics | {"param_norm": optax.tree.norm(following.params)} | measured | guarding

    return step


def _replaced(variables: Variables, changed: Variables) -> Variables:
    """Replaces collections of the variables; raises a UserError if their arrays have other names, shapes or dtypes."""
    for name, collection in changed.items():
        types = lambda tree: jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree)
        if name not in variables or types(collection) != types(variables[name]):
            raise UserError(
                f"what the task changes after a step must have the arrays that it had before: the collection {name!r} "
                + ("is new: make it in `init`" if name not in variables else "has others, or of another shape or type")
            )
    return {**variables, **changed}


def _averaged(new: Variables, average: PyTree, rate: jax.Array) -> PyTree:
    """Moves the average towards the new variables. Integers, such as a position in a queue, are copied."""
    real = lambda x: jnp.issubdtype(jnp.result_type(x), jnp.inexact)
    return jax.tree.map(lambda n, a: optax.incremental_update(n, a, rate) if real(a) else n, new, average)


class Runner:
    """Takes steps, `runner(state, constants, items) -> (state, metrics)`, and keeps the guard between them.

    Args:
      run: Jitted function `(state, guard, root, constants, items) -> (state, guard, metrics)`.
      guard: Guard from the steps before the first one, or None.
      root: Seed as an array, uint32 [2], see `state.root_of`, or None.
    """

    def __init__(self, run: jax.stages.Wrapped, guard: finite.Guard | None, root: np.ndarray | None):
        self.run, self._guard, self._root = run, guard, root

    def __call__(self, state: PyTree, constants: PyTree, items: PyTree) -> tuple[PyTree, Metrics]:
        """Takes one step for each item.

        Args:
          state: State before the steps; it is donated.
          constants: Arrays that every step reads; see `feed.Feed`.
          items: Items of k steps, arrays [k, ...].

        Returns:
          The state after the steps, and the metrics, arrays [k].
        """
        state, self._guard, metrics = self.run(state, self._guard, self._root, constants, items)
        return state, metrics

    def lower(self, state: PyTree, constants: PyTree, items: PyTree) -> jax.stages.Lowered:
        """Lowers the program of a call, to compile or inspect it.

        Args:
          state: State, or its shapes.
          constants: Arrays that every step reads, or their shapes.
          items: Items of k steps, [k, ...], or their shapes.
        """
        return self.run.lower(state, self._guard, self._root, constants, items)


def make_runner(
    step: Callable[..., tuple[PyTree, Metrics]],
    fetch: Callable[[PyTree, PyTree], PyTree],
    state_shardings: PyTree,
    guard: finite.Guard | None = None,
    root: np.ndarray | None = None,
) -> Runner:
    """Jits `run(state, constants, items) -> (state, metrics)`, which takes one step for each item.

    The items, and the metrics, have a leading axis of k steps. The program is compiled once for each k.

    Args:
      step: Step, from `make_train_step`.
      fetch: Function `(constants, item) -> batch` that is part of the jitted program; it may pick rows of a data set on
        the device by their indices.
      state_shardings: Shardings of the state, before and after; the state that goes in is donated.
      guard: Guard from the steps before the first one; the runner carries it from step to step. With None every step
        is judged alone.
      root: Seed as an array, uint32 [2], see `state.root_of`, which becomes an argument of the program; None to leave
        the seed in the program.
    """

    def run(state: PyTree, guard: Any, root: Any, constants: PyTree, items: PyTree) -> tuple[PyTree, Any, Metrics]:
        rest = {} if root is None else {"root": root}

        def body(carry, item):
            state, guard = carry
            batch = fetch(constants, item)
            state, metrics = step(state, batch, **rest) if guard is None else step(state, batch, guard, **rest)
            return (state, None if guard is None else metrics["guard"]), metrics

        if jax.tree.leaves(items)[0].shape[0] > 1:
            (state, guard), metrics = jax.lax.scan(body, (state, guard), items)
            return state, guard, metrics
        (state, guard), metrics = body((state, guard), jax.tree.map(lambda x: x[0], items))
        return state, guard, jax.tree.map(lambda x: x[None], metrics)

    everywhere = replicated(jax.tree.leaves(state_shardings)[0].mesh)
    jitted = jax.jit(
        run,
        donate_argnums=0,
        in_shardings=(state_shardings, everywhere, everywhere, None, None),
        out_shardings=(state_shardings, everywhere, None),
    )
    return Runner(jitted, None if guard is None else jax.device_put(guard, everywhere), root)
