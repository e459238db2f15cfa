"""Batches from a source, the same for any number of threads, worker processes and hosts."""

import functools
import itertools
import math
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np

from jaxvision.data import workers
from jaxvision.data.bad import Bad, BadRecords
from jaxvision.data.reader import Reader, stack
from jaxvision.data.sources import Source
from jaxvision.errors import UserError

Row = dict[str, np.ndarray | np.bool_]
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
) -> Generator[Batch, None, None]:
    """Yields the training batches of steps `start` to `stop`.

    The batch of a step is a function of `(seed, step)` alone: both the choice of examples and what their random host
    operations draw. Each process gets one contiguous block of rows; the blocks of all processes, concatenated, are the
    batch of a single process.

    Args:
      source: Source of the examples, read in the order of `source.order`. It must pickle if there are worker processes.
      host: Host spec, such as "decode|random_resized_crop(224)".
      batch_size: Number of examples in a global batch, over all processes.
      seed: Seed of the order and of the host operations, not negative.
      start: First step; a resumed run starts at its step.
      stop: Step after the last.
      fields: Names of the fields that go into the batch.
      process_index: Number of this process, which selects its block of rows.
      process_count: Number of processes.
      threads: Number of threads that read and process examples; with 0 the calling thread does so when a batch is asked
        for. Decoding and resizing release Python's lock, so threads use all cores.
      processes: Number of worker processes that do so instead of threads, for sources or tokenizers that hold the lock.
      max_bad_fraction: Share of examples that may be bad, in [0, 1] (see `reader.Reader`).
      bad: Record of a run, to which each batch adds its bad examples when it is handed out; its owner checks the limit.
        None for a record of this stream alone, which raises an error at the limit.

    Returns:
      A generator of dicts of arrays with b = `batch_size / process_count` rows: `image` uint8 [b, h, w, 3], `label`
        int32
      [b], other fields as stored, and `mask` bool [b], all True. Its `close()` stops the workers.

    Raises:
      UserError: The batch cannot be divided among the processes; later, from the generator, what `Reader.read` and
        `stack` raise.
    """
    rows = _rows_per_process(batch_size, process_count)
    first = start * batch_size + process_index * rows
    task = functools.partial(_train_rows, Reader(source, host, fields, max_bad_fraction), source, seed)
    stream_record = BadRecords(source, max_bad_fraction)

    def note(number: int, met: Sequence[Bad]) -> None:
        step = start + number + 1
        (stream_record if bad is None else bad).note(step, met)
        if bad is None:
            if stream_record.excess(step):
                raise stream_record.error(step)
            stream_record.advance(step)

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
) -> Generator[Batch, None, None]:
    """Yields every example of `source` exactly once, in the order of indices.

    The last batch is padded with zeros, on every process alike, so that all batches have one shape and all processes
    the same number of batches. `mask` is True for examples. It is False for padding, and where another example replaces
    one that cannot be decoded.

    Args:
      source: Source of the examples. It must pickle if there are worker processes.
      host: Host spec, such as "decode|resize(224)".
      batch_size: Number of examples in a global batch, over all processes.
      fields: Names of the fields that go into the batch.
      process_index: Number of this process, which selects its block of rows.
      process_count: Number of processes.
      threads: Number of threads, as for `train_batches`.
      processes: Number of worker processes, as for `train_batches`.
      max_bad_fraction: Share of examples that may be bad, in [0, 1] (see `reader.Reader`).

    Returns:
      A generator of dicts of arrays, like that of `train_batches`.

    Raises:
      UserError: The same errors as those of `train_batches`.
    """
    rows = _rows_per_process(batch_size, process_count)
    reader = Reader(source, host, fields, max_bad_fraction)
    padding: Row = {field: np.zeros_like(value) for field, value in reader.first.items()} | {"mask": np.False_}
    task = functools.partial(_eval_rows, reader, len(source), padding)
    spans = _spans(process_index * rows, -(-len(source) // batch_size), rows, batch_size)
    return _batches(task, spans, rows, threads, processes)


def _train_rows(reader: Reader, source: Source, seed: int, span: range) -> tuple[list[Row], list[Bad]]:
    """Returns the examples at the positions of `span` in the training stream, and the bad ones that were asked for."""
    indices = source.order(seed, span.start, span.stop)
    looks = [reader.look(int(index), seed, position) for index, position in zip(indices, span)]
    return [{**example, "mask": np.True_} for example, _ in looks], [bad for _, met in looks for bad in met]


def _eval_rows(reader: Reader, n: int, padding: Row, span: range) -> tuple[list[Row], list[Bad]]:
    """Returns the examples at the indices of `span`, and `padding` from `n` on."""
    examples = (reader.read(index, 0, index) for index in range(span.start, min(span.stop, n)))
    rows: list[Row] = [{**example, "mask": np.bool_(readable)} for example, readable in examples]
    return rows + [padding] * (len(span) - len(rows)), []


def _rows_per_process(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise UserError(f"batch_size {batch_size} cannot be divided among {process_count} processes")
    return batch_size // process_count


def _chunk(rows: int) -> int:
    # A worker processes a chunk of a batch at a time. With whole batches the first would take long, and every worker
    # would hold one in memory; handing over single examples would take longer than decoding a small image.
    return math.gcd(rows, 16)


def _spans(first: int, batches: int, rows: int, batch_size: int) -> Iterator[range]:
    """Yields what one host reads, in chunks: `rows` positions from `first`, from `first + batch_size`, and so on."""
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
) -> Generator[Batch, None, None]:
    """Runs `task` on the spans, two batches ahead, and stacks every `rows` examples.

    `note` is called with the number of each batch and its bad examples before the batch is handed out.
    """
    per_batch = rows // _chunk(rows)
    chunks = workers.map_ordered(task, spans, threads=threads, processes=processes, ahead=2 * per_batch)
    try:
        for number in itertools.count():
            parts = list(itertools.islice(chunks, per_batch))
            if not parts:
                return
            note(number, [bad for _, met in parts for bad in met])
            yield stack([example for examples, _ in parts for example in examples])
    finally:
        chunks.close()
