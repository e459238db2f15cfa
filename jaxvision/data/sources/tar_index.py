"""The offsets of the members of a tar shard: read once from its headers, then kept in a small file."""

import contextlib
import json
import os
import tarfile
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision import unpacking
from jaxvision.data.formats import IMAGE_SUFFIXES
from jaxvision.data.signatures import describe_bytes
from jaxvision.data.sources.passed_over import PassedOver
from jaxvision.errors import MAX_CHOICES, UserError, nearest
from jaxvision.progress import track
from jaxvision.reading import MAX_JSON, decode_text, parse_json, reading

_VERSION = 3  # raise it when the content of an index changes
PARTS = ("image", "text", "json")


_IMAGES = tuple(suffix[1:] for suffix in IMAGE_SUFFIXES)


class Layout(NamedTuple):
    """How the members of a shard make examples.

    Attributes:
      image: Suffixes of the images, without their first dot and in lower case. If several members of an example fit,
        the one whose suffix comes first is read.
      text: Suffixes of the texts, in the same form.
      label: Key of the label in the JSON members; None for the `.cls` members, if there are any.
      dot: Position of the dot at which the suffix of a file name begins, "first" or "last".
    """

    image: tuple[str, ...] = _IMAGES
    text: tuple[str, ...] = ("txt",)
    label: str | None = None
    dot: str = "first"

    def split(self, name: str) -> tuple[str, str]:
        """Splits a file name into its key and its suffix, the latter in lower case.

        Args:
          name: File name, without a folder.

        >>> Layout().split("a.v2.PNG"), Layout(dot="last").split("a.v2.PNG")
        (('a', 'v2.png'), ('a.v2', 'png'))
        """
        stem, dot, suffix = name.partition(".") if self.dot == "first" else name.rpartition(".")
        return (stem, suffix.lower()) if dot else (name, "")

    def part(self, suffix: str) -> tuple[str, int] | None:
        """Returns the part of an example that a suffix means, and the rank of the suffix in that part; None if none.

        Args:
          suffix: Suffix, without its first dot and in lower case.
        """
        for part, suffixes in (("image", self.image), ("text", self.text), ("json", ("json",)), ("cls", ("cls",))):
            if suffix in suffixes:
                return part, suffixes.index(suffix)
        return None


class TarIndex(NamedTuple):
    """The examples of one shard, in the order of their first members.

    Attributes:
      keys: Paths of the members without their suffix, str [n].
      image: Offset and size in bytes of the images, int64 [n, 2]; the size is -1 if there is none.
      text: Offset and size of the texts, in the same form.
      json: Offset and size of the JSON members, in the same form.
      labels: Label of every example as its `.cls` or JSON member states it; None if none was asked for.
      passed_over: Counts of the members that are not read.
      suffixes: Number of members of each suffix, without hidden ones.
    """

    keys: np.ndarray
    image: np.ndarray
    text: np.ndarray
    json: np.ndarray
    labels: list[Any] | None
    passed_over: PassedOver
    suffixes: dict[str, int]


def load_index(tar: Path, layout: Layout) -> TarIndex:
    """Returns the index of a shard: the stored one if the shard has not changed, else a new one.

    The index is stored beside the shard as `.NAME.index.npz`, or if that cannot be written in the folder `tar_index` of
    the environment variable JAXVISION_DATA (default `~/.cache/jaxvision`). A damaged index is made again.

    Args:
      tar: Shard.
      layout: Layout by which members make examples.

    Raises:
      UserError: The shard is compressed, truncated or no tar, or an example lacks its label.
    """
    with reading(tar):
        stat = tar.stat()
    stamp = json.dumps([_VERSION, tar.name, stat.st_size, stat.st_mtime_ns, *layout])
    name = f".{tar.name}.index.npz"
    places = [tar.parent / name, _cache() / str(tar.resolve().parent).strip("/").replace("/", "_") / name]
    for place in places:
        if (stored := _stored(place, stamp)) is not None:
            return stored
    index = build_index(tar, layout)
    for place in places:
        with contextlib.suppress(OSError):  # a folder that cannot be written
            _save(place, stamp, index)
            break
    return index


