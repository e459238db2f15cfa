"""Parquet files with encoded images, in the layout of the Hugging Face Hub."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision.data.signatures import described
from jaxvision.data.sources.base import BadExample, Source, slices
from jaxvision.data.sources.files import Pattern, Rows, directory, named, split_files, unmatched
from jaxvision.data.sources.labels import Labels, infer_classes, make_info, read_classes
from jaxvision.data.sources.row_groups import RowGroups, check_groups, read_group
from jaxvision.data.sources.texts import one_or_several
from jaxvision.errors import UserError, unknown
from jaxvision.reading import parse_json, reading

_TEXTS = ("text", "caption", "captions")

_log = logging.getLogger(__name__)


class ParquetSource(Source):
    """The rows of Parquet files: `{"image": bytes, "label": ..., "text": ...}`.

    Any row can be had, but only by reading its row group; see docs/data.md for what that costs. Messages count the rows
    of a file from 0, as pandas does.

    Args:
      data_dir: the folder of the files.
      split: in the syntax of TFDS.
      fields: of an example, which are wanted; None for all.
      files: the files, as `files.split_files` reads it.
      image: the column of the images: the bytes of image files, or structs with the field `bytes`. Columns of paths are
        refused.
      label: the column of the labels, numbers or names, or lists of them; by default `label`, where it is there.
      text: the column of the texts, or of lists of texts; by default the first of `text`, `caption` and `captions`.
      classes: a file with one name a line, a tuple of names, or their number. By default the names in the metadata
        that the library `datasets` writes; else those that occur in any of the splits: the sorted names, or one more
        than the largest number.
      cache_bytes: memory for the row groups that were read last, for each process.

    Raises:
      UserError: no such file or column; a file that is damaged; a column of another type in one of the files; a label
        that is missing or no class.
      BadExample (when read): a row that cannot be read, or one without an image or a text.
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
        self.passed_over = unmatched(folder, found, [classes])
        opened = {s: [_File.read(file) for file in found[s]] for s in named(split, found)}
        groups = {s: [piece for file in opened[s] for piece in file.groups] for s in opened}
        sizes = {s: sum(count for _, count in groups.get(s, ())) for s in found}
        parts = slices(split, sizes, f"the Parquet files in {folder}")
        self._rows = Rows(parts, groups)

        used = [file for s in dict.fromkeys(name for name, _, _ in parts) for file in opened[s]]
        first = next(file for file in used if file.groups).schema
        columns = {
            "image": image,
            "label": label or ("label" if "label" in first.names else None),
            "text": text or next((t for t in _TEXTS if t in first.names), None),
        }
        self._columns = {f: c for f, c in columns.items() if c and (fields is None or f in fields)}
        for file in used:
            for field, column in self._columns.items():
                _check_column(file, field, column)
        self._labels = None
        if "label" in self._columns:
            classes = read_classes(classes, folder)
            self._labels = self._read(self._columns["label"], first, found, classes)
        struct = "image" in self._columns and _is_struct(first.field(image).type)
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

    def _read(self, column: str, schema: Any, found: Mapping[str, list[Path]], classes: Any) -> Labels:
        """Reads the labels; those of all splits where only they tell the classes."""
        numbered = classes is None
        classes = _names(schema, column) if classes is None else classes
        if classes is None:
            files = [str(file) for split in found.values() for file in split]
            classes = infer_classes((_read_column(file, column), _row_of(file)) for file in files)
        ranges = self._rows.ranges
        stated = [
            x for group, start, stop in ranges for x in _read_column(group.file, column, group.number)[start:stop]
        ]
        return Labels(stated, classes, self.describe, numbered=numbered)

    def _read_labels(self) -> np.ndarray:
        return self._labels.array()


class _Group(NamedTuple):
    """A row group: its file, its number there, and its first row in the file."""

    file: str
    number: int
    first: int


