"""One processed example at a time: reading, host operations, and replacing examples that cannot be read."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxvision.data import host_ops, text, wanted
from jaxvision.data.bad import Bad, allowed_count, too_many_error
from jaxvision.data.sources.base import BadExample, Source
from jaxvision.errors import UserError, shown, unknown
from jaxvision.fields import PLACED, Field

_log = logging.getLogger(__name__)
_MAX_WARNINGS = 100
_NAMES = 10  # number of bad examples that are named in the message that stops a run
_LOOKS = 1000  # number of examples at the beginning of a set, one of which must be good
_UNFIT = 8  # number of examples that lack a field, or are all unlike, after which the config is taken to be wrong
_BAD = (host_ops.BadImage, BadExample, OSError)


class Reader:
    """Reads examples of a source, processes them, and counts the bad ones.

    An example is bad if its picture cannot be decoded, its file cannot be read, it lacks a field, or a field is of
    another type or shape than in the first good example of the set. It is replaced by the next good one in the order of
    indices, so what is read at an index depends on the set alone. Each bad example is named once in a warning, up to
    100. At most `max_bad_fraction` of the set, rounded up to a whole example, may be bad (so one is always allowed,
    unless the fraction is 0).

    `read` counts for itself, for reading a set once from one end to the other. `look` only returns the bad examples
    that it met, for a training stream, which counts over the whole run (`bad.BadRecords`).

    Args:
      source: Source of the examples.
      host: Host spec.
      fields: Names of the fields that are returned.
      max_bad_fraction: Share of the set that may be bad, in [0, 1].
    """

    def __init__(self, source: Source, host: str, fields: Sequence[str], max_bad_fraction: float = 0.001):
        self._recipe = source, host, fields, max_bad_fraction
        self._source = source
        self._host = wanted.make_source_chain(source, host, fields)
        self._random = host_ops.host_ops.is_random(host)
        self._fields = tuple(fields)
        self._allowed = allowed_count(source, max_bad_fraction)
        self._known: dict[int, str] = {}  # reasons by bad example; these are not read again
        self._bad: set[int] = set()  # examples that `read` has counted
        self._names: deque[str] = deque(maxlen=_NAMES)
        self._first: dict[str, np.ndarray] | None = None
        self._lock, self._first_lock = threading.Lock(), threading.Lock()

    def __reduce__(self):
        return Reader, self._recipe  # a worker process begins with no bad examples

    @property
    def first(self) -> dict[str, np.ndarray]:
        """The first good example, whose types and shapes the others must have; see `first_arrays`."""
        with self._first_lock:
            if self._first is None:
                source, host, fields, _ = self._recipe
                self._first = first_arrays(source, host, fields)
        return self._first

    def read(self, index: int, seed: int, position: int) -> tuple[dict[str, np.ndarray], bool]:
        """Reads and processes an example, and counts bad ones.

        Args:
          index: Index of the example.
          seed: Seed of the host operations.
          position: Position in the stream; what host operations draw depends on `(seed, position)` alone.

        Returns:
          The fields as arrays, and False if another example replaces the one at `index`. Integers other than uint8
          become int32, and float64 becomes float32.

        Raises:
          UserError: Too many examples are bad, a field does not exist, or host operations do not fit the set.
        """
        arrays, good_index = self._search(index, seed, position, self._note)
        return arrays, good_index == index

    def look(self, index: int, seed: int, position: int) -> tuple[dict[str, np.ndarray], list[Bad]]:
        """Reads and processes an example, and returns the bad ones without counting them.

        Args:
          index: Index of the example.
          seed: Seed of the host operations.
          position: Position in the stream; what host operations draw depends on `(seed, position)` alone.

        Returns:
          The fields as `read` returns them, and the bad examples that were met: `index` and those that follow it. They
            depend
          on the set and `index` alone, not on what else was read.

        Raises:
          UserError: The same errors as those of `read`; here only the bad examples of this call count.
        """
        met: list[Bad] = []

        def note(i: int, error: object) -> None:
            met.append(Bad(i, str(error)))
            if len(met) > self._allowed:
                names = [self._source.describe(bad.index) for bad in met[-_NAMES:]]
                raise too_many_error(self._source, len(met), self._allowed, names, error)

        return self._search(index, seed, position, note)[0], met

    def _search(
        self, index: int, seed: int, position: int, note: Callable[[int, object], None]
    ) -> tuple[dict[str, np.ndarray], int]:
        """Returns the first good example from `index` on and its index; calls `note` with every bad one before it."""
        n = len(self._source)
        for i in (j % n for j in range(index, index + n)):
            if i in self._known:
                note(i, self._known[i])
                continue
            # Making a generator takes a fifth of the time of a small image, so none is made if nothing is drawn.
            rng = _generator(seed, position) if self._random else None
            try:
                example = self._host(self._source[i], rng)
                arrays = {field: self._fitting(example, field) for field in self._fields}
            except _BAD as error:
                self._known[i] = str(error)
                note(i, error)
                continue
            return arrays, i
        raise UserError(f"none of the {n} examples of {self._source.info.name} can be read")

    def _fitting(self, example: Mapping, field: str) -> np.ndarray:
        """Returns a field of an example as an array like that of the first example.

        Raises:
          BadExample: The field does not exist, or is of another type or shape. Images and what covers them may differ
            in height and width.
        """
        like = self.first[field]
        value = _array(example, field)
        if not _alike(self._host.fields.get(field), value, like):
            raise BadExample(
                f"its field {field!r} is {value.dtype} of shape {value.shape}, in others {like.dtype} of {like.shape}"
            )
        return value.astype(like.dtype, copy=False)

    def _note(self, index: int, error: object) -> None:
        with self._lock:
            if index in self._bad:
                return
            self._bad.add(index)
            self._names.append(self._source.describe(index))
            if len(self._bad) <= _MAX_WARNINGS:
                last = "; no more are named" if len(self._bad) == _MAX_WARNINGS else ""
                _log.warning("cannot read %s (%s): bad example %d%s", self._names[-1], error, len(self._bad), last)
            if len(self._bad) > self._allowed:
                raise too_many_error(self._source, len(self._bad), self._allowed, self._names, error)


def first_arrays(source: Source, host: str, fields: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the fields of the first good example, as `Reader.read` gives them at seed and position 0.

    The first few readable examples are compared, and the first whose fields have the types and shapes of another one is
    chosen, so that an odd example at the beginning is not taken as typical. Bad examples before it cause no warning:
    the reader of the set counts and names them.

    Args:
      source: Source of the examples.
      host: Host spec.
      fields: Names of the fields.

    Raises:
      UserError: None of the first 1,000 examples is good, a field does not exist, or the number of its items differs
        between examples.
    """
    process = wanted.make_source_chain(source, host, fields)
    process.check(fields)
    return _first(source, process, fields)