def _cache() -> Path:
    return Path(os.environ.get("JAXVISION_DATA", "~/.cache/jaxvision")).expanduser() / "tar_index"


def _stored(place: Path, stamp: str) -> TarIndex | None:
    """Reads the index in a file; returns None if it does not exist, is damaged, or is of another shard or layout."""
    try:
        arrays = unpacking.read_npz(place)
        if arrays["stamp"].item() != stamp:
            return None
        labels, passed_over, suffixes = (json.loads(arrays[k].item()) for k in ("labels", "passed_over", "suffixes"))
        image, text, member = (arrays[part] for part in PARTS)
        index = TarIndex(arrays["keys"], image, text, member, labels, PassedOver(passed_over), suffixes)
        count = len(index.keys)
        fits = all(getattr(index, part).shape == (count, 2) for part in PARTS) and index.keys.dtype.kind == "U"
        return index if fits and (labels is None or len(labels) == count) else None
    except Exception:  # a damaged file may raise anything
        return None


def _save(place: Path, stamp: str, index: TarIndex) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f"{place.name}.{uuid.uuid4().hex}")  # another host may write at the same time
    texts = {"stamp": stamp, "labels": json.dumps(index.labels), "passed_over": json.dumps(index.passed_over.as_dict())}
    texts["suffixes"] = json.dumps(index.suffixes)
    try:
        with open(part, "wb") as file:
            np.savez(file, **index._asdict() | texts)
        os.replace(part, place)  # whole or not at all: another process may be reading
    finally:
        part.unlink(missing_ok=True)


def build_index(tar: Path, layout: Layout) -> TarIndex:
    """Reads the headers of a shard, and the bodies of the members that hold labels; see `load_index`.

    Args:
      tar: Shard.
      layout: Layout by which members make examples.

    Raises:
      UserError: The shard is compressed, truncated or no tar, or an example lacks its label.
    """
    if tar.suffix.lower() != ".tar":
        raise UserError(
            f"{tar} is compressed, so has no random access: unpack it to .tar (images are compressed already)"
        )
    members = _Members(tar, layout)
    with reading(tar):
        try:
            with tarfile.open(tar, "r:") as archive:
                for member in track(archive, f"indexing {tar.name}", unit="members"):
                    members.add(archive, member)
                archive.fileobj.seek(archive.offset)
                if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # else tarfile just stops
                    raise tarfile.ReadError(f"no member and no end at byte {archive.offset}")
        except (tarfile.ReadError, EOFError) as error:
            with open(tar, "rb") as file:
                reason = describe_bytes(file.read(tarfile.BLOCKSIZE)) or str(error)
            raise UserError(f"the shard {tar} is truncated, damaged or no tar: {reason}") from None
    return members.index()


def _of_members(label: str, suffixes: Mapping[str, int]) -> str:
    """Says what to do if `label` is a suffix instead of a key of JSON members, or if there are no JSON members."""
    if label.lower().removeprefix(".") == "cls" and "cls" in suffixes:
        return "leave the option label out, and the .cls members are the labels"
    if "json" not in suffixes:
        return f"there are no .json members, only {listed_suffixes(suffixes)}"
    return ""


def listed_suffixes(suffixes: Mapping[str, int]) -> str:
    """Lists the suffixes of members in words, the most frequent first.

    Args:
      suffixes: Number of members of each suffix.

    >>> listed_suffixes({"txt": 2, "jpg": 3, "": 1})
    '.jpg (3), .txt (2), no suffix (1)'
    """
    most = sorted(suffixes.items(), key=lambda pair: -pair[1])
    words = [f"{'.' + suffix if suffix else 'no suffix'} ({count:,})" for suffix, count in most[:MAX_CHOICES]]
    return ", ".join(words) + (f" and {len(most) - MAX_CHOICES} more" if len(most) > MAX_CHOICES else "")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> bytes:
    """Reads the body of a small member; raises UserError if it is large, or claims to continue after the end."""
    if member.size > MAX_JSON:
        raise UserError(f"{where} has {member.size:,} bytes, too many for a label: at most {MAX_JSON:,}")
    body = archive.extractfile(member)
    assert body is not None  # a regular file
    return body.read()


