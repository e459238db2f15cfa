"""Parquet files with encoded images, in the layout of the Hugging Face Hub."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.data.sources.base import BadExample, Source, parse_split
from jaxvision.data.sources.columns import warn_of_lack
from jaxvision.data.sources.files import Pattern, Rows, directory, possible_splits, split_files, unmatched
from jaxvision.data.sources.labels import Classes, Labels, infer_classes, make_info, read_classes
from jaxvision.data.sources.parquet_schema import (
    File,
    check_alike,
    check_column,
    class_names,
    is_struct,
    read_column,
    row_of,
    warn_of_other_splits,
)
from jaxvision.data.sources.row_groups import RowGroups
from jaxvision.data.sources.texts import one_or_several
from jaxvision.reading import reading
from jaxvision.registry import part

_TEXTS = ("text", "caption", "captions")


@part("data set", "parquet")
class ParquetSource(Source):
    """The rows of Parquet files: `{"image": bytes, "label": ..., "text": ...}`.

    Any row can be read, but only together with its row group; docs/data.md says what that costs. Messages count the
    rows of a file from 0, as pandas does.

    Args:
      data_dir: Folder of the files.
      split: Split in the syntax of TFDS, such as `train[:90%]`.
      fields: Names of the fields to read; None for all.
      files: Pattern of the files, in which `{split}` is the name of the split, `{000..123}` counts and `{a,b}` lists;
        or one pattern for each split, by its name.
      image: Column of the images: the bytes of image files, or structs with the field `bytes`. Columns of paths are
        refused.
      label: Column of the labels: numbers or names, or lists of them; by default `label`, if there is one.
      text: Column of the texts, or of lists of texts; by default the first of `text`, `caption` and `captions`.
      classes: Names of the classes (a file with one name per line, or a tuple), or their number. By default the names
        in the metadata that the library `datasets` writes; else those that occur in any of the splits: the sorted
        names, or one more than the largest number.
      cache_bytes: Memory in bytes for the row groups that were read last, per process.

    Raises:
      UserError: There is no such file or column; a file is damaged; a column has another type, or other class names, in
        one of the files; or a label is missing or is no class.
      BadExample: (When an example is read.) Its row cannot be read, or has no image or text.
    """

    def __init__(
        self,
        data_dir: str | Path | None,
        split: str,
        fields: Sequence[str] | None = None,
        *,
        files: Pattern = "{data/,}{split}{-*,}.parquet",
        image: str = "image",
        label: str | None = None,
        text: str | None = None,
        classes: str | Sequence[str] | int | None = None,
        cache_bytes: int = 2**30,
    ):
        folder = directory("parquet", data_dir, "SPLIT-*.parquet")
        paths = split_files(folder, files)
        self.passed_over = unmatched(folder, paths, [classes])
        opened = {s: [File.read(file) for file in paths[s]] for s in possible_splits(split, paths)}
        groups = {s: [piece for file in opened[s] for piece in file.groups] for s in opened}
        sizes = {s: sum(count for _, count in groups.get(s, ())) for s in paths}
        parts = parse_split(split, sizes, f"the Parquet files in {folder}")
        self._rows = Rows(parts, groups)

        used = [file for s in dict.fromkeys(name for name, _, _ in parts) for file in opened[s]]
        with_rows = [file for file in used if file.groups]
        names = list(dict.fromkeys(name for file in with_rows for name in file.schema.names))
        columns = {
            "image": image,
            "label": label or ("label" if "label" in names else None),
            "text": text or next((t for t in _TEXTS if t in names), None),
        }
        self._columns = {f: c for f, c in columns.items() if c and (fields is None or f in fields)}
        for file in used:
            for field, column in self._columns.items():
                check_column(file, field, column)
        for field, column in self._columns.items():
            check_alike(with_rows, field, column)
        for field in ("label", "text"):
            if columns[field] is None and (field == "label" or fields is not None):
                warn_of_lack(f"the Parquet files in {folder}", field, names, fields)
        self._labels: Labels | None = None
        if "label" in self._columns:
            self._labels = self._read(self._columns["label"], with_rows, paths, read_classes(classes, folder))
        # The paths in structs are not read. A column of nulls alone has no field `bytes` to name.
        struct = "image" in self._columns and all(is_struct(file.schema.field(image).type) for file in with_rows)
        stored = {"image": f"{image}.bytes" if struct else image, "text": columns["text"]}
        cells = [column for field, column in stored.items() if column is not None and field in self._columns]
        self._cells = RowGroups(cells, cache_bytes)
        texts = columns["text"] is not None
        self.root = str(folder)
        self.info = make_info(folder.resolve().name, split, len(self._rows), self._labels, text=texts)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example: dict[str, Any] = {}
        for field, column in self._columns.items():
            if field == "label":
                assert self._labels is not None
                example[field] = self._labels[index]
                continue
            group, row = self._rows[index]
            with reading(f"its column {column!r}", BadExample):
                value = self._cells.cell(group.file, group.number, row, column)
            if field == "text":
                example[field] = one_or_several(value, f"its column {column!r}")
                continue
            value = value["bytes"] if isinstance(value, dict) else value
            if not value:
                raise BadExample(f"its column {column!r} is empty")
            example[field] = value
        return example

    def describe(self, index: int) -> str:
        group, row = self._rows[index]
        return f"row {group.first + row} of {group.file}"

    def place(self, index: int) -> tuple[str, str]:
        group, row = self._rows[index]
        return f"row {group.first + row}", str(group.file)

    def _read(
        self, column: str, used: Sequence[File], paths: Mapping[str, list[Path]], classes: Classes | None
    ) -> Labels:
        """Reads the labels; those of all splits if the classes can only be inferred."""
        numbered = classes is None
        if classes is None and (classes := class_names(used, column)) is not None:
            read = {file.path for file in used}
            others = [files[0] for files in paths.values() if files[0] not in read]
            warn_of_other_splits(used, others, classes, column)
        if classes is None:
            every = [str(file) for files in paths.values() for file in files]
            classes = infer_classes((read_column(file, column), row_of(file)) for file in every)
        ranges = self._rows.ranges
        stated = [x for group, start, stop in ranges for x in read_column(group.file, column, group.number)[start:stop]]
        return Labels(stated, classes, self.describe, numbered=numbered)

    def _read_labels(self) -> np.ndarray:
        assert self._labels is not None
        return self._labels.array()
