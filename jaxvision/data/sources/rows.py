"""The lines of a manifest: its columns, and the example that a line describes."""

import ast
import collections
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxvision.data import signatures
from jaxvision.data.sources.columns import likely_column
from jaxvision.data.sources.texts import one_or_several
from jaxvision.errors import UserError, listed, shown, unknown
from jaxvision.reading import parse_json, read_text

_TEXTS = ("text", "caption", "captions")
_DELIMITERS = (",", "\t", ";", "|")
csv.field_size_limit(2**24)  # characters of a cell; the default is too small for long captions


class Columns(NamedTuple):
    """The names of the columns of a manifest.

    Attributes:
      path: Column of the paths.
      label: Column of single labels; None if unknown or absent.
      labels: Column of lists of labels; None if unknown or absent.
      text: Column of the texts; None if unknown or absent.
      split: Column of the splits; None if absent.
      names: Names of all columns of the file.
    """

    path: str = "path"
    label: str | None = None
    labels: str | None = None
    text: str | None = None
    split: str | None = None
    names: tuple[str, ...] = ()


class Row(NamedTuple):
    """A line of a manifest.

    Attributes:
      path: Path as written.
      label: Number or name, or a list of them; None if there is no column of labels.
      text: Text as written; it is checked when it is read.
      split: Split that the line names; None if there is no column of splits.
      columns: Columns of its file.
      file: Path of the manifest.
      line: Number of the line, from 1.
    """

    path: str
    label: Any
    text: Any
    split: str | None
    columns: Columns
    file: Path
    line: int

    @property
    def where(self) -> str:
        """The place of the line in its file, for messages."""
        return f"{self.file}:{self.line}"

    def read_text(self) -> str | tuple[str, ...]:
        """Returns the text of the example, or several.

        Raises:
          BadExample: There is no text.
        """
        return one_or_several(self.text, self.where)


def read_columns(file: Path) -> list[str]:
    """Returns the names of the columns of a manifest, whatever its column of paths is called.

    Args:
      file: Manifest, as for `read_rows`.

    Raises:
      UserError: The file is not UTF-8, is empty, or is no manifest.
    """
    text = read_text(file)
    if reason := signatures.describe_page(text[:1024].encode()):
        raise UserError(f"{file} is not a manifest: {reason}")
    if file.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        return list(next(_json_lines(file, text), (0, {}))[1])
    text, _, declared = _without_top(text)
    _delimiter(file, text, "")  # raises for a file that is empty or not text
    header = text.splitlines()[0]
    read = lambda mark: [name.strip() for name in next(csv.reader([header], delimiter=mark, skipinitialspace=True))]
    return max(map(read, [declared] if declared else _DELIMITERS), key=len)


def read_rows(file: Path, columns: Columns, delimiter: str | None = None) -> Iterator[Row]:
    """Yields the lines of a manifest.

    Args:
      file: Manifest: `.jsonl`, `.ndjson` or `.json` for JSON lines, any other suffix for CSV with a header.
      columns: Names of the columns that the user gave.
      delimiter: Character between the cells of CSV; None to infer it from the header.

    Raises:
      UserError: The file is not UTF-8, a column does not exist, or a line cannot be read or lacks something; the
        message names the line.
    """
    text = read_text(file)
    if reason := signatures.describe_page(text[:1024].encode()):
        raise UserError(f"{file} is not a manifest: {reason}")
    if file.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        # Any line may introduce a key, so the lines are read twice rather than all kept in memory.
        names: Iterable[str] = list(dict.fromkeys(name for _, cells in _json_lines(file, text) for name in cells))
        lines, where = _json_lines(file, text), str(file)
    else:
        text, above, declared = _without_top(text)
        delimiter = delimiter or declared or _delimiter(file, text, columns.path)
        lines, where = _csv(file, text, delimiter, above), f"{file}:{above + 1}"
        names = next(lines)[1]
    resolved = _resolve(columns, names, where) if names else columns
    for line, cells in lines:
        yield _row(resolved, cells, file, line)


def _row(columns: Columns, cells: dict[str, Any], file: Path, line: int) -> Row:
    where = f"{file}:{line}"
    path = cells.get(columns.path)
    if path is None or path == "":
        raise UserError(f"{where} has no {columns.path!r}")
    if not isinstance(path, str):
        raise UserError(f"{where}: the {columns.path!r} {shown(path)} is not a path")
    label = None
    if columns.label is not None:
        label = cells.get(columns.label)
        if isinstance(label, str) and label.strip().startswith("[") and _list(label) is not None:
            raise UserError(
                f"{where}: the label {shown(label)} is a list: name its column with labels={columns.label!r}"
            )
        if label is None or label == "":
            raise UserError(f"{where} has no {columns.label!r}")
    if columns.labels is not None:
        if cells.get(columns.labels) is None:
            raise UserError(f"{where} has no {columns.labels!r}")
        label = _several(cells[columns.labels], where)
    split = None
    if columns.split is not None:
        split = "" if cells.get(columns.split) is None else str(cells[columns.split]).strip()
        if not split:
            raise UserError(f"{where} has no {columns.split!r}")
    return Row(path, label, cells.get(columns.text) if columns.text else None, split, columns, file, line)


