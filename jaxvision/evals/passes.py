"""Passes over a split: evaluations of one step that read the same split share the forward pass."""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import jax
import numpy as np

from jaxvision.evals import views
from jaxvision.evals.columns import Column, Rows
from jaxvision.evals.store import Identity
from jaxvision.fields import Field
from jaxvision.parallel.distributed import any_process, gather

if TYPE_CHECKING:
    from jaxvision.evals.dataset import Batch, EvalSet
    from jaxvision.tasks.task import Task, Variables

Result = TypeVar("Result")
ResultOut = TypeVar("ResultOut", covariant=True)


class Examples:
    """The examples of a pass, equal on every process. They are fetched from the devices when they are first read."""

    def __init__(self) -> None:
        self._batches: list[dict[str, jax.Array]] = []

    def add(self, batch: "Batch") -> None:
        """Adds a batch, of which it keeps the mask and the labels.

        Args:
          batch: Batch as `EvalSet.batches` yields it.
        """
        self._batches.append({field: batch[field] for field in ("mask", "label") if field in batch})

    @cached_property
    def _fetched(self) -> list[dict[str, np.ndarray]]:
        return gather(self._batches)

    @cached_property
    def rows(self) -> np.ndarray:
        """Positions in the split, int64 [n]. Examples that cannot be read are left out."""
        return np.flatnonzero(np.concatenate([batch["mask"] for batch in self._fetched]))

    @cached_property
    def labels(self) -> np.ndarray:
        """Labels, int32 [n], or float32 [n, k] for several labels an image; zeros if the split has none."""
        labels = [batch.get("label", np.zeros(len(batch["mask"]), np.int32)) for batch in self._fetched]
        return np.concatenate(labels)[self.rows]


class Collector(Protocol[ResultOut]):
    """What becomes of that which a reading takes from each batch of a pass."""

    def add(self, taken: Any) -> None:
        """Adds what was taken from the next batch.

        Args:
          taken: Tree of arrays.
        """

    def result(self, examples: Examples) -> ResultOut:
        """Returns the result of the pass. It is called once, at the end.

        Args:
          examples: Examples of the pass.
        """


class InTurn:
    """Collects what each batch gave in a list, for what is small, such as sums over the batch."""

    def __init__(self, data: "EvalSet"):
        self._parts: list[Any] = []

    def add(self, taken: Any) -> None:
        self._parts.append(taken)

    def result(self, examples: Examples) -> list[Any]:
        return self._parts


class OfRows(Generic[Result]):
    """Collects a sequence of arrays [b, ...] of each batch in columns [n, ...], in the order of the split.

    Args:
      data: Split that is read.
      finish: Function that makes the result of the columns and the examples.
    """

    def __init__(self, data: "EvalSet", finish: Callable[[list[Rows], Examples], Result]):
        self._data, self._finish = data, finish
        self._columns: list[Column] = []

    def add(self, taken: Sequence[jax.Array]) -> None:
        """Adds the rows of a batch to the columns.

        Args:
          taken: Arrays [b, ...] of any type, such as features, float32 [b, d].
        """
        self._columns = self._columns or [Column(len(self._data.source), self._data.mesh) for _ in taken]
        for column, part in zip(self._columns, taken, strict=True):
            column.add(part)

    def result(self, examples: Examples) -> Result:
        return self._finish([column.take(examples.rows) for column in self._columns], examples)


@dataclasses.dataclass(frozen=True)
class Reading(Generic[Result]):
    """What an evaluator takes from a pass of a task over a split. Readings with equal keys take the same.

    Attributes:
      key: Key of the reading.
      task: Task whose outputs are read.
      take: Function `(outputs, batch) -> tree of arrays`, called inside jit with the outputs of the task, averaged over
        views, and the batch after the augmentation.
      collect: Function of the split that begins to collect what is taken from each batch.
      layer: Name of the layer, for features, which the store of the split keeps.
    """

    key: Hashable
    task: "Task" = dataclasses.field(compare=False)
    take: Callable[[Mapping[str, Any], "Batch"], Any] = dataclasses.field(compare=False)
    collect: Callable[["EvalSet"], Collector[Result]] = dataclasses.field(compare=False)
    layer: str | None = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass(eq=False)
class _Awaited:
    """A reading of an evaluation that is due, and its result if another evaluation has made the pass."""

    identity: Identity
    reading: Reading
    result: Any = None


