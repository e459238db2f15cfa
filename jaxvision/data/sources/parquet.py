"""Parquet files with encoded images, in the layout of the Hugging Face Hub."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.data.sources.base import BadExample, Source, slices
from jaxvision.data.sources.files import Pattern, Rows, directory, named, split_files
from jaxvision.data.sources.labels import Labels, infer_classes, make_info, read_classes
from jaxvision.data.sources.row_groups import RowGroups
from jaxvision.errors import UserError, unknown

_TEXTS = ("text", "caption", "captions")


class ParquetSource(Source):
    """The rows of Parquet files: `{"image": bytes, "label": ..., "text": ...}`.

    Any row can be had, but only by reading its row group; see docs/data.md for what that costs.

    Args:
      data_dir: the folder of the files.
      split: in the syntax of TFDS.
      fields: of an example, which are wanted; None for all.
      files: the files, as `files.split_files` reads it.
      image: the column of the images: the bytes of image files, or structs with the field `bytes`.
      label: the column of the labels, numbers or names, or lists of them; by default `label`, where it is there.
      text: the column of the texts, or of lists of texts; by default the first of `text`, `caption` and `captions`.
      classes: a file with one name a line, a tuple of names, or their number. By default the names in the metadata
        that the library `datasets` writes; else those that occur in any of the splits: the sorted names, or one more
        than the largest number.
      cache_bytes: memory for the row groups that were read last, for each process.

    Raises:
      UserError: no such file or column; a file that is damaged; a label that is no class.
      BadExample (when read): a row without an image or a text.
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
        found = split_files(folder, files)
        groups = {s: [g for file in found[s] for g in _row_groups(file)] for s in named(split, found)}
        sizes = {s: sum(count for _, count in groups.get(s, ())) for s in found}
        parts = slices(split, sizes, f"the Parquet files in {folder}")
        self._rows = Rows(parts, groups)

        schema = _schema(found[parts[0][0]][0])
        columns = {
            "image": image,
            "label": label or ("label" if "label" in schema.names else None),
            "text": text or next((t for t in _TEXTS if t in schema.names), None),
        }
        self._columns = {f: c for f, c in columns.items() if c and (fields is None or f in fields)}
        for column in self._columns.values():
            if column not in schema.names:
                raise unknown(f"column of the Parquet files in {folder}", column, schema.names)
        self._labels = None
        if "label" in self._columns:
            self._labels = _labels(self._columns["label"], schema, self._rows, found, read_classes(classes, folder))
        struct = "image" in self._columns and schema.field(image).type.num_fields > 0
        stored = {"image": f"{image}.bytes" if struct else image, "text": columns["text"]}
        self._cells = RowGroups([stored[f] for f in ("image", "text") if f in self._columns], cache_bytes)
        self.info = make_info(folder.resolve().name, split, len(self._rows), self._labels)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = {}
        for field, column in self._columns.items():
            if field == "label":
                example[field] = self._labels[index]
                continue
            (file, group), row = self._rows[index]
            value = self._cells.cell(file, group, row, column)
            value = value["bytes"] if isinstance(value, dict) else value
            if not value:
                raise BadExample(f"its column {column!r} is empty")
            example[field] = tuple(value) if isinstance(value, list) else value
        return example

    def describe(self, index: int) -> str:
        (file, group), row = self._rows[index]
        return f"row {row} of row group {group} of {file}"

    def _read_labels(self) -> np.ndarray:
        return self._labels.array()


def _schema(file: Path) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.read_schema(file)


def _row_groups(file: Path) -> list[tuple[tuple[str, int], int]]:
    """The row groups of a file, each with the number of its rows."""
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_metadata(file)
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{file} is truncated, or no Parquet file: {error}") from None
    return [((str(file), i), metadata.row_group(i).num_rows) for i in range(metadata.num_row_groups)]


def _labels(column: str, schema: Any, rows: Rows, found: dict[str, list[Path]], classes: Any) -> Labels:
    """Reads the column of the labels; that of all splits where only they tell the classes."""
    classes = _names(schema, column) if classes is None else classes
    if classes is None:
        every = (stated for split in found.values() for file in split for stated in _read_column(file, column))
        classes = infer_classes(every)
    stated = [x for (file, group), start, stop in rows.ranges for x in _read_column(file, column, group)[start:stop]]
    return Labels(stated, classes)


def _read_column(file: str | Path, column: str, group: int | None = None) -> list[Any]:
    """A column of a row group, or of all."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file) as parquet:
        table = parquet.read([column]) if group is None else parquet.read_row_group(group, [column])
    return table.column(column).to_pylist()


def _names(schema: Any, column: str) -> tuple[str, ...] | None:
    """The class names that the library `datasets` keeps in a file, where it does."""
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = metadata.get("info", {}).get("features", {}).get(column, {})
    feature = feature[0] if isinstance(feature, list) else feature.get("feature", feature)
    return tuple(feature["names"]) if "names" in feature else None
