"""The row groups of Parquet files, the last ones kept in memory."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any


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
                    table = parquet.read_row_group(number, self._columns)
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
