"""What Parquet files say of themselves: their row groups, the types of their columns, the names of classes."""

import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision.data.signatures import described
from jaxvision.data.sources.columns import meant
from jaxvision.data.sources.labels import read_classes
from jaxvision.data.sources.row_groups import check_groups, read_group
from jaxvision.errors import UserError, listed, shown, unknown
from jaxvision.reading import parse_json, reading

_log = logging.getLogger(__name__)


class Group(NamedTuple):
    """A row group: its file, its number there, and its first row in the file."""

    file: str
    number: int
    first: int


class File(NamedTuple):
    path: Path
    schema: Any
    groups: list[tuple[Group, int]]  # each with the number of its rows

    @classmethod
    def read(cls, path: Path) -> "File":
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
        return cls(path, schema, [(Group(str(path), i, starts[i]), n) for i, n in enumerate(counts) if n])


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


def row_of(file: str) -> Callable[[int], str]:
    return lambda row: f"row {row} of {file}"


def is_struct(type_: Any) -> bool:
    import pyarrow

    return pyarrow.types.is_struct(type_)


def check_column(file: File, field: str, column: str) -> None:
    """Raises a UserError unless a file has the column, of a type that the field may have."""
    import pyarrow.types as types

    count = file.schema.names.count(column)
    if count != 1:
        if not count:
            if likely := meant(field, file.schema.names):
                raise UserError(
                    f"unknown column of {file.path} {column!r}; did you mean {likely!r}? Then set "
                    f"options=dict({field}={likely!r}). Choices: {listed(likely, file.schema.names)}"
                )
            raise unknown(f"column of {file.path}", column, file.schema.names)
        raise UserError(f"{file.path} has {count} columns that are called {column!r}")
    stored = file.schema.field(column).type
    of = stored.value_type if types.is_dictionary(stored) else stored
    is_binary, is_text = _is_one_of(of, _BINARY), _is_one_of(of, _STRINGS)
    where = f"the column {column!r} of {file.path}"
    if types.is_null(of):
        return
    if field == "image" and is_text:
        raise UserError(
            f"{where} holds texts, not the bytes of images: for files that a table names use the data set 'manifest'"
        )
    if field == "image" and types.is_struct(of):
        inside = {of.field(i).name: of.field(i).type for i in range(of.num_fields)}
        if "bytes" not in inside:
            raise UserError(f"{where} holds {of}, and the bytes of an image are looked for in its field 'bytes'")
        if not (_is_one_of(inside["bytes"], _BINARY) or types.is_null(inside["bytes"])):
            raise UserError(
                f"{where} holds {of}, whose field 'bytes' is {inside['bytes']}, not the bytes of image files: write "
                "them as binary, undone from base64 if that is what the texts are"
            )
    elif field == "image" and not is_binary:
        raise UserError(f"{where} holds {of}, not the bytes of one image file in each row")
    if field == "text" and not (is_text or is_binary or types.is_list(of) or types.is_large_list(of)):
        raise UserError(f"{where} holds {of}, not texts or lists of texts")


def _is_one_of(stored: Any, kinds: Sequence[str]) -> bool:
    import pyarrow.types as types

    return any(getattr(types, f"is_{kind}", lambda _: False)(stored) for kind in kinds)


def check_alike(files: Sequence[File], field: str, column: str) -> None:
    """Raises a UserError where a file stores a column in another form than the others.

    Numbers may differ in their width and texts in how they are stored; columns of nulls alone fit all.
    """
    import pyarrow.types as types

    def form(stored: Any) -> str:
        of = stored.value_type if types.is_dictionary(stored) else stored
        if types.is_struct(of):
            return "structs"
        if types.is_list(of) or types.is_large_list(of) or types.is_fixed_size_list(of):
            return "lists"
        return "nulls" if types.is_null(of) else "single values"

    forms = [(form(file.schema.field(column).type), file) for file in files]
    counts = Counter(kind for kind, _ in forms if kind != "nulls")
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        one = next(file for kind, file in forms if kind == usual)
        odd = next(file for kind, file in forms if kind not in (usual, "nulls"))
        raise UserError(
            f"the column {column!r} of {odd.path} holds {odd.schema.field(column).type}, that of {one.path} "
            f"{one.schema.field(column).type}: all files must store the {field} in one form"
        )


_BINARY = ("binary", "large_binary", "fixed_size_binary", "binary_view")
_STRINGS = ("string", "large_string", "string_view")


def read_column(file: str | Path, column: str, group: int | None = None) -> list[Any]:
    """A column of a row group, or of all."""
    import pyarrow.parquet

    with _reading(file), pyarrow.parquet.ParquetFile(file) as parquet:
        if column not in parquet.schema_arrow.names:
            raise unknown(f"column of {file}", column, parquet.schema_arrow.names)
        groups = range(parquet.metadata.num_row_groups) if group is None else [group]
        return [x for one in groups for x in read_group(parquet, file, one, [column]).column(column).to_pylist()]


def class_names(files: Sequence[File], column: str) -> tuple[str, ...] | None:
    """The class names in the metadata of files, as far as they have any.

    Raises:
      UserError: two files number the classes differently.
    """
    read: dict[Any, tuple[str, ...] | None] = {}  # by the metadata, which most files share
    first, of = None, None
    for file in files:
        stored = (file.schema.metadata or {}).get(b"huggingface")
        if stored not in read:
            read[stored] = _names(file, column)
        if first is None:
            first, of = read[stored], file
        elif read[stored] not in (first, None):
            raise UserError(
                f"{_difference(file, read[stored], of, first, column)}: write them anew with one list of names"
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
    """Warns where a file of another split numbers the classes differently, so that its labels mean something else."""
    for path in others:
        with contextlib.suppress(UserError):  # a file that is damaged concerns whoever reads that split
            file = File.read(path)
            found = _names(file, column)
            if found not in (None, names):
                _log.warning("%s", _difference(file, found, used[0], names, column))


def _names(file: File, column: str) -> tuple[str, ...] | None:
    """The class names that the library `datasets` keeps in a file, where it does."""
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
        _log.warning("%s: %s. So the labels themselves tell the classes", file.path, error)
        return None
    return read_classes(names, Path())


class _MetadataError(Exception):
    """The metadata of a file are not what the library `datasets` writes."""


def _dict(value: Any, where: str) -> dict:
    if not isinstance(value, dict):
        raise _MetadataError(f"{where} holds {shown(value)} in place of an object like {{...}}")
    return value
