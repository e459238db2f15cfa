"""Who trains which parameters: one optimizer all of them, or each of several players its own part."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import optax

from jaxvision.errors import UserError, unknown
from jaxvision.tasks.task import Player, Task, part_of_params

PyTree = Any
Transforms = optax.GradientTransformation | Mapping[str, optax.GradientTransformation]

ALL = ""  # the player of a task that has none


def players_of(task: Task) -> dict[str, Player]:
    """The players of a task, by name; a task that has none is one itself."""
    return dict(task.players) or {ALL: Player(ALL, task.loss)}


def own(task: Task, player: str, params: PyTree) -> PyTree:
    """The parameters of a player: nested dicts as they were, without the leaves of the others.

    Raises:
      UserError: The player's part is none of the task's, or none of the parameters lies in it.
    """
    if not task.players:
        return params
    part = task.players[player].part
    if part not in task.parts:
        raise unknown(f"part of the player {player!r}", part, task.parts)
    found = _pruned(params, iter(part_of_params(task, params).values()), part)
    if found is None:
        raise UserError(f"the player {player!r} has nothing to train: no parameter lies in the part {part!r}")
    return found


def merged(params: PyTree, mine: PyTree) -> PyTree:
    """All parameters, those of `mine` in their places.

    >>> merged({"a": {"w": 1, "b": 2}, "c": 3}, {"a": {"b": 5}})
    {'a': {'w': 1, 'b': 5}, 'c': 3}
    """
    if not isinstance(params, Mapping) or not isinstance(mine, Mapping):
        return mine
    return {name: merged(value, mine[name]) if name in mine else value for name, value in params.items()}


def together(task: Task, params: PyTree, of_players: Mapping[str, PyTree]) -> PyTree:
    """A tree like all parameters of those that the players have; True where a parameter is no player's."""
    found = jax.tree.map(lambda _: True, params)
    for mine in of_players.values():
        found = merged(found, mine)
    return found


def start(task: Task, tx: Transforms, params: PyTree) -> PyTree:
    """The state of the optimizer, or of those of the players by name."""
    if not task.players:
        return tx.init(params)
    return {name: tx[name].init(own(task, name, params)) for name in task.players}


def _pruned(params: PyTree, of: Iterator[str], part: str) -> PyTree | None:
    """What of a tree lies in a part; `of` gives the part of one leaf after the other, as JAX orders them."""
    if isinstance(params, Mapping):
        found = {key: _pruned(params[key], of, part) for key in sorted(params)}
        return {key: found[key] for key in params if found[key] is not None} or None
    mine = {next(of) == part for _ in jax.tree.leaves(params)}
    if len(mine) > 1:
        raise UserError(f"the part {part!r} cuts through a list of parameters: players need nested dicts")
    return params if mine == {True} else None
