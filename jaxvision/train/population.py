"""Several runs as one: their states are stacked, and one step advances all of them.

The loop trains a population like a single run. Its state is a `Population`, and the names of its metrics carry the
member, as in `loss@3`. A member skips the steps that its own run would skip (finite.py). A member that skips too many
in a row has diverged: it keeps the state from before them, and the others train on.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxvision.parallel.mesh import batch_sharding, replicated
from jaxvision.tasks.task import Batch, Metrics
from jaxvision.train import finite
from jaxvision.train import step as steps
from jaxvision.train.state import TrainState

PyTree = Any
Values: TypeAlias = Mapping[str, jax.Array]  # hyperparameters by name
FLAGS = ("skipped", "stopped", "spike")  # metrics of a step that are 0 or 1


class Population(NamedTuple):
    """The states of m runs after `step` steps.

    Attributes:
      step: Number of steps taken, int32 [].
      members: Train state whose leaves have a leading axis of m members. The `step` of a member that has diverged stays
        behind: it is the last of its skipped steps.
      guards: Guards of the members, scalars with a leading axis of m; see finite.py.
    """

    step: jax.Array
    members: TrainState
    guards: finite.Guard

    @property
    def training(self) -> jax.Array:
        """Flags of the members, bool [m]; False for members that have diverged."""
        return self.members.step == self.step

    def member(self, index: int, mesh: Mesh) -> TrainState:
        """Returns the state of one member, replicated on every device.

        Args:
          index: Index of the member.
          mesh: Mesh of the devices.
        """
        return _take(self.members, index, replicated(mesh))


@partial(jax.jit, static_argnums=2)
def _take(members: TrainState, index: int, place: jax.sharding.Sharding) -> TrainState:
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x[index], place), members)


def initializer(init: Callable[[Values], TrainState], values: Values, members: int) -> Callable[[], Population]:
    """Makes a function without arguments that returns the population at step 0.

    Args:
      init: Function that makes the state of one member from its values.
      values: Hyperparameters by name, [m]; may be empty.
      members: Number m of members.
    """

    def create() -> Population:
        # The indices are mapped too, so that there is an axis to map if `values` is empty.
        states = jax.vmap(lambda _, values: init(values))(jnp.arange(members), values)
        guards = jax.tree.map(lambda x: jnp.broadcast_to(x, (members, *x.shape)), finite.start())
        return Population(jnp.zeros((), jnp.int32), states, guards)

    return create


def shardings(init: Callable[[], Population], mesh: Mesh) -> Population:
    """Returns the shardings of a population: each device holds whole members.

    Args:
      init: Function that makes the population, from `initializer`.
      mesh: Mesh of the devices; their number divides that of the members.

    Returns:
      A population with a sharding in the place of each array.
    """
    shapes = jax.eval_shape(init)
    split = jax.tree.map(lambda _: batch_sharding(mesh), (shapes.members, shapes.guards))
    return Population(replicated(mesh), *split)  # type: ignore[arg-type]  # a sharding in place of the array


def abstract(init: Callable[[], Population], places: Population) -> Population:
    """Returns the shapes, dtypes and shardings of the population as `ShapeDtypeStruct`s, without allocating it.

    Args:
      init: Function that makes the population, from `initializer`.
      places: Shardings, from `shardings`.
    """
    place = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    return jax.tree.map(place, jax.eval_shape(init), places)


def name_of(metric: str, member: int) -> str:
    """Returns the name of a metric of one member.

    Args:
      metric: Name of the metric.
      member: Index of the member.

    >>> name_of("val/top1", 3)
    'val/top1@3'
    """
    return f"{metric}@{member}"


def of_member(values: Mapping[str, float], member: int) -> dict[str, float]:
    """Returns the metrics of one member, without the member in their names.

    Args:
      values: Metrics of all members.
      member: Index of the member.

    >>> of_member({"loss": 1.5, "loss@0": 1.0, "loss@1": 2.0}, member=1)
    {'loss': 2.0}
    """
    ending = name_of("", member)
    return {name.removesuffix(ending): value for name, value in values.items() if name.endswith(ending)}


def make_runner(
    step: Callable[[Values], steps.Step],
    fetch: Callable[[PyTree, PyTree], Batch],
    places: Population,
    *,
    members: int,
    count: int,
    shared: bool,
    at_once: bool,
) -> Callable[[Population, tuple[Values, PyTree], PyTree], tuple[Population, Metrics]]:
    """Jits `run(population, (values, constants), items) -> (population, metrics)`, like `step.make_runner`.

    The values are arguments of the program, arrays [m] by name, so it is not compiled again for other numbers.

    The metrics are `NAME@i` for each member i, NaN in a step that it skipped, and `NAME`, the mean over the members
    that took the step, 0 if none did. The flags `skipped`, `stopped` and `spike` are 0 or 1. Without a member in its
    name, `skipped` is 1 if no member took the step.

    Args:
      step: Function that makes the step of one member from its values.
      fetch: Function `(constants, item) -> batch`. The batch has m * b rows, member by member, or b rows if `shared`.
      places: Shardings, from `shardings`.
      members: Number m of members.
      count: Number of members that are reported, from the first; the rest only fill up the devices.
      shared: True if all members see the same batch.
      at_once: True to run all members in one `vmap`. If False, the members take turns at one compiled program; this
        suits the CPU backend, where XLA is slow at batched matrix products and at convolutions with a kernel for each
        member (benchmarks/population.py).
    """

    def advance(values: Values, state: TrainState, guard: finite.Guard, batch: Batch) -> tuple:
        state, metrics = step(values)(state, batch, guard)
        next_guard = metrics.pop("guard")
        taken = (metrics["skipped"] + metrics["stopped"]) == 0
        return state, next_guard, {k: v if k in FLAGS else jnp.where(taken, v, jnp.nan) for k, v in metrics.items()}

    def rows(batch: Batch) -> Batch:
        return batch if shared else jax.tree.map(lambda x: x.reshape(members, -1, *x.shape[1:]), batch)

    def together(population: Population, values_and_batch: tuple[Values, Batch]) -> tuple[Population, Metrics]:
        values, batch = values_and_batch
        lifted = jax.vmap(advance, in_axes=(0, 0, 0, None if shared else 0))
        states, guards, metrics = lifted(values, population.members, population.guards, rows(batch))
        return Population(population.step + 1, states, guards), _reported(metrics, count)

    if at_once:
        # The runner sees one state, and a "batch" that is the pair of the values and the batch of all members.
        pair = lambda values_and_constants, item: (values_and_constants[0], fetch(values_and_constants[1], item))
        return steps.make_runner(together, pair, places)

    # The indices are arguments, so one program serves all members and steps; it updates its donated stack in place.
    @partial(jax.jit, donate_argnums=0)
    def turn(carried, values, constants, items, position, index):
        at = lambda tree: jax.tree.map(lambda x: x[index], tree)
        batch = rows(fetch(constants, jax.tree.map(lambda x: x[position], items)))
        *new, metrics = advance(at(values), *at(carried), batch if shared else at(batch))
        return jax.tree.map(lambda x, new: x.at[index].set(new), carried, tuple(new)), metrics

    @jax.jit
    def collect(metrics: Sequence[Sequence[Metrics]]) -> Metrics:
        stack = lambda trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)
        return stack([_reported(stack(of_step), count) for of_step in metrics])

    def in_turn(
        population: Population, values_and_constants: tuple[Values, PyTree], items: PyTree
    ) -> tuple[Population, Metrics]:
        now, carried = population.step, (population.members, population.guards)
        by_step: list[list[Metrics]] = []
        for position in range(jax.tree.leaves(items)[0].shape[0]):
            by_step.append([])
            for index in range(members):
                carried, metrics = turn(carried, *values_and_constants, items, position, index)
                by_step[-1].append(metrics)
            now = now + 1
        return Population(now, *carried), collect(by_step)

    return in_turn


def _reported(metrics: Metrics, count: int) -> Metrics:
    """Returns metrics, arrays [m], as a scalar for each of the first `count` members, and their means."""
    named = {name_of(name, i): values[i] for name, values in metrics.items() for i in range(count)}
    means = {name: jnp.nan_to_num(jnp.nanmean(values[:count])) for name, values in metrics.items()}
    if set(FLAGS) <= set(metrics):
        skipped, stopped, spike = (metrics[name][:count] for name in FLAGS)
        # A member is either skipped or stopped, so the minimum of their sum is 1 if no member took the step.
        idle, ended = jnp.min(skipped + stopped), jnp.min(stopped)
        means |= {"skipped": idle - ended, "stopped": ended, "spike": jnp.max(spike)}
    return named | means
