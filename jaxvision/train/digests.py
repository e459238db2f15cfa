"""Digests of the files of a checkpoint, so that damage is noticed when they are read.

STEP/digests.json      {"step": 45, "files": {PATH: [bytes, CRC-32C, CRC-32]}, "digest": CRC-32C of the rest}

This manifest is written into the temporary folder of a checkpoint, after its files are on disk and before the folder
gets its name, so that every finished checkpoint has one. The two files that Orbax writes later are added when they are
there.

CRC-32C (RFC 3720, appendix B.4) detects all damage of up to 32 bits in a row, and all but one in 4 billion cases of any
other damage. A bucket stores it for each object, so nothing needs to be downloaded to compare it. But most files of a
checkpoint end with their own CRC-32C, so the CRC-32C of the whole file is the same for all of them, and two files of
the same size could be swapped unnoticed. So a file on a disk has the CRC-32 of zlib (ISO 3309) too. Neither detects
deliberate changes.
"""

import json
import zlib
from collections.abc import Iterable, Mapping

import google_crc32c

from jaxvision import storage
from jaxvision.errors import UserError
from jaxvision.reading import parse_json
from jaxvision.storage import Path

NAME = "digests.json"
LATE = ("_CHECKPOINT_METADATA", "commit_success.txt")  # files that Orbax writes, or rewrites, when it commits
KIND = {
    "digests": "crc32c crc32"
}  # mark in the metadata of Orbax of a checkpoint that had a manifest; old ones lack it
PART = 2**22  # number of bytes that are read at once

# By path: bytes, CRC-32C, and CRC-32, which is None for files in a bucket.
Files = Mapping[str, tuple[int, int, int | None]]


def write(folder: Path, step: int, late: Iterable[str] = LATE) -> None:
    """Writes the manifest of a checkpoint's folder, after its files are on disk.

    Args:
      folder: Folder of the checkpoint, which may be a temporary one.
      step: Step of the checkpoint.
      late: Names of files that will be written later.
    """
    listing = {name: file for name, file in _files(folder).items() if name not in late}
    _sync(folder, listing)
    _write(folder, step, {name: digest(folder, name, file) for name, file in listing.items()})


def complete(folder: Path, step: int) -> None:
    """Adds the files of `LATE` to a manifest, or writes the whole manifest if there is none.

    Args:
      folder: Folder of the checkpoint.
      step: Step of the checkpoint.
    """
    files = read(folder)[1] if (folder / NAME).exists() else None
    if files is None:
        write(folder, step, ())
        return
    listing = _files(folder)
    late = {name: digest(folder, name, listing[name]) for name in LATE if name in listing}
    _sync(folder, late)
    _write(folder, step, {**files, **late})


def read(folder: Path) -> tuple[int, Files]:
    """Reads a manifest.

    Args:
      folder: Folder of the checkpoint.

    Returns:
      The step and the digests of the files.

    Raises:
      UserError: The manifest is damaged.
      OSError: It cannot be read.
    """
    content = (folder / NAME).read_bytes()
    try:
        manifest = parse_json(content, NAME)
        step, files = manifest["step"], {name: (size, a, b) for name, (size, a, b) in manifest["files"].items()}
    except (UserError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{NAME} is damaged") from None
    if content != _text(step, files).encode():
        raise UserError(f"{NAME} is damaged")
    return step, files


def problems(folder: Path, step: int) -> list[str]:
    """Checks the files of a finished checkpoint.

    Args:
      folder: Folder of the checkpoint.
      step: Step that the folder is named after.

    Returns:
      What is wrong, a line for each file; empty if all is well.

    Raises:
      FileNotFoundError: The folder or its manifest is not there, or was deleted meanwhile.
      OSError: It cannot be read.
    """
    try:
        saved, files = read(folder)
    except UserError as error:
        return [str(error)]
    if saved != step:
        return [f"it holds step {saved}: is it a copy?"]
    listing = _files(folder)
    # A save that was killed right after its commit has not added these two; then only their presence can be checked.
    late = set(LATE) - files.keys()
    lines = [f"{name} is missing" for name in [*files, *sorted(late)] if name not in listing]
    lines += [f"{name} is none of its files" for name in listing if name not in files and name not in late]
    for name, written in files.items():
        if name in listing and (words := difference(folder, name, listing[name], written)):
            lines.append(f"{name} {words}")
    return lines


def difference(folder: Path, name: str, file: storage.File, written: tuple[int, int, int | None]) -> str:
    """Describes how a file differs from its entry in the manifest.

    Args:
      folder: Folder of the checkpoint.
      name: Path of the file in the folder.
      file: Size of the file, and its digest if it is in a bucket.
      written: Entry of the manifest, from `digest`.

    Returns:
      The difference in words; empty if there is none.
    """
    if file.size != written[0]:
        return f"has {file.size:,} bytes of {written[0]:,}"
    now = digest(folder, name, file)
    same = all(a is None or b is None or a == b for a, b in zip(now, written, strict=True))
    return "" if same else "is not what was written (its digest differs)"


def digest(folder: Path, name: str, file: storage.File) -> tuple[int, int, int | None]:
    """Computes the size, CRC-32C and CRC-32 of a file.

    A file is read in parts. For an object in a bucket the values come from the listing, without a CRC-32.

    Args:
      folder: Folder of the checkpoint.
      name: Path of the file in the folder.
      file: Entry of the file in the listing of the folder.
    """
    if file.crc32c is not None:
        return file.size, file.crc32c, None
    size = first = second = 0
    with (folder / name).open("rb") as opened:
        while part := opened.read(PART):
            size, first, second = size + len(part), google_crc32c.extend(first, part), zlib.crc32(part, second)
    return size, first, second


def _files(folder: Path) -> dict[str, storage.File]:
    """Returns the files of a checkpoint, without the manifest and what a killed writer left of one."""
    mine = lambda name: name == NAME or name.startswith(".digests-")
    return {name: file for name, file in storage.files(folder).items() if not mine(name)}


def _sync(folder: Path, names: Iterable[str]) -> None:
    for place in {folder, *((folder / name) for name in names), *((folder / name).parent for name in names)}:
        storage.sync(place)


def _write(folder: Path, step: int, files: Files) -> None:
    storage.write(folder / NAME, _text(step, files))
    storage.sync(folder / NAME)
    storage.sync(folder)


def _text(step: int, files: Files) -> str:
    """Returns the text of a manifest. There is only one text for the same digests; any other is damaged."""
    content = {"step": step, "files": {name: list(entry) for name, entry in files.items()}}
    checksum = google_crc32c.value(json.dumps(content).encode())
    return json.dumps({**content, "digest": checksum}) + "\n"
