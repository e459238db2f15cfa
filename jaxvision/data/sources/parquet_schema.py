"""The description of Parquet files: their row groups, the types of their columns, and the names of classes."""

import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxvision.data.signatures import describe_bytes
from jaxvision.data.sources.columns import likely_column
from jaxvision.data.sources.labels import read_classes
from jaxvision.data.sources.row_groups import check_groups, read_group
from jaxvision.errors import UserError, listed, shown, unknown
from jaxvision.reading import parse_json, reading

if TYPE_CHECKING:
    import pyarrow

_log = logging.getLogger(__name__)


class Group(NamedTuple):
    """A row group.

    Attributes:
      file: Path of its file.
      number: Number of the group in the file.
      first: Number of its first row in the file.
    """

    file: str
    number: int
    first: int


class File(NamedTuple):
    """A Parquet file as its footer describes it.

    Attributes:
      path: Path of the file.
      schema: Arrow schema.
      groups: Row groups that have rows, each with the number of its rows.
    """

    path: Path
    schema: "pyarrow.Schema"
    groups: list[tuple[Group, int]]

    @classmethod
    def read(cls, path: Path) -> "File":
        """Reads the footer of a file.

        Args:
          path: File.

        Raises:
          UserError: The file is damaged, or no Parquet file.
        """
        with _reading(path):
            import pyarrow.parquet

            metadata = pyarrow.parquet.read_metadata(path)
            schema = metadata.schema.to_arrow_schema()
            check_groups(path, metadata)
            counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        starts = np.cumsum([0, *counts]).tolist()
        return cls(path, schema, [(Group(str(path), i, starts[i]), n) for i, n in enumerate(counts) if n])


