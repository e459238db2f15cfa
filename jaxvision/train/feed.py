"""What the steps are fed: batches from a stream, or rows of a set held in memory.

Either way the batch of step s is a pure function of (seed, s), and the two ways give the same one
for the same host operations.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision.data.bad import Bad, BadRecords
from jaxvision.parallel.mesh import chunk_sharding, replicate, shard_batch
from jaxvision.tasks.task import Batch


class Feed(NamedTuple):
    """A source of steps.

    Attributes:
      constants: arrays that every step reads, on the devices; empty for a stream.
      fetch: `(constants, item) -> batch`, run inside the jitted step.
      items: `(start, lengths) -> iterator`; yields for each length k the items of k steps, with a
        leading axis of k, beginning at step `start`.
      max_steps: how many steps one dispatch may hold.
      bad: account of the examples that could not be read, or None where there is none.
      examples: `step -> (indices, index -> name)`, the examples of the batch of a step, counted from 0; None where
        that is not known.
    """

    constants: Any
    fetch: Callable[[Any, Any], Batch]
    items: Callable[[int, list[int]], Iterator[Any]]
    max_steps: int
    bad: BadRecords | None = None
    examples: Callable[[int], tuple[np.ndarray, Callable[[int], str]]] | None = None


def _as_is(constants: Any, item: Batch) -> Batch:
    return item


def from_stream(
    batches: Callable[[int, int], Iterator[Batch]], mesh: Mesh, ahead: int = 2, bad: BadRecords | None = None
) -> Feed:
    """Feeds batches read by the host, one step a dispatch.

    Args:
      batches: `(start, stop) -> iterator` of this process's rows of the batches of those steps.
      mesh: mesh over which the global batch is laid out.
      ahead: number of batches that are sent to the devices before they are needed.
      bad: account that `batches` keeps.
    """

    def items(start: int, lengths: list[int]) -> Iterator[Any]:
        queue: deque = deque()
        stream = batches(start, start + sum(lengths))
        try:
            while True:
                try:
                    batch = next(stream, None)
                except Exception:
                    yield from queue  # what was read before it is good, and is trained on before the error is met
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
    """Feeds a whole set held in memory.

    With `max_steps` > 1 the set lies on the devices and a dispatch holds that many steps, each of
    which picks its rows by index. With 1 the host picks the rows: right for the CPU backend, where
    host and device memory are the same and XLA runs convolutions slowly inside loops.

    Args:
      arrays: field -> [N, ...] array, equal in every process.
      order: `(start, stop) -> int [stop - start]`, the rows at those positions of the stream; see `Source.order`.
      batch_size: global.
      max_steps: how many steps a dispatch holds.
      bad: account that gains the rows whose `mask` is False in `arrays` where a batch asks for them, as a stream would.
    """
    size = len(next(iter(arrays.values())))
    lost = np.zeros(size, bool) if bad is None or "mask" not in arrays else ~arrays["mask"]
    arrays = {**arrays, "mask": np.ones(size, bool)}

    def indices(start: int, lengths: list[int]) -> Iterator[np.ndarray]:
        for length in lengths:
            rows = order(start * batch_size, (start + length) * batch_size).reshape(length, batch_size)
            for number, chosen in enumerate(rows) if lost.any() else ():
                bad.note(start + number + 1, _met(chosen, lost))
            yield rows.astype(np.int32)
            start += length

    if max_steps == 1:
        process, count = jax.process_index(), jax.process_count()

        def rows(start: int, lengths: list[int]) -> Iterator[Any]:
            for chosen in indices(start, lengths):
                mine = np.split(chosen, count, axis=1)[process]
                yield shard_batch({k: v[mine] for k, v in arrays.items()}, mesh, leading=1)

        return Feed({}, _as_is, rows, max_steps=1, bad=bad)

    def on_device(start: int, lengths: list[int]) -> Iterator[Any]:
        for chosen in indices(start, lengths):
            yield jax.device_put(chosen, chunk_sharding(mesh))

    def fetch(constants: Any, item: jax.Array) -> Batch:
        return {k: v[item] for k, v in constants.items()}

    return Feed(replicate(arrays, mesh), fetch, on_device, max_steps, bad)


def _met(rows: np.ndarray, lost: np.ndarray) -> list[Bad]:
    """The bad rows that a reader asks for on its way to the ones that stand in for them; see `Reader.look`."""
    found = {}
    for row in rows[lost[rows]]:
        while lost[row]:
            found[int(row)] = Bad(int(row), "it could not be read into memory")
            row = (row + 1) % len(lost)
    return list(found.values())
