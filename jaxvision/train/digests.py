"""Digests of the files of a checkpoint: what is read is what was written, or it is known not to be.

STEP/digests.json      {"step": 45, "files": {PATH: [bytes, CRC-32C, CRC-32]}, "digest": CRC-32C of the rest}

It is written into the temporary folder of a checkpoint, after its files are on disk and before the folder gets its
name, so that no finished checkpoint is without one. The two files that Orbax writes after that are added once they are
there.

CRC-32C (RFC 3720, appendix B.4) finds every damage of up to 32 bits in a row and all but one in 4 billion of any other
kind, and a bucket keeps it for each object, so that nothing needs to be fetched to compare it. But most files of a
checkpoint end with their own CRC-32C, which makes that of the whole file the same for all of them: one that was put in
the place of another of its size would pass. So a file on a disk has the CRC-32 of zlib (ISO 3309), too. Neither is a
proof against somebody who changes a file on purpose.
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
LATE = ("_CHECKPOINT_METADATA", "commit_success.txt")  # what Orbax writes, or writes anew, when it commits
KIND = {"digests": "crc32c crc32"}  # in the metadata of Orbax: tells a checkpoint that had a manifest from an older one
PART = 2**22  # bytes that are read at once

# By path: bytes, CRC-32C, and CRC-32, which is not known (None) of what was written into a bucket.
Files = Mapping[str, tuple[int, int, int | None]]


def write(folder: Path, step: int, late: Iterable[str] = LATE) -> None:
    """Writes the manifest of a checkpoint's folder, after its files are on disk.

    Args:
      folder: folder of the checkpoint, which may be a temporary one.
      step: step of the checkpoint.
      late: names of files that will be written later.
    """
    listing = {name: file for name, file in _files(folder).items() if name not in late}
    _sync(folder, listing)
    _write(folder, step, {name: digest(folder, name, file) for name, file in listing.items()})


def complete(folder: Path, step: int) -> None:
    """Adds the files of `LATE` to a manifest; of a checkpoint without one, writes it."""
    files = read(folder)[1] if (folder / NAME).exists() else None
    if files is None:
        write(folder, step, ())
        return
    listing = _files(folder)
    late = {name: digest(folder, name, listing[name]) for name in LATE if name in listing}
    _sync(folder, late)
    _write(folder, step, {**files, **late})


def read(folder: Path) -> tuple[int, Files]:
    """The step and the digests that a manifest holds.

    Raises:
      UserError: it is damaged.
      OSError: it cannot be read.
    """
    content = (folder / NAME).read_bytes()
    try:
        found = parse_json(content, NAME)
        step, files = found["step"], {name: (size, a, b) for name, (size, a, b) in found["files"].items()}
    except (UserError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{NAME} is damaged") from None
    if content != _text(step, files).encode():
        raise UserError(f"{NAME} is damaged")
    return step, files


def problems(folder: Path, step: int) -> list[str]:
    """What is wrong with the files of a finished checkpoint, one line a file; empty where all is well.

    Raises:
      FileNotFoundError: the folder or its manifest is not there, or vanished meanwhile.
      OSError: it cannot be read.
    """
    try:
        saved, files = read(folder)
    except UserError as error:
        return [str(error)]
    if saved != step:
        return [f"it holds step {saved}: is it a copy?"]
    listing = _files(folder)
    # A save that was killed right after its commit has not added these two; nothing but their presence is known then.
    late = set(LATE) - files.keys()
    found = [f"{name} is missing" for name in [*files, *sorted(late)] if name not in listing]
    found += [f"{name} is none of its files" for name in listing if name not in files and name not in late]
    for name, known in files.items():
        if name in listing and (words := difference(folder, name, listing[name], known)):
            found.append(f"{name} {words}")
    return found


def difference(folder: Path, name: str, file: storage.File, known: tuple[int, int, int | None]) -> str:
    """How a file differs from what its manifest knows of it, in words; empty where it does not."""
    if file.size != known[0]:
        return f"has {file.size:,} bytes of {known[0]:,}"
    mine = digest(folder, name, file)
    same = all(a is None or b is None or a == b for a, b in zip(mine, known, strict=True))
    return "" if same else "is not what was written (its digest differs)"


def digest(folder: Path, name: str, file: storage.File) -> tuple[int, int, int | None]:
    """Size and digests of a file, read in parts; of an object in a bucket those that its listing says."""
    if file.crc32c is not None:
        return file.size, file.crc32c, None
    size = first = second = 0
    with (folder / name).open("rb") as opened:
        while part := opened.read(PART):
            size, first, second = size + len(part), google_crc32c.extend(first, part), zlib.crc32(part, second)
    return size, first, second


def _files(folder: Path) -> dict[str, storage.File]:
    """The files of a checkpoint but for the manifest, and what a writer that was killed left of one."""
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
    """The only text of these digests: a manifest with another one is damaged."""
    content = {"step": step, "files": {name: list(known) for name, known in files.items()}}
    own = google_crc32c.value(json.dumps(content).encode())
    return json.dumps({**content, "digest": own}) + "\n"
