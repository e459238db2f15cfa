"""Nested, class-balanced subsets: 5,000 examples of a seed always lie inside its 10,000."""

from typing import Annotated

import numpy as np

from jaxvision.arguments import Range
from jaxvision.data.sources.base import Source
from jaxvision.errors import UserError


def subset(labels: np.ndarray, examples: int, seed: int) -> np.ndarray:
    """Chooses `examples` of a set, as balanced over its classes as can be.

    One random example of every class is taken, then a second of every class, and so on; a class that has
    run out is passed over. The choice is a prefix of that order, so subsets of one seed are nested. In a
    round that is not finished every class that is left is as likely as any other, however large it is.

    Args:
      labels: int [n]. All equal for a set without classes: the subset is then uniformly random.
      examples: how many, from 1 to n.
      seed: another seed gives another order.

    Returns:
      int64 array [examples] of indices, ascending.

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
    turn = np.empty(n, np.int64)  # of the shuffled examples: how many of the same class come before
    turn[by_class] = np.arange(n) - np.searchsorted(grouped, grouped)
    # Within a round by lot: in the order of `shuffled`, the first of a large class comes before that of a small one.
    order = shuffled[np.lexsort((rng.random(n), turn))]
    return np.sort(order[:examples])


class Subset(Source):
    """The examples of `source` at `indices` (int [m]), as a source."""

    def __init__(self, source: Source, indices: np.ndarray):
        self._source = source
        self._indices = np.asarray(indices)
        self.info = source.info._replace(num_examples=len(self._indices))

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> dict:
        return self._source[self._indices[index]]

    def describe(self, index: int) -> str:
        return self._source.describe(self._indices[index])

    def _read_labels(self) -> np.ndarray:
        return self._source.labels[self._indices]


def unwrap(source: Source) -> tuple[Source, np.ndarray]:
    """The source below subsets and other views of it, and the rows that are left: (source, int64 [n])."""
    rows = np.arange(len(source))
    while (inner := getattr(source, "_source", None)) is not None:
        rows = source._indices[rows] if isinstance(source, Subset) else rows
        source = inner
    return source, rows


def take(
    source: Source, examples: int | None = None, per_class: int | None = None, *, seed: Annotated[int, Range(0)] = 0
) -> Subset:
    """The nested subset of `source` with so many `examples`, balanced where each is of one class (see `subset`).

    Args:
      source: the set.
      examples: number of examples; or
      per_class: number of examples of every class.
      seed: another seed gives another subset.

    Raises:
      UserError: there are not so many; or both are given, or neither; or `source` is a mixture, whose weights a subset
        would lose.
    """
    info = source.info
    if type(source).order is not Source.order:
        raise UserError(f"no subset can be taken of the mixture {info.name}: take subsets of its parts")
    if per_class is not None and info.multi_label:
        raise UserError(f"a subset of per_class={per_class} needs one label an image; {info.name!r} has several")
    total = size(info.num_classes, examples, per_class)
    balanced = info.num_classes is not None and not info.multi_label
    labels = source.labels if balanced else np.zeros(len(source), np.int32)
    if per_class is not None:
        counts = np.bincount(labels, minlength=info.num_classes)
        fewest = counts.argmin()
        if counts[fewest] < per_class:
            name = info.classes[fewest] if info.classes else fewest
            raise UserError(
                f"a subset of per_class={per_class} cannot be taken of {info.name} {info.split}: "
                f"the class {name!r} has {counts[fewest]:,} examples"
            )
    return Subset(source, subset(labels, total, seed))


def size(num_classes: int | None, examples: int | None = None, per_class: int | None = None) -> int:
    """How many examples `take` takes of a set of that many classes.

    >>> size(10, per_class=4)
    40
    """
    if (examples is None) == (per_class is None):
        raise UserError("a subset is of so many 'examples', or of so many 'per_class': give one of the two")
    if per_class is None:
        return examples
    if num_classes is None:
        raise UserError(f"a subset of per_class={per_class} needs a set of classes, and this one names none")
    if not isinstance(per_class, int) or per_class < 1:
        raise UserError(f"per_class must be a whole number of at least 1, not {per_class!r}")
    return num_classes * per_class
