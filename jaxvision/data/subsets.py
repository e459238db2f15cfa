"""Nested, class-balanced subsets, parts of every class that are held out, and the folds of a cross-validation.

The 5,000 examples of a seed are always among its 10,000.
"""

import collections
import hashlib
import os
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from jaxvision.arguments import Range
from jaxvision.data.sources.base import Source
from jaxvision.errors import UserError, unknown

PARTS = ("rest", "held_out")


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


def held_out(labels: np.ndarray, names: Sequence[str], share: float, seed: int) -> np.ndarray:
    """Chooses a share of every class, by a digest of the names of its examples (see `names`).

    Where examples are added later, most of those that were held out stay so. A class of two or more examples gives
    one at least and keeps one at least.

    Args:
      labels: Labels, int [n]; all equal for a set without classes.
      names: Names of the examples.
      share: Share of every class that is held out, in [0, 1].
      seed: Seed of the choice.

    Returns:
      Truth values, bool [n]: True if the example is held out.

    >>> labels, names = np.array([0, 0, 0, 0, 1, 1, 2]), ["a", "b", "c", "d", "e", "f", "g"]
    >>> [int(held_out(labels, names, 0.25, seed=0)[labels == k].sum()) for k in range(3)]
    [1, 1, 0]
    """
    ranks = _ranks(names, seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        chosen[rows[np.argsort(ranks[rows])[:count]]] = True
    return chosen


def folds(labels: np.ndarray, names: Sequence[str], count: int, seed: int) -> np.ndarray:
    """Deals the examples to the folds of a cross-validation, by a digest of their names (see `names`).

    The folds are disjoint and cover the set. Their sizes differ by one at most, and so do their numbers of examples of
    any class.

    Args:
      labels: Labels, int [n]; all equal for a set without classes.
      names: Names of the examples.
      count: Number of folds, from 2 to n.
      seed: Seed of the choice.

    Returns:
      Fold of each example, int64 [n] in [0, count).

    Raises:
      UserError: There are fewer examples than folds.

    >>> labels, names = np.array([0, 0, 0, 0, 1, 1, 1]), ["a", "b", "c", "d", "e", "f", "g"]
    >>> of = folds(labels, names, 3, seed=0)
    >>> [np.bincount(of[labels == k]).tolist() for k in range(2)], np.bincount(of).tolist()
    ([[2, 1, 1], [1, 1, 1]], [3, 2, 2])
    """
    if count > len(labels):
        raise UserError(f"{count} folds cannot be made: the set has {len(labels):,} examples")
    dealt = np.empty(len(labels), np.int64)
    dealt[np.lexsort((_ranks(names, seed), labels))] = np.arange(len(labels)) % count
    return dealt


def _ranks(names: Sequence[str], seed: int) -> np.ndarray:
    """A random order of examples that follows from the name of each, int64 [n]."""
    seen: collections.Counter[str] = collections.Counter()
    digests = []
    for name in names:  # one that comes again counts as another
        text = f"{seed}/{name}" + (f"\0{seen[name]}" if seen[name] else "")
        digests.append(hashlib.blake2b(text.encode(errors="surrogateescape")).digest())
        seen[name] += 1
    ranks = np.empty(len(names), np.int64)
    ranks[sorted(range(len(names)), key=digests.__getitem__)] = np.arange(len(names))
    return ranks


def read_fold(fold: str) -> tuple[int, int]:
    """Reads the number of a fold, counted from 1, and the number of folds.

    Args:
      fold: Fold, "NUMBER/COUNT".

    Raises:
      UserError: It is not written like that, there are fewer than two folds, or there is no such fold.

    >>> read_fold("2/5")
    (2, 5)
    """
    number, _, count = fold.partition("/") if isinstance(fold, str) else ("", "", "")
    if not all(part.isascii() and part.isdigit() for part in (number, count)):
        raise UserError(f"fold={fold!r} of a subset must be a text like '2/5', the second of five folds")
    if int(count) < 2 or not 1 <= int(number) <= int(count):
        raise UserError(f"fold={fold!r} of a subset: folds are counted from 1, and there are two at least")
    return int(number), int(count)


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
    source: Source,
    examples: int | None = None,
    per_class: int | None = None,
    *,
    hold_out: Annotated[float, Range(0, 1, above=True, below=True)] | None = None,
    fold: str | None = None,
    part: str | None = None,
    seed: Annotated[int, Range(0)] = 0,
) -> Subset:
    """Returns a nested subset of `source`, balanced over the classes if each example has one class (see `subset`).

    With `hold_out` or `fold` it returns one of two parts of `source` that have no example in common, see `held_out` and
    `folds`. Give both parts the same share or fold, and the same seed.

    Args:
      source: Source of examples.
      examples: Number of examples. Give this, `per_class`, `hold_out` or `fold`.
      per_class: Number of examples of every class.
      hold_out: Share of every class that is held out.
      fold: Fold that is held out, "2/5" for the second of five: for a k-fold cross-validation.
      part: Part that is returned: "rest" for the examples that are not held out (the default), or "held_out".
      seed: Seed of the choice.

    Raises:
      UserError: The set has too few examples; several numbers are given, or none; or `source` is a mixture, whose
        weights a subset would lose.
    """
    info = source.info
    if type(source).order is not Source.order:
        raise UserError(f"no subset can be taken of the mixture {info.name}: take subsets of its parts")
    if per_class is not None and info.multi_label:
        raise UserError(f"a subset of per_class={per_class} needs one label an image; {info.name!r} has several")
    total = subset_size(info.num_classes, examples, per_class, hold_out=hold_out, part=part, fold=fold, of=len(source))
    balanced = info.num_classes is not None and not info.multi_label
    labels = source.labels if balanced else np.zeros(len(source), np.int32)
    if fold is not None:
        number, count = read_fold(fold)
        dealt = folds(labels, names(source), count, seed)
        return Subset(source, np.flatnonzero((dealt == number - 1) == (part == "held_out")))
    if hold_out is not None:
        rows = np.flatnonzero(held_out(labels, names(source), hold_out, seed) == (part == "held_out"))
        if not len(rows):
            what = "nothing can be held out" if part == "held_out" else "nothing is left to train on"
            raise UserError(
                f"{what}: {info.name} {info.split} has {len(source):,} examples, and no class has two of them"
            )
        return Subset(source, rows)
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


