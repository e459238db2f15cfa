"""Parameters that stay as they are until a step: until then the optimizer does nothing with them.

DINO keeps the last layer of its head fixed in the first epoch (Caron et al. 2021, app. C). As in torch, where such a
parameter has no gradient, it is also not decayed, and its moments begin at the first step in which it is trained.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxvision.optim.schedules import Schedule

PyTree = Any


class Waiting(NamedTuple):
    """The state of a transformation that begins at a later step.

    Attributes:
      seen: Number of updates so far, int32 [].
      inner: State of the transformation.
    """

    seen: jax.Array
    inner: PyTree


def in_turn(
    updates_from: Callable[[int], optax.GradientTransformation],
    starts: PyTree,
    clip: Sequence[optax.GradientTransformation] = (),
) -> optax.GradientTransformation:
    """Makes an optimizer whose parameters begin to be trained at different steps.

    Args:
      updates_from: Function that makes the transformation of all parameters with the same start, given that start. It
        counts its updates from there; see `later`.
      starts: Tree of ints with the structure of the parameters: the step in which each is trained first, 0 for the
        first step of the run.
      clip: Transformations of the gradients of all parameters before, such as a limit of their norm. The gradients of
        parameters that wait are 0 there.

    >>> tx = in_turn(lambda start: optax.sgd(1.0), {"a": 0, "b": 1})
    >>> params = {"a": jnp.ones(()), "b": jnp.ones(())}
    >>> first, state = tx.update(params, tx.init(params), params)
    >>> second, state = tx.update(params, state, params)
    >>> [{name: float(x) for name, x in updates.items()} for updates in (first, second)]
    [{'a': -1.0, 'b': 0.0}, {'a': -1.0, 'b': -1.0}]
    """
    groups = {start: _from(updates_from(start), start) for start in sorted(set(jax.tree.leaves(starts)))}
    before = [_silence(starts), *clip] if clip else []
    return optax.chain(*before, optax.partition(groups, starts))


def later(schedule: Schedule, start: int) -> Schedule:
    """Returns a schedule of the run as a function of the updates since a step.

    Args:
      schedule: Schedule, a function of the step of the run.
      start: Step from which updates are counted.
    """
    return schedule if start == 0 else lambda count: schedule(start + count)


def _from(tx: optax.GradientTransformation, start: int) -> optax.GradientTransformation:
    """The transformation from a step on; before, updates are 0 and its state stays as it was made."""
    if start == 0:
        return tx

    def update(updates: PyTree, state: Waiting, params: PyTree = None) -> tuple[PyTree, Waiting]:
        now = state.seen >= start
        moved, inner = tx.update(updates, state.inner, params)
        chosen = jax.tree.map(lambda new, old: jnp.where(now, new, old), inner, state.inner)
        moved = jax.tree.map(lambda x: jnp.where(now, x, jnp.zeros_like(x)), moved)
        return moved, Waiting(optax.safe_increment(state.seen), chosen)

    return optax.GradientTransformation(lambda params: Waiting(jnp.zeros((), jnp.int32), tx.init(params)), update)


def _silence(starts: PyTree) -> optax.GradientTransformation:
    """Sets the gradients of parameters that wait to 0."""

    def update(updates: PyTree, state: Waiting, params: PyTree = None) -> tuple[PyTree, Waiting]:
        kept = jax.tree.map(lambda g, start: jnp.where(state.seen >= start, g, jnp.zeros_like(g)), updates, starts)
        return kept, Waiting(optax.safe_increment(state.seen), ())

    return optax.GradientTransformation(lambda params: Waiting(jnp.zeros((), jnp.int32), ()), update)
