"""Batches from a source, the same for any number of threads and processes."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import grain
import numpy as np

from jaxvision.data import order
from jaxvision.data.reader import Reader, stack
from jaxvision.data.sources import Source
from jaxvision.errors import UserError

Batch = dict[str, np.ndarray]


def train_batches(
    source: Source,
    host: str,
    *,
    batch_size: int,
    seed: int,
    start: int,
    stop: int,
    fields: Sequence[str] = ("image", "label"),
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 16,
    max_bad_fraction: float = 0.001,
) -> Iterator[Batch]:
    """The training batches of steps `start` to `stop`.

    The batch of a step is a function of `(seed, step)` alone: which examples it holds and what their random host
    operations draw. Each process gets one contiguous block of rows, so the blocks of all processes, put one after
    the other, are the batch of a single process.

    Args:
      source: where examples come from. Its epochs are shuffled and run into each other (see `order.indices`).
      host: a host spec, such as "decode|random_resized_crop(224)".
      batch_size: the global batch size, over all processes.
      seed: a non-negative int.
      start, stop: steps; a resumed run starts at its step.
      fields: what of an example goes into the batch.
      process_index, process_count: which block of rows is wanted.
      threads: how many read and process examples at the same time.
      max_bad_fraction: how many undecodable images are tolerated (see `reader.Reader`).

    Returns:
      an iterator of dicts of arrays with `batch_size / process_count` rows: `image` uint8 [b, H, W, 3],
      `label` int32 [b], other fields as stored, and `mask` bool [b], all True. Its `close()` stops the threads.

    Raises:
      UserError: the batch does not divide among the processes; later, from the iterator, what `Reader.read` and
        `stack` raise.
    """
    rows = _rows_per_process(batch_size, process_count)
    reader = Reader(source, host, fields, max_bad_fraction)

    def example(local: int) -> Batch:
        position = (start + local // rows) * batch_size + process_index * rows + local % rows
        (index,) = order.indices(seed, len(source), position, position + 1)
        fields, _ = reader.read(int(index), seed, position)
        return {**fields, "mask": np.True_}

    return _batches(example, (stop - start) * rows, rows, threads)


def eval_batches(
    source: Source,
    host: str,
    *,
    batch_size: int,
    fields: Sequence[str] = ("image", "label"),
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 16,
    max_bad_fraction: float = 0.001,
) -> Iterator[Batch]:
    """Every example of `source` exactly once, in the order of indices.

    The last batch is filled up with zeros, on every process alike, so that all batches have one shape and all
    processes the same number of them. `mask` is True for examples and False for the filling, and where another
    example stands in for one that cannot be decoded. Arguments and errors are those of `train_batches`.
    """
    rows = _rows_per_process(batch_size, process_count)
    reader = Reader(source, host, fields, max_bad_fraction)
    n = len(source)
    first, _ = reader.read(0, 0, 0)
    filling = {field: np.zeros_like(value) for field, value in first.items()} | {"mask": np.False_}

    def example(local: int) -> Batch:
        index = local // rows * batch_size + process_index * rows + local % rows
        if index >= n:
            return filling
        fields, readable = reader.read(index, 0, index)
        return {**fields, "mask": np.bool_(readable)}

    return _batches(example, -(-n // batch_size) * rows, rows, threads)


def _rows_per_process(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise UserError(f"batch_size {batch_size} cannot be divided among {process_count} processes")
    return batch_size // process_count


def _batches(example: Callable[[int], Batch], count: int, rows: int, threads: int) -> Iterator[Batch]:
    """Runs `example(0..count)` in threads, two batches ahead, and stacks every `rows` of them."""
    # A task of a thread is a chunk of a batch. Whole batches would make the first one slow to come and would need
    # a batch in memory for every thread; single examples cost more in hand-over than a small image does in decoding.
    chunk = math.gcd(rows, 16)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2 * rows // chunk, threads))
    chunks = grain.MapDataset.range(count).map(example).batch(chunk, batch_fn=list).to_iter_dataset(options)
    batches = iter(chunks.batch(rows // chunk, batch_fn=lambda parts: stack(list(itertools.chain(*parts)))))
    try:
        yield from batches
    finally:
        batches.close()