class _File(NamedTuple):
    path: Path
    schema: Any
    groups: list[tuple[_Group, int]]  # each with the number of its rows

    @classmethod
    def read(cls, path: Path) -> "_File":
        """Reads what the end of a file says of it.

        Raises:
          UserError: it is damaged, or no Parquet file.
        """
        with _reading(path):
            import pyarrow.parquet

            metadata = pyarrow.parquet.read_metadata(path)
            schema = metadata.schema.to_arrow_schema()
            check_groups(path, metadata)
            counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        starts = np.cumsum([0, *counts]).tolist()
        return cls(path, schema, [(_Group(str(path), i, starts[i]), n) for i, n in enumerate(counts) if n])


@contextlib.contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """As `reading`, and says what a file is that is not Parquet."""
    import pyarrow

    with reading(path):
        try:
            yield
        except pyarrow.ArrowInvalid as error:
            with open(path, "rb") as file:
                reason = described(file.read(512)) or error
            raise UserError(f"{path} is truncated, or no Parquet file: {reason}") from None


def _row_of(file: str) -> Callable[[int], str]:
    return lambda row: f"row {row} of {file}"


def _is_struct(type_: Any) -> bool:
    import pyarrow

    return pyarrow.types.is_struct(type_)


def _check_column(file: _File, field: str, column: str) -> None:
    """Raises a UserError unless a file has the column, of a type that the field may have."""
    import pyarrow.types as types

    count = file.schema.names.count(column)
    if count != 1:
        if not count:
            raise unknown(f"column of {file.path}", column, file.schema.names)
        raise UserError(f"{file.path} has {count} columns that are called {column!r}")
    stored = file.schema.field(column).type
    of = stored.value_type if types.is_dictionary(stored) else stored
    is_binary = any(getattr(types, f"is_{kind}", lambda _: False)(of) for kind in _BINARY)
    is_text = any(getattr(types, f"is_{kind}", lambda _: False)(of) for kind in _STRINGS)
    where = f"the column {column!r} of {file.path}"
    if types.is_null(of):
        return
    if field == "image" and is_text:
        raise UserError(
            f"{where} holds texts, not the bytes of images: for files that a table names use the data set 'manifest'"
        )
    if field == "image" and types.is_struct(of):
        if "bytes" not in [of.field(i).name for i in range(of.num_fields)]:
            raise UserError(f"{where} holds {of}, and the bytes of an image are looked for in its field 'bytes'")
    elif field == "image" and not is_binary:
        raise UserError(f"{where} holds {of}, not the bytes of one image file in each row")
    if field == "text" and not (is_text or is_binary or types.is_list(of) or types.is_large_list(of)):
        raise UserError(f"{where} holds {of}, not texts or lists of texts")


_BINARY = ("binary", "large_binary", "fixed_size_binary", "binary_view")
_STRINGS = ("string", "large_string", "string_view")


def _read_column(file: str | Path, column: str, group: int | None = None) -> list[Any]:
    """A column of a row group, or of all."""
    import pyarrow.parquet

    with _reading(file), pyarrow.parquet.ParquetFile(file) as parquet:
        if column not in parquet.schema_arrow.names:
            raise unknown(f"column of {file}", column, parquet.schema_arrow.names)
        groups = range(parquet.metadata.num_row_groups) if group is None else [group]
        return [x for one in groups for x in read_group(parquet, file, one, [column]).column(column).to_pylist()]


def _names(schema: Any, column: str) -> tuple[str, ...] | None:
    """The class names that the library `datasets` keeps in a file, where it does."""
    stored = (schema.metadata or {}).get(b"huggingface")
    if stored is None:
        return None
    try:
        feature = (
            parse_json(stored, "the metadata 'huggingface'", dict, ValueError)
            .get("info", {})
            .get("features", {})
            .get(column, {})
        )
        feature = feature[0] if isinstance(feature, list) else feature.get("feature", feature)
        if not feature.get("names"):
            return None
        if not (isinstance(feature["names"], list) and all(isinstance(name, str) for name in feature["names"])):
            raise TypeError("names is no list of texts")
        return read_classes(feature["names"], Path())
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        if isinstance(error, UserError):
            raise
        _log.warning("the metadata 'huggingface' cannot be read, so that the labels themselves tell classes: %s", error)
        return None
