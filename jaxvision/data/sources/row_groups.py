"""The row groups of Parquet files; the last ones are kept in memory."""

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxvision import unpacking

if TYPE_CHECKING:
    import pyarrow.parquet

_BATCH = 1024  # rows that are decoded at once if a group is of usual size


def check_groups(path: str | Path, metadata: "pyarrow.parquet.FileMetaData") -> None:
    """Checks that no row group claims to hold more than may come out of its file (`unpacking.allowed_bytes`).

    Args:
      path: File.
      metadata: Metadata of the file, from pyarrow.

    Raises:
      UserError: A row group claims more.
    """
    stored = os.stat(path).st_size
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        # A decoded row takes at least four bytes, even if its column is empty in all rows.
        unpacked = max(group.total_byte_size, 4 * group.num_rows)
        unpacking.check_size(f"row group {i} of {path}", unpacked, stored, "write it with smaller row groups")


def read_group(
    parquet: "pyarrow.parquet.ParquetFile", path: str | Path, number: int, columns: Sequence[str]
) -> "pyarrow.Table":
    """Reads a row group as a table, which is no larger than may come out of its file (`unpacking.allowed_bytes`).

    A value that is stored once may occur in a million rows. So rows are decoded in batches, small ones if a value could
    be large, and the size of the table is checked after each batch.

    Args:
      parquet: Open file, a `pyarrow.parquet.ParquetFile`.
      path: Path of the file.
      number: Number of the row group.
      columns: Names of the columns to read.

    Raises:
      UserError: The table is larger.
    """
    import pyarrow

    stored, size, batches = os.stat(path).st_size, 0, []
    group = parquet.metadata.row_group(number)
    check_groups(path, parquet.metadata)
    rows = min(_BATCH, max(16, unpacking.FREE // max(group.total_byte_size, 1)))
    for batch in parquet.iter_batches(rows, row_groups=[number], columns=columns):
        size += batch.nbytes
        unpacking.check_size(f"row group {number} of {path}", size, stored, "write it with smaller row groups")
        batches.append(batch)
    if not batches:
        return parquet.read_row_group(number, columns)
    return pyarrow.Table.from_batches(batches)


class RowGroups:
    """Reads cells by row group and keeps the groups that were used last. It is thread-safe.

    Args:
      columns: Names of the columns to read; `image.bytes` is one field of a struct.
      limit_bytes: Memory in bytes for the groups, besides those being read.
    """

    def __init__(self, columns: Sequence[str], limit_bytes: int):
        self._columns = list(columns)
        self._limit = limit_bytes
        self._size = 0
        self._metadata: dict[str, Any] = {}
        self._groups: OrderedDict[tuple[str, int], _Group] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self):
        return RowGroups, (self._columns, self._limit)  # a copy for another process starts empty

    def cell(self, file: str, group: int, row: int, column: str) -> Any:
        """Returns one value, as a Python object.

        Args:
          file: Path of the file.
          group: Number of the row group.
          row: Number of the row in the group.
          column: Name of the column.
        """
        return self._read(file, group).column(column)[row].as_py()

    def _read(self, file: str, number: int) -> "pyarrow.Table":
        with self._lock:
            group = self._groups.setdefault((file, number), _Group())
            self._groups.move_to_end((file, number))
        with group.lock:  # threads that need the same group wait for the first of them
            if group.table is None:
                import pyarrow.parquet

                # A file object serves one thread. Reading the metadata takes most of the time to open one: it is kept.
                with pyarrow.parquet.ParquetFile(file, metadata=self._metadata.get(file)) as parquet:
                    self._metadata[file] = parquet.metadata
                    table = read_group(parquet, file, number, self._columns)
                self._keep(group, table)
            return group.table

    def _keep(self, group: "_Group", table: "pyarrow.Table") -> None:
        group.table, group.size = table, table.nbytes
        with self._lock:
            self._size += group.size
            for key, old in list(self._groups.items()):
                if self._size <= self._limit or old is group:
                    break
                if old.table is not None:  # else it is being read
                    self._size -= old.size
                    del self._groups[key]


class _Group:
    def __init__(self):
        self.table, self.size = None, 0
        self.lock = threading.Lock()
