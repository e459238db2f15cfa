"""Skips steps whose loss, gradient or update is not finite.

The check is part of the jitted step: all devices take the same decision, and none waits for the host. A skipped step
leaves the state bit for bit as it was, except for `step`, so its batch is passed over. The counts of the optimizer, and
with them its schedule, do not advance in that step.

After more than `max_skipped` skipped steps in a row nothing changes any more, not even `step`, until the host sees this
in the metrics of the next log and stops (skips.py). So the state in which a run stops does not depend on when it logs.
"""

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import paths
from jaxvision.tasks.task import Metrics
from jaxvision.train.state import TrainState

PyTree = Any

# A loss is a spike if it is that many standard deviations above the average of the last steps, as in the spike score of
# OLMo et al. 2025, "2 OLMo 2 Furious", sec. 3. They use 7 over a rolling average of 1,000 steps. Here the average is an
# exponential one over 100 steps, so that two numbers suffice instead of a thousand, and short runs benefit too.
DEVIATIONS = 7.0
WINDOW = 100
_LEAST_DEVIATION = 0.01  # share of the average: for a loss that hardly moves, one percent more is no spike
_LARGEST_LOSS = 1e15  # limit of what enters the average; its square is finite in float32
MAX_SKIPPED = 10


class Guard(NamedTuple):
    """Scalars that a run carries from step to step in addition to its state.

    Attributes:
      in_a_row: Number of steps skipped in a row up to now, int32 [].
      skipped: Number of all steps skipped up to now, int32 []. There were that many fewer updates than steps, and the
        schedule of the learning rate is that many steps behind.
      count: Number of finite losses up to now, int32 [].
      average, variance: Exponential mean and variance of the loss over `WINDOW` steps, float32 [].
    """

    in_a_row: jax.Array
    skipped: jax.Array
    count: jax.Array  # type: ignore[assignment]  # hides the method of tuples
    average: jax.Array
    variance: jax.Array


def start() -> Guard:
    """Returns the guard of a new run."""
    whole, real = np.zeros((), np.int32), np.zeros((), np.float32)
    return Guard(whole, whole, whole, real, real)  # type: ignore[arg-type]  # of NumPy until the first step


def to_json(guard: Guard) -> dict[str, float]:
    """Converts a guard to numbers for JSON, which `from_json` restores exactly.

    Args:
      guard: Guard of one run, all scalars.
    """
    return {name: np.asarray(value).item() for name, value in guard._asdict().items()}


def from_json(numbers: dict[str, float] | None) -> Guard:
    """Restores a guard from the numbers of `to_json`.

    Args:
      numbers: Numbers by field; None, as for a checkpoint without them, for the guard of a new run.

    >>> guard = start()._replace(average=np.float32(0.1))
    >>> from_json(to_json(guard)) == guard
    True
    """
    numbers = numbers or {}
    values = (np.asarray(numbers.get(name, first), first.dtype) for name, first in start()._asdict().items())
    return Guard(*values)  # type: ignore[arg-type]  # of NumPy until the first step


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
    """Takes the step, or skips it if its numbers are not finite.

    The update is computed twice: once to check it, and once in place, if the step is taken. This reads the state once
    more, but needs no memory for a second state and no copy.

    Args:
      state: State before the step.
      attempt: Function that computes the state after the step, except for `step`.
      grads: Gradient of the loss.
      metrics: Metrics of the step, scalars; `loss` and `grad_norm` are read.
      guard: Guard from the step before; None if every step is judged alone.
      max_skipped: Largest number of steps that may be skipped in a row.
      skip_spikes: True to skip also steps whose loss is a spike.

    Returns:
      The state with the number of the next step, and metrics: `skipped`, `stopped` (1 from the step that was one too
      many in a row) and `spike`, each 0 or 1, and `guard`, the next guard.
    """
    guard = start() if guard is None else guard
    loss = metrics["loss"]
    finite = jnp.isfinite(loss) & _are_finite(grads, metrics["grad_norm"]) & _state_is_finite(attempt())
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
    """Returns whether every floating-point number of a tree is finite, a bool scalar.

    Args:
      tree: Tree of arrays of any shape.

    >>> bool(is_finite({"w": jnp.ones(3), "step": jnp.array(1)})), bool(is_finite([jnp.array([0.0, jnp.nan])]))
    (True, False)
    """
    return _groups_are_finite([x] for x in jax.tree.leaves(tree))


def _groups_are_finite(groups: Iterable[Sequence[jax.Array]]) -> jax.Array:
    """Returns whether all arrays are finite; those of a group have one shape, and are read in one pass."""
    results = []
    for arrays in groups:
        finite = [jnp.isfinite(x) for x in arrays if jnp.issubdtype(x.dtype, jnp.inexact)]
        if finite:
            results.append(functools.reduce(operator.and_, finite).all())
    return jnp.all(jnp.stack(results)) if results else jnp.bool_(True)


def _are_finite(grads: PyTree, norm: jax.Array) -> jax.Array:
    """Returns the same for gradients whose norm is known. An infinite norm may be an overflow of finite squares."""
    return jax.lax.cond(jnp.isfinite(norm), lambda: jnp.bool_(True), lambda: is_finite(grads))


def _state_is_finite(state: TrainState) -> jax.Array:
    """Returns whether all of a state but its step is finite, a bool scalar.

    What belongs to one parameter (its moments, its average) is one group, so that XLA computes all of it from the
    gradient in one pass. A logical reduction, because XLA's CPU backend stores the terms of a sum.
    """
    params = paths.flatten(state.params)
    groups: dict[str, list[jax.Array]] = {name: [x] for name, x in params.items()}
    rest = state._replace(params=(), step=())  # type: ignore[arg-type]  # leaves both out
    for path, x in paths.flatten(rest).items():
        names = path.split("/")
        # The path of a moment ends with that of its parameter, as in opt_state/0/mu/head/kernel.
        param = next((name for i in range(len(names)) if (name := "/".join(names[i:])) in params), path)
        if param in params and params[param].shape != x.shape:
            param = path
        groups.setdefault(param, []).append(x)
    return _groups_are_finite(groups.values())


def _spike(loss: jax.Array, guard: Guard) -> tuple[jax.Array, Guard]:
    """Returns whether a loss is a spike (see `DEVIATIONS`), and the guard with the loss in its averages.

    The averages are those of Finch 2009, "Incremental calculation of weighted mean and variance", eqs. 124 and 143,
    with a rate of 1 / t up to `WINDOW`. A spike enters them with the smallest value that counts as one, so that a loss
    which stays high is soon normal. Losses that are not finite do not enter.
    """
    has_average = guard.count >= WINDOW
    deviation = jnp.maximum(jnp.sqrt(guard.variance), _LEAST_DEVIATION * jnp.abs(guard.average))
    limit = guard.average + DEVIATIONS * deviation
    spike = has_average & jnp.isfinite(loss) & (loss > limit)
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
    # On a GPU, XLA waits on the host for the condition of a branch before it launches more kernels. The memory there is
    # fast enough to select element by element instead.
    if jax.default_backend() == "gpu":
        return jax.tree.map(lambda new, old: jnp.where(taken, new, old), attempt(), state)
    return jax.lax.cond(taken, attempt, lambda: state)
