"""The row groups of Parquet files, the last ones kept in memory."""

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxvision import unpacking

_BATCH = 1024  # rows that are decoded at once, where a group is of usual size


def check_groups(path: str | Path, metadata: Any) -> None:
    """Raises UserError where a row group says that it holds more than may come out of its file.

    Args:
      path: file.
      metadata: metadata of the file, as pyarrow reads it.
    """
    stored = os.stat(path).st_size
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        # A row takes four bytes at least once it is decoded, also of a column that is empty in all rows.
        unpacked = max(group.total_byte_size, 4 * group.num_rows)
        unpacking.check(f"row group {i} of {path}", unpacked, stored, "write it with smaller row groups")


def read_group(parquet: Any, path: str | Path, number: int, columns: Sequence[str]) -> Any:
    """A row group as a table, which is no larger than may come out of its file.

    A value that is stored once may stand in a million rows: so rows are decoded in batches, the size of the table is
    looked at after each, and the batches are small where one value could be large.

    Args:
      parquet: file, as pyarrow opens it.
      path: its path.
      number: number of the row group.
      columns: names of the columns to read.

    Raises:
      UserError: the table is larger.
    """
    import pyarrow

    stored, size, batches = os.stat(path).st_size, 0, []
    group = parquet.metadata.row_group(number)
    check_groups(path, parquet.metadata)
    rows = min(_BATCH, max(16, unpacking.FREE // max(group.total_byte_size, 1)))
    for batch in parquet.iter_batches(rows, row_groups=[number], columns=columns):
        size += batch.nbytes
        unpacking.check(f"row group {number} of {path}", size, stored, "write it with smaller row groups")
        batches.append(batch)
    if not batches:
        return parquet.read_row_group(number, columns)
    return pyarrow.Table.from_batches(batches)


class RowGroups:
    """Reads cells by row group and keeps the groups that were used last. Safe to use from threads.

    Args:
      columns: which are read; `image.bytes` is one field of a struct.
      limit_bytes: memory for the groups, beside the ones being read.
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
        """One value, as a Python object."""
        return self._read(file, group).column(column)[row].as_py()

    def _read(self, file: str, number: int) -> Any:
        with self._lock:
            group = self._groups.setdefault((file, number), _Group())
            self._groups.move_to_end((file, number))
        with group.lock:  # threads that want the same group wait for the first of them
            if group.table is None:
                import pyarrow.parquet

                # A file object serves one thread. What takes time in opening one is its metadata, so that is kept.
                with pyarrow.parquet.ParquetFile(file, metadata=self._metadata.get(file)) as parquet:
                    self._metadata[file] = parquet.metadata
                    table = read_group(parquet, file, number, self._columns)
                self._keep(group, table)
            return group.table

    def _keep(self, group: "_Group", table: Any) -> None:
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