def names(source: Source) -> list[str]:
    """Returns names of the examples that stay the same when the set is moved: files are named from its folder.

    Args:
      source: Source of examples, or a view of one.
    """
    base, rows = unwrap(source)
    if type(base).describe is Source.describe:
        return [f"example {row}" for row in rows]
    root = os.path.join(base.root, "") if base.root else ""
    places = (base.place(int(row)) for row in rows)
    return [f"{path.removeprefix(root)}\0{part}" for part, path in places]  # no path has the character between them


def subset_size(
    num_classes: int | None,
    examples: int | None = None,
    per_class: int | None = None,
    *,
    hold_out: float | None = None,
    fold: str | None = None,
    part: str | None = None,
    of: int | None = None,
) -> int:
    """Returns the number of examples that `take` takes; with `hold_out` it may differ by one for each class.

    Args:
      num_classes: Number of classes of the set, None if it is unknown.
      examples: Number of examples. Give this, `per_class`, `hold_out` or `fold`.
      per_class: Number of examples of every class.
      hold_out: Share of every class that is held out.
      fold: Fold that is held out, "2/5" for the second of five.
      part: Part that is taken, "rest" or "held_out"; None for "rest".
      of: Number of examples of the whole set; None if it is unknown.

    Raises:
      UserError: Several of the numbers are given, or none; `per_class` is no positive whole number, or the set has no
        classes; `hold_out` is not between 0 and 1; there is no such fold; or `part` is unknown, or given without these.

    >>> subset_size(10, per_class=4)
    40
    """
    if [examples, per_class, hold_out, fold].count(None) != 3:
        raise UserError(
            "a subset is of so many 'examples', of so many 'per_class', without a share 'hold_out', or without a "
            "'fold': give one of them"
        )
    if part is not None and part not in PARTS:
        raise unknown("value of 'part' of a subset", part, PARTS)
    if part is not None and hold_out is None and fold is None:
        raise UserError(
            f"part={part!r} of a subset goes with 'hold_out', the share that is held out, or with 'fold': give both"
        )
    if fold is not None:
        number, count = read_fold(fold)
        if of is None:
            raise UserError("the size of a subset with 'fold' follows from that of the set, which is not known")
        out = len(range(number - 1, of, count))
        return out if part == "held_out" else of - out
    if hold_out is not None:
        if not 0 < hold_out < 1:
            raise UserError(
                f"hold_out={hold_out!r} of a subset must be in (0, 1): 0.1 holds out a tenth of every class"
            )
        if of is None:
            raise UserError("the size of a subset with 'hold_out' follows from that of the set, which is not known")
        out = round(hold_out * of)
        return out if part == "held_out" else of - out
    if per_class is None:
        assert examples is not None
        return examples
    if num_classes is None:
        raise UserError(f"a subset of per_class={per_class} needs a set of classes, and this one names none")
    if not isinstance(per_class, int) or per_class < 1:
        raise UserError(f"per_class must be a whole number of at least 1, not {per_class!r}")
    return num_classes * per_class
