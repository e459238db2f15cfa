"""Nested, class-balanced subsets: 5,000 examples of a seed always lie inside its 10,000."""

import numpy as np

from jaxvision.data.sources.base import Source
from jaxvision.errors import UserError


def subset(labels: np.ndarray, examples: int, seed: int) -> np.ndarray:
    """Chooses `examples` of a set, as balanced over its classes as can be.

    One random example of every class is taken, then a second of every class, and so on; a class that has
    run out is passed over. The choice is a prefix of that order, so subsets of one seed are nested. In a
    round that is not finished, which classes come first is random.

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
    shuffled = np.random.default_rng(seed).permutation(n)
    by_class = np.argsort(labels[shuffled], kind="stable")
    grouped = labels[shuffled][by_class]
    turn = np.empty(n, np.int64)  # of the shuffled examples: how many of the same class come before
    turn[by_class] = np.arange(n) - np.searchsorted(grouped, grouped)
    order = shuffled[np.argsort(turn, kind="stable")]
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


def take(source: Source, examples: int, seed: int) -> Subset:
    """The nested subset of `source` with so many `examples`, balanced where each is of one class (see `subset`).

    Raises:
      UserError: there are not so many, or `source` is a mixture, whose weights a subset would lose.
    """
    if type(source).order is not Source.order:
        raise UserError(f"no subset can be taken of the mixture {source.info.name}: take subsets of its parts")
    balanced = source.info.num_classes is not None and not source.info.multi_label
    labels = source.labels if balanced else np.zeros(len(source), np.int32)
    return Subset(source, subset(labels, examples, seed))
