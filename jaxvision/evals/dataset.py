"""The split that an evaluator reads: every example exactly once, on any number of devices."""

import copy
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision import augment as augmentation
from jaxvision.data import loader, resident, wanted
from jaxvision.data.reader import first_arrays
from jaxvision.data.sources import Source
from jaxvision.data.subsets import Subset
from jaxvision.evals import columns
from jaxvision.evals.passes import Collector, Passes, Reading
from jaxvision.evals.store import Store, digest
from jaxvision.parallel.gate import tick
from jaxvision.parallel.mesh import batch_axis_size, check_batch, shard_batch, split_rows
from jaxvision.progress import track

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables

Batch = dict[str, Any]
Outputs = TypeVar("Outputs")
Result = TypeVar("Result")
RESIDENT_BYTES = 2**30  # a split up to this size stays on the devices


class EvalSet:
    """A split, ready to be read. If it fits in memory, it stays on the devices between evaluations.

    Attributes:
      info: Info of the split: name, size and classes.
      source: Source of the examples, with their labels.
      host, augment: Specs that prepare the images, to be stored with the results.
      batch: Batch as `ShapeDtypeStruct`s.
      fields: Fields of a batch that `preprocess` returns.
      mesh: Mesh of the devices that hold the batches.
      store: Store that keeps features of the split, or None.
      identity: JSON that identifies the images and their preparation, for the store.
    """

    def __init__(
        self,
        source: Source,
        *,
        host: str,
        augment: str,
        batch_size: int,
        mesh: Mesh,
        fields: Sequence[str] = ("image", "label"),
        statistics: Mapping[str, Any] | None = None,
        store: Store | None = None,
        identity: Mapping[str, Any] | None = None,
        **reading: Any,
    ):
        """Prepares a split for evaluation.

        Args:
          source: Source of the examples.
          host, augment: Specs without random operations, see `Registry.evaluation`.
          batch_size: Number of examples in a batch over all devices; the devices of the mesh must divide it. A smaller
            split is one batch of its size.
          mesh: Mesh of the devices.
          fields: Names of the fields of an example that the batches hold.
          statistics: Statistics of the training set that `augment` needs, see `augment.make_augmentation`.
          store: Store that keeps features of the split, or None.
          identity: JSON that identifies the examples in the store; specs and statistics are added to it.
          **reading: Options `threads`, `processes` and `max_bad_fraction` of `loader.eval_batches`.
        """
        check_batch(batch_size, mesh)
        each = math.lcm(batch_axis_size(mesh), jax.process_count())
        self.info, self.source, self.mesh, self.store = source.info, source, mesh, store
        self.host, self.augment = host, augment
        self._batch_size = min(batch_size, -(-len(source) // each) * each)  # what stays empty is not allocated
        self._fields, self._statistics, self._reading = fields, statistics, reading
        self._transform = transform = self._augmentation(host, augment)
        self.fields = transform.fields
        self._readings: list[Reading] = []
        self._passes = Passes(lambda batch: transform(jax.random.key(0), batch), transform.fields)
        self._keep = resident.fits(source, host, RESIDENT_BYTES, fields)
        self._kept: list[Batch] = []
        example = first_arrays(source, host, fields)
        self.batch = {
            field: jax.ShapeDtypeStruct((self._batch_size, *x.shape), x.dtype) for field, x in example.items()
        }
        self.batch["mask"] = jax.ShapeDtypeStruct((self._batch_size,), np.bool_)
        self.identity = {
            **(identity or {}),
            "host": host,
            "augment": augment,
            "statistics": digest(dict(statistics or {})),
            "examples": len(source),
            "labelled": "label" in fields,  # features are kept with their labels
        }

    def batches(self) -> Iterator[Batch]:
        """Yields global batches on the devices. The last one is filled up with rows whose `mask` is False."""
        if self._kept:
            for batch in self._kept:
                tick()
                yield batch
            return
        kept = []
        images = loader.eval_batches(self.source, self.host, batch_size=self._batch_size, **self._own())
        what = f"evaluating {self.info.name} {self.info.split}"
        for batch in track(images, what, -(-len(self.source) // self._batch_size), "batches"):
            batch = shard_batch(batch, self.mesh)
            if self._keep:
                kept.append(batch)
            tick()
            yield batch
        self._kept[:] = kept

    def each(self, compute: Callable[[Batch], Outputs]) -> Iterator[tuple[Batch, Outputs]]:
        """Yields every batch with what is computed from it. The host reads the next batches meanwhile.

        Args:
          compute: Jitted function of a batch.
        """
        return columns.computed((batch, compute(batch)) for batch in self.batches())

    def reading(
        self,
        task: "Task",
        take: Callable[[Mapping[str, Any], Batch], Any],
        collect: Callable[["EvalSet"], Collector[Result]],
        *,
        layer: str | None = None,
    ) -> Reading[Result]:
        """Describes what an evaluator takes from the outputs of a task for the split; see `Reading` and `read`.

        Args:
          task: Task whose outputs are read.
          take: Function `(outputs, batch) -> tree of arrays`, called inside jit.
          collect: Function of the split that begins to collect what is taken.
          layer: Name of the layer, for features. Readings of the same layer are equal.
        """
        key: Hashable = (id(task), object() if layer is None else layer)
        made = Reading(key, task, take, collect, layer)
        self._readings.append(made)
        return made

    def read(self, variables: "Variables", readings: Sequence[Reading[Result]]) -> dict[Reading[Result], Result]:
        """Returns the results of readings, which take one pass, or none if another evaluator has made it.

        Args:
          variables: Variables of the task.
          readings: Readings of one task, from `reading`.
        """
        return self._passes.read(self, variables, readings)

    def for_evaluator(self) -> "EvalSet":
        """Returns the same split, with the same data and passes, to give to one evaluator.

        `plan` and `expect` are then about the readings of this evaluator.
        """
        own = copy.copy(self)
        own._readings = []
        return own

    def plan(self) -> None:
        """Adds the readings to the program that all evaluators of the split share; see `Passes`."""
        self._passes.plan(self._readings)

    def expect(self, variables: "Variables") -> None:
        """Announces that the evaluator is going to run, so that a pass of another one serves it too.

        Args:
          variables: Variables of the task.
        """
        self._passes.expect(variables, self._readings)

    def preprocess(self, batch: Batch) -> Batch:
        """Applies the augmentation, which makes images float; call it inside jit.

        Args:
          batch: Batch as `batches` yields it.
        """
        return self._transform(jax.random.key(0), batch)

    def take(self, indices: np.ndarray) -> "EvalSet":
        """Returns the set of some examples of the split, read in the same way.

        Args:
          indices: Positions of the examples in the split, int [n].
        """
        return EvalSet(
            Subset(self.source, indices),
            host=self.host,
            augment=self.augment,
            batch_size=self._batch_size,
            mesh=self.mesh,
            fields=self._fields,
            statistics=self._statistics,
            store=self.store,
            identity={**self.identity, "rows": digest(indices)},
            **self._reading,
        )

    def training(
        self, host: str, augment: str, batch_size: int, seed: int
    ) -> tuple[Callable[[int, int], Iterator[Batch]], Callable]:
        """Prepares the split for an evaluator that trains on it, in random order.

        Args:
          host, augment: Specs for training, which may be random.
          batch_size: Number of examples in a batch over all devices.
          seed: Seed of the order.

        Returns:
          `batches(start, stop)`, which yields the batches of these steps, and `transform(rng, batch)`, which augments a
          batch inside jit.
        """
        check_batch(batch_size, self.mesh)
        source, mesh = self.source, self.mesh
        fits = resident.fits(source, host, RESIDENT_BYTES, self._fields)
        whole: dict[str, np.ndarray] = {}

        def batches(start: int, stop: int) -> Iterator[Batch]:
            if not fits:
                drawn = loader.train_batches(
                    source, host, batch_size=batch_size, seed=seed, start=start, stop=stop, **self._own()
                )
                for batch in drawn:
                    tick()
                    yield shard_batch(batch, mesh)
                return
            if not whole:
                whole.update(resident.load_arrays(source, host, fields=self._fields, **self._reading))
            for step in range(start, stop):
                rows = source.order(seed, step * batch_size, (step + 1) * batch_size)
                tick()
                yield split_rows({field: x[rows] for field, x in whole.items()}, mesh)

        return batches, self._augmentation(host, augment)

    def _augmentation(self, host: str, augment: str) -> augmentation.Augmentation:
        """The augmentation for batches from a host spec."""
        available = wanted.make_source_chain(self.source, host, self._fields).fields
        fields = {name: available[name] for name in self._fields if name in available}
        return augmentation.make_augmentation(augment, self.info.num_classes, self._statistics, fields)

    def _own(self) -> dict[str, Any]:
        """Keyword arguments of the loader: the rows that this process reads, and how it reads them."""
        places = dict(process_index=jax.process_index(), process_count=jax.process_count())
        return {**places, "fields": self._fields, **self._reading}
