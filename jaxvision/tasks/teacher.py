"""A teacher: a copy of the trained network that takes no gradients and follows it as a moving average.

The teacher's variables are a collection of their own, `teacher`, next to those of the trained network. So a checkpoint
holds both, and `init.from_part="teacher"` takes the teacher.
"""

from collections.abc import Collection, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxvision.errors import unknown
from jaxvision.layout import collection_pattern
from jaxvision.tasks.task import After, Variables

TEACHER = "teacher"
PART = {TEACHER: collection_pattern(TEACHER)}  # entry of `Task.parts`, to be put before the others
SCHEDULES = ("cosine", "constant")
Schedule = Literal["cosine", "constant"]


def copied(variables: Mapping[str, Any], without: Collection[str] = ()) -> Variables:
    """Returns the variables of a network, with a teacher that starts as its copy.

    Args:
      variables: Variables of the network.
      without: Names of modules that the teacher does not have, such as a predictor.
    """
    shared = {
        name: {module: x for module, x in collection.items() if module not in without}
        for name, collection in variables.items()
    }
    return {**variables, TEACHER: jax.tree.map(jnp.copy, shared)}


def trained(variables: Variables) -> Variables:
    """Returns the variables without the teacher.

    Args:
      variables: Variables of a task with a teacher.
    """
    return {name: collection for name, collection in variables.items() if name != TEACHER}


def followed(done: After, stays: jax.typing.ArrayLike) -> Variables:
    """Returns the teacher after a step: its parameters move towards those of the network, its statistics stay.

    Args:
      done: Argument of `Task.after`.
      stays: Share of the old parameters that stays, in [0, 1].

    Returns:
      The collection `teacher`, as `Task.after` returns it.
    """
    before, params = done.variables[TEACHER], done.variables["params"]
    mine = {module: params[module] for module in before["params"]}
    averaged = jax.tree.map(lambda old, new: stays * old + (1 - stays) * new, before["params"], mine)
    return {TEACHER: {**before, "params": averaged}}


def momentum_at(step: jax.typing.ArrayLike, total: int, base: float, schedule: str = "cosine") -> jax.typing.ArrayLike:
    """Returns the share of the teacher that stays in a step.

    "cosine" is 1 - (1 - base) (cos(pi step / total) + 1) / 2 (Grill et al. 2020, sec. 3.3, "Optimization"): from `base`
    in the first step (0) to 1 after the last. "constant" is `base` in every step.

    Args:
      step: Number of the step, from 0 to `total`.
      total: Number of steps of the run.
      base: Share in the first step, in [0, 1].
      schedule: Name of the schedule, one of `SCHEDULES`.

    Returns:
      float32 [], or `base` itself.

    Raises:
      UserError: An unknown schedule.

    >>> [round(float(momentum_at(step, 100, 0.9)), 3) for step in (0, 50, 100)]
    [0.9, 0.95, 1.0]
    """
    if schedule not in SCHEDULES:
        raise unknown("schedule of the teacher's momentum", schedule, SCHEDULES)
    if schedule == "constant":
        return base
    return 1 - (1 - base) * (jnp.cos(jnp.pi * step / total) + 1) / 2
