"""Several runs as one: their states stacked, and one step that advances all of them.

The loop trains a population as it trains a single run. Its state is a `Population`, and its metrics carry their member
in the name, `loss@3`. A member skips steps as its own run would (finite.py); one that skips too many in a row has
diverged and stays as it was before them, and the others go on.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxvision.parallel.mesh import batch_sharding, replicated
from jaxvision.tasks.task import Batch, Metrics
from jaxvision.train import finite
from jaxvision.train import step as steps
from jaxvision.train.state import TrainState

Values = Mapping[str, jax.Array]  # hyperparameters by name
FLAGS = ("skipped", "stopped", "spike")  # metrics of a step that are 0 or 1


class Population(NamedTuple):
    """The states of M runs after `step` updates.

    Attributes:
      step: int32 scalar.
      members: a train state whose leaves have a leading axis of M. The own step of a member that has diverged lags
        behind: it is the last of the steps that were skipped.
      guards: of the members; see finite.py.
    """

    step: jax.Array
    members: TrainState
    guards: finite.Guard

    @property
    def training(self) -> jax.Array:
        """bool [M], False for members that have diverged."""
        return self.members.step == self.step

    def member(self, index: int, mesh: Mesh) -> TrainState:
        """The state of one member, on every device."""
        return _take(self.members, index, replicated(mesh))


@partial(jax.jit, static_argnums=2)
def _take(members: TrainState, index: int, place: jax.sharding.Sharding) -> TrainState:
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x[index], place), members)


def initializer(init: Callable[[Values], TrainState], values: Values, members: int) -> Callable[[], Population]:
    """A function of no arguments that makes the population at step 0.

    Args:
      init: makes the state of one member from its values.
      values: name -> [members]; may be empty.
      members: size of the population.
    """

    def create() -> Population:
        states = jax.vmap(lambda _, values: init(values))(jnp.arange(members), values)
        guards = jax.tree.map(lambda x: jnp.broadcast_to(x, (members, *x.shape)), finite.start())
        return Population(jnp.zeros((), jnp.int32), states, guards)

    return create


def shardings(init: Callable[[], Population], mesh: Mesh) -> Population:
    """Whole members on every device: the leading axis is split over the mesh, which must divide it."""
    shapes = jax.eval_shape(init)
    split = jax.tree.map(lambda _: batch_sharding(mesh), (shapes.members, shapes.guards))
    return Population(replicated(mesh), *split)


def abstract(init: Callable[[], Population], places: Population) -> Population:
    """Shapes, dtypes and shardings of the population, without allocating it."""
    place = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    return jax.tree.map(place, jax.eval_shape(init), places)


def name_of(metric: str, member: int) -> str:
    """What a metric of a member is called among those of all.

    >>> name_of("val/top1", 3)
    'val/top1@3'
    """
    return f"{metric}@{member}"


def of_member(values: Mapping[str, float], member: int) -> dict[str, float]:
    """The metrics of one member, under their own names.

    >>> of_member({"loss": 1.5, "loss@0": 1.0, "loss@1": 2.0}, member=1)
    {'loss': 2.0}
    """
    ending = name_of("", member)
    return {name.removesuffix(ending): value for name, value in values.items() if name.endswith(ending)}


def make_runner(
    step: Callable[[Values], steps.Step],
    fetch: Callable[[Any, Any], Batch],
    places: Population,
    *,
    members: int,
    count: int,
    shared: bool,
    at_once: bool,
) -> Callable:
    """Jits `run(population, (values, constants), items) -> (population, metrics)`, like `step.make_runner`.

    The values, name -> [members], are arguments of the program: other numbers need no other program.

    Args:
      step: the step of one member, made from its values.
      fetch: `(constants, item) -> batch`, of members * B rows, member by member, or of B where `shared`.
      places: from `shardings`.
      members: size of the population.
      count: how many of them, from the first, are reported; the rest fill up the devices.
      shared: all members see the same batch.
      at_once: one `vmap` over the members. Else they take turns at one compiled program: right for the CPU
        backend, where XLA runs batched matrix products and convolutions with a kernel for each member slowly
        (benchmarks/population.py).

    Metrics: `NAME@i` of each member, NaN where it took no step, and under the plain name the mean of those that took
    one, 0 where none did. The flags `skipped`, `stopped` and `spike` are 0 or 1; of all together, a step is skipped
    where none took it.
    """

    def advance(values: Values, state: TrainState, guard: finite.Guard, batch: Batch) -> tuple:
        state, metrics = step(values)(state, batch, guard)
        guard = metrics.pop("guard")
        taken = (metrics["skipped"] + metrics["stopped"]) == 0
        return state, guard, {k: v if k in FLAGS else jnp.where(taken, v, jnp.nan) for k, v in metrics.items()}

    def rows(batch: Batch) -> Batch:
        return batch if shared else jax.tree.map(lambda x: x.reshape(members, -1, *x.shape[1:]), batch)

    def together(population: Population, given: tuple[Values, Batch]) -> tuple[Population, Metrics]:
        values, batch = given
        lifted = jax.vmap(advance, in_axes=(0, 0, 0, None if shared else 0))
        states, guards, metrics = lifted(values, population.members, population.guards, rows(batch))
        return Population(population.step + 1, states, guards), _reported(metrics, count)

    if at_once:
        return steps.make_runner(together, lambda given, item: (given[0], fetch(given[1], item)), places)

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

    def in_turn(population: Population, given: tuple[Values, Any], items: Any) -> tuple[Population, Metrics]:
        now, *carried = population
        carried, found = tuple(carried), []
        for position in range(jax.tree.leaves(items)[0].shape[0]):
            found.append([])
            for index in range(members):
                carried, metrics = turn(carried, *given, items, position, index)
                found[-1].append(metrics)
            now = now + 1
        return Population(now, *carried), collect(found)

    return in_turn


def _reported(metrics: Metrics, count: int) -> Metrics:
    """Metrics [M] by member, and their means; see `make_runner`."""
    named = {name_of(name, i): values[i] for name, values in metrics.items() for i in range(count)}
    means = {name: jnp.nan_to_num(jnp.nanmean(values[:count])) for name, values in metrics.items()}
    if set(FLAGS) <= set(metrics):
        skipped, stopped, spike = (metrics[name][:count] for name in FLAGS)
        idle, ended = jnp.min(skipped + stopped), jnp.min(stopped)
        means |= {"skipped": idle - ended, "stopped": ended, "spike": jnp.max(spike)}
    return named | means
