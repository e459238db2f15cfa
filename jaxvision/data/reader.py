"""One processed example at a time: read, host operations, and what happens to pictures that cannot be decoded."""

import logging
import math
import threading
from collections.abc import Sequence

import numpy as np

from jaxvision.data import host_ops
from jaxvision.data.sources import Source
from jaxvision.errors import UserError, unknown

_log = logging.getLogger(__name__)


class Reader:
    """Reads examples of a source, processes them, and keeps account of those that cannot be decoded.

    A bad example is replaced by the next readable one in the order of indices, so that what is read at an
    index depends on the set alone. Each is named once in a warning. At most `max_bad_fraction` of the set,
    rounded up to a whole example, may be bad (so one is always allowed, unless the fraction is 0).
    Every process counts the bad examples that it meets itself.
    """

    def __init__(self, source: Source, host: str, fields: Sequence[str], max_bad_fraction: float = 0.001):
        """Args are those of `loader.train_batches`."""
        self._source = source
        self._host = host_ops.make(host)
        self._random = host_ops.host_ops.is_random(host)
        self._fields = tuple(fields)
        self._allowed = math.ceil(max_bad_fraction * len(source))
        self._bad: dict[int, str] = {}
        self._lock = threading.Lock()

    def read(self, index: int, seed: int, position: int) -> tuple[dict[str, np.ndarray], bool]:
        """Reads the example at `index`; the draws of its host operations depend on `(seed, position)` alone.

        Returns:
          the wanted fields as arrays, and False if another example had to stand in. Integers other than uint8
          become int32, and float64 becomes float32.

        Raises:
          UserError: too many bad examples, a field that examples do not have, or host operations that do not fit.
        """
        n = len(self._source)
        for i in (j % n for j in range(index, index + n)):
            if i in self._bad:
                continue
            # A generator takes a fifth of the time of a small image, so there is none where nothing is drawn.
            rng = np.random.Generator(np.random.Philox(key=[seed, position])) if self._random else None
            try:
                example = self._host(self._source[i], rng)
            except host_ops.BadImage as error:
                self._note(i, error)
                continue
            return {field: self._array(example, field) for field in self._fields}, i == index
        raise UserError(f"none of the {n} images of {self._source.info.name} can be read")

    def _note(self, index: int, error: Exception) -> None:
        with self._lock:
            if index in self._bad:
                return
            self._bad[index] = self._source.describe(index)
            _log.warning("cannot decode %s (%s): bad image %d", self._bad[index], error, len(self._bad))
            if len(self._bad) > self._allowed:
                raise UserError(
                    f"{len(self._bad)} images of {self._source.info.name} cannot be decoded, more than the "
                    f"{self._allowed} that max_bad_fraction allows: " + ", ".join(list(self._bad.values())[-10:])
                )

    def _array(self, example: dict, field: str) -> np.ndarray:
        if field not in example:
            raise unknown("field", field, example)
        value = np.asarray(example[field])
        if value.dtype.kind in "iu" and value.dtype != np.uint8:
            return value.astype(np.int32)
        return value.astype(np.float32) if value.dtype == np.float64 else value


def stack(examples: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Stacks examples into a batch.

    Raises:
      UserError: a field differs in shape.
    """
    batch = {}
    for field in examples[0]:
        shapes = {example[field].shape for example in examples}
        if len(shapes) > 1:
            raise UserError(
                f"the field {field!r} differs in shape within a batch: {', '.join(map(str, sorted(shapes)[:4]))}; "
                "images need a host spec that ends in one size, like 'decode|resize(224)'"
            )
        batch[field] = np.stack([example[field] for example in examples])
    return batch
