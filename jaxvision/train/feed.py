"""Feeds the steps with data: batches from a stream, or rows of a data set held in memory.

Either way the batch of step s is a pure function of (seed, s). Both ways give the same batch for the same host
operations.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision.data.bad import Bad, BadRecords
from jaxvision.parallel.mesh import chunk_sharding, replicate, shard_batch
from jaxvision.tasks.task import Batch

PyTree = Any
Items = Generator[PyTree, None, None]


class Feed(NamedTuple):
    """The data of the steps.

    Attributes:
      constants: Arrays that every step reads, on the devices; empty for a stream.
      fetch: Function `(constants, item) -> batch`, part of the jitted step.
      items: Function `(start, lengths) -> generator`. It yields, for each length k, the items of k steps, arrays
        [k, ...], from step `start` on.
      max_steps: Largest number of steps in one dispatch.
      bad: Record of the examples that could not be read, or None.
      examples: Function `step -> (indices, index -> name)` of the examples in the batch of a step, with steps counted
        from 0; None if they are not known.
    """

    constants: PyTree
    fetch: Callable[[PyTree, PyTree], Batch]
    items: Callable[[int, list[int]], Items]
    max_steps: int
    bad: BadRecords | None = None
    examples: Callable[[int], tuple[np.ndarray, Callable[[int], str]]] | None = None


def _as_is(constants: Any, item: Batch) -> Batch:
    return item


def from_stream(
    batches: Callable[[int, int], Iterator[Batch]], mesh: Mesh, ahead: int = 2, bad: BadRecords | None = None
) -> Feed:
    """Feeds batches that the host reads, with one step in each dispatch.

    Args:
      batches: Function `(start, stop) -> iterator` over this process's rows of the batches of these steps.
      mesh: Mesh of the devices that the global batch is split over.
      ahead: Number of batches that are sent to the devices before they are needed.
      bad: Record of unreadable examples that `batches` keeps, or None.
    """

    def items(start: int, lengths: list[int]) -> Items:
        queue: deque = deque()
        stream = batches(start, start + sum(lengths))
        try:
            while True:
                try:
                    batch = next(stream, None)
                except Exception:
                    yield from queue  # the batches before it are good: train on them, then raise
                    raise
                if batch is None:
                    break
                queue.append(shard_batch({k: v[None] for k, v in batch.items()}, mesh, leading=1))
                if len(queue) > ahead:
                    yield queue.popleft()
            yield from queue
        finally:
            close = getattr(stream, "close", None)
            if close:
                close()

    return Feed({}, _as_is, items, max_steps=1, bad=bad)


def from_arrays(
    arrays: dict[str, np.ndarray],
    order: Callable[[int, int], np.ndarray],
    mesh: Mesh,
    *,
    batch_size: int,
    max_steps: int,
    bad: BadRecords | None = None,
) -> Feed:
    """Feeds a whole data set that is held in memory.

    With `max_steps` > 1 the set is on the devices, and each step of a dispatch picks its rows by index. With 1 the host
    picks the rows. This suits the CPU backend, where host and device memory are the same and XLA is slow at
    convolutions inside loops.

    Args:
      arrays: Arrays [n, ...] by field, equal in every process.
      order: Function `(start, stop) -> rows`, int [stop - start], the rows at these positions of the stream; see
        `Source.order`.
      mesh: Mesh of the devices that the global batch is split over.
      batch_size: Number of examples in a batch over all processes.
      max_steps: Number of steps in a dispatch.
      bad: Record of unreadable examples, or None. It notes the rows whose `mask` in `arrays` is False when a batch asks
        for them, as a stream does.
    """
    size = len(next(iter(arrays.values())))
    lost = np.zeros(size, bool) if bad is None or "mask" not in arrays else ~arrays["mask"]
    arrays = {**arrays, "mask": np.ones(size, bool)}

    def indices(start: int, lengths: list[int]) -> Iterator[np.ndarray]:
        for length in lengths:
            rows = order(start * batch_size, (start + length) * batch_size).reshape(length, batch_size)
            if bad is not None and lost.any():
                for number, chosen in enumerate(rows):
                    bad.note(start + number + 1, _met(chosen, lost))
            yield rows.astype(np.int32)
            start += length

    if max_steps == 1:
        process, count = jax.process_index(), jax.process_count()

        def rows(start: int, lengths: list[int]) -> Items:
            for chosen in indices(start, lengths):
                mine = np.split(chosen, count, axis=1)[process]
                yield shard_batch({k: v[mine] for k, v in arrays.items()}, mesh, leading=1)

        return Feed({}, _as_is, rows, max_steps=1, bad=bad)

    def on_device(start: int, lengths: list[int]) -> Items:
        for chosen in indices(start, lengths):
            yield jax.device_put(chosen, chunk_sharding(mesh))

    def fetch(constants: Any, item: jax.Array) -> Batch:
        return {k: v[item] for k, v in constants.items()}

    return Feed(replicate(arrays, mesh), fetch, on_device, max_steps, bad)


def _met(rows: np.ndarray, lost: np.ndarray) -> list[Bad]:
    """Returns the bad rows that a reader meets until it finds good ones to replace them; see `Reader.look`."""
    met = {}
    for row in rows[lost[rows]]:
        while lost[row]:
            met[int(row)] = Bad(int(row), "it could not be read into memory")
            row = (row + 1) % len(lost)
    return list(met.values())
