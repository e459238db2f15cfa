"""Writes results as JSON or CSV, to standard output and to a file."""

import csv
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxvision import storage
from jaxvision import workdir as workdirs
from jaxvision.errors import UserError, unknown

TABLE = "table"
FORMATS = (TABLE, "json", "csv", "jsonl")

Row = Mapping[str, Any]


def check_output(form: str, out: str | Path | None) -> None:
    """Checks, before anything is computed, that results can be written.

    Args:
      form: Format of standard output, one of `FORMATS`.
      out: File for the results, or None.

    Raises:
      UserError: The format is unknown, or the file cannot be written.
    """
    if form not in FORMATS:
        raise unknown("value of --format", form, FORMATS)
    if out is None:
        return
    path = Path(out)
    if path.suffix.lower()[1:] not in FORMATS[1:]:
        raise UserError(f"--out={out} does not end in .json, .csv or .jsonl: give a file whose name does")
    if path.is_dir():
        raise UserError(f"--out={out} is a folder: name a file in it, such as {path / ('results' + path.suffix)}")
    if not path.parent.is_dir():
        raise UserError(f"no folder {str(path.parent)!r} for --out={out}: make it, or give another file")
    if path.name in workdirs.WRITTEN and (path.parent / "config.json").is_file():
        raise UserError(f"--out={out} is a file of the run in {path.parent}: give another name")


def format_rows(rows: Sequence[Row], columns: Sequence[str], form: str) -> str:
    """Returns rows as JSON (a list of objects), JSON lines, or CSV (RFC 4180, with a header).

    Numbers have all their digits; a number that is not finite is null in JSON and empty in CSV.

    Args:
      rows: Values by column.
      columns: Names of the columns, in order.
      form: Format, "json", "jsonl" or "csv".

    >>> format_rows([{"path": "a, b.png", "probability": 0.5}], ("path", "probability"), "csv")
    'path,probability\\r\\n"a, b.png",0.5\\r\\n'
    """
    plain = [{name: _plain(row[name]) for name in columns} for row in rows]
    if form == "csv":
        written = io.StringIO(newline="")
        writer = csv.writer(written, lineterminator="\r\n")
        writer.writerow(columns)
        writer.writerows(row.values() for row in plain)
        return written.getvalue()
    if form == "jsonl":
        return "".join(f"{json.dumps(row, ensure_ascii=False, allow_nan=False)}\n" for row in plain)
    return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_rows(rows: Sequence[Row], columns: Sequence[str], form: str, out: str | Path | None) -> None:
    """Writes rows to standard output, unless `form` is "table", and to a file, completely or not at all.

    Args:
      rows: Values by column.
      columns: Names of the columns, in order.
      form: Format of standard output, one of `FORMATS`.
      out: File, whose suffix gives its format; None for no file.

    Raises:
      UserError: The file cannot be written.
    """
    if form != TABLE:
        _print(format_rows(rows, columns, form))
    if out is not None:
        path = Path(out)
        try:
            storage.write(path, format_rows(rows, columns, path.suffix.lower()[1:]))
        except OSError as error:
            raise UserError(f"cannot write --out={out}: {error.strerror}") from None


def _print(written: str) -> None:
    """Prints in UTF-8 for every locale, without changing line ends."""
    sys.stdout.flush()
    if hasattr(sys.stdout, "buffer"):
        sys.stdout.buffer.write(written.encode())
        sys.stdout.buffer.flush()
    else:
        sys.stdout.write(written)


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
