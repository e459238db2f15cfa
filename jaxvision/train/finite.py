"""Whether a step may be taken: its loss, its gradient and all that its update makes are finite, else it is skipped.

All of it is part of the jitted step: the devices decide, all of them alike, and the host is not waited for. A skipped
step leaves the state bit for bit as it was, but for `step`, so its batch is passed over; the counts of the optimizer,
and with them its schedule, stand still for that step.

After more than `max_skipped` skipped steps in a row nothing moves any more, `step` included, until the host sees it in
the metrics of the next log and stops (skips.py). So the state in which a run stops does not depend on its logs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import paths
from jaxvision.tasks.task import Metrics
from jaxvision.train.state import TrainState

PyTree = Any

# A loss is a spike where it lies that many standard deviations above the average of the last steps, as in the spike
# score of OLMo et al. 2025, "2 OLMo 2 Furious", sec. 3 (7 over a rolling average of 1,000 steps; here an exponential
# one of 100, so that it needs two numbers instead of a thousand and serves short runs).
DEVIATIONS = 7.0
WINDOW = 100
_LEAST_DEVIATION = 0.01  # of the average: a loss that hardly moves has no spikes of a percent
_LARGEST_LOSS = 1e15  # in the average; its square is finite
MAX_SKIPPED = 10


class Guard(NamedTuple):
    """What is carried from step to step beside the state; scalars.

    Attributes:
      in_a_row: int32, steps that were skipped one after the other up to now.
      skipped: int32, all steps that were. So many updates fewer than steps were made, and the schedule of the learning
        rate is that much behind.
      count: int32, finite losses up to now.
      average, variance: float32, of the loss, exponential over `WINDOW` steps.
    """

    in_a_row: jax.Array
    skipped: jax.Array
    count: jax.Array
    average: jax.Array
    variance: jax.Array


def start() -> Guard:
    """The guard of a run that begins."""
    whole, real = np.zeros((), np.int32), np.zeros((), np.float32)
    return Guard(in_a_row=whole, skipped=whole, count=whole, average=real, variance=real)


def to_json(guard: Guard) -> dict[str, float]:
    """A guard as plain numbers, without loss."""
    return {name: np.asarray(value).item() for name, value in guard._asdict().items()}


def from_json(numbers: dict[str, float] | None) -> Guard:
    """The guard of `to_json`; that of a beginning where a checkpoint has none.

    >>> guard = start()._replace(average=np.float32(0.1))
    >>> from_json(to_json(guard)) == guard
    True
    """
    numbers = numbers or {}
    return Guard(*(np.asarray(numbers.get(name, first), first.dtype) for name, first in start()._asdict().items()))


def guarded(
    state: TrainState,
    attempt: Callable[[], TrainState],
    grads: PyTree,
    metrics: Metrics,
    guard: Guard | None,
    *,
    max_skipped: int,
    skip_spikes: bool,
) -> tuple[TrainState, Metrics]:
    """Takes the step if it may be taken.

    The update is computed twice, once to be looked at and once, where it is taken, in place. That reads the state once
    more but needs no memory for a second one, nor a copy.

    Args:
      state: before the step.
      attempt: makes the state after it, `step` left aside.
      grads: gradient of the loss.
      metrics: `loss` and `grad_norm` are read.
      guard: guard that the step before left; None where it does not matter.
      max_skipped: largest number of steps that may be skipped in a row.
      skip_spikes: True to skip spikes of the loss, too.

    Returns:
      the state, with the next step; and `skipped`, `stopped` (too many in a row, this step and all that follow) and
      `spike`, 0 or 1 each, with `guard`, the next guard.
    """
    guard = start() if guard is None else guard
    loss = metrics["loss"]
    finite = jnp.isfinite(loss) & _are_finite(grads, metrics["grad_norm"]) & (_zero_if_finite(attempt()) == 0)
    spike, following = _spike(loss, guard)
    moves = guard.in_a_row <= max_skipped
    taken = moves & finite & ~(spike & skip_spikes)
    skipped = moves & ~taken
    following = following._replace(
        in_a_row=jnp.where(taken, 0, guard.in_a_row + 1), skipped=guard.skipped + skipped.astype(jnp.int32)
    )
    following = jax.tree.map(lambda new, old: jnp.where(moves, new, old), following, guard)
    flags = {"skipped": skipped, "stopped": following.in_a_row > max_skipped, "spike": spike & moves}
    flags = {name: flag.astype(jnp.float32) for name, flag in flags.items()}
    chosen = _choose(taken, attempt, state)
    return chosen._replace(step=state.step + moves.astype(jnp.int32)), flags | {"guard": following}


def is_finite(tree: PyTree) -> jax.Array:
    """Whether every number of a tree is finite: a bool scalar."""
    found = [jnp.isfinite(x).all() for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.stack(found)) if found else jnp.bool_(True)


def _are_finite(grads: PyTree, norm: jax.Array) -> jax.Array:
    """The same of gradients whose norm is known: one that is not finite may be an overflow of finite squares."""
    return jax.lax.cond(jnp.isfinite(norm), lambda: jnp.bool_(True), lambda: is_finite(grads))


def _zero_if_finite(state: TrainState) -> jax.Array:
    """0 where all of a state is finite, else NaN, for 0 times infinity is NaN.

    Nothing overflows, and what belongs to one parameter (its moments, its average) is added up in the same pass, in
    which XLA then computes all of them from the gradient once.
    """
    params = paths.flatten(state.params)
    together: dict[str, list[jax.Array]] = {name: [x] for name, x in params.items()}
    for path, x in paths.flatten(state._replace(params=(), step=())).items():
        names = path.split("/")
        own = next((name for i in range(len(names)) if (name := "/".join(names[i:])) in params), path)
        if own in params and params[own].shape != x.shape:
            own = path
        together.setdefault(own, []).append(x)
    total = jnp.zeros((), jnp.float32)
    for leaves in together.values():
        zeros = [0 * x.astype(jnp.float32) for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
        if zeros:
            total += jnp.sum(sum(zeros[1:], zeros[0]))
    return total


def _spike(loss: jax.Array, guard: Guard) -> tuple[jax.Array, Guard]:
    """Whether a loss is a spike, and the averages with it; see `DEVIATIONS`.

    The averages are those of Finch 2009, "Incremental calculation of weighted mean and variance", eqs. 124 and 143,
    with a rate of 1 / t up to `WINDOW`. A spike enters them as the smallest one, so that a loss which stays high is
    soon none; what is not finite does not enter.
    """
    known = guard.count >= WINDOW
    deviation = jnp.maximum(jnp.sqrt(guard.variance), _LEAST_DEVIATION * jnp.abs(guard.average))
    limit = guard.average + DEVIATIONS * deviation
    spike = known & jnp.isfinite(loss) & (loss > limit)
    seen = jnp.clip(jnp.where(spike, limit, loss), -_LARGEST_LOSS, _LARGEST_LOSS)
    rate = 1.0 / jnp.minimum(guard.count + 1, WINDOW)
    delta = seen - guard.average
    new = Guard(
        guard.in_a_row,
        guard.skipped,
        guard.count + 1,
        guard.average + rate * delta,
        (1 - rate) * (guard.variance + rate * delta**2),
    )
    return spike, jax.tree.map(lambda n, o: jnp.where(jnp.isfinite(loss), n, o), new, guard)


def _choose(taken: jax.Array, attempt: Callable[[], TrainState], state: TrainState) -> TrainState:
    # A GPU's host waits for the condition of a branch before it launches more; memory there is fast enough to copy.
    if jax.default_backend() == "gpu":
        return jax.tree.map(lambda new, old: jnp.where(taken, new, old), attempt(), state)
    return jax.lax.cond(taken, attempt, lambda: state)
