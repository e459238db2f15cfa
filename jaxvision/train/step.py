"""One update as a pure function of state and batch, and many of them in one dispatch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxvision.errors import reading_fields
from jaxvision.tasks.task import Batch, Metrics, Task
from jaxvision.train import accumulation
from jaxvision.train.state import TrainState

Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def step_keys(seed: int, step: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """The keys of a step: one for the augmentation, one for the task."""
    augment_rng, task_rng = jax.random.split(jax.random.fold_in(jax.random.key(seed), step))
    return augment_rng, task_rng


def make_train_step(
    task: Task,
    augment: Callable[[jax.Array, Batch], Batch],
    tx: optax.GradientTransformation,
    *,
    seed: int,
    accumulate: int = 1,
    ema: float | None = None,
) -> Step:
    """Builds `step(state, batch) -> (state, metrics)`.

    All that is random in it (augmentation, dropout) follows from (seed, state.step), so a resumed
    run repeats an unbroken one.

    Args:
      task: what is learned.
      augment: `(rng, batch) -> batch`, applied to the whole batch before it is split.
      tx: the optimizer chain.
      seed: of the random draws.
      accumulate: number of parts into which the batch is split. The gradient is the mean over the parts, or that of
        the whole batch exactly where the task is a `joint` one; see accumulation.py.
      ema: decay of the average of the variables, in (0, 1), or None. The average starts at the
        initial variables; early on the decay is min(ema, (1 + t) / (10 + t)), as in TensorFlow's
        ExponentialMovingAverage with num_updates.

    Metrics: `loss`, `grad_norm` (before clipping), `param_norm`, and those of the task; float32 scalars.
    """

    if accumulate == 1:
        gradients = accumulation.whole(task)
    else:
        gradients = (accumulation.cached if task.joint else accumulation.averaged)(task, accumulate)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        augment_rng, task_rng = step_keys(seed, state.step)
        batch = augment(augment_rng, batch)
        with reading_fields("the task", batch):
            grads, model_state, metrics = gradients(state.params, state.model_state, batch, task_rng)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = task.constrain(optax.apply_updates(state.params, updates))
        average = state.ema
        if ema is not None:
            decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
            average = optax.incremental_update({"params": params, **model_state}, state.ema, 1.0 - decay)
        metrics |= {"grad_norm": optax.tree.norm(grads), "param_norm": optax.tree.norm(params)}
        return TrainState(state.step + 1, params, model_state, opt_state, average), metrics

    return step


def make_runner(step: Step, fetch: Callable[[Any, Any], Batch], state_shardings: TrainState) -> Callable:
    """Jits `run(state, constants, items) -> (state, metrics)`, which takes one step for each item.

    Args:
      step: from `make_train_step`.
      fetch: `(constants, item) -> batch`, e.g. the rows of a set on the device for some indices.
      state_shardings: of the state, in and out; the state that goes in is donated.

    The items have a leading axis of k steps; so have the metrics. Compiled once for each k.
    """

    def run(state: TrainState, constants: Any, items: Any) -> tuple[TrainState, Metrics]:
        def body(state, item):
            return step(state, fetch(constants, item))

        if jax.tree.leaves(items)[0].shape[0] > 1:
            return jax.lax.scan(body, state, items)
        state, metrics = body(state, jax.tree.map(lambda x: x[0], items))
        return state, jax.tree.map(lambda x: x[None], metrics)

    return jax.jit(
        run, donate_argnums=0, in_shardings=(state_shardings, None, None), out_shardings=(state_shardings, None)
    )
