"""One update as a pure function of state and batch, and many of them in one dispatch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxvision.errors import UserError, reading_fields
from jaxvision.parallel.mesh import replicated
from jaxvision.tasks.task import After, Batch, Metrics, Task, Variables
from jaxvision.train import finite, players, turns
from jaxvision.train.state import TrainState

Step = Callable[..., tuple[TrainState, Metrics]]  # (state, batch), or (state, batch, guard)

_AFTER = 2**31  # folded into the key of a step for what follows it; parts and players fold in their numbers


def step_keys(seed: int, step: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """The keys of a step: one for the augmentation, one for the task."""
    augment_rng, task_rng = jax.random.split(jax.random.fold_in(jax.random.key(seed), step))
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
) -> Step:
    """Builds `step(state, batch, guard=None) -> (state, metrics)`.

    All that is random in it (augmentation, dropout) follows from (seed, state.step), so a resumed
    run repeats an unbroken one. A step whose loss, gradient, new parameters, optimizer state, model state or average
    are not finite is not taken; `guard` is what the steps before it left for that decision (see finite.py).

    Args:
      task: what is learned.
      augment: `(rng, batch) -> batch`, applied to the whole batch before it is split.
      tx: the optimizer chain, or those of the players by name.
      seed: of the random draws.
      accumulate: number of parts into which the batch is split. The gradient is the mean over the parts, or that of
        the whole batch exactly where the loss is a `Joint`; see accumulation.py.
      ema: decay of the average of the variables, in (0, 1), or None. The average starts at the
        initial variables; early on the decay is min(ema, (1 + t) / (10 + t)), as in TensorFlow's
        ExponentialMovingAverage with num_updates.
      max_skipped: how many steps in a row may be skipped; after one more nothing moves, not even `step`.
      skip_spikes: whether steps are skipped, too, whose loss is a spike (`finite.DEVIATIONS`).

    Metrics: `loss`, `grad_norm` (before clipping), `param_norm`, and those of the task; float32 scalars. Of several
    players, `loss` is the sum of `NAME_loss`. Of these,
    `skipped`, `stopped` and `spike` are 0 or 1. `guard`, a `finite.Guard`, belongs to the next step.
    """

    def step(state: TrainState, batch: Batch, guard: finite.Guard | None = None) -> tuple[TrainState, Metrics]:
        augment_rng, task_rng = step_keys(seed, state.step)
        batch = augment(augment_rng, batch)
        with reading_fields("the task", batch):
            grads, model_state, metrics, rows = turns.take_turns(task, tx, accumulate, state, batch, task_rng)

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

        metrics |= {"grad_norm": optax.tree.norm(grads)}
        following, guarding = finite.guarded(
            state, updated, grads, metrics, guard, max_skipped=max_skipped, skip_spikes=skip_spikes
        )
        return following, metrics | {"param_norm": optax.tree.norm(following.params)} | guarding

    return step


def _replaced(variables: Variables, changed: Variables) -> Variables:
    """The variables with some collections replaced; UserError where these are not of the same arrays."""
    for name, collection in changed.items():
        of = lambda tree: jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree)
        if name not in variables or of(collection) != of(variables[name]):
            raise UserError(
                f"what the task changes after a step must have the arrays that it had before: the collection {name!r} "
                + ("is new: make it in `init`" if name not in variables else "has others, or of another shape or type")
            )
    return {**variables, **changed}


def _averaged(new: Variables, average: Variables, rate: jax.Array) -> Variables:
    """The average moved to the new variables; what is no real number, such as a place in a queue, is the new one."""
    real = lambda x: jnp.issubdtype(jnp.result_type(x), jnp.inexact)
    return jax.tree.map(lambda n, a: optax.incremental_update(n, a, rate) if real(a) else n, new, average)


class Runner:
    """Takes steps, `runner(state, constants, items) -> (state, metrics)`, and keeps the guard between them.

    Args:
      run: jitted, `(state, guard, constants, items) -> (state, guard, metrics)`.
      guard: guard that the steps before the first one left.
    """

    def __init__(self, run: Callable, guard: finite.Guard | None):
        self.run, self._guard = run, guard

    def __call__(self, state: TrainState, constants: Any, items: Any) -> tuple[TrainState, Metrics]:
        """One step for each item."""
        state, self._guard, metrics = self.run(state, self._guard, constants, items)
        return state, metrics

    def lower(self, state: TrainState, constants: Any, items: Any) -> jax.stages.Lowered:
        """The program of a call with arguments of these shapes, to be compiled and looked at."""
        return self.run.lower(state, self._guard, constants, items)


def make_runner(
    step: Step,
    fetch: Callable[[Any, Any], Batch],
    state_shardings: TrainState,
    guard: finite.Guard | None = None,
) -> Runner:
    """Jits `run(state, constants, items) -> (state, metrics)`, which takes one step for each item.

    Args:
      step: step from `make_train_step`.
      fetch: `(constants, item) -> batch`, e.g. the rows of a set on the device for some indices.
      state_shardings: shardings of the state, in and out; the state that goes in is donated.
      guard: guard that the steps before the first one left; the runner carries it on from step to step. With None
        every step is judged by itself.

    The items have a leading axis of k steps; so have the metrics. Compiled once for each k.
    """

    def run(state: TrainState, guard: Any, constants: Any, items: Any) -> tuple[TrainState, Any, Metrics]:
        def body(carry, item):
            state, guard = carry
            batch = fetch(constants, item)
            state, metrics = step(state, batch) if guard is None else step(state, batch, guard)
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
        in_shardings=(state_shardings, everywhere, None, None),
        out_shardings=(state_shardings, everywhere, None),
    )
    return Runner(jitted, None if guard is None else jax.device_put(guard, everywhere))
