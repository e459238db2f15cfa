"""A list of image files with their labels and texts, as CSV or JSON lines."""

import csv
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision.data.sources import files
from jaxvision.data.sources.base import Source, slices
from jaxvision.data.sources.labels import Labels, infer_classes, make_info, read_classes
from jaxvision.errors import UserError, unknown

_TEXTS = ("text", "caption", "captions")


class Columns(NamedTuple):
    """The names of the columns; None for one that is not told."""

    path: str = "path"
    label: str | None = None
    labels: str | None = None
    text: str | None = None


class Row(NamedTuple):
    """A line: the path as written, the label (a list where there may be several), the text, and where it stands."""

    path: str
    label: int | str | list | None
    text: str | tuple[str, ...] | None
    file: Path
    line: int

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


class ManifestSource(Source):
    """The images that `SPLIT.csv` or `SPLIT.jsonl` lists: `{"image": bytes, "label": ..., "text": ...}`.

    A file is looked for when its example is read, so that one that is missing is a bad example and no error here.

    Args:
      data_dir: the folder of the manifests.
      split: in the syntax of TFDS.
      fields: of an example, which are wanted; None for all.
      file: the manifests, as `files.split_files` reads it. The suffix tells CSV (with a header) from JSON lines.
      root: what paths are relative to; by default the manifest's own folder.
      path, label, labels, text: the names of the columns. By default `label` and `labels` are read where they are
        there, and the first of `text`, `caption` and `captions`. `label` is a number or a name. `labels` holds any
        number of them: a JSON list, or in CSV a text like `cat;dog`. `text` is one text, or a list in JSON lines.
      classes: a file with one name a line, a tuple of names, or their number. By default the classes are those that
        occur in any of the splits: the sorted names, or one more than the largest number.

    Raises:
      UserError: no such manifest, split or column; a line without its path, label or text.
    """

    def __init__(
        self,
        data_dir: str | Path | None,
        split: str,
        fields: Sequence[str] | None = None,
        *,
        file: files.Pattern = "{split}.{csv,jsonl}",
        root: str | None = None,
        path: str = "path",
        label: str | None = None,
        labels: str | None = None,
        text: str | None = None,
        classes: str | Sequence[str] | int | None = None,
    ):
        folder = files.directory("manifest", data_dir, "SPLIT.csv or SPLIT.jsonl")
        manifests = files.split_files(folder, file)
        columns = Columns(path, label, labels, text)
        rows = {s: [row for f in manifests[s] for row in read(f, columns)] for s in files.named(split, manifests)}
        parts = slices(split, {s: len(rows.get(s, ())) for s in manifests}, f"the manifest in {folder}")
        chosen = [row for name, start, stop in parts for row in rows[name][start:stop]]
        base = root and folder / Path(root).expanduser()
        self._paths = [os.path.join(base or row.file.parent, row.path) for row in chosen]
        self._texts = None if chosen[0].text is None else [row.text for row in chosen]
        self._labels = None
        if chosen[0].label is not None:
            known = read_classes(classes, folder)
            if known is None:
                others = (row for s in manifests if s not in rows for f in manifests[s] for row in read(f, columns))
                known = infer_classes(row.label for row in itertools.chain(*rows.values(), others))
            self._labels = Labels([row.label for row in chosen], known, lambda i: chosen[i].where)
        self._fields = fields
        self.info = make_info(folder.resolve().name, split, len(chosen), self._labels)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = {}
        if self._fields is None or "image" in self._fields:
            with open(self._paths[index], "rb") as file:
                example["image"] = file.read()
        if self._labels is not None:
            example["label"] = self._labels[index]
        if self._texts is not None:
            example["text"] = self._texts[index]
        return example

    def describe(self, index: int) -> str:
        return self._paths[index]

    def _read_labels(self) -> np.ndarray:
        return self._labels.array()


def read(file: Path, columns: Columns) -> Iterator[Row]:
    """The lines of a manifest.

    Raises:
      UserError: an unknown column, a line that cannot be read or lacks something; with the number of the line.
    """
    found = None
    for line, cells in _csv(file) if file.suffix == ".csv" else _json_lines(file):
        where = f"{file}:{line}"
        found = found or _resolve(columns, list(cells), where)
        for column in filter(None, found):
            if cells.get(column) is None or (cells[column] == "" and column != found.labels):
                raise UserError(f"{where} lacks its {column!r}")
        path, label, labels, text = (cells[column] if column else None for column in found)
        text = tuple(text) if isinstance(text, list) else text
        yield Row(path, label if labels is None else _several(labels), text, file, line)


def _resolve(columns: Columns, names: list[str], where: str) -> Columns:
    """Fills in what the user did not say, from the names of the columns that there are."""
    for column in filter(None, columns):
        if column not in names:
            raise unknown(f"column at {where}", column, names)
    label, labels, text = columns.label, columns.labels, columns.text
    if label is None and labels is None:
        label, labels = ("label" if "label" in names else None), ("labels" if "labels" in names else None)
    if label and labels:
        raise UserError(f"{where} has both {label!r} and {labels!r}: give one of the options label and labels")
    text = text or next((t for t in _TEXTS if t in names), None)
    return Columns(columns.path, label, labels, text)


def _several(cell: str | list) -> list:
    """The labels of a cell: a list, a JSON list as text, or names between semicolons."""
    if isinstance(cell, list):
        return cell
    if cell.startswith("["):
        return json.loads(cell)
    return [label.strip() for label in cell.split(";") if label.strip()]


def _csv(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with open(file, newline="", encoding="utf-8-sig") as lines:  # spreadsheets write a byte-order mark
        reader = csv.DictReader(lines)
        for cells in reader:
            if None in cells:
                raise UserError(f"{file}:{reader.line_num} has more cells than the header")
            yield reader.line_num, cells


def _json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with open(file, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except json.JSONDecodeError as error:
                    raise UserError(f"{file}:{number} is no JSON: {error}") from None
