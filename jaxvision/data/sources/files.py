"""The files of each split, and reading pieces of them from many threads."""

import bisect
import functools
import itertools
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from jaxvision import path_names
from jaxvision.data.sources.passed_over import PassedOver
from jaxvision.errors import UserError, shown
from jaxvision.reading import is_folder

MAX_FILES = 1_000_000  # largest number of files that a pattern may mean
MAX_DEPTH = 64  # largest number of folders in a pattern: pathlib and glob are recursive
MAX_TREES = 2  # largest number of `**` in a pattern: each searches all folders below each match of the one before
_BRACE = re.compile(r"\{(?!split\})([^{}]*)\}")
Pattern = str | Mapping[str, str]
_log = logging.getLogger(__name__)


def directory(name: str, data_dir: str | Path | None, want: str) -> Path:
    """Returns the folder of a data set.

    Args:
      name: Kind of the set, for messages.
      data_dir: Folder as the user gave it.
      want: Content that the folder must have, in words, for messages.

    Raises:
      UserError: The folder is not given, or does not exist.
    """
    if data_dir is None:
        raise UserError(f"the data set {name!r} needs data_dir, the directory that holds {want}")
    root = path_names.expanded(data_dir, "data_dir")
    if not is_folder(root):
        raise UserError(f"no directory {root}; want one that holds {want}")
    return root


def expand_braces(pattern: str) -> list[str]:
    """Expands the braces of a pattern, as a shell does; `{split}` stays.

    Args:
      pattern: Pattern, such as "{split}-{000..123}.tar".

    Raises:
      UserError: It means more than `MAX_FILES` files.

    >>> expand_braces("{split}-{08..10}.tar")
    ['{split}-08.tar', '{split}-09.tar', '{split}-10.tar']
    >>> expand_braces("{data/,}all.parquet")
    ['data/all.parquet', 'all.parquet']
    """
    names, whole = [pattern], pattern
    while _BRACE.search(names[0]):  # all names have the same braces left
        choices = len(_first_brace(names[0], whole))
        if len(names) * choices <= MAX_FILES:
            names = [expanded for name in names for expanded in _first_brace(name, whole)]
        else:
            raise UserError(f"the pattern {shown(whole)} means more than {MAX_FILES:,} files")
    return names


def _first_brace(name: str, whole: str) -> list[str]:
    """Expands the first innermost braces of a name."""
    brace = _BRACE.search(name)
    assert brace is not None
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
    """Returns the files of every split in a folder, sorted.

    Args:
      root: Folder.
      pattern: Pattern of all splits, in which `{split}` is the name of the split (letters, digits, `_`); or one pattern
        for each split, by its name. `*` and `?` are those of a shell, `{000..123}` counts, `{a,b}` lists. The suffix
        may be in upper case.

    Raises:
      UserError: No file matches, or a file is missing that the pattern of a split names.
    """
    for text in [pattern] if isinstance(pattern, str) else pattern.values():
        if not text or text.startswith("/") or text == "." or re.search(r"\*\*[^/]|[^/]\*\*", text):
            raise UserError(f"the pattern {shown(text)} names no files inside data_dir: write it relative to {root}")
        check_depth(text)
    if isinstance(pattern, str):
        if "{split}" not in pattern:
            raise UserError(
                f"the pattern {shown(pattern)} says nothing of splits: write {{split}} in it, or give one for each "
                f"split, like dict(train={pattern!r})"
            )
        matched = _files_of_template(root, expand_braces(pattern))
    else:
        matched = {split: _files_of_split(root, text) for split, text in pattern.items()}
    if not matched:
        raise UserError(f"no {pattern} in {root}{listing(root)}")
    _warn_of_gaps(root, matched)
    if isinstance(pattern, str):
        _warn_of_absent(root, pattern, matched)
        warn_of_alike(root, matched)
    return {split: sorted(files) for split, files in matched.items()}


def check_depth(pattern: str) -> None:
    """Checks that a pattern does not have so many folders or `**` that searching for its files may never end.

    Args:
      pattern: Pattern.

    Raises:
      UserError: It has too many.
    """
    for mark, most, what in (("/", MAX_DEPTH, "folders"), ("**", MAX_TREES, "'**'")):
        if (count := pattern.count(mark)) > most:
            raise UserError(f"the pattern {shown(pattern)} has {count:,} {what}, more than {most}")


def any_case(pattern: str) -> str:
    """Returns a shell pattern whose suffix may also be in upper case: cameras and Windows write `.JPG` and `.CSV`.

    Args:
      pattern: Shell pattern.

    >>> any_case("train-*.tar"), any_case("train*")
    ('train-*.[tT][aA][rR]', 'train*')
    """
    stem, dot, suffix = pattern.rpartition(".")
    if not suffix.isalnum():
        return pattern
    return stem + dot + "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in suffix)


def warn_of_alike(root: Path, splits: Iterable[str]) -> None:
    """Warns of splits whose names differ only in upper and lower case, since one may have been forgotten.

    Args:
      root: Folder of the set, for the message.
      splits: Names of the splits.
    """
    folded: dict[str, list[str]] = {}
    for split in splits:
        folded.setdefault(split.casefold(), []).append(split)
    for alike in folded.values():
        if len(alike) > 1:
            _log.warning(
                "%s has the splits %s, which differ only in upper and lower case: each is a split of its own",
                root,
                " and ".join(map(repr, alike)),
            )


