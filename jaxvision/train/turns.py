"""The updates of one step: of one player, as in most tasks, or of several players in turn.

A player is an ordinary task on a part of the parameters. Its loss reads the variables of the other players too, which
are constant while it is updated.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxvision.errors import UserError
from jaxvision.tasks.task import Batch, Joint, Loss, Metrics, Player, Task
from jaxvision.train import accumulation, players
from jaxvision.train.state import TrainState

PyTree = Any


def take_turns(
    task: Task,
    tx: players.Transforms,
    accumulate: int,
    state: TrainState,
    batch: Batch,
    rng: jax.Array,
    frozen: PyTree | None = None,
) -> tuple[dict[str, PyTree], PyTree, Metrics, PyTree]:
    """Computes the gradient of every player, each after the updates of the players before it.

    Args:
      task: Task.
      tx: Optimizer, or the optimizers of the players by name.
      accumulate: Number of microbatches that a batch is split into.
      state: State before the step.
      batch: Augmented batch.
      rng: Key of the task in this step.
      frozen: Tree of bools with the structure of the parameters, True for those that never change: their gradient is
        0 and is not computed. None if all are trained.

    Returns:
      Gradients by player, the collections other than `params`, metrics (scalars), and the rows that the losses
      returned, arrays [b, ...].

    Raises:
      UserError: Two players have a metric of the same name.
    """
    params, model_state = state.params, state.model_state
    grads: dict[str, PyTree] = {}
    metrics: Metrics = {}
    rows: dict[str, PyTree] = {}
    by_name = players.players_of(task)
    for index, (name, player) in enumerate(by_name.items()):
        held = None if frozen is None else players.params_of(task, name, frozen)
        loss = _with_params(player.loss, partial(_complete, params if task.players else None, held))
        key = jax.random.fold_in(rng, index) if task.players else rng
        gradients = accumulation.make_gradients(loss, accumulate)
        mine = players.params_of(task, name, params)
        grads[name], following, new_metrics, rows[name] = gradients(mine, model_state, batch, key)
        if task.players:
            _check_names(name, new_metrics, metrics)
            renamed = {f"{name}_loss" if metric == "loss" else metric: x for metric, x in new_metrics.items()}
            new_metrics = renamed
        metrics |= new_metrics
        model_state = _if_due(player, state.step, following, model_state)
        if index + 1 < len(by_name):
            params, _ = _moved(task, tx, name, params, state, grads[name])
    if not task.players:
        return grads, model_state, metrics, rows[players.ALL]
    first, *others = (metrics[f"{name}_loss"] for name in by_name)
    metrics["loss"] = sum(others, first)
    return grads, model_state, metrics, rows


def apply(task: Task, tx: players.Transforms, state: TrainState, grads: Mapping[str, PyTree]) -> tuple[PyTree, PyTree]:
    """Returns the parameters and the state of the optimizers after the updates of all players.

    Args:
      task: Task.
      tx: Optimizer, or the optimizers of the players by name.
      state: State before the step.
      grads: Gradients by player, from `take_turns`.
    """
    params, states = state.params, {}
    for name in grads:
        params, states[name] = _moved(task, tx, name, params, state, grads[name])
    return params, states if task.players else states[players.ALL]


def _moved(
    task: Task, tx: players.Transforms, name: str, params: PyTree, state: TrainState, grads: PyTree
) -> tuple[PyTree, PyTree]:
    """Returns all parameters, and the player's optimizer state, after its update."""
    mine = players.params_of(task, name, params)
    transform, before = (tx[name], state.opt_state[name]) if isinstance(tx, Mapping) else (tx, state.opt_state)
    updates, opt_state = transform.update(grads, before, mine)
    moved = optax.apply_updates(mine, updates)
    player = players.players_of(task)[name]
    moved, opt_state = _if_due(player, state.step, (moved, opt_state), (mine, before))
    return players.merged(params, moved), opt_state


def _if_due(player: Player, step: jax.Array, new: PyTree, old: PyTree) -> PyTree:
    if player.every == 1:
        return new
    return jax.tree.map(lambda n, o: jnp.where(step % player.every == 0, n, o), new, old)


def _with_params(loss: Loss, complete: Callable[[PyTree], PyTree]) -> Loss:
    """Returns the loss as a function of the parameters that a gradient is taken of; `complete` makes the others."""

    def bind(fn: Callable) -> Callable:
        return lambda variables, *rest: fn({**variables, "params": complete(variables["params"])}, *rest)

    return Joint(bind(loss.embed), bind(loss.compare)) if isinstance(loss, Joint) else bind(loss)


def _complete(params: PyTree | None, frozen: PyTree | None, mine: PyTree) -> PyTree:
    """Returns all parameters from those of a player. The frozen ones and those of other players are constants."""
    if frozen is not None:
        mine = jax.tree.map(lambda x, held: jax.lax.stop_gradient(x) if held else x, mine, frozen)
    return mine if params is None else players.merged(params, mine)


def _check_names(player: str, new: Metrics, metrics: Metrics) -> None:
    for name in new:
        if name in metrics:
            raise UserError(f"two players have a metric {name!r}: rename the one of {player!r}")
