"""Which optimizer trains which parameters: one trains all of them, or each of several players trains its own part."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import jax
import optax

from jaxvision.errors import UserError, unknown
from jaxvision.tasks.task import Player, Task, part_of_params

PyTree = Any
Transforms: TypeAlias = optax.GradientTransformation | Mapping[str, optax.GradientTransformation]

ALL = ""  # name of the only player of a task without `players`


def players_of(task: Task) -> dict[str, Player]:
    """Returns the players of a task by name. A task without `players` counts as one player, named `ALL`.

    Args:
      task: Task.
    """
    if task.players or task.loss is None:
        return dict(task.players)
    return {ALL: Player(ALL, task.loss)}


def params_of(task: Task, player: str, params: PyTree) -> PyTree:
    """Returns the parameters of a player: the same nested dicts, without the leaves of the other players.

    Args:
      task: Task.
      player: Name of the player; not used if the task has no players.
      params: All parameters of the task.

    Raises:
      UserError: The task has no part of that name, or no parameter belongs to it.
    """
    if not task.players:
        return params
    part = task.players[player].part
    if part not in task.parts:
        raise unknown(f"part of the player {player!r}", part, task.parts)
    pruned = _pruned(params, iter(part_of_params(task, params).values()), part)
    if pruned is None:
        raise UserError(f"the player {player!r} has nothing to train: no parameter belongs to the part {part!r}")
    return pruned


def merged(params: PyTree, mine: PyTree) -> PyTree:
    """Returns all parameters, with those of one player replaced.

    Args:
      params: All parameters.
      mine: New parameters of the player, as `params_of` returns them.

    >>> merged({"a": {"w": 1, "b": 2}, "c": 3}, {"a": {"b": 5}})
    {'a': {'w': 1, 'b': 5}, 'c': 3}
    """
    if not isinstance(params, Mapping) or not isinstance(mine, Mapping):
        return mine
    return {name: merged(value, mine[name]) if name in mine else value for name, value in params.items()}


def merge_players(params: PyTree, of_players: Mapping[str, PyTree]) -> PyTree:
    """Merges a tree of values for each player into one tree with the structure of all parameters.

    Args:
      params: All parameters; only their structure is used.
      of_players: Trees with the structure of a player's parameters, by player.

    Returns:
      The values of the players; True for parameters that belong to no player.
    """
    merged_tree = jax.tree.map(lambda _: True, params)
    for mine in of_players.values():
        merged_tree = merged(merged_tree, mine)
    return merged_tree


def init_optimizers(task: Task, tx: Transforms, params: PyTree) -> PyTree:
    """Makes the initial state of the optimizer, or a dict of the states of the players' optimizers.

    Args:
      task: Task.
      tx: Optimizer, or the optimizers of the players by name.
      params: All parameters.
    """
    if not isinstance(tx, Mapping):
        return tx.init(params)
    return {name: tx[name].init(params_of(task, name, params)) for name in task.players}


def _pruned(params: PyTree, part_of_leaf: Iterator[str], part: str) -> PyTree | None:
    """Returns the leaves of a tree that belong to a part, or None.

    Args:
      params: Tree of parameters.
      part_of_leaf: Names of the parts of the leaves, in the order of JAX: keys of dicts are sorted.
      part: Name of the part.
    """
    if isinstance(params, Mapping):
        pruned = {key: _pruned(params[key], part_of_leaf, part) for key in sorted(params)}
        return {key: pruned[key] for key in params if pruned[key] is not None} or None
    mine = {next(part_of_leaf) == part for _ in jax.tree.leaves(params)}
    if len(mine) > 1:
        raise UserError(f"the part {part!r} cuts through a list of parameters: players need nested dicts")
    return params if mine == {True} else None
