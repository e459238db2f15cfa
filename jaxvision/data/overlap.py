"""How many examples two splits share, if that can be found out without reading any."""

import os
import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from jaxvision.data.sources.base import Source, parse_split
from jaxvision.data.subsets import unwrap
from jaxvision.errors import UserError

MOST = 2_000_000  # largest number of examples of both splits that are compared
MOST_LINKS = 5_000  # largest number of files of the second split that are checked for being links


def count_shared(one: Source, other: Source, size: Callable[[str], int] | None) -> int | None:
    """Counts the examples of one split that are also in another.

    Examples are identified by their files, or by rows of files, if the source names them (`Source.describe`), and else
    by their numbers in splits of one set. Links to a file are recognised, copies are not.

    Args:
      one: Split to compare with.
      other: Split whose examples are counted.
      size: Function from the name of a split to its number of examples if both are of the same set; else None.

    Returns:
      The number; None if it cannot be found out cheaply.
    """
    if len(one) + len(other) > MOST:
        return None
    (base, rows), (other_base, other_rows) = unwrap(one), unwrap(other)
    if all(type(source).describe is not Source.describe for source in (base, other_base)):
        files = set(_files(base, rows))
        links = len(other) <= MOST_LINKS
        return sum(file in files or (links and _target(file) in files) for file in _files(other_base, other_rows))
    if size is None:
        return None
    names = [_names(source.info.split) for source in (base, other_base)]
    if not set(names[0]) & set(names[1]):
        return 0
    starts = {name: i * 2**40 for i, name in enumerate(dict.fromkeys(names[0] + names[1]))}
    try:
        sizes = {name: size(name) for name in starts}
        numbers = _numbers(base, sizes, starts)[rows]
        return int(np.isin(_numbers(other_base, sizes, starts)[other_rows], numbers).sum())
    except (UserError, IndexError):  # a source that reads its split in another way
        return None


def _files(source: Source, rows: np.ndarray) -> Iterator[tuple[str, str]]:
    """Yields for each example its place in its file, and the file, with the links in its folder resolved."""
    folders: dict[str, str] = {}
    for row in rows:
        part, path = source.place(int(row))
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        yield part, os.path.join(folders[folder], name)


def _target(file: tuple[str, str]) -> tuple[str, str]:
    part, path = file
    return (part, os.path.realpath(path)) if os.path.islink(path) else file


def _names(split: str) -> list[str]:
    """Returns the names of the splits in a text of the syntax of TFDS.

    >>> _names("train[:90%]+test")
    ['train', 'test']
    """
    return re.findall(r"\w+", re.sub(r"\[.*?\]", " ", split))


def _numbers(source: Source, sizes: Mapping[str, int], starts: Mapping[str, int]) -> np.ndarray:
    """Returns a number for each example, counted from the start of its split: int64 [n]."""
    ranges = parse_split(source.info.split, sizes, source.info.name)
    return np.concatenate([np.arange(start, stop) + starts[name] for name, start, stop in ranges])
