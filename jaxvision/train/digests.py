"""Digests of the files of a checkpoint: what is read is what was written, or it is known not to be.

STEP/digests.json      {"step": 45, "files": {PATH: [bytes, CRC-32C]}, "digest": CRC-32C of the rest}

It is written into the temporary folder of a checkpoint, after its files are on disk and before the folder gets its
name, so that no finished checkpoint is without one. The two files that Orbax writes after that are added once they are
there.

CRC-32C (RFC 3720, appendix B.4) finds every damage of up to 32 bits in a row and all but one in 4 billion of any other
kind. It is no proof against somebody who changes a file on purpose. A processor computes it at 10 GB/s and more, and
Google Cloud Storage keeps it for each object, so that nothing needs to be fetched to compare it.
"""

import json
from collections.abc import Iterable, Mapping

import google_crc32c

from jaxvision import storage
from jaxvision.errors import UserError
from jaxvision.reading import parse_json
from jaxvision.storage import Path

NAME = "digests.json"
LATE = ("_CHECKPOINT_METADATA", "commit_success.txt")  # what Orbax writes, or writes anew, when it commits
PART = 2**22  # bytes that are read at once

Files = Mapping[str, tuple[int, int]]  # bytes and CRC-32C by path


def write(folder: Path, step: int, late: Iterable[str] = LATE) -> None:
    """Writes the manifest of a checkpoint's folder, after its files are on disk.

    Args:
      folder: folder of the checkpoint, which may be a temporary one.
      step: step of the checkpoint.
      late: names of files that will be written later.
    """
    listing = {name: file for name, file in _files(folder).items() if name not in late}
    _sync(folder, listing)
    _write(folder, step, {name: (file.size, crc32c(folder, name, file)) for name, file in listing.items()})


def complete(folder: Path, step: int) -> None:
    """Adds the files of `LATE` to a manifest; of a checkpoint without one, writes it."""
    files = read(folder)[1] if (folder / NAME).exists() else None
    if files is None:
        write(folder, step, ())
        return
    listing = _files(folder)
    late = {name: (listing[name].size, crc32c(folder, name, listing[name])) for name in LATE if name in listing}
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
        step, files = found["step"], {name: (size, crc) for name, (size, crc) in found["files"].items()}
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
    for name, (size, crc) in files.items():
        if name not in listing:
            continue
        if listing[name].size != size:
            found.append(f"{name} has {listing[name].size:,} bytes of {size:,}")
        elif crc32c(folder, name, listing[name]) != crc:
            found.append(f"{name} is not what was written (CRC-32C)")
    return found


def crc32c(folder: Path, name: str, known: storage.File) -> int:
    """The CRC-32C of a file, read in parts; that of an object in a bucket is the one that its listing says."""
    if known.crc32c is not None:
        return known.crc32c
    digest = 0
    with (folder / name).open("rb") as file:
        while part := file.read(PART):
            digest = google_crc32c.extend(digest, part)
    return digest


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
    content = {"step": step, "files": {name: list(pair) for name, pair in files.items()}}
    digest = google_crc32c.value(json.dumps(content).encode())
    return json.dumps({**content, "digest": digest}, indent=1) + "\n"
