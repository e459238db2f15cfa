"""One processed example at a time: read, host operations, and what happens to those that cannot be read."""

import logging
import math
import threading
from collections import deque
from collections.abc import Sequence

import numpy as np

from jaxvision.data import host_ops
from jaxvision.data.sources.base import BadExample, Source
from jaxvision.errors import UserError, unknown

_log = logging.getLogger(__name__)
_MAX_WARNINGS = 100
_NAMES = 10  # of bad examples, in the message that stops the run


class Reader:
    """Reads examples of a source, processes them, and keeps account of the bad ones.

    An example is bad where its picture cannot be decoded, its file cannot be read or it lacks something. It is
    replaced by the next good one in the order of indices, so that what is read at an index depends on the set
    alone. Each is named once in a warning, up to 100. At most `max_bad_fraction` of the set, rounded up to a
    whole example, may be bad (so one is always allowed, unless the fraction is 0). Every process counts the bad
    examples that it meets itself.
    """

    def __init__(self, source: Source, host: str, fields: Sequence[str], max_bad_fraction: float = 0.001):
        """Args are those of `loader.train_batches`."""
        self._recipe = source, host, fields, max_bad_fraction
        self._source = source
        self._host = host_ops.make(host, source.info.classes)
        self._random = host_ops.host_ops.is_random(host)
        self._fields = tuple(fields)
        self._allowed = math.ceil(max_bad_fraction * len(source))
        self._bad: set[int] = set()
        self._names: deque[str] = deque(maxlen=_NAMES)
        self._lock = threading.Lock()

    def __reduce__(self):
        return Reader, self._recipe  # in a worker process it begins with an empty account

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
            except (host_ops.BadImage, BadExample, OSError) as error:
                self._note(i, error)
                continue
            return {field: self._array(example, field) for field in self._fields}, i == index
        raise UserError(f"none of the {n} examples of {self._source.info.name} can be read")

    def _note(self, index: int, error: Exception) -> None:
        with self._lock:
            if index in self._bad:
                return
            self._bad.add(index)
            self._names.append(self._source.describe(index))
            if len(self._bad) <= _MAX_WARNINGS:
                last = "; no more are named" if len(self._bad) == _MAX_WARNINGS else ""
                _log.warning("cannot read %s (%s): bad example %d%s", self._names[-1], error, len(self._bad), last)
            if len(self._bad) > self._allowed:
                raise UserError(
                    f"{len(self._bad)} examples of {self._source.info.name} cannot be read, more than the "
                    f"{self._allowed} that max_bad_fraction allows: {', '.join(self._names)} (the last: {error})"
                )

    def _array(self, example: dict, field: str) -> np.ndarray:
        if field in ("tokens", "tokens_mask") and field not in example:
            raise UserError(f"the field {field!r} is what tokenize makes: add that to the host spec")
        if field not in example:
            raise unknown("field", field, example)
        value = np.asarray(example[field])
        if value.dtype.kind in "OSU":
            what = "still encoded: add decode" if field == "image" else "a string: add tokenize"
            raise UserError(f"the field {field!r} is {what} to the host spec, or leave it out of the batch")
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
