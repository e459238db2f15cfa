"""Tar shards in the layout of webdataset, read in place: nothing is extracted."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision.data.sources import files, tar_index
from jaxvision.data.sources.base import BadExample, Source, parse_split
from jaxvision.data.sources.labels import Labels, infer_classes, make_info, read_classes
from jaxvision.data.sources.texts import one_or_several
from jaxvision.errors import UserError, nearest, unknown
from jaxvision.progress import track
from jaxvision.reading import parse_json
from jaxvision.registry import part

DOTS = ("first", "last")


@part("data set", "webdataset")
class WebDatasetSource(Source):
    """The examples of tar shards: `{"image": bytes, "label": ..., "text": ...}`.

    Members with the same path up to the first dot of the file name are one example, such as `0001.jpg`, `0001.txt`,
    `0001.json` and `0001.cls`. The rest of the name is the suffix of the member. `passed_over` counts members that are
    not read. An example is read directly at its offset, in any order, so shards need no shuffling. One pass over the
    headers finds the offsets, which are stored.

    Args:
      data_dir: Folder of the shards.
      split: Split in the syntax of TFDS, such as `train[:90%]`.
      fields: Names of the fields to read; None for all.
      shards: Pattern of the files, in which `{split}` is the name of the split, `{000..123}` counts and `{a,b}` lists:
        `cc3m-{split}-*.tar`; or one pattern for each split, by its name: `dict(train="{00000..00331}.tar")`.
      image: Suffix of the image members, such as `input.jpg`, or several: the first that an example has is read. The
        default is any of `formats.IMAGE_SUFFIXES`.
      label: Key of the label in the .json members: a number, a name or a list of them. By default the .cls members hold
        the label, if there are any.
      text: Suffix of the text members, or several, as for `image`; or the key of the .json members that holds the text
        or a list of texts. A value is a suffix if it is `txt`, ends in `.txt` or begins with a dot (`outputs.txt`,
        `.caption`), and a key otherwise. The default is the .txt members.
      dot: Position of the dot at which the suffix of a file name begins: "first", or "last" if names themselves have
        dots, like `1.5 litres.jpg`.
      classes: Names of the classes (a file with one name per line, or a tuple), or their number. By default the classes
        that occur in any of the splits: the sorted names, or one more than the largest number.

    Raises:
      UserError: There are no shards; a shard is compressed, truncated or damaged, or has no example; or a label is
        missing or is no class.
      BadExample: (When an example is read.) It has no image or text, or its text is blank or no text.
    """

    def __init__(
        self,
        data_dir: str | Path | None,
        split: str,
        fields: Sequence[str] | None = None,
        *,
        shards: files.Pattern = "{split}-*.tar",
        image: str | Sequence[str] | None = None,
        label: str | None = None,
        text: str | Sequence[str] | None = None,
        dot: str = "first",
        classes: str | Sequence[str] | int | None = None,
    ):
        layout, self._key = _layout(image, label, text, dot)
        folder = files.directory("webdataset", data_dir, "SPLIT-*.tar")
        tars = _split_shards(folder, shards)
        used = files.possible_splits(split, tars)
        loaded: dict[str, list[_Shard]] = {s: [] for s in used}
        each = [(name, tar) for name in used for tar in tars[name]]
        for name, tar in track(each, f"indexing {folder.name}", unit="shards"):
            loaded[name].append(_Shard(str(tar), tar_index.load_index(tar, layout)))
        self.passed_over = files.unmatched(folder, tars, [classes])
        for shard in (shard for s in used for shard in loaded[s]):
            self.passed_over.update(shard.index.passed_over)
        pieces = {s: [(shard, len(shard.index.keys)) for shard in loaded.get(s, ())] for s in tars}
        sizes = {s: sum(n for _, n in p) for s, p in pieces.items()}
        if used and not any(sizes.values()):
            passed = f"; passed over: {self.passed_over}" if self.passed_over else ""
            raise UserError(f"the shards of {', '.join(used)} in {folder} hold no example{passed}")
        parts = parse_split(split, sizes, f"the shards in {folder}")
        self._rows = files.Rows(parts, pieces)
        ranges = self._rows.ranges
        suffixes_of = {
            "image": layout.image if image else None,
            "text": layout.text if text and not self._key else None,
        }
        suffixes_of = {field: suffixes for field, suffixes in suffixes_of.items() if fields is None or field in fields}
        _check_members(suffixes_of, self._key if "text" in suffixes_of else None, [shard for shard, _, _ in ranges])
        has_texts = any((shard.index.text[:, 1] >= 0).any() for shard, _, _ in ranges)
        self._has_texts = text is not None or has_texts
        self._fields = fields
        self._labels: Labels | None = None
        unlabelled = [shard.tar for shard, _, _ in ranges if shard.index.labels is None]
        if not unlabelled:
            names_or_count = read_classes(classes, folder)
            if names_or_count is None:
                others = (
                    _Shard(str(tar), tar_index.load_index(tar, layout))
                    for s in tars
                    if s not in used
                    for tar in tars[s]
                )
                every = [*(shard for s in used for shard in loaded[s]), *others]
                names_or_count = infer_classes((shard.index.labels or (), shard.describe) for shard in every)
            stated = [x for shard, start, stop in ranges for x in shard.index.labels[start:stop]]
            self._labels = Labels(stated, names_or_count, self.describe)
        elif len(unlabelled) < len(ranges) and (fields is None or "label" in fields):
            raise UserError(f"some shards in {folder} have .cls members, others like {unlabelled[0]} have none")
        self.root = str(folder)
        self.info = make_info(folder.resolve().name, split, len(self), self._labels, text=self._has_texts)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example: dict[str, Any] = {}
        wanted = self._fields or ("image", "text")
        if "image" in wanted:
            example["image"] = self._member(index, "image")
        if self._labels is not None:
            example["label"] = self._labels[index]
        if self._has_texts and "text" in wanted:
            example["text"] = self._read_text(index)
        return example

    def describe(self, index: int) -> str:
        shard, row = self._rows[index]
        return shard.describe(row)

    def place(self, index: int) -> tuple[str, str]:
        shard, row = self._rows[index]
        return str(shard.index.keys[row]), str(shard.tar)

    def _member(self, index: int, part: str) -> bytes:
        shard, row = self._rows[index]
        offset, size = getattr(shard.index, part)[row].tolist()
        if size < 0:
            raise BadExample(f"it has no {part} member")
        return files.pread(shard.tar, offset, size)

    def _read_text(self, index: int) -> str | tuple[str, ...]:
        if self._key is None:
            return one_or_several(self._member(index, "text"), "its text member")
        stated = parse_json(self._member(index, "json"), "its .json member", dict, BadExample)
        if self._key not in stated:
            raise BadExample(f"its .json member has no {self._key!r}{nearest(self._key, stated)}")
        return one_or_several(stated[self._key], f"{self._key!r} in its .json member")

    def _read_labels(self) -> np.ndarray:
        assert self._labels is not None
        return self._labels.array()


class _Shard(NamedTuple):
    tar: str
    index: tar_index.TarIndex  # type: ignore[assignment]  # hides the method of tuples

    def describe(self, row: int) -> str:
        return f"{self.index.keys[row]} in {self.tar}"


def _split_shards(folder: Path, pattern: files.Pattern) -> dict[str, list[Path]]:
    """Does what `files.split_files` does, and says what to do with tars of another name, or compressed ones."""
    try:
        return files.split_files(folder, pattern)
    except UserError as error:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith("."))
        packed = [name for name in names if re.search(r"\.(tgz|tbz2?|txz|tar\.\w+)$", name, re.IGNORECASE)]
        tars = [name for name in names if name.lower().endswith(".tar")]
        if packed and not tars:
            raise UserError(f"{error}. {packed[0]} is compressed, so has no random access: unpack it to .tar") from None
        if tars and isinstance(pattern, str) and "{split}" in pattern:
            split = re.findall(r"^\w*", tars[0])[0] or "train"
            plain = all(re.fullmatch(r"\w+\.tar", name, re.IGNORECASE) for name in tars)
            hint = '"{split}.tar"' if plain else f'dict({split}="{tars[0]}")'
            raise UserError(f"{error}. If {tars[0]} is a shard, set options=dict(shards={hint})") from None
        raise


def _check_members(
    suffixes_of: Mapping[str, tuple[str, ...] | None], key: str | None, shards: Sequence["_Shard"]
) -> None:
    """Raises a UserError if an option names members that no shard has.

    Args:
      suffixes_of: Suffixes by the option that gives them, or None.
      key: Key of the .json members that holds the text, or None.
      shards: Shards that are read.
    """
    counts: Counter[str] = Counter()
    for shard in shards:
        counts.update(shard.index.suffixes)
    there = f"the members there end in {tar_index.listed_suffixes(counts)}"
    for option, suffixes in suffixes_of.items():
        if suffixes is not None and not counts.keys() & set(suffixes):
            wanted = " or ".join(f".{suffix}" for suffix in suffixes)
            raise UserError(f"no member of {shards[0].tar} ends in {wanted}, which the option {option} names; {there}")
    if key is not None and "json" not in counts:
        hint = f". For the .{key.lower()} members write text='.{key.lower()}'" if key.lower() in counts else ""
        raise UserError(f"text={key!r} is a key of .json members, and {shards[0].tar} has none{hint}; {there}")


def _layout(
    image: str | Sequence[str] | None, label: str | None, text: str | Sequence[str] | None, dot: str
) -> tuple[tar_index.Layout, str | None]:
    """Returns how members make examples, and the key of the .json members that holds the text, if one does.

    Raises:
      UserError: A value of an option does not fit.
    """
    if dot not in DOTS:
        raise unknown("value of dot", dot, DOTS)
    if label is not None and not isinstance(label, str):
        raise UserError(f"label is a key of the .json members, not {label!r}")
    fields: dict[str, Any] = {"label": label, "dot": dot}
    key = text if isinstance(text, str) and not _is_suffix(text) else None
    for option, value in {"image": image, "text": None if key is not None else text}.items():
        if value is None:
            continue
        stated = (value,) if isinstance(value, str) else value
        if not isinstance(stated, list | tuple) or not stated or not all(isinstance(s, str) and s for s in stated):
            raise UserError(f"{option} is a suffix of members, or a tuple of suffixes, not {value!r}")
        if option == "text" and not all(map(_is_suffix, stated)):
            raise UserError(f"text is one key of the .json members, or suffixes like 'outputs.txt', not {value!r}")
        suffixes = tuple(suffix.lower().removeprefix(".") for suffix in stated)
        if dot == "last" and (dotted := [suffix for suffix in suffixes if "." in suffix]):
            raise UserError(f"with dot='last' no suffix has a dot in it, but {option} has {dotted[0]!r}")
        fields[option] = suffixes
    return tar_index.Layout(**fields), key


def _is_suffix(text: Any) -> bool:
    return isinstance(text, str) and (text.startswith(".") or f".{text.lower()}".endswith(".txt"))