def _resolve(columns: Columns, names: Iterable[str], where: str) -> Columns:
    """Fills in the columns that the user did not give, from the names of the columns that exist."""
    lower = {name.lower(): name for name in reversed(list(names))}  # a header may be written Path,Label
    if columns.path not in names:
        columns = columns._replace(path=lower.get(columns.path, columns.path))
    for column in filter(None, columns[:5]):
        if column in names:
            continue
        if column == Columns().path and (likely := likely_column("path", names)):
            raise UserError(
                f"unknown column at {where} {column!r}: if {likely!r} names the files, set "
                f"options=dict(path={likely!r}). Choices: {listed(likely, names)}"
            )
        raise unknown(f"column at {where}", column, names)
    label, labels, text = columns.label, columns.labels, columns.text
    if label is None and labels is None:
        label, labels = lower.get("label"), lower.get("labels")
    if label and labels:
        raise UserError(f"{where} has both {label!r} and {labels!r}: give one of the options label and labels")
    text = text or next((lower[t] for t in _TEXTS if t in lower), None)
    return columns._replace(label=label, labels=labels, text=text, names=tuple(names))


def _several(cell: Any, where: str) -> list:
    """Returns the labels of a cell: a list, a list as JSON or Python writes it, or names separated by semicolons."""
    if isinstance(cell, list):
        return cell
    if not isinstance(cell, str):
        raise UserError(f"{where}: the labels {shown(cell)} are not a list")
    if not cell.strip().startswith(("[", "(", "{")):
        return [label.strip() for label in cell.split(";") if label.strip()]
    labels = _list(cell)
    if labels is None:
        raise UserError(f'{where}: the labels {shown(cell)} are not a list: write ["cat", "dog"] or cat;dog')
    return labels


def _list(text: str) -> list | None:
    """Returns the list that a text writes in JSON or Python; pandas writes tuples and sets, too."""
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(value, list | tuple | set):
            return sorted(value, key=str) if isinstance(value, set) else list(value)
    return None


def _without_top(text: str) -> tuple[str, int, str | None]:
    """Returns a CSV from its header on, the number of lines above, and a delimiter that Excel wrote there: `sep=;`."""
    blank = r"(?:[^\S\r\n]*(?:\r\n?|\n))*"  # blank lines; a tab before the first name may follow an empty cell
    top = re.match(rf'{blank}(?:"?sep=(?P<delimiter>[^\r\n])"?[ ,;\t]*(?:\r\n?|\n){blank})?', text, re.IGNORECASE)
    assert top is not None  # it matches any text
    return text[top.end() :], len(text[: top.end()].splitlines()), top["delimiter"]


def _csv(file: Path, text: str, delimiter: str, above: int = 0) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the lines of a CSV file with their numbers, cells stripped; first the header, whose keys are its cells.

    Numbers start after `above`, the number of lines above the header.
    """
    # Strict, since else an unclosed quotation mark would swallow the rest of the file.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        for name, count in collections.Counter(names).items():
            if count > 1 and name:
                raise UserError(f"{file}:{above + 1} names the column {name!r} {count} times")
        yield above + 1, dict(zip(names, names))
        for cells in reader:
            if len(cells) > len(names):
                raise UserError(
                    f"{file}:{above + reader.line_num} has more cells ({len(cells)}) than the header ({len(names)}): "
                    f"put quotation marks around a cell that holds {delimiter!r}"
                )
            if any(cell.strip() for cell in cells):
                yield above + reader.line_num, dict(zip(names, (cell.strip() for cell in cells)))
    except csv.Error as error:
        raise UserError(f"{file}:{above + reader.line_num} is not CSV: {error}") from None


def _delimiter(file: Path, text: str, path: str) -> str:
    """Returns the first of the known delimiters with which the header has the column of paths; a comma if none has."""
    if not text.strip():
        raise UserError(f"{file} is empty; want a header, such as path,label")
    if "\0" in text[:1024]:
        raise UserError(f"{file} holds NUL characters, so it may be UTF-16: save it as UTF-8")
    if file.suffix.lower() == ".tsv":
        return "\t"
    header = text.lstrip().splitlines()[0]
    for delimiter in _DELIMITERS:
        names = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
        if path.lower() in [name.strip().lower() for name in names]:
            return delimiter
    return ","


def _json_lines(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, parse_json(line, f"{file}:{number}")
