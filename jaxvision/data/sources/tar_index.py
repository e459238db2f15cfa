"""What lies where in a tar shard: read once from its headers, then kept in a small file."""

import contextlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision.data.sources.folder import IMAGE_SUFFIXES
from jaxvision.errors import UserError
from jaxvision.progress import track

_VERSION = 1  # raise it when the content of an index changes


class TarIndex(NamedTuple):
    """The examples of one shard, in the order of their first members.

    Attributes:
      keys: str [n], the path of the members up to the first dot of the file name.
      image, text, json: int64 [n, 2], the offset and the size of a member; the size is -1 where there is none.
      labels: the label of every example as `.cls` or the JSON member states it, or None if none was asked for.
    """

    keys: np.ndarray
    image: np.ndarray
    text: np.ndarray
    json: np.ndarray
    labels: list[Any] | None


def load(tar: Path, label: str | None) -> TarIndex:
    """The index of a shard: the one that is kept if the shard is still the same, else a new one.

    It is kept beside the shard as `.NAME.index.npz`, or where that cannot be written in the folder `tar_index` of the
    environment variable JAXVISION_DATA (default `~/.cache/jaxvision`).

    Args:
      tar: the shard.
      label: the key of the JSON members that holds the label; None for the `.cls` members, where there are any.

    Raises:
      UserError: the shard is compressed, truncated or no tar, or an example lacks its label.
    """
    stamp = f"{_VERSION} {tar.name} {tar.stat().st_size} {tar.stat().st_mtime_ns} {label}"
    name = f".{tar.name}.index.npz"
    places = [tar.parent / name, _cache() / str(tar.resolve().parent).strip("/").replace("/", "_") / name]
    for place in places:
        if place.is_file():
            with np.load(place) as kept:
                if kept["stamp"].item() == stamp:
                    return TarIndex(*(kept[f] for f in TarIndex._fields[:-1]), json.loads(kept["labels"].item()))
    index = build(tar, label)
    for place in places:
        with contextlib.suppress(OSError):  # a folder that cannot be written
            _save(place, stamp, index)
            break
    return index


def _cache() -> Path:
    return Path(os.environ.get("JAXVISION_DATA", "~/.cache/jaxvision")).expanduser() / "tar_index"


def _save(place: Path, stamp: str, index: TarIndex) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        with open(part, "wb") as file:
            np.savez(file, **index._asdict() | {"stamp": stamp, "labels": json.dumps(index.labels)})
        os.replace(part, place)  # whole or not at all: another process may be reading
    finally:
        part.unlink(missing_ok=True)


def build(tar: Path, label: str | None) -> TarIndex:
    """Reads the headers of a shard, and the bodies of those members that state labels. See `load`."""
    if tar.suffix != ".tar":
        raise UserError(f"{tar} is compressed, so has no random access: unpack it to .tar (images gain nothing by it)")
    examples: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in track(archive, f"indexing {tar.name}", unit="members"):
                if member.isfile():
                    _add(examples, archive, member, label)
            archive.fileobj.seek(archive.offset)
            if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # else tarfile just stops
                raise tarfile.ReadError(f"no member and no end at byte {archive.offset}")
    except tarfile.ReadError as error:
        raise UserError(f"the shard {tar} is truncated, damaged or no tar: {error}") from None
    places = {part: [e.get(part, (0, -1)) for e in examples.values()] for part in ("image", "text", "json")}
    arrays = {part: np.array(p, np.int64).reshape(-1, 2) for part, p in places.items()}
    return TarIndex(np.array(list(examples), str), **arrays, labels=_labels(examples, tar, label))


def _labels(examples: dict[str, dict[str, Any]], tar: Path, label: str | None) -> list[Any] | None:
    lacking = [key for key, example in examples.items() if example.get("label") is None]
    if label is None and len(lacking) == len(examples):
        return None
    if lacking:
        what = "a .cls member" if label is None else f"the key {label!r} in a .json member"
        raise UserError(f"{len(lacking)} examples of {tar} lack {what}, such as {lacking[0]}")
    return [example["label"] for example in examples.values()]


def _add(examples: dict, archive: tarfile.TarFile, member: tarfile.TarInfo, label: str | None) -> None:
    folder, _, name = member.name.rpartition("/")
    stem, _, extension = name.partition(".")
    extension = extension.lower()
    part = "image" if f".{extension}" in IMAGE_SUFFIXES else {"txt": "text"}.get(extension, extension)
    if not stem or part not in ("image", "text", "json", "cls"):
        return
    key = f"{folder}/{stem}" if folder else stem
    example = examples.setdefault(key, {})
    if part in example:
        raise UserError(f"{archive.name} holds two members of the example {key} that are its {part}")
    example[part] = (member.offset_data, member.size)
    if part == "json" and label is not None:
        try:
            example["label"] = json.load(archive.extractfile(member)).get(label)
        except ValueError as error:
            raise UserError(f"{member.name} in {archive.name} is no JSON: {error}") from None
    elif part == "cls" and label is None:
        example["label"] = archive.extractfile(member).read().decode().strip()
