"""Finds the files that a user means by --images: a folder, a file, a pattern, or several of these."""

import difflib
import glob
import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxvision.data.sources.files import check_depth
from jaxvision.errors import UserError, some

# Suffixes of the files that are read from a folder. A file that a path or a pattern names is read with any suffix.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif"),
)
_NAMED = 3  # number of files that a message names


class ImageFiles(NamedTuple):
    """The files that --images means.

    Attributes:
      files: Paths as they were given, each file once, sorted within a folder or pattern.
      others: Files in folders whose suffix is not one of pictures.
    """

    files: list[str]
    others: list[str]


def find(images: str | Sequence[str]) -> ImageFiles:
    """Finds the image files that paths and patterns mean.

    A folder means the pictures in it and in its subfolders, also through links, without hidden ones. A name that exists
    means itself, even if it holds `*`, `?` or `[`; otherwise these make it a pattern as in a shell, where `**` is any
    number of folders. `~` is the home folder. Names that differ only in how accents are composed are the same.

    Args:
      images: Folder, file or pattern, or several of these.

    Raises:
      UserError: One of them means no file; the message says what exists instead.
    """
    wanted = [images] if isinstance(images, str | os.PathLike) else list(images)
    files: dict[str, str] = {}
    others: list[str] = []
    for one in wanted:
        matches = _find(str(one))
        others += matches.others
        for file in matches.files:
            files.setdefault(os.path.abspath(file), file)
    return ImageFiles(list(files.values()), others)


def printable(path: str) -> str:
    """Returns a path that can be printed: bytes that are not UTF-8 become `\\xff`.

    Args:
      path: Path from the file system.

    >>> printable("a/é.png")
    'a/é.png'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _find(argument: str) -> ImageFiles:
    if not argument.strip():
        raise UserError("--images is empty: give a folder, a file or a pattern such as 'photos/*.jpg'")
    there, rest = _existing(os.path.expanduser(argument))
    if not rest:
        if not os.path.isdir(there) and _waits(there):
            raise UserError(f"{argument!r} is a pipe or a device, not a file: give a folder, a file or a pattern")
        return _in_folder(argument, there) if os.path.isdir(there) else ImageFiles([there], [])
    if not glob.has_magic(rest):
        raise UserError(f"no file or folder {argument!r}: {_instead(there, rest)}")
    check_depth(rest)
    patterns = {unicodedata.normalize(form, rest) for form in ("NFC", "NFD")} | {rest}
    matches = {m for p in patterns for m in glob.glob(os.path.join(glob.escape(there), p), recursive=True)}
    files = sorted(m for m in matches if os.path.isfile(m))  # no pipes and devices either
    if not files and matches:
        raise UserError(
            f"only folders match {argument!r}, such as {_names(sorted(matches))}: give one of them, or "
            f"a pattern of files such as {os.path.join(argument, '*.jpg')!r}"
        )
    if not files:
        raise UserError(f"no file matches {argument!r}: {_instead(there, rest)}")
    return ImageFiles(files, [])


def _existing(path: str) -> tuple[str, str]:
    """The longest beginning of a path that exists, and the rest of the path."""
    parts = Path(path).parts
    there = ""
    for i, part in enumerate(parts):
        exact = os.path.join(there, part)
        if os.path.lexists(exact):
            there = exact
            continue
        folded = unicodedata.normalize("NFC", part)
        same = [name for name in _listdir(there or ".") if unicodedata.normalize("NFC", name) == folded]
        if not same:
            return there, os.path.join(*parts[i:])
        there = os.path.join(there, same[0])
    return there, ""


def _listdir(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _instead(there: str, rest: str) -> str:
    """A description of what the folder holds in which a file was not found."""
    folder, wanted = there or ".", Path(rest).parts[0]
    where = printable(there or os.getcwd())
    if there and not os.path.isdir(folder):
        return f"{where} is a file, not a folder"
    names = [name for name in _listdir(folder) if not name.startswith(".")]
    if not names:
        return f"the folder {where} is empty"
    near = difflib.get_close_matches(wanted, names, n=_NAMED, cutoff=0.6) if not glob.has_magic(wanted) else []
    suffix = os.path.splitext(wanted)[1].lower()
    alike = [name for name in names if suffix and name.lower().endswith(suffix)]  # *.JPG for *.jpg
    if near:
        entries = "1 entry" if len(names) == 1 else f"{len(names):,} entries"
        return f"the folder {where} has {entries}; the nearest in name: {_names(near)}"
    if alike:
        return f"the folder {where} has {len(alike):,} such file{'s' * (len(alike) > 1)}: {_names(alike)}"
    return f"the folder {where} has {len(names):,} other entries, such as {_names(names)}"


def _names(names: Sequence[str]) -> str:
    return some(map(printable, names), most=_NAMED)


def _in_folder(argument: str, folder: str) -> ImageFiles:
    files: list[str] = []
    others: list[str] = []
    for path in _walk(folder, set()):
        (files if path.lower().endswith(IMAGE_SUFFIXES) else others).append(path)
    if not files:
        what = f"{len(others):,} other files, such as {_names(others)}" if others else "no files, nor do its subfolders"
        raise UserError(
            f"no pictures in {argument!r}: it has {what}. Names of pictures end in {', '.join(IMAGE_SUFFIXES[:6])}, ..."
        )
    return ImageFiles(files, others)


def _walk(folder: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Files in a folder and its subfolders, sorted; a folder that links reach several times comes once."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        at = os.stat(folder)
    except OSError as error:
        raise UserError(f"cannot read the folder {printable(folder)}: {error.strerror}") from None
    if (at.st_dev, at.st_ino) in seen:
        return
    seen.add((at.st_dev, at.st_ino))
    for entry in entries:
        if entry.name.startswith("."):  # thumbnails, and `._a.jpg` of macOS
            continue
        if entry.is_dir():
            yield from _walk(entry.path, seen)
        elif not _waits(entry.path):
            yield entry.path


def _waits(path: str) -> bool:
    """Whether a path, or the target of a link, is a pipe or a device, whose read may never end."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:  # a link to nothing: the error comes when it is read
        return False