def _warn_of_gaps(root: Path, files: Mapping[str, Iterable[Path]]) -> None:
    """Warns if names of files state their number, as `train-00000-of-00003.parquet` does, and some are missing."""
    for split, paths in files.items():
        counted = [m for path in paths if (m := re.search(r"-(\d{3,})-of-(\d{3,})(?=\.)", path.name))]
        for total in {int(m[2]) for m in counted}:
            absent = sorted(set(range(total)) - {int(m[1]) for m in counted if int(m[2]) == total})
            if absent:
                named = ", ".join(map(str, absent[:3])) + (", ..." if len(absent) > 3 else "")
                _log.warning("%s %s lacks %d of %d files: numbers %s", root, split, len(absent), total, named)


def _warn_of_absent(root: Path, pattern: str, splits: Iterable[str]) -> None:
    """Warns if a pattern counts, as `{split}-{000..331}.tar` does, and some of the files are missing."""
    if not re.search(r"\{\d+\.\.\d+\}", pattern) or "{split}" not in pattern:
        return
    for split in splits:
        names = [name.replace("{split}", split) for name in expand_braces(pattern)]
        absent = [name for name in names if not any(root.glob(any_case(name)))]
        if absent:
            named = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
            _log.warning("%s %s lacks %d of %d files: %s", root, split, len(absent), len(names), named)


def _files_of_template(root: Path, patterns: list[str]) -> dict[str, set[Path]]:
    matched: dict[str, set[Path]] = {}
    for pattern in patterns:
        text = re.escape(pattern).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
        text = text.replace(r"\{split\}", r"(?P<split>\w+?)", 1).replace(r"\{split\}", "(?P=split)")
        stem, dot, suffix = text.rpartition(r"\.")
        text = f"{stem}{dot}(?i:{suffix})" if dot and suffix.isalnum() else text
        for path in root.glob(any_case(pattern.replace("{split}", "*"))):
            if name := re.fullmatch(text, path.relative_to(root).as_posix()):
                matched.setdefault(name["split"], set()).add(path)
    return dict(sorted(matched.items()))


def _files_of_split(root: Path, pattern: str) -> set[Path]:
    files = set()
    for name in expand_braces(pattern):
        matches = set(root.glob(any_case(name)))
        if not matches:
            raise UserError(f"no {name} in {root}{listing(root)}")
        files |= matches
    return files


def listing(root: Path) -> str:
    """Returns words to follow `in ROOT` in a message: the first names in the folder.

    Args:
      root: Folder.
    """
    names = sorted(e.name for e in os.scandir(root) if not e.name.startswith("."))
    return f", only {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else ", which is empty"


def unmatched(
    root: Path,
    matched: Mapping[str, Iterable[Path]],
    others: Iterable[Any] = (),
    suffixes: tuple[str, ...] = ("",),
) -> PassedOver:
    """Counts the files beside those of the splits that belong to no split.

    Args:
      root: Folder of the data set.
      matched: Files of every split, as `split_files` returns them.
      others: Names of other files of the set that are read, such as a list of class names; values that are no str are
        ignored.
      suffixes: Endings of the names that count.
    """
    account = PassedOver()
    paths = {path for files in matched.values() for path in files}
    read = {(root / name).resolve() for name in others if isinstance(name, str)}
    for folder in sorted({root, *(path.parent for path in paths)}):
        for entry in sorted(os.scandir(folder), key=lambda e: e.name):
            if not entry.is_file() or entry.name.startswith(".") or not entry.name.lower().endswith(suffixes):
                continue
            path = Path(entry.path)
            if path not in paths and path.resolve() not in read:
                account.add("name fits no split", path.relative_to(root).as_posix())
    return account


def possible_splits(split: str, splits: Iterable[str]) -> list[str]:
    """Returns the splits that the text of a split may mean; the others need not be read.

    Args:
      split: Split in the syntax of TFDS.
      splits: Names of all splits.

    >>> possible_splits("train[:10%]", ["train", "test"])
    ['train']
    """
    return [name for name in splits if name in split or split == "all"]


class Rows:
    """The places of the examples of a split in pieces, such as shards or row groups.

    Args:
      parts: Tuples (split name, start, stop) from `base.parse_split`.
      pieces: Pieces of every split of `parts`, each with the number of its examples.

    Attributes:
      ranges: Tuples (piece, first row, end), in order.

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
        """Returns the piece of an example and its row there."""
        piece, _, stop = self.ranges[i := bisect.bisect_right(self._ends, index)]
        return piece, stop - self._ends[i] + int(index)


def pread(path: str, offset: int, size: int) -> bytes:
    """Reads `size` bytes at `offset`. Threads and forked processes may read one file at the same time.

    Args:
      path: File.
      offset: Position of the first byte.
      size: Number of bytes.

    Raises:
      OSError: The file is missing, or too short.
    """
    file = _opened(path)  # referenced until it is read, since a file closes with its last reference
    fits = 0 <= offset <= offset + size <= os.fstat(file.fileno()).st_size  # else no memory is reserved for it
    data = os.pread(file.fileno(), size, offset) if fits else b""
    if len(data) < size:
        raise OSError(f"{path} ends before byte {offset + size}")
    return data


@functools.lru_cache(maxsize=256)
def _opened(path: str) -> BinaryIO:
    return open(path, "rb", buffering=0)
