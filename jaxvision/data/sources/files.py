"""Which files make up which split, and reading pieces of them from many threads."""

import bisect
import functools
import itertools
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from jaxvision import storage
from jaxvision.data.sources.passed_over import PassedOver
from jaxvision.errors import UserError, shown
from jaxvision.reading import is_folder

MAX_FILES = 1_000_000  # that a pattern may write out
MAX_DEPTH = 64  # folders of a pattern: pathlib and glob go down by calling themselves
MAX_TREES = 2  # times that it may say `**`: each looks into all folders below each that the one before has found
_BRACE = re.compile(r"\{(?!split\})([^{}]*)\}")
Pattern = str | Mapping[str, str]
_log = logging.getLogger(__name__)


def directory(name: str, data_dir: str | Path | None, want: str) -> Path:
    """The folder of the data set `name`, which holds `want` (in words).

    Raises:
      UserError: it is not given, or is no folder.
    """
    if data_dir is None:
        raise UserError(f"the data set {name!r} needs data_dir, the directory that holds {want}")
    root = storage.expanded(data_dir, "data_dir")
    if not is_folder(root):
        raise UserError(f"no directory {root}; want one that holds {want}")
    return root


def expand(pattern: str) -> list[str]:
    """Writes the braces of a pattern out, as a shell does; `{split}` stays.

    >>> expand("{split}-{08..10}.tar")
    ['{split}-08.tar', '{split}-09.tar', '{split}-10.tar']
    >>> expand("{data/,}all.parquet")
    ['data/all.parquet', 'all.parquet']
    """
    names, whole = [pattern], pattern
    while _BRACE.search(names[0]):  # all names have the same braces at the same turn
        several = len(_first_brace(names[0], whole))
        if len(names) * several <= MAX_FILES:
            names = [made for name in names for made in _first_brace(name, whole)]
        else:
            raise UserError(f"the pattern {shown(whole)} means more than {MAX_FILES:,} files")
    return names


def _first_brace(name: str, whole: str) -> list[str]:
    """A name with its first innermost braces written out."""
    brace = _BRACE.search(name)
    numbers = re.fullmatch(r"(\d{1,12})\.\.(\d{1,12})", brace[1])
    if numbers:
        first, last = numbers.groups()
        if int(last) - int(first) >= MAX_FILES:
            raise UserError(f"the pattern {shown(whole)} means more than {MAX_FILES:,} files")
        words = [str(i).zfill(len(first)) for i in range(int(first), int(last) + 1)]
    else:
        words = brace[1].split(",")
    return [name[: brace.start()] + word + name[brace.end() :] for word in words]


def split_files(root: Path, pattern: Pattern) -> dict[str, list[Path]]:
    """The files of every split under `root`, sorted.

    Args:
      root: a folder.
      pattern: one for all splits, in which `{split}` stands for the name of the split (letters, digits, `_`); or a
        pattern for each split by its name. `*` and `?` are those of a shell, `{000..123}` counts, `{a,b}` lists. The
        suffix may be in capitals.

    Raises:
      UserError: no file matches; a file that a split's own pattern names is missing.
    """
    for one in [pattern] if isinstance(pattern, str) else pattern.values():
        if not one or one.startswith("/") or one == "." or re.search(r"\*\*[^/]|[^/]\*\*", one):
            raise UserError(f"the pattern {shown(one)} names no files inside data_dir: write it relative to {root}")
        check_depth(one)
    if isinstance(pattern, str):
        if "{split}" not in pattern:
            raise UserError(
                f"the pattern {shown(pattern)} says nothing of splits: write {{split}} in it, or give one for each "
                f"split, like dict(train={pattern!r})"
            )
        found = _files_of_template(root, expand(pattern))
    else:
        found = {split: _files_of_split(root, own) for split, own in pattern.items()}
    if not found:
        raise UserError(f"no {pattern} in {root}{what_lies_there(root)}")
    _warn_of_gaps(root, found)
    if isinstance(pattern, str):
        _warn_of_absent(root, pattern, found)
        warn_of_alike(root, found)
    return {split: sorted(files) for split, files in found.items()}


def check_depth(pattern: str) -> None:
    """Raises UserError where a pattern has so many folders or `**` that looking for its files may not end."""
    for mark, most, what in (("/", MAX_DEPTH, "folders"), ("**", MAX_TREES, "'**'")):
        if (count := pattern.count(mark)) > most:
            raise UserError(f"the pattern {shown(pattern)} has {count:,} {what}, more than {most}")


def any_case(pattern: str) -> str:
    """The pattern of a shell whose suffix may be in capitals, too: cameras and Windows write `.JPG` and `.CSV`.

    >>> any_case("train-*.tar"), any_case("train*")
    ('train-*.[tT][aA][rR]', 'train*')
    """
    stem, dot, suffix = pattern.rpartition(".")
    if not suffix.isalnum():
        return pattern
    return stem + dot + "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in suffix)


def warn_of_alike(root: Path, splits: Iterable[str]) -> None:
    """Warns of splits whose names differ in capitals alone, of which one may have been forgotten."""
    folded: dict[str, list[str]] = {}
    for split in splits:
        folded.setdefault(split.casefold(), []).append(split)
    for alike in folded.values():
        if len(alike) > 1:
            _log.warning(
                "%s has the splits %s, which differ in capitals alone: each is a split of its own",
                root,
                " and ".join(map(repr, alike)),
            )


