"""Batches from a source, the same for any number of threads, worker processes and hosts."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxvision.data import workers
from jaxvision.data.bad import Bad, BadRecords
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
    processes: int = 0,
    max_bad_fraction: float = 0.001,
    bad: BadRecords | None = None,
) -> Iterator[Batch]:
    """The training batches of steps `start` to `stop`.

    The batch of a step is a function of `(seed, step)` alone: which examples it holds and what their random host
    operations draw. Each process gets one contiguous block of rows, so the blocks of all processes, put one after
    the other, are the batch of a single process.

    Args:
      source: where examples come from, in the order of `source.order`. It must pickle if there are worker processes.
      host: a host spec, such as "decode|random_resized_crop(224)".
      batch_size: the global batch size, over all processes.
      seed: a non-negative int.
      start, stop: steps; a resumed run starts at its step.
      fields: what of an example goes into the batch.
      process_index, process_count: which block of rows is wanted.
      threads: how many read and process examples at the same time; 0 does it in the calling thread, when a batch
        is asked for. Decoding and resizing release Python's lock, so threads use all cores.
      processes: how many worker processes do it instead of the threads: for sources or tokenizers that hold the lock.
      max_bad_fraction: how many undecodable images are tolerated (see `reader.Reader`).
      bad: account of a run, which gains what each batch met when the batch is handed out, and whose owner sees to the
        limit; None for one of this stream alone, which stops it.

    Returns:
      an iterator of dicts of arrays with `batch_size / process_count` rows: `image` uint8 [b, H, W, 3],
      `label` int32 [b], other fields as stored, and `mask` bool [b], all True. Its `close()` stops the workers.

    Raises:
      UserError: the batch does not divide among the processes; later, from the iterator, what `Reader.read` and
        `stack` raise.
    """
    rows = _rows_per_process(batch_size, process_count)
    first = start * batch_size + process_index * rows
    task = functools.partial(_train_rows, Reader(source, host, fields, max_bad_fraction), source, seed)
    own = BadRecords(source, max_bad_fraction)

    def note(number: int, met: Sequence[Bad]) -> None:
        step = start + number + 1
        (own if bad is None else bad).note(step, met)
        if bad is None:
            if own.excess(step):
                raise own.error(step)
            own.advance(step)

    return _batches(task, _spans(first, stop - start, rows, batch_size), rows, threads, processes, note)


def eval_batches(
    source: Source,
    host: str,
    *,
    batch_size: int,
    fields: Sequence[str] = ("image", "label"),
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 16,
    processes: int = 0,
    max_bad_fraction: float = 0.001,
) -> Iterator[Batch]:
    """Every example of `source` exactly once, in the order of indices.

    The last batch is filled up with zeros, on every process alike, so that all batches have one shape and all
    processes the same number of them. `mask` is True for examples and False for the filling, and where another
    example stands in for one that cannot be decoded. Arguments and errors are those of `train_batches`.
    """
    rows = _rows_per_process(batch_size, process_count)
    reader = Reader(source, host, fields, max_bad_fraction)
    filling = {field: np.zeros_like(value) for field, value in reader.first.items()} | {"mask": np.False_}
    task = functools.partial(_eval_rows, reader, len(source), filling)
    spans = _spans(process_index * rows, -(-len(source) // batch_size), rows, batch_size)
    return _batches(task, spans, rows, threads, processes)


def _train_rows(reader: Reader, source: Source, seed: int, span: range) -> tuple[list[Batch], list[Bad]]:
    """The examples at the positions of `span` in the training stream, and the bad ones that were asked for."""
    indices = source.order(seed, span.start, span.stop)
    found = [reader.look(int(index), seed, position) for index, position in zip(indices, span)]
    return [{**example, "mask": np.True_} for example, _ in found], [bad for _, met in found for bad in met]


def _eval_rows(reader: Reader, n: int, filling: Batch, span: range) -> tuple[list[Batch], list[Bad]]:
    """The examples at the indices of `span`, and `filling` from `n` on."""
    examples = (reader.read(index, 0, index) for index in range(span.start, min(span.stop, n)))
    rows = [{**example, "mask": np.bool_(readable)} for example, readable in examples]
    return rows + [filling] * (len(span) - len(rows)), []


def _rows_per_process(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise UserError(f"batch_size {batch_size} cannot be divided among {process_count} processes")
    return batch_size // process_count


def _chunk(rows: int) -> int:
    # A task of a worker is a chunk of a batch. Whole batches would make the first one slow to come and would need
    # a batch in memory for every worker; single examples cost more in hand-over than a small image does in decoding.
    return math.gcd(rows, 16)


def _spans(first: int, batches: int, rows: int, batch_size: int) -> Iterator[range]:
    """What one host reads, a chunk at a time: `rows` positions from `first`, from `first + batch_size`, and so on."""
    for start in range(first, first + batches * batch_size, batch_size):
        for position in range(start, start + rows, _chunk(rows)):
            yield range(position, position + _chunk(rows))


def _batches(
    task: workers.Task,
    spans: Iterator[range],
    rows: int,
    threads: int,
    processes: int,
    note: Callable[[int, Sequence[Bad]], None] = lambda number, met: None,
) -> Iterator[Batch]:
    """Runs `task` on the spans, two batches ahead, and stacks every `rows` examples.

    `note` gets the number of each batch and the bad examples that it met, before the batch is handed out.
    """
    per_batch = rows // _chunk(rows)
    chunks = workers.ordered(task, spans, threads=threads, processes=processes, ahead=2 * per_batch)
    try:
        for number in itertools.count():
            parts = list(itertools.islice(chunks, per_batch))
            if not parts:
                return
            note(number, [bad for _, met in parts for bad in met])
            yield stack([example for examples, _ in parts for example in examples])
    finally:
        chunks.close()
