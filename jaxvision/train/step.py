"""One update as a pure function of state and batch, and many of them in one dispatch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxvision.tasks.task import Batch, Metrics, Task
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
      accumulate: number of parts into which the batch is split; gradients and metrics are the mean
        over the parts. Equal to the whole batch where the loss is a mean over examples and the
        model has no BatchNorm (whose statistics are then those of a part).
      ema: decay of the average of the variables, in (0, 1), or None. The average starts at the
        initial variables; early on the decay is min(ema, (1 + t) / (10 + t)), as in TensorFlow's
        ExponentialMovingAverage with num_updates.

    Metrics: `loss`, `grad_norm` (before clipping), `param_norm`, and those of the task; float32 scalars.
    """

    def gradients(params, model_state, batch, rng):
        def loss(params):
            return task.loss({"params": params, **model_state}, batch, rng)

        (value, (metrics, updates)), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return grads, {**model_state, **updates}, {"loss": value, **metrics}

    def accumulated(params, model_state, batch, rng):
        # Part i takes the rows i, i + accumulate, ...: each part stays spread over all devices.
        split = lambda x: jnp.moveaxis(x.reshape(x.shape[0] // accumulate, accumulate, *x.shape[1:]), 1, 0)
        parts = jax.tree.map(split, batch)

        def body(carry, part):
            total, model_state = carry
            index, batch = part
            grads, model_state, metrics = gradients(params, model_state, batch, jax.random.fold_in(rng, index))
            return (jax.tree.map(jnp.add, total, grads), model_state), metrics

        zeros = jax.tree.map(jnp.zeros_like, params)
        # XLA's CPU backend runs the gradient of a convolution many times slower inside a loop.
        unroll = accumulate if jax.default_backend() == "cpu" else 1
        (total, model_state), metrics = jax.lax.scan(
            body, (zeros, model_state), (jnp.arange(accumulate), parts), unroll=unroll
        )
        return jax.tree.map(lambda g: g / accumulate, total), model_state, jax.tree.map(jnp.mean, metrics)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        augment_rng, task_rng = step_keys(seed, state.step)
        batch = augment(augment_rng, batch)
        compute = gradients if accumulate == 1 else accumulated
        grads, model_state, metrics = compute(state.params, state.model_state, batch, task_rng)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
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