class _Members:
    """The members of a shard, sorted into examples."""

    def __init__(self, tar: Path, layout: Layout):
        self._tar, self._layout = tar, layout
        self._examples: dict[str, dict[str, tuple[tuple[int, str], tuple[int, int]]]] = {}
        self._labels: dict[str, Any] = {}
        self._passed_over = PassedOver()
        self._suffixes: Counter[str] = Counter()
        self._hint = ""  # the key that was probably meant

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        folder, _, name = member.name.rpartition("/")
        if member.isdir():
            return  # its files are members of their own
        if not member.isreg() or member.issparse():
            self._passed_over.add("link or special file, without data of its own", member.name)
            return
        if name.startswith(".") or "__MACOSX" in folder.split("/"):
            self._passed_over.add("hidden", member.name)
            return
        stem, suffix = self._layout.split(name)
        self._suffixes[suffix] += 1
        part_and_rank = self._layout.part(suffix)
        if part_and_rank is None:
            self._passed_over.add(self._reason(suffix), member.name)
            return
        part, rank = part_and_rank
        key = f"{folder}/{stem}" if folder else stem
        example = self._examples.setdefault(key, {})
        if part in example:
            (other_rank, other), _ = example[part]
            if other == member.name:
                self._passed_over.add("replaced by a later member of the same name", member.name)
            elif rank >= other_rank:
                self._passed_over.add(f"second {part} of its example", member.name)
                return
            else:
                self._passed_over.add(f"second {part} of its example", other)
        example[part] = (rank, member.name), (member.offset_data, member.size)
        self._read_label(archive, member, part, key)

    def _reason(self, suffix: str) -> str:
        if "." in suffix and f".{suffix.rpartition('.')[2]}" in (*IMAGE_SUFFIXES, ".txt", ".json", ".cls"):
            return (
                "suffix (all after the first dot) that is not read; give dot='last' where the dots belong to the "
                "names, else the suffixes, as in image='input.jpg' and text='outputs.txt'"
            )
        return "suffix that is not read"

    def _read_label(self, archive: tarfile.TarFile, member: tarfile.TarInfo, part: str, key: str) -> None:
        where, label = f"{member.name} in {self._tar}", self._layout.label
        if part == "json" and label is not None:
            stated = parse_json(_content(archive, member, where), where)
            self._labels.pop(key, None)
            if label in stated:
                self._labels[key] = stated[label]
            else:
                self._hint = nearest(label, stated)
        elif part == "cls" and label is None:
            self._labels[key] = decode_text(_content(archive, member, where), where).strip()

    def index(self) -> TarIndex:
        labelled = bool(self._labels) or (self._layout.label is not None and bool(self._examples))
        if labelled:
            for key, example in list(self._examples.items()):
                if "image" not in example and key not in self._labels:
                    names = [name for (_, name), _ in example.values()]
                    self._passed_over.add("example without image and label", names[0], len(names))
                    del self._examples[key]
        places = {part: [e[part][1] if part in e else (0, -1) for e in self._examples.values()] for part in PARTS}
        arrays = {part: np.array(p, np.int64).reshape(-1, 2) for part, p in places.items()}
        labels = list(self._checked_labels()) if labelled else None
        keys = np.array(list(self._examples), str)
        return TarIndex(keys, **arrays, labels=labels, passed_over=self._passed_over, suffixes=dict(self._suffixes))

    def _checked_labels(self) -> Iterator[Any]:
        lacking = [key for key in self._examples if key not in self._labels]
        if lacking:
            label = self._layout.label
            what = "a .cls member" if label is None else f"the key {label!r} in a .json member{self._hint}"
            if label is not None and (hint := _of_members(label, self._suffixes)):
                raise UserError(f"no .json member of {self._tar} has the key label={label!r}: {hint}")
            raise UserError(f"{len(lacking):,} examples of {self._tar} lack {what}, such as {lacking[0]}")
        return (self._labels[key] for key in self._examples)
