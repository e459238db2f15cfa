"""Tables of rows, as CSV and as Parquet: both read back to the same values."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from jaxvision import storage
from jaxvision.reading import reading

SUFFIXES = (".parquet", ".csv")  # in the order in which `find` prefers them


def make(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Makes a table with a column for every key that any row has.

    Args:
      rows: Rows of numbers, booleans and texts; None, or no key, where there is no value. Integers become floats in a
        column that has both. A column of other values, or of several types, becomes text.
    """
    columns = dict.fromkeys(key for row in rows for key in row)
    return pa.table({key: _column([row.get(key) for row in rows]) for key in columns})


def write(table: pa.Table, folder: Path, name: str) -> None:
    """Writes NAME.csv and NAME.parquet to a folder, each atomically.

    In the CSV, floats have all their digits, texts are in quotes, and a field is empty where there is no value.

    Args:
      table: Table of `make`.
      folder: Folder, which exists.
      name: Name of the files, without suffix.
    """
    with storage.file(folder / f"{name}.parquet") as made:
        pyarrow.parquet.write_table(table, made, compression="zstd")
    head = ",".join(map(_cell, table.column_names))
    lines = [",".join(map(_cell, values)) for values in zip(*(column.to_pylist() for column in table.columns))]
    storage.write(folder / f"{name}.csv", "".join(line + "\n" for line in [head, *lines]))


def read(file: Path, texts: Collection[str] = ()) -> pa.Table:
    """Reads a table that `write` wrote, or one like it.

    Args:
      file: File with a suffix of `SUFFIXES`.
      texts: Names of the columns of text. CSV does not tell a text of digits from a number.

    Raises:
      UserError: The file cannot be read, or is damaged.
    """
    with reading(file):
        if file.suffix == ".parquet":
            return pyarrow.parquet.read_table(file)
        return pyarrow.csv.read_csv(
            file,
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in texts},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )


def find(folder: Path, name: str) -> Path | None:
    """Returns the file of a table in a folder; the Parquet file if there are both, None if there is none.

    Args:
      folder: Folder.
      name: Name of the table, without suffix.
    """
    files = (folder / f"{name}{suffix}" for suffix in SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def _column(values: list[Any]) -> pa.Array:
    with contextlib.suppress(pa.ArrowException):
        array = pa.array(values)
        if not pa.types.is_nested(array.type):
            return array
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | float) else '"' + str(value).replace('"', '""') + '"'
