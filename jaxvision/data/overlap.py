"""How many examples two splits share, where that can be told without reading any."""

import os
import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from jaxvision.data.sources.base import Source, slices
from jaxvision.data.subsets import unwrap
from jaxvision.errors import UserError

MOST = 2_000_000  # examples of both splits; above that nothing is compared
MOST_LINKS = 5_000  # files of the second split that are looked at one by one, for they may be links to others
_PLACE = re.compile(r"(row \d+ of row group \d+ of |.*? in )?(.*)", re.DOTALL)  # `describe` of a row, or of a member


def count(one: Source, other: Source, size: Callable[[str], int] | None) -> int | None:
    """How many examples of `other` are among those of `one`.

    Examples are told apart by their files, or rows of files, where the source says them (`Source.describe`), and else
    by their numbers in splits of one set. Copies of a file are not noticed, links are.

    Args:
      one, other: the splits.
      size: how many examples a split of the set has, if both are of the same set.

    Returns:
      The number; None where it cannot be told cheaply.
    """
    if len(one) + len(other) > MOST:
        return None
    (base, rows), (other_base, other_rows) = unwrap(one), unwrap(other)
    if all(type(source).describe is not Source.describe for source in (base, other_base)):
        known = set(_files(base, rows))
        links = len(other) <= MOST_LINKS
        return sum(file in known or (links and _target(file) in known) for file in _files(other_base, other_rows))
    if size is None:
        return None
    names = [_names(source.info.split) for source in (base, other_base)]
    if not set(names[0]) & set(names[1]):
        return 0
    starts = {name: i * 2**40 for i, name in enumerate(dict.fromkeys(names[0] + names[1]))}
    try:
        sizes = {name: size(name) for name in starts}
        known = _numbers(base, sizes, starts)[rows]
        return int(np.isin(_numbers(other_base, sizes, starts)[other_rows], known).sum())
    except (UserError, IndexError):  # a source that reads its split otherwise
        return None


def _files(source: Source, rows: np.ndarray) -> Iterator[tuple[str, str]]:
    """What each example is: what it is of its file, and the file, without links in the path to it."""
    folders: dict[str, str] = {}
    for row in rows:
        part, path = _PLACE.fullmatch(source.describe(int(row))).groups()
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        yield part or "", os.path.join(folders[folder], name)


def _target(file: tuple[str, str]) -> tuple[str, str]:
    part, path = file
    return (part, os.path.realpath(path)) if os.path.islink(path) else file


def _names(split: str) -> list[str]:
    """The splits in a text of the syntax of TFDS.

    >>> _names("train[:90%]+test")
    ['train', 'test']
    """
    return re.findall(r"\w+", re.sub(r"\[.*?\]", " ", split))


def _numbers(source: Source, sizes: Mapping[str, int], starts: Mapping[str, int]) -> np.ndarray:
    """A number for each example, from where its split starts to count: int64 [n]."""
    ranges = slices(source.info.split, sizes, source.info.name)
    return np.concatenate([np.arange(start, stop) + starts[name] for name, start, stop in ranges])
