"""Small sets, read into memory once. Training then only indexes arrays, on the device if the caller puts them there."""

from collections.abc import Sequence

import numpy as np

from jaxvision.data.host_ops import host_ops
from jaxvision.data.loader import eval_batches
from jaxvision.data.reader import first_arrays
from jaxvision.data.sources import Source
from jaxvision.progress import Progress

_BATCH = 1024  # examples


def fits(source: Source, host: str, limit_bytes: int, fields: Sequence[str] = ("image",)) -> bool:
    """Returns whether the fields of all examples, after the host spec, fit into some memory.

    The size of the first readable example stands for all. A set whose host spec has a random operation never fits,
    since its images differ in every epoch.

    Args:
      source: Source of the examples.
      host: Host spec.
      limit_bytes: Size of the memory in bytes.
      fields: Names of the fields.
    """
    if host_ops.is_random(host):
        return False
    return len(source) * sum(x.nbytes for x in first_arrays(source, host, fields).values()) <= limit_bytes


def load_arrays(
    source: Source,
    host: str,
    *,
    fields: Sequence[str] = ("image", "label"),
    threads: int = 16,
    processes: int = 0,
    max_bad_fraction: float = 0.001,
) -> dict[str, np.ndarray]:
    """Reads all of `source` through its host operations; shows progress on stderr if that takes a while.

    Args:
      source: Source of the examples.
      host: Host spec.
      fields: Names of the fields.
      threads: Number of threads, as for `loader.train_batches`.
      processes: Number of worker processes, as for `loader.train_batches`.
      max_bad_fraction: Share of examples that may be bad, in [0, 1].

    Returns:
      Arrays [n, ...] in the order of indices: `image` uint8 [n, h, w, 3], `label` int32 [n], other fields as stored,
        and
      `mask` bool [n], False where an image cannot be decoded and another example replaces it.

    Raises:
      UserError: The same errors as those of `loader.eval_batches`.
    """
    n = len(source)
    arrays: dict[str, np.ndarray] = {}
    size = min(_BATCH, -(-n // 16) * 16)  # batches are padded, and 1,024 large images would take gigabytes
    batches = eval_batches(
        source,
        host,
        batch_size=size,
        fields=fields,
        threads=threads,
        processes=processes,
        max_bad_fraction=max_bad_fraction,
    )
    what = f"reading {source.info.name} {source.info.split} into memory"
    with Progress(what, n) as progress:
        for batch, start in zip(batches, range(0, n, size)):
            for field, values in batch.items():
                if start == 0:
                    arrays[field] = np.empty((n, *values.shape[1:]), values.dtype)
                arrays[field][start : start + size] = values[: n - start]
            progress.advance(min(size, n - start))
    return arrays
