"""Results as a table for a person, or as JSON or CSV for a program: on standard output and in a file."""

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


def check(form: str, out: str | Path | None) -> None:
    """Raises UserError where results could not be written so; asked before anything is computed.

    Args:
      form: of standard output, one of `FORMATS`.
      out: a file, or None.
    """
    if form not in FORMATS:
        raise unknown("value of --format", form, FORMATS)
    if out is None:
        return
    path = Path(out)
    if path.suffix.lower()[1:] not in FORMATS[1:]:
        raise UserError(f"--out is a file .json, .csv or .jsonl, whose name says what is in it, not {str(out)!r}")
    if path.is_dir():
        raise UserError(f"--out={out} is a folder: name a file in it, such as {path / ('results' + path.suffix)}")
    if not path.parent.is_dir():
        raise UserError(f"no folder {str(path.parent)!r} for --out={out}")
    if path.name in workdirs.WRITTEN and (path.parent / "config.json").is_file():
        raise UserError(f"--out={out} is a file of the run in {path.parent}: give another name")


def text(rows: Sequence[Row], columns: Sequence[str], form: str) -> str:
    """The rows as JSON (a list of objects), JSON lines, or CSV (RFC 4180, with a header).

    Numbers are written with all their digits; what is not finite is null in JSON and empty in CSV.

    >>> text([{"path": "a, b.png", "probability": 0.5}], ("path", "probability"), "csv")
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


def write(rows: Sequence[Row], columns: Sequence[str], form: str, out: str | Path | None) -> None:
    """Writes rows to standard output, unless `form` is "table", and to the file `out`, whole or not at all."""
    if form != TABLE:
        _print(text(rows, columns, form))
    if out is not None:
        path = Path(out)
        try:
            storage.write(path, text(rows, columns, path.suffix.lower()[1:]))
        except OSError as error:
            raise UserError(f"cannot write {out}: {error.strerror}") from None


def _print(written: str) -> None:
    """UTF-8 whatever the locale, with the line ends as they are."""
    sys.stdout.flush()
    if hasattr(sys.stdout, "buffer"):
        sys.stdout.buffer.write(written.encode())
        sys.stdout.buffer.flush()
    else:
        sys.stdout.write(written)


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
