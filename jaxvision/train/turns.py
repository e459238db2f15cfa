"""The moves of one step: of the one player that most tasks have, or of several in turn.

A player is an ordinary task on a part of the parameters: its loss is bound to the variables of the others, which stand
still while it moves.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxvision.errors import UserError
from jaxvision.tasks.task import Joint, Loss, Metrics, Player, Task
from jaxvision.train import accumulation
from jaxvision.train import players as who
from jaxvision.train.state import TrainState

PyTree = Any


def take_turns(
    task: Task, tx: who.Transforms, accumulate: int, state: TrainState, batch: Any, rng: jax.Array
) -> tuple[dict[str, PyTree], PyTree, Metrics, Any]:
    """The gradient of every player, each where those before it have moved already.

    Args:
      task: What is learned.
      tx: Optimizer, or those of the players by name.
      accumulate: Number of parts that a batch is split into.
      state: State before the step.
      batch: Augmented batch.
      rng: Key of the task in this step.

    Returns:
      Gradients by player, the other collections, metrics, and the rows that the losses gave.
    """
    params, model_state = state.params, state.model_state
    grads, metrics, rows = {}, {}, {}
    players = who.players_of(task)
    for index, (name, player) in enumerate(players.items()):
        loss = _bound(player.loss, params) if task.players else player.loss
        key = jax.random.fold_in(rng, index) if task.players else rng
        gradients = accumulation.gradients(loss, accumulate)
        grads[name], following, found, rows[name] = gradients(who.own(task, name, params), model_state, batch, key)
        if task.players:
            _check_names(name, found, metrics)
            found = {f"{name}_loss" if metric == "loss" else metric: value for metric, value in found.items()}
        metrics |= found
        model_state = _if_due(player, state.step, following, model_state)
        if index + 1 < len(players):
            params, _ = _moved(task, tx, name, params, state, grads[name])
    if not task.players:
        return grads, model_state, metrics, rows[who.ALL]
    metrics["loss"] = sum(metrics[f"{name}_loss"] for name in players)
    return grads, model_state, metrics, rows


def apply(task: Task, tx: who.Transforms, state: TrainState, grads: Mapping[str, PyTree]) -> tuple[PyTree, PyTree]:
    """The parameters and the state of the optimizers after the moves that `take_turns` found."""
    params, states = state.params, {}
    for name in grads:
        params, states[name] = _moved(task, tx, name, params, state, grads[name])
    return params, states if task.players else states[who.ALL]


def _moved(
    task: Task, tx: who.Transforms, name: str, params: PyTree, state: TrainState, grads: PyTree
) -> tuple[PyTree, PyTree]:
    """All parameters and the player's optimizer state after its move."""
    mine = who.own(task, name, params)
    transform, before = (tx[name], state.opt_state[name]) if task.players else (tx, state.opt_state)
    updates, opt_state = transform.update(grads, before, mine)
    moved = optax.apply_updates(mine, updates)
    player = who.players_of(task)[name]
    moved, opt_state = _if_due(player, state.step, (moved, opt_state), (mine, before))
    return who.merged(params, moved), opt_state


def _if_due(player: Player, step: jax.Array, new: PyTree, old: PyTree) -> PyTree:
    if player.every == 1:
        return new
    return jax.tree.map(lambda n, o: jnp.where(step % player.every == 0, n, o), new, old)


def _bound(loss: Loss, params: PyTree) -> Loss:
    """The loss as one of a player's own parameters, the others being constants."""

    def of(fn: Callable) -> Callable:
        return lambda variables, *rest: fn({**variables, "params": who.merged(params, variables["params"])}, *rest)

    return Joint(of(loss.embed), of(loss.compare)) if isinstance(loss, Joint) else of(loss)


def _check_names(player: str, found: Metrics, metrics: Metrics) -> None:
    for name in found:
        if name in metrics:
            raise UserError(f"two players have a metric {name!r}: give that of {player!r} another name")
