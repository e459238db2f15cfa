"""A list of image files with their labels and texts, as CSV, TSV or JSON lines."""

import collections
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import path_names
from jaxvision.data.sources import files
from jaxvision.data.sources.base import BadExample, Source, parse_split
from jaxvision.data.sources.columns import warn_of_lack
from jaxvision.data.sources.labels import Labels, infer_classes, make_info, read_classes
from jaxvision.data.sources.rows import Columns, Row, read_rows
from jaxvision.errors import UserError
from jaxvision.registry import part

_log = logging.getLogger(__name__)
_NAMED = 3
_LISTS = (".csv", ".tsv", ".jsonl", ".json", ".ndjson", ".xlsx")  # suffixes of files that a user may take for manifests


@part("data set", "manifest")
class ManifestSource(Source):
    """The images that `SPLIT.csv`, `SPLIT.tsv` or `SPLIT.jsonl` lists: `{"image": bytes, "label": ..., "text": ...}`.

    An image file is opened when its example is read, so a missing file is a bad example, not an error here; so is an
    example without a text. A path that is listed twice makes two examples; a warning counts such paths.

    Args:
      data_dir: Folder of the manifests.
      split: Split in the syntax of TFDS, such as `train[:90%]`.
      fields: Names of the fields to read; None for all.
      file: Pattern of the manifests, in which `{split}` is the name of the split; or one pattern for each split, by its
        name. The suffix decides between CSV (with a header) and JSON lines.
      root: Folder to which paths are relative; by default the folder of the manifest.
      path: Name of the column of the paths.
      label: Name of the column of the labels, each a number or a name; by default `label`, if there is one.
      labels: Name of a column with any number of labels per example: a list, or in CSV a text like `cat;dog`. By
        default `labels`, if there is one.
      text: Name of the column of the texts: one text, or in JSON lines a list of texts. By default the first of `text`,
        `caption` and `captions` that exists.
      classes: Names of the classes (a file with one name per line, or a tuple), or their number. By default the classes
        that occur in any of the splits: the sorted names, or one more than the largest number.
      split_column: Name of the column with the split of each line, if one manifest lists all splits. `file` then has no
        `{split}`, and is by default `*.csv`, else `*.tsv`, else `*.jsonl`.
      delimiter: Character between the cells of CSV; by default a comma, tab, semicolon or bar, as the header shows.

    Raises:
      UserError: There is no such manifest, split or column; a file is not UTF-8; a line has no path or label; or names
        in the column of splits differ only in upper and lower case.
      BadExample: (When an example is read.) It has no text, or its path cannot be that of a file.
    """

    def __init__(
        self,
        data_dir: str | Path | None,
        split: str,
        fields: Sequence[str] | None = None,
        *,
        file: files.Pattern | None = None,
        root: str | None = None,
        path: str = "path",
        label: str | None = None,
        labels: str | None = None,
        text: str | None = None,
        classes: str | Sequence[str] | int | None = None,
        split_column: str | None = None,
        delimiter: str | None = None,
    ):
        folder = files.directory("manifest", data_dir, "SPLIT.csv, SPLIT.tsv or SPLIT.jsonl")
        delimiter = "\t" if delimiter == "\\t" else delimiter  # as a shell passes it
        if delimiter is not None and len(delimiter) != 1:
            raise UserError(f"delimiter is one character, such as ';', not {delimiter!r}")
        columns = Columns(path, label, labels, text, split_column)
        manifests = _manifests(folder, file, split_column)
        read_all = lambda names: _read(manifests, names, columns, delimiter)
        used = manifests if split_column else files.possible_splits(split, manifests)
        rows = read_all(used)
        splits = list(rows) if split_column else list(manifests)
        if split_column:
            _check_alike(rows, split_column)
        parts = parse_split(split, {s: len(rows.get(s, ())) for s in splits}, f"the manifest in {folder}")
        self.passed_over = files.unmatched(folder, manifests, [classes], _LISTS)
        chosen = [row for name, start, stop in parts for row in rows[name][start:stop]]
        base = folder / path_names.expanded(root) if root else None
        self.root = str(base or folder)
        self._rows = chosen
        self._paths = [os.path.join(base or row.file.parent, row.path) for row in chosen]
        self._has_texts = any(row.columns.text for row in chosen)
        self._labels: Labels | None = None
        labelled = [row.columns.label is not None or row.columns.labels is not None for row in chosen]
        if any(labelled):
            if not all(labelled):
                raise UserError(
                    f"{chosen[labelled.index(False)].where} has no label, as other manifests of {split} have"
                )
            names_or_count = read_classes(classes, folder)
            if names_or_count is None:
                every = rows | read_all([s for s in manifests if s not in used])
                names_or_count = infer_classes(
                    ((row.label for row in group), _place_of(group)) for group in every.values()
                )
            self._labels = Labels([row.label for row in chosen], names_or_count, _place_of(chosen))
        else:
            warn_of_lack(str(chosen[0].file), "label", chosen[0].columns.names, fields)
        if not self._has_texts and fields is not None:
            warn_of_lack(str(chosen[0].file), "text", chosen[0].columns.names, fields)
        self._fields = fields
        self.info = make_info(folder.resolve().name, split, len(chosen), self._labels, text=self._has_texts)
        self._warn_of_duplicates()

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example: dict[str, Any] = {}
        wanted = self._fields
        if wanted is None or "image" in wanted:
            try:
                with open(self._paths[index], "rb") as file:
                    example["image"] = file.read()
            except ValueError as error:  # a character that no path can have
                raise BadExample(f"{self._rows[index].where}: {error}") from None
        if self._labels is not None:
            example["label"] = self._labels[index]
        if self._has_texts and (wanted is None or "text" in wanted):
            example["text"] = self._rows[index].read_text()
        return example

    def describe(self, index: int) -> str:
        return self._paths[index]

    def _read_labels(self) -> np.ndarray:
        assert self._labels is not None
        return self._labels.array()

    def _warn_of_duplicates(self) -> None:
        counts = collections.Counter(self._paths)
        twice = [path for path, count in counts.items() if count > 1]
        if twice:
            names = ", ".join(twice[:_NAMED]) + (", ..." if len(twice) > _NAMED else "")
            _log.warning("%s lists %d files more than once: %s", self.info.name, len(twice), names)