def _first(source: Source, process: host_ops.Chain, fields: Sequence[str]) -> dict[str, np.ndarray]:
    reason, unfit = "", []
    candidates: list[dict[str, np.ndarray]] = []
    for i in range(min(len(source), _LOOKS)):
        try:
            example = process(source[i], _generator(0, 0))
        except _BAD as error:
            reason = reason or f"{source.describe(i)}: {error}"
            continue
        try:
            arrays = {field: _array(example, field) for field in fields}
        except BadExample as error:
            reason = reason or f"{source.describe(i)}: {error}"
            unfit.append(example)
            if len(unfit) == _UNFIT:
                break
            continue
        alike = [c for c in candidates if all(_alike(process.fields.get(f), c[f], arrays[f]) for f in fields)]
        candidates.append(arrays)
        if alike or len(candidates) == _UNFIT:
            return (alike or candidates)[0]
    if candidates:
        return candidates[0]
    for example in unfit[:1]:
        _check_config(example, fields, process.fields)
    looks = f"first {_LOOKS:,}" if len(source) > _LOOKS else f"{len(source):,}"
    raise UserError(f"none of the {looks} examples of {source.info.name} {source.info.split} can be read ({reason})")


def first_stored(source: Source, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns fields of the first good example as they are stored, with images decoded.

    The number of items of a field may differ between examples.

    Args:
      source: Source of the examples.
      names: Names of the fields.

    Raises:
      UserError: None of the first 1,000 examples is good, or a field does not exist.
    """
    return _first(source, wanted.make_source_chain(source, "decode", names), names)


def _check_config(example: Mapping, fields: Sequence[str], described: Mapping[str, Field]) -> None:
    """Raises the UserError that says how to correct a config whose fields this example, like others, lacks."""
    for field in fields:
        if field in text.MADE and field not in example:
            raise UserError(f"the field {field!r} is made by tokenize: add tokenize to the host spec")
        if field not in example:
            raise unknown("field", field, example)
        value = example[field]
        several = isinstance(value, tuple | list | np.ndarray)
        if any(isinstance(item, str | bytes) for item in (value if several else [value])):
            is_image = field in described and described[field].kind == "image"
            what = "still encoded: add decode" if is_image else "a string: add tokenize"
            raise UserError(f"the field {field!r} is {what} to the host spec, or leave it out of the batch")
        try:
            _array(example, field)
        except BadExample as error:
            raise UserError(f"{error}: leave the field {field!r} out of the batch") from None


def _array(example: Mapping, field: str) -> np.ndarray:
    """Returns a field of an example; integers other than uint8 as int32, and float64 as float32.

    Raises:
      BadExample: The field does not exist, or is not an array of numbers.
    """
    if field not in example:
        raise BadExample(f"it has no field {field!r}")
    try:
        value = np.asarray(example[field])
    except ValueError:  # lists of several lengths
        value = np.asarray(None)
    if value.dtype.kind not in "biuf":
        raise BadExample(f"its field {field!r} is {shown(example[field])}, not an array of numbers")
    if value.dtype.kind in "iu" and value.dtype != np.uint8:
        return value.astype(np.int32)
    return value.astype(np.float32) if value.dtype == np.float64 else value


def _alike(field: Field | None, value: np.ndarray, like: np.ndarray) -> bool:
    """Returns whether a field of two examples fits in one batch; an image and what covers it perhaps after a resize."""
    return _fixed(field, value) == _fixed(field, like) and np.can_cast(value.dtype, like.dtype, "same_kind")


def _fixed(field: Field | None, value: np.ndarray) -> tuple[int | None, ...]:
    """Returns the shape of a value, with None for lengths in which examples may differ until they are in a batch."""
    shape = value.shape
    if field is not None and field.kind == "image" and value.ndim >= 3:
        return (*shape[:-3], None, None, shape[-1])
    if field is not None and field.kind == "segmentation" and value.ndim >= 2:
        return (None, None, *shape[2:])
    if field is not None and field.shape[:1] == (None,) and (field.kind in PLACED or field.of is not None):
        return (None, *shape[1:])
    return shape


def _generator(seed: int, position: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, position]))


def stack(examples: Sequence[Mapping[str, np.ndarray | np.bool_]]) -> dict[str, np.ndarray]:
    """Stacks examples into a batch.

    Args:
      examples: Examples, at least one, with the same fields; arrays of any shape.

    Returns:
      Arrays [n, ...] by field, where n is the number of examples.

    Raises:
      UserError: A field differs in shape between examples.

    >>> stack([{"label": np.int32(1)}, {"label": np.int32(3)}])["label"].tolist()
    [1, 3]
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