class Passes:
    """The passes over a split.

    A program computes the outputs of the task once for all planned readings, due or not. So there is one program for a
    split, and a number does not depend on the other evaluations of its step, or on an interruption between them. What
    nobody awaits is dropped with its batch.

    Args:
      preprocess: Augmentation of a batch, called inside jit.
      fields: Fields of a batch after the augmentation.
    """

    def __init__(self, preprocess: Callable[["Batch"], "Batch"], fields: Mapping[str, Field]):
        self._planned: dict[Reading, None] = {}
        self._awaited: list[_Awaited] = []

        def apply(variables: "Variables", batch: "Batch", readings: tuple[Reading, ...]) -> list[Any]:
            batch = preprocess(batch)
            outputs = views.averaged_outputs(readings[0].task, variables, batch, fields)
            return [reading.take(outputs, batch) for reading in readings]

        self._apply = jax.jit(apply, static_argnums=2)

    def plan(self, readings: Sequence[Reading]) -> None:
        """Adds readings to the program of the split.

        Args:
          readings: Readings of an evaluation.
        """
        self._planned |= dict.fromkeys(readings)

    def expect(self, variables: "Variables", readings: Sequence[Reading]) -> None:
        """Announces that an evaluation is going to `read`, so that a pass that another one makes serves it too.

        Args:
          variables: Variables of the task.
          readings: Readings of the evaluation.
        """
        identity = Identity(variables)
        self._awaited = [one for one in self._awaited if one.identity.exists()]
        self._awaited += [_Awaited(identity, reading) for reading in readings]

    def read(
        self, data: "EvalSet", variables: "Variables", readings: Sequence[Reading[Result]]
    ) -> dict[Reading[Result], Result]:
        """Returns the results of readings. What no earlier pass has read takes one pass.

        Args:
          data: Split to read.
          variables: Variables of the task.
          readings: Readings of one task.
        """
        awaited = [one for one in self._awaited if one.identity.recognises(variables)]
        mine = [one for one in awaited if one.reading in readings]
        self._awaited = [one for one in self._awaited if one not in mine]
        known = {one.reading: one.result for one in mine if one.result is not None}
        for reading in readings:
            if reading not in known and (stored := _stored(data, variables, reading)) is not None:
                known[reading] = stored
        # Every process takes part in a pass, so all compute what one of them misses.
        missing = [reading for reading in readings if any_process(reading not in known)]
        if not missing:
            return known
        others = [one for one in awaited if one not in mine and one.result is None]
        others = [one for one in others if one.reading.task is missing[0].task]
        others = [one for one in others if any_process(_stored(data, variables, one.reading) is None)]
        computed = self._pass(data, variables, missing, list(dict.fromkeys(one.reading for one in others)))
        for reading, result in computed.items():
            if reading.layer is not None and data.store is not None:
                data.store.keep(variables, data.identity, reading.layer, result)
        for one in others:
            if one.reading.layer is None:
                one.result = computed.get(one.reading)
        return known | {reading: computed[reading] for reading in missing}

    def _pass(
        self, data: "EvalSet", variables: "Variables", wanted: Sequence[Reading], others: Sequence[Reading]
    ) -> dict[Reading, Any]:
        """Makes a pass for the wanted readings, and for those of the others whose results may stay in memory."""
        planned = [reading for reading in self._planned if reading.task is wanted[0].task]
        program = tuple(dict.fromkeys((*planned, *wanted, *others)))
        collectors = {reading: reading.collect(data) for reading in wanted}
        examples = Examples()
        room: int | None = None
        for batch, taken in data.each(lambda batch: self._apply(variables, batch, program)):
            by_reading = dict(zip(program, taken, strict=True))
            if others and room is None:
                room = 0 if data.store is None else data.store.room(variables)
                room -= sum(_size(data, by_reading[reading]) for reading in wanted if reading.layer is not None)
                for reading in others:
                    size = _size(data, by_reading[reading])
                    if not any_process(size > room):
                        room -= size
                        collectors[reading] = reading.collect(data)
            examples.add(batch)
            for reading, collector in collectors.items():
                collector.add(by_reading[reading])
        return {reading: collector.result(examples) for reading, collector in collectors.items()}


def _stored(data: "EvalSet", variables: "Variables", reading: Reading) -> Any:
    """The features of a reading in the store of the split, or None."""
    if reading.layer is None or data.store is None:
        return None
    return data.store.find(variables, data.identity, reading.layer)


def _size(data: "EvalSet", taken: Any) -> int:
    """Bytes of what is taken from the whole split, given what is taken from a batch."""
    of_batch = sum(leaf.nbytes for leaf in jax.tree.leaves(taken))
    return of_batch * len(data.source) // len(data.batch["mask"])
