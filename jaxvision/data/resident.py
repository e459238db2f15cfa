"""Small sets, read into memory once: training then only indexes arrays, on the device if the caller puts them there."""

from collections.abc import Sequence

import numpy as np

from jaxvision.data.host_ops import host_ops
from jaxvision.data.loader import eval_batches
from jaxvision.data.reader import first_arrays
from jaxvision.data.sources import Source
from jaxvision.progress import Progress

_BATCH = 1024


def fits(source: Source, host: str, limit_bytes: int, fields: Sequence[str] = ("image",)) -> bool:
    """Whether the fields of the examples of `source`, after the host spec, can stay in `limit_bytes` of memory.

    A host spec with a random operation gives other images in every epoch, so its set never fits. The size of
    the first example that can be read stands for all.
    """
    if host_ops.is_random(host):
        return False
    return len(source) * sum(x.nbytes for x in first_arrays(source, host, fields).values()) <= limit_bytes


def load(
    source: Source,
    host: str,
    *,
    fields: Sequence[str] = ("image", "label"),
    threads: int = 16,
    processes: int = 0,
    max_bad_fraction: float = 0.001,
) -> dict[str, np.ndarray]:
    """Reads all of `source` through its host operations; says on stderr how far it is where that takes a while.

    Returns:
      arrays [n, ...] in the order of indices: `image` uint8 [n, H, W, 3], `label` int32 [n], other fields as
      stored, and `mask` bool [n], False where an image cannot be decoded and another example stands in.

    Raises:
      UserError: as `loader.eval_batches`.
    """
    n = len(source)
    arrays: dict[str, np.ndarray] = {}
    size = min(_BATCH, -(-n // 16) * 16)  # a batch is filled up: 1,024 large images of a small set would need gigabytes
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
