"""Nested, class-balanced subsets: the 5,000 examples of a seed are always among its 10,000."""

from typing import Annotated

import numpy as np

from jaxvision.arguments import Range
from jaxvision.data.sources.base import Source
from jaxvision.errors import UserError


def subset(labels: np.ndarray, examples: int, seed: int) -> np.ndarray:
    """Chooses `examples` of a set, as balanced over its classes as possible.

    One random example of every class is taken, then a second of every class, and so on; a class that has run out is
    skipped. The choice is a prefix of that order, so subsets of one seed are nested. In a round that is not completed,
    every remaining class is equally likely, whatever its size.

    Args:
      labels: Labels, int [n]; all equal for a set without classes, whose subset is then uniformly random.
      examples: Number of examples, from 1 to n.
      seed: Seed of the order.

    Returns:
      Indices, int64 [examples], ascending.

    Raises:
      UserError: `examples` is not between 1 and n.

    >>> labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    >>> labels[subset(labels, 3, seed=0)].tolist()
    [0, 1, 2]
    >>> set(subset(labels, 3, seed=0)) < set(subset(labels, 5, seed=0))
    True
    """
    n = len(labels)
    if not (isinstance(examples, int) and 1 <= examples <= n):
        raise UserError(f"a subset of {examples!r} examples cannot be taken: the set has {n:,}")
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(n)
    by_class = np.argsort(labels[shuffled], kind="stable")
    grouped = labels[shuffled][by_class]
    turn = np.empty(n, np.int64)  # for each shuffled example, the number of earlier ones of its class
    turn[by_class] = np.arange(n) - np.searchsorted(grouped, grouped)
    # A random order within a round: in the order of `shuffled`, large classes would come before small ones.
    order = shuffled[np.lexsort((rng.random(n), turn))]
    return np.sort(order[:examples])


class Subset(Source):
    """Some examples of a source, as a source.

    Args:
      source: Source of all examples.
      indices: Indices of the chosen examples, int [m].
    """

    def __init__(self, source: Source, indices: np.ndarray):
        self._source = source
        self._indices = np.asarray(indices)
        self.info = source.info._replace(num_examples=len(self._indices))

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> dict:
        return self._source[self._indices[index]]

    def describe(self, index: int) -> str:
        """Returns the name of an example, as `Source.describe`."""
        return self._source.describe(self._indices[index])

    def _read_labels(self) -> np.ndarray:
        return self._source.labels[self._indices]


def unwrap(source: Source) -> tuple[Source, np.ndarray]:
    """Returns the source below subsets and other views of it, and the rows that they select.

    Args:
      source: Source, or a view of one.

    Returns:
      (source, rows int64 [n]), where n is the length of the given source.
    """
    rows = np.arange(len(source))
    while (inner := getattr(source, "_source", None)) is not None:
        rows = source._indices[rows] if isinstance(source, Subset) else rows
        source = inner
    return source, rows


def take(
    source: Source, examples: int | None = None, per_class: int | None = None, *, seed: Annotated[int, Range(0)] = 0
) -> Subset:
    """Returns a nested subset of `source`, balanced over the classes if each example has one class (see `subset`).

    Args:
      source: Source of examples.
      examples: Number of examples. Give this or `per_class`.
      per_class: Number of examples of every class.
      seed: Seed of the choice.

    Raises:
      UserError: The set has too few examples; both numbers are given, or neither; or `source` is a mixture, whose
        weights a subset would lose.
    """
    info = source.info
    if type(source).order is not Source.order:
        raise UserError(f"no subset can be taken of the mixture {info.name}: take subsets of its parts")
    if per_class is not None and info.multi_label:
        raise UserError(f"a subset of per_class={per_class} needs one label an image; {info.name!r} has several")
    total = subset_size(info.num_classes, examples, per_class)
    balanced = info.num_classes is not None and not info.multi_label
    labels = source.labels if balanced else np.zeros(len(source), np.int32)
    if per_class is not None:
        assert info.num_classes is not None  # `subset_size` has checked it
        counts = np.bincount(labels, minlength=info.num_classes)
        fewest = counts.argmin()
        if counts[fewest] < per_class:
            name = info.classes[fewest] if info.classes else fewest
            raise UserError(
                f"a subset of per_class={per_class} cannot be taken of {info.name} {info.split}: "
                f"the class {name!r} has {counts[fewest]:,} examples"
            )
    return Subset(source, subset(labels, total, seed))


def subset_size(num_classes: int | None, examples: int | None = None, per_class: int | None = None) -> int:
    """Returns the number of examples that `take` takes.

    Args:
      num_classes: Number of classes of the set, None if it is unknown.
      examples: Number of examples. Give this or `per_class`.
      per_class: Number of examples of every class.

    Raises:
      UserError: Both numbers are given, or neither; or `per_class` is no positive whole number, or the set has no
        classes.

    >>> subset_size(10, per_class=4)
    40
    """
    if (examples is None) == (per_class is None):
        raise UserError("a subset is of so many 'examples', or of so many 'per_class': give one of the two")
    if per_class is None:
        assert examples is not None
        return examples
    if num_classes is None:
        raise UserError(f"a subset of per_class={per_class} needs a set of classes, and this one names none")
    if not isinstance(per_class, int) or per_class < 1:
        raise UserError(f"per_class must be a whole number of at least 1, not {per_class!r}")
    return num_classes * per_class