def _place_of(rows: Sequence[Row]) -> Callable[[int], str]:
    return lambda index: rows[index].where


def _manifests(folder: Path, file: files.Pattern | None, split_column: str | None) -> dict[str, list[Path]]:
    """Returns the manifests of every split; with a column of splits, all of them under one name."""
    if split_column is None:
        return files.split_files(folder, file or "{split}.{csv,tsv,jsonl}")
    if file is None:
        patterns = ("*.csv", "*.tsv", "*.jsonl")
        file = next((pattern for pattern in patterns if any(folder.glob(files.any_case(pattern)))), patterns[0])
    return files.split_files(folder, {"any": file} if isinstance(file, str) else file)


def _read(
    manifests: Mapping[str, list[Path]], names: Iterable[str], columns: Columns, delimiter: str | None
) -> dict[str, list[Row]]:
    """Reads the lines of the manifests of these names, by the split of the line, else that of its manifest."""
    rows: dict[str, list[Row]] = {}
    for name in names:
        for manifest in manifests[name]:
            for row in read_rows(manifest, columns, delimiter):
                rows.setdefault(name if row.split is None else row.split, []).append(row)
    return rows


def _check_alike(rows: Mapping[str, list[Row]], column: str) -> None:
    """Raises a UserError if a column of splits writes one in several ways: the lines of one would be left out."""
    seen: dict[str, str] = {}
    for split, of_split in rows.items():
        other = seen.setdefault(split.casefold(), split)
        if other != split:
            raise UserError(
                f"the column {column!r} writes one split in two ways: {other!r} in {len(rows[other]):,} lines, such as "
                f"{rows[other][0].where}, and {split!r} in {len(of_split):,}, such as {of_split[0].where}: write "
                "them alike"
            )
