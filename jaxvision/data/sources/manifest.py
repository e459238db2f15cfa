"""A list of image files with their labels and texts, as CSV, TSV or JSON lines."""

import collections
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import storage
from jaxvision.data.sources import files
from jaxvision.data.sources.base import BadExample, Source, slices
from jaxvision.data.sources.columns import warn_of_lack
from jaxvision.data.sources.labels import Labels, infer_classes, make_info, read_classes
from jaxvision.data.sources.rows import Columns, Row, read
from jaxvision.errors import UserError
from jaxvision.found import part

_log = logging.getLogger(__name__)
_NAMED = 3
_LISTS = (".csv", ".tsv", ".jsonl", ".json", ".ndjson", ".xlsx")  # what a user may take for a manifest


@part("data set", "manifest")
class ManifestSource(Source):
    """The images that `SPLIT.csv`, `SPLIT.tsv` or `SPLIT.jsonl` lists: `{"image": bytes, "label": ..., "text": ...}`.

    A file is looked for when its example is read, so that one that is missing is a bad example and no error here; so is
    an example without a text. A path that is listed twice is two examples, and a warning counts them.

    Args:
      data_dir: the folder of the manifests.
      split: in the syntax of TFDS.
      fields: of an example, which are wanted; None for all.
      file: the manifests, as `files.split_files` reads it. The suffix tells CSV (with a header) from JSON lines.
      root: what paths are relative to; by default the manifest's own folder.
      path, label, labels, text: the names of the columns. By default `label` and `labels` are read where they are
        there, and the first of `text`, `caption` and `captions`. `label` is a number or a name. `labels` holds any
        number of them: a list, or in CSV a text like `cat;dog`. `text` is one text, or a list in JSON lines.
      classes: a file with one name a line, a tuple of names, or their number. By default the classes are those that
        occur in any of the splits: the sorted names, or one more than the largest number.
      split_column: the column that names the split of each line, where one manifest holds all splits; `file` then has
        no `{split}`, and is by default `*.csv`, else `*.tsv`, else `*.jsonl`.
      delimiter: what stands between the cells of CSV; by default a comma, tab, semicolon or bar, as the header shows.

    Raises:
      UserError: no such manifest, split or column; a file that is not UTF-8; a line without its path or label; a column
        of splits with names that differ in capitals alone.
      BadExample (when read): an example without a text, or whose path cannot be that of a file.
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
        delimiter = "\t" if delimiter == "\\t" else delimiter  # as a shell hands it on
        if delimiter is not None and len(delimiter) != 1:
            raise UserError(f"delimiter is one character, such as ';', not {delimiter!r}")
        columns = Columns(path, label, labels, text, split_column)
        manifests = _manifests(folder, file, split_column)
        read_all = lambda names: _read(manifests, names, columns, delimiter)
        used = manifests if split_column else files.named(split, manifests)
        rows = read_all(used)
        splits = list(rows) if split_column else list(manifests)
        if split_column:
            _check_alike(rows, split_column)
        parts = slices(split, {s: len(rows.get(s, ())) for s in splits}, f"the manifest in {folder}")
        self.passed_over = files.unmatched(folder, manifests, [classes], _LISTS)
        chosen = [row for name, start, stop in parts for row in rows[name][start:stop]]
        base = root and folder / storage.expanded(root)
        self._rows = chosen
        self._paths = [os.path.join(base or row.file.parent, row.path) for row in chosen]
        self._has_texts = any(row.columns.text for row in chosen)
        self._labels = None
        labelled = [row.columns.label is not None or row.columns.labels is not None for row in chosen]
        if any(labelled):
            if not all(labelled):
                raise UserError(
                    f"{chosen[labelled.index(False)].where} has no label, as other manifests of {split} have"
                )
            known = read_classes(classes, folder)
            if known is None:
                every = rows | read_all([s for s in manifests if s not in used])
                known = infer_classes(
                    ((row.label for row in own), lambda i, own=own: own[i].where) for own in every.values()
                )
            self._labels = Labels([row.label for row in chosen], known, lambda i: chosen[i].where)
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
        example, wanted = {}, self._fields
        if wanted is None or "image" in wanted:
            try:
                with open(self._paths[index], "rb") as file:
                    example["image"] = file.read()
            except ValueError as error:  # a character that no path holds
                raise BadExample(f"{self._rows[index].where}: {error}") from None
        if self._labels is not None:
            example["label"] = self._labels[index]
        if self._has_texts and (wanted is None or "text" in wanted):
            example["text"] = self._rows[index].read_text()
        return example

    def describe(self, index: int) -> str:
        return self._paths[index]

    def _read_labels(self) -> np.ndarray:
        return self._labels.array()

    def _warn_of_duplicates(self) -> None:
        counts = collections.Counter(self._paths)
        twice = [path for path, count in counts.items() if count > 1]
        if twice:
            names = ", ".join(twice[:_NAMED]) + (", ..." if len(twice) > _NAMED else "")
            _log.warning("%s lists %d files more than once: %s", self.info.name, len(twice), names)


def _manifests(folder: Path, file: files.Pattern | None, split_column: str | None) -> dict[str, list[Path]]:
    """The manifests of every split; with a column of splits, all of them under one name."""
    if split_column is None:
        return files.split_files(folder, file or "{split}.{csv,tsv,jsonl}")
    if file is None:
        patterns = ("*.csv", "*.tsv", "*.jsonl")
        file = next((pattern for pattern in patterns if any(folder.glob(files.any_case(pattern)))), patterns[0])
    return files.split_files(folder, {"any": file} if isinstance(file, str) else file)


def _read(
    manifests: Mapping[str, list[Path]], names: Iterable[str], columns: Columns, delimiter: str | None
) -> dict[str, list[Row]]:
    """The lines of the manifests under these names, by the split that each names or that its manifest is of."""
    rows: dict[str, list[Row]] = {}
    for name in names:
        for manifest in manifests[name]:
            for row in read(manifest, columns, delimiter):
                rows.setdefault(name if row.split is None else row.split, []).append(row)
    return rows


def _check_alike(rows: Mapping[str, list[Row]], column: str) -> None:
    """Raises a UserError where a column of splits writes one in several ways: the lines of one would be left out."""
    seen: dict[str, str] = {}
    for split, own in rows.items():
        other = seen.setdefault(split.casefold(), split)
        if other != split:
            raise UserError(
                f"the column {column!r} writes one split in two ways: {other!r} in {len(rows[other]):,} lines, such as "
                f"{rows[other][0].where}, and {split!r} in {len(own):,}, such as {own[0].where}: write them alike"
            )
