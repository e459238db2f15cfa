"""The split that an evaluator reads: every example exactly once, on any number of devices."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision import augment as augmentation
from jaxvision.data import loader, resident
from jaxvision.data.sources import Info, Source
from jaxvision.data.subsets import Subset
from jaxvision.parallel.mesh import check_batch, shard_batch

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
    """

    info: Info
    batches: Callable[[], Iterator[Batch]]
    preprocess: Callable[[Batch], Batch]
    host: str
    augment: str
    source: Source
    take: Callable[[np.ndarray], "EvalSet"]


def make(
    source: Source,
    *,
    host: str,
    augment: str,
    batch_size: int,
    mesh: Mesh,
    fields: Sequence[str] = ("image", "label"),
    statistics: Mapping[str, Any] | None = None,
    **reading: Any,
) -> EvalSet:
    """Prepares a split for evaluation.

    Args:
      source: the split.
      host, augment: deterministic specs (see `Registry.evaluation`).
      batch_size: global; must divide over the mesh.
      mesh: where the batches are laid out.
      fields: of the examples, what the batches hold.
      statistics: of the training set, which `augment` may need; see `augment.make`.
      reading: threads, processes and max_bad_fraction of `loader.eval_batches`.

    A set that fits in memory stays on the devices between evaluations.
    """
    check_batch(batch_size, mesh)
    transform = augmentation.make(augment, statistics=statistics)
    keep = resident.fits(source, host, RESIDENT_BYTES)
    kept: list[Batch] = []

    def batches() -> Iterator[Batch]:
        if kept:
            yield from kept
            return
        read = []
        for batch in loader.eval_batches(
            source,
            host,
            batch_size=batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            fields=fields,
            **reading,
        ):
            batch = shard_batch(batch, mesh)
            if keep:
                read.append(batch)
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
            **reading,
        )

    return EvalSet(source.info, batches, preprocess, host, augment, source, take)
