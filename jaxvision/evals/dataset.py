"""The split that an evaluator reads: every example exactly once, on any number of devices."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision import augment as augmentation
from jaxvision.data import loader, resident
from jaxvision.data.reader import first_arrays
from jaxvision.data.sources import Info, Source
from jaxvision.data.subsets import Subset
from jaxvision.evals.store import Store, digest
from jaxvision.parallel.gate import tick
from jaxvision.parallel.mesh import batch_axis_size, check_batch, shard_batch, split_rows
from jaxvision.progress import track

Batch = dict
RESIDENT_BYTES = 2**30  # a split up to this size stays on the devices


class EvalSet(NamedTuple):
    """One split, ready to be read.

    Attributes:
      info: name, size and classes.
      batches: `() -> iterator` of global batches on the devices; the last is filled up, with `mask` False.
      preprocess: `batch -> batch` with float images, inside jit; draws nothing.
      host, augment: the specs that were used, to be stored with the results.
      source: the examples themselves, with their labels.
      take: `indices -> EvalSet` of those examples of the split alone, read in the same way.
      batch: `ShapeDtypeStruct`s of a batch.
      mesh: on which the batches lie.
      training: prepares the split for an evaluator that trains on it, in random order and with specs of its own:
        `(host, augment, batch_size, seed) -> (batches, transform)`, where `batches(start, stop)` gives the batches
        of those steps, and `transform(rng, batch)` augments one inside jit.
      store: where features of the split are kept, or None.
      identity: JSON that says which images these are and how they are prepared, for the store.
    """

    info: Info
    batches: Callable[[], Iterator[Batch]]
    preprocess: Callable[[Batch], Batch]
    host: str
    augment: str
    source: Source
    take: Callable[[np.ndarray], "EvalSet"]
    batch: Batch
    mesh: Mesh
    training: Callable[[str, str, int, int], tuple[Callable[[int, int], Iterator[Batch]], Callable]]
    store: Store | None
    identity: Mapping[str, Any]


def make(
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
) -> EvalSet:
    """Prepares a split for evaluation.

    Args:
      source: the split.
      host, augment: deterministic specs (see `Registry.evaluation`).
      batch_size: global; must divide over the mesh. A split that is smaller is one batch of its size.
      mesh: where the batches are laid out.
      fields: of the examples, what the batches hold.
      statistics: of the training set, which `augment` may need; see `augment.make`.
      store, identity: where features of the split are kept, and what tells its examples from others; the specs and
        statistics need not be in it.
      reading: threads, processes and max_bad_fraction of `loader.eval_batches`.

    A set that fits in memory stays on the devices between evaluations.
    """
    check_batch(batch_size, mesh)
    each = math.lcm(batch_axis_size(mesh), jax.process_count())
    batch_size = min(batch_size, -(-len(source) // each) * each)  # what a small split does not fill is not allocated
    transform = augmentation.make(augment, statistics=statistics)
    keep = resident.fits(source, host, RESIDENT_BYTES, fields)
    kept: list[Batch] = []
    example = first_arrays(source, host, fields)
    shapes = {field: jax.ShapeDtypeStruct((batch_size, *x.shape), x.dtype) for field, x in example.items()}
    own = dict(process_index=jax.process_index(), process_count=jax.process_count(), fields=fields, **reading)

    def batches() -> Iterator[Batch]:
        if kept:
            for batch in kept:
                tick()
                yield batch
            return
        read = []
        images, what = (
            loader.eval_batches(source, host, batch_size=batch_size, **own),
            f"{source.info.name} {source.info.split}",
        )
        for batch in track(images, f"evaluating {what}", -(-len(source) // batch_size), "batches"):
            batch = shard_batch(batch, mesh)
            if keep:
                read.append(batch)
            tick()
            yield batch
        kept[:] = read

    def preprocess(batch: Batch) -> Batch:
        return transform(jax.random.key(0), batch)

    def take(indices: np.ndarray) -> EvalSet:
        return make(
            Subset(source, indices),
            host=host,
            augment=augment,
            batch_size=batch_size,
            mesh=mesh,
            fields=fields,
            statistics=statistics,
            store=store,
            identity={**identified, "rows": digest(indices)},
            **reading,
        )

    def training(host: str, augment: str, batch_size: int, seed: int) -> tuple[Callable, Callable]:
        check_batch(batch_size, mesh)
        fits, whole = resident.fits(source, host, RESIDENT_BYTES, fields), {}

        def batches(start: int, stop: int) -> Iterator[Batch]:
            if not fits:
                drawn = loader.train_batches(
                    source, host, batch_size=batch_size, seed=seed, start=start, stop=stop, **own
                )
                for batch in drawn:
                    tick()
                    yield shard_batch(batch, mesh)
                return
            if not whole:
                whole.update(resident.load(source, host, fields=fields, **reading))
            for step in range(start, stop):
                rows = source.order(seed, step * batch_size, (step + 1) * batch_size)
                tick()
                yield split_rows({field: x[rows] for field, x in whole.items()}, mesh)

        return batches, augmentation.make(augment, source.info.num_classes, statistics)

    identified = {
        **(identity or {}),
        "host": host,
        "augment": augment,
        "statistics": digest(dict(statistics or {})),
        "examples": len(source),
        "labelled": "label" in fields,  # features are kept with their labels
    }
    return EvalSet(
        info=source.info,
        batches=batches,
        preprocess=preprocess,
        host=host,
        augment=augment,
        source=source,
        take=take,
        batch=shapes | {"mask": jax.ShapeDtypeStruct((batch_size,), np.bool_)},
        mesh=mesh,
        training=training,
        store=store,
        identity=identified,
    )
