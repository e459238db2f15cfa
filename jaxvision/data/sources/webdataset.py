"""Tar shards in the layout of webdataset, read in place: nothing is extracted."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision.data.sources import files, tar_index
from jaxvision.data.sources.base import BadExample, Source, slices
from jaxvision.data.sources.labels import Labels, infer_classes, make_info, read_classes
from jaxvision.progress import track


class WebDatasetSource(Source):
    """The examples of tar shards: `{"image": bytes, "label": ..., "text": ...}`.

    The members `0001.jpg`, `0001.txt`, `0001.json` and `0001.cls` are one example: all that have one path up to the
    first dot of the file name. The image is a .jpg, .jpeg, .png or .webp. Any example is read at once by its offset,
    so shards need no shuffling. The offsets are found in one pass over the headers and kept (see `tar_index.load`).

    Args:
      data_dir: the folder of the shards.
      split: in the syntax of TFDS.
      fields: of an example, which are wanted; None for all.
      shards: the files, as `files.split_files` reads it: `cc3m-{split}-*.tar`, `dict(train="{00000..00331}.tar")`.
      label: the key of the .json members that holds the label, a number, a name or a list of them. By default the
        .cls members hold it, where there are any.
      text: the key of the .json members that holds the text, or a list of texts. By default the .txt members do.
      classes: a file with one name a line, a tuple of names, or their number. By default the classes are those that
        occur in any of the splits: the sorted names, or one more than the largest number.

    Raises:
      UserError: no shards; one that is compressed, truncated or damaged; an example without a label.
      BadExample (when read): an example without an image or a text.
    """

    def __init__(
        self,
        data_dir: str | Path | None,
        split: str,
        fields: Sequence[str] | None = None,
        *,
        shards: files.Pattern = "{split}-*.tar",
        label: str | None = None,
        text: str | None = None,
        classes: str | Sequence[str] | int | None = None,
    ):
        folder = files.directory("webdataset", data_dir, "SPLIT-*.tar")
        tars = files.split_files(folder, shards)
        used = files.named(split, tars)
        each = track([(s, tar) for s in used for tar in tars[s]], f"indexing {folder.name}", unit="shards")
        loaded: dict[str, list[_Shard]] = {s: [] for s in used}
        for s, tar in each:
            loaded[s].append(_Shard(str(tar), tar_index.load(tar, label)))
        pieces = {s: [(shard, len(shard.index.keys)) for shard in loaded.get(s, ())] for s in tars}
        parts = slices(split, {s: sum(n for _, n in p) for s, p in pieces.items()}, f"the shards in {folder}")
        self._rows = files.Rows(parts, pieces)
        ranges = [(shard.index, start, stop) for shard, start, stop in self._rows.ranges]
        self._text = text
        self._has_texts = text is not None or any((index.text[:, 1] >= 0).any() for index, _, _ in ranges)
        self._fields = fields
        self._labels = None
        if all(index.labels is not None for index, _, _ in ranges):
            known = read_classes(classes, folder)
            if known is None:
                others = (tar_index.load(tar, label) for s in tars if s not in used for tar in tars[s])
                every = itertools.chain((shard.index for s in used for shard in loaded[s]), others)
                known = infer_classes(stated for index in every for stated in index.labels or ())
            stated = [x for index, start, stop in ranges for x in index.labels[start:stop]]
            self._labels = Labels(stated, known, self.describe)
        self.info = make_info(folder.resolve().name, split, len(self), self._labels)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example, wanted = {}, self._fields or ("image", "text")
        if "image" in wanted:
            example["image"] = self._member(index, "image")
        if self._labels is not None:
            example["label"] = self._labels[index]
        if self._has_texts and "text" in wanted:
            example["text"] = self._read_text(index)
        return example

    def describe(self, index: int) -> str:
        shard, row = self._rows[index]
        return f"{shard.index.keys[row]} in {shard.tar}"

    def _member(self, index: int, part: str) -> bytes:
        shard, row = self._rows[index]
        offset, size = getattr(shard.index, part)[row].tolist()
        if size < 0:
            raise BadExample(f"it has no {part} member")
        return files.pread(shard.tar, offset, size)

    def _read_text(self, index: int) -> str | tuple[str, ...]:
        if self._text is None:
            return self._member(index, "text").decode(errors="replace")
        try:
            stated = json.loads(self._member(index, "json")).get(self._text)
        except ValueError as error:
            raise BadExample(f"its .json member is no JSON: {error}") from None
        if not stated:
            raise BadExample(f"its .json member has no {self._text!r}")
        return tuple(stated) if isinstance(stated, list) else stated

    def _read_labels(self) -> np.ndarray:
        return self._labels.array()


class _Shard(NamedTuple):
    tar: str
    index: tar_index.TarIndex