@contextlib.contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Does what `reading` does, and says what a file is that is not Parquet."""
    import pyarrow

    with reading(path):
        try:
            yield
        except pyarrow.ArrowInvalid as error:
            with open(path, "rb") as file:
                reason = describe_bytes(file.read(512)) or error
            raise UserError(f"{path} is truncated, or no Parquet file: {reason}") from None


def row_of(file: str) -> Callable[[int], str]:
    """Returns the function that names the rows of a file in messages.

    Args:
      file: Path of the file.
    """
    return lambda row: f"row {row} of {file}"


def is_struct(type_: "pyarrow.DataType") -> bool:
    """Returns whether an Arrow type is a struct.

    Args:
      type_: Arrow type.
    """
    import pyarrow

    return pyarrow.types.is_struct(type_)


def check_column(file: File, field: str, column: str) -> None:
    """Checks that a file has a column, and that the type of the column fits the field.

    Args:
      file: File.
      field: Name of the field, "image", "label" or "text".
      column: Name of the column.

    Raises:
      UserError: The column does not exist, exists twice, or is of another type.
    """
    import pyarrow.types as types

    count = file.schema.names.count(column)
    if count != 1:
        if not count:
            if likely := likely_column(field, file.schema.names):
                raise UserError(
                    f"unknown column of {file.path} {column!r}; did you mean {likely!r}? Then set "
                    f"options=dict({field}={likely!r}). Choices: {listed(likely, file.schema.names)}"
                )
            raise unknown(f"column of {file.path}", column, file.schema.names)
        raise UserError(f"{file.path} has {count} columns that are called {column!r}")
    stored = file.schema.field(column).type
    kind = stored.value_type if types.is_dictionary(stored) else stored
    is_binary, is_text = _is_one_of(kind, _BINARY), _is_one_of(kind, _STRINGS)
    where = f"the column {column!r} of {file.path}"
    if types.is_null(kind):
        return
    if field == "image" and is_text:
        raise UserError(
            f"{where} holds texts, not the bytes of images: for files that a table names use the data set 'manifest'"
        )
    if field == "image" and types.is_struct(kind):
        inside = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        if "bytes" not in inside:
            raise UserError(f"{where} holds {kind}, without the field 'bytes' for the bytes of an image")
        if not (_is_one_of(inside["bytes"], _BINARY) or types.is_null(inside["bytes"])):
            raise UserError(
                f"{where} holds {kind}, whose field 'bytes' is {inside['bytes']}, not the bytes of image files: write "
                "them as binary; if the texts are base64, decode them first"
            )
    elif field == "image" and not is_binary:
        raise UserError(f"{where} holds {kind}, not the bytes of one image file in each row")
    if field == "text" and not (is_text or is_binary or types.is_list(kind) or types.is_large_list(kind)):
        raise UserError(f"{where} holds {kind}, not texts or lists of texts")


def _is_one_of(stored: Any, kinds: Sequence[str]) -> bool:
    import pyarrow.types as types

    return any(getattr(types, f"is_{kind}", lambda _: False)(stored) for kind in kinds)


def check_alike(files: Sequence[File], field: str, column: str) -> None:
    """Checks that all files store a column in one form.

    Numbers may differ in their width, and texts in how they are stored; columns of nulls alone fit all.

    Args:
      files: Files.
      field: Name of the field, for the message.
      column: Name of the column.

    Raises:
      UserError: One file stores single values, lists or structs where others do not.
    """
    import pyarrow.types as types

    def form(stored: "pyarrow.DataType") -> str:
        kind = stored.value_type if types.is_dictionary(stored) else stored
        if types.is_struct(kind):
            return "structs"
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            return "lists"
        return "nulls" if types.is_null(kind) else "single values"

    forms = [(form(file.schema.field(column).type), file) for file in files]
    counts = Counter(kind for kind, _ in forms if kind != "nulls")
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        typical = next(file for kind, file in forms if kind == usual)
        odd = next(file for kind, file in forms if kind not in (usual, "nulls"))
        raise UserError(
            f"the column {column!r} of {odd.path} holds {odd.schema.field(column).type}, that of {typical.path} "
            f"{typical.schema.field(column).type}: all files must store the {field} in one form"
        )


_BINARY = ("binary", "large_binary", "fixed_size_binary", "binary_view")
_STRINGS = ("string", "large_string", "string_view")


def read_column(file: str | Path, column: str, group: int | None = None) -> list[Any]:
    """Returns the values of a column, of one row group or of all.

    Args:
      file: Path of the file.
      column: Name of the column.
      group: Number of the row group; None for all.

    Raises:
      UserError: The column does not exist, or the file is damaged.
    """
    import pyarrow.parquet

    with _reading(file), pyarrow.parquet.ParquetFile(file) as parquet:
        if column not in parquet.schema_arrow.names:
            raise unknown(f"column of {file}", column, parquet.schema_arrow.names)
        groups = range(parquet.metadata.num_row_groups) if group is None else [group]
        return [x for number in groups for x in read_group(parquet, file, number, [column]).column(column).to_pylist()]


def class_names(files: Sequence[File], column: str) -> tuple[str, ...] | None:
    """Returns the class names in the metadata of files, None if they have none.

    Args:
      files: Files.
      column: Name of the column of the labels.

    Raises:
      UserError: Two files number the classes differently.
    """
    names_of: dict[Any, tuple[str, ...] | None] = {}  # by the metadata, which most files share
    first: tuple[str, ...] | None = None
    for file in files:
        stored = (file.schema.metadata or {}).get(b"huggingface")
        if stored not in names_of:
            names_of[stored] = _names(file, column)
        names = names_of[stored]
        if first is None:
            first, first_file = names, file
        elif names is not None and names != first:
            raise UserError(
                f"{_difference(file, names, first_file, first, column)}: write them again with one list of names"
            )
    return first


def _difference(file: File, names: Sequence[str], other: File, others: Sequence[str], column: str) -> str:
    pairs = itertools.zip_longest(names, others)
    place, here, there = next((i, a, b) for i, (a, b) in enumerate(pairs) if a != b)
    return (
        f"{file.path} and {other.path} number the classes of {column!r} differently: {place} is {here!r} in the one "
        f"and {there!r} in the other"
    )


def warn_of_other_splits(used: Sequence[File], others: Iterable[Path], names: Sequence[str], column: str) -> None:
    """Warns if a file of another split numbers the classes differently, so that its labels mean something else.

    Args:
      used: Files of the split that is read.
      others: Files of other splits.
      names: Class names of the files that are read.
      column: Name of the column of the labels.
    """
    for path in others:
        with contextlib.suppress(UserError):  # a damaged file matters only to those who read that split
            file = File.read(path)
            other_names = _names(file, column)
            if other_names is not None and other_names != names:
                _log.warning("%s", _difference(file, other_names, used[0], names, column))


def _names(file: File, column: str) -> tuple[str, ...] | None:
    """Returns the class names that the library `datasets` keeps in a file, None if there are none."""
    stored = (file.schema.metadata or {}).get(b"huggingface")
    if stored is None:
        return None
    try:
        where = "the metadata 'huggingface'"
        features = parse_json(stored, where).get("info", {})
        for key in ("features", column):
            features = _dict(features, where).get(key, {})
        feature = features[0] if isinstance(features, list) and features else features
        feature = _dict(feature, f"{where} on {column!r}")
        feature = _dict(feature.get("feature", feature), f"{where} on {column!r}")
        names = feature.get("names")
        if not names:
            return None
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise _MetadataError(f"{where} says that the names of {column!r} are {shown(names)}, not a list of texts")
    except (_MetadataError, UserError) as error:
        _log.warning("%s: %s. The classes are inferred from the labels instead", file.path, error)
        return None
    classes = read_classes(names, Path())
    assert isinstance(classes, tuple)
    return classes


class _MetadataError(Exception):
    """The metadata of a file are not what the library `datasets` writes."""


def _dict(value: Any, where: str) -> dict:
    if not isinstance(value, dict):
        raise _MetadataError(f"{where} holds {shown(value)} instead of an object like {{...}}")
    return value