def _warn_of_gaps(root: Path, found: Mapping[str, Iterable[Path]]) -> None:
    """Warns where files say how many there are, as in `train-00000-of-00003.parquet`, and some are not there."""
    for split, paths in found.items():
        counted = [m for path in paths if (m := re.search(r"-(\d{3,})-of-(\d{3,})(?=\.)", path.name))]
        for total in {int(m[2]) for m in counted}:
            absent = sorted(set(range(total)) - {int(m[1]) for m in counted if int(m[2]) == total})
            if absent:
                named = ", ".join(map(str, absent[:3])) + (", ..." if len(absent) > 3 else "")
                _log.warning("%s %s lacks %d of %d files: numbers %s", root, split, len(absent), total, named)


def _warn_of_absent(root: Path, pattern: str, found: Mapping[str, Iterable[Path]]) -> None:
    """Warns where a pattern counts, as in `{split}-{000..331}.tar`, and some of the files are not there."""
    if not re.search(r"\{\d+\.\.\d+\}", pattern) or "{split}" not in pattern:
        return
    for split in found:
        names = [name.replace("{split}", split) for name in expand(pattern)]
        absent = [name for name in names if not any(root.glob(any_case(name)))]
        if absent:
            named = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
            _log.warning("%s %s lacks %d of %d files: %s", root, split, len(absent), len(names), named)


def _files_of_template(root: Path, patterns: list[str]) -> dict[str, set[Path]]:
    found: dict[str, set[Path]] = {}
    for pattern in patterns:
        text = re.escape(pattern).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
        text = text.replace(r"\{split\}", r"(?P<split>\w+?)", 1).replace(r"\{split\}", "(?P=split)")
        stem, dot, suffix = text.rpartition(r"\.")
        text = f"{stem}{dot}(?i:{suffix})" if dot and suffix.isalnum() else text
        for path in root.glob(any_case(pattern.replace("{split}", "*"))):
            if name := re.fullmatch(text, path.relative_to(root).as_posix()):
                found.setdefault(name["split"], set()).add(path)
    return dict(sorted(found.items()))


def _files_of_split(root: Path, pattern: str) -> set[Path]:
    files = set()
    for name in expand(pattern):
        matches = set(root.glob(any_case(name)))
        if not matches:
            raise UserError(f"no {name} in {root}{what_lies_there(root)}")
        files |= matches
    return files


def what_lies_there(root: Path) -> str:
    """Words that follow `in ROOT` in a message: the first names in the folder."""
    names = sorted(e.name for e in os.scandir(root) if not e.name.startswith("."))
    return f", only {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else ", which is empty"


def unmatched(
    root: Path,
    found: Mapping[str, Iterable[Path]],
    known: Iterable[Any] = (),
    suffixes: tuple[str, ...] = ("",),
) -> PassedOver:
    """Counts the files that lie beside those of the splits and belong to none of them.

    Args:
      root: folder of the data set.
      found: files of every split, as `split_files` gives them.
      known: names of other files of the set that are read, such as a list of class names; other values are ignored.
      suffixes: endings of the names that count.
    """
    account = PassedOver()
    matched = {path for files in found.values() for path in files}
    read = {(root / name).resolve() for name in known if isinstance(name, str)}
    for folder in sorted({root, *(path.parent for path in matched)}):
        for entry in sorted(os.scandir(folder), key=lambda e: e.name):
            if not entry.is_file() or entry.name.startswith(".") or not entry.name.lower().endswith(suffixes):
                continue
            path = Path(entry.path)
            if path not in matched and path.resolve() not in read:
                account.add("name fits no split", path.relative_to(root).as_posix())
    return account


def named(split: str, splits: Iterable[str]) -> list[str]:
    """The splits that the text of a split can mean; reading the others would be in vain."""
    return [name for name in splits if name in split or split == "all"]


class Rows:
    """Where the examples of a split lie among pieces, such as shards or row groups.

    Args:
      parts: the (split name, start, stop) that `base.slices` gives.
      pieces: for every split of `parts` its pieces, each with the number of its examples.

    Attributes:
      ranges: (piece, first row, end), in order.

    >>> rows = Rows([("test", 0, 2), ("train", 2, 4)], {"train": [("a", 3), ("b", 2)], "test": [("c", 2)]})
    >>> len(rows), rows[3], rows.ranges
    (4, ('b', 0), [('c', 0, 2), ('a', 2, 3), ('b', 0, 1)])
    """

    def __init__(self, parts: Sequence[tuple[str, int, int]], pieces: Mapping[str, Sequence[tuple[Any, int]]]):
        self.ranges = []
        for split, start, stop in parts:
            for piece, count in pieces[split]:
                if max(start, 0) < min(stop, count):
                    self.ranges.append((piece, max(start, 0), min(stop, count)))
                start, stop = start - count, stop - count
        self._ends = list(itertools.accumulate(stop - start for _, start, stop in self.ranges))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """The piece of an example and its row there."""
        piece, _, stop = self.ranges[i := bisect.bisect_right(self._ends, index)]
        return piece, stop - self._ends[i] + int(index)


def pread(path: str, offset: int, size: int) -> bytes:
    """Reads `size` bytes at `offset`. Threads and forked processes may read one file at the same time.

    Raises:
      OSError: the file is missing, or shorter.
    """
    file = _opened(path)  # held until it is read: a file is closed with its last reference
    fits = 0 <= offset <= offset + size <= os.fstat(file.fileno()).st_size  # else no room is made for it
    data = os.pread(file.fileno(), size, offset) if fits else b""
    if len(data) < size:
        raise OSError(f"{path} ends before byte {offset + size}")
    return data


@functools.lru_cache(maxsize=256)
def _opened(path: str) -> BinaryIO:
    return open(path, "rb", buffering=0)
