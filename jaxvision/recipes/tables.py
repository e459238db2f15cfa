"""Tables of images as the source `manifest` reads them: which columns hold paths, labels and splits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxvision.data.sources.columns import likely_column
from jaxvision.data.sources.rows import Columns, read_columns, read_rows
from jaxvision.errors import UserError, some
from jaxvision.reading import is_file
from jaxvision.recipes.roles import Layout, role_names

_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
_SPLIT_COLUMNS = ("split", "set", "subset", "fold", "partition", "phase", "usage")


def is_table(path: Path) -> bool:
    """Returns whether the name of a file is that of a table.

    Args:
      path: Path of the file.
    """
    return path.suffix.lower() in _SUFFIXES


def lists_images(table: Path) -> bool:
    """Returns whether the first line of a table names an image that exists, and a column may hold classes.

    Args:
      table: Path of the table.
    """
    try:
        names = read_columns(table)
        path = next((name for name in names if name.lower() == "path"), None) or likely_column("path", names)
        if path is None or not ({"label", "labels"} & set(map(str.lower, names)) or likely_column("label", names)):
            return False
        first = next(iter(read_rows(table, Columns(path=path))), None)
    except UserError:
        return False
    return first is not None and (is_file(table.parent / first.path) or _root(table.parent, first.path) is not None)


def describe_tables(root: Path, tables: Mapping[str, Path], words: str) -> Layout:
    """Returns the layout of one table for each split, or of one table with all of them.

    Args:
      root: Folder of the tables.
      tables: Tables by the part of their split in a run; "train" is one of them.
      words: Names of the tables, for the description.

    Raises:
      UserError: A table has no column of paths or none of labels, or a column of splits none of which is for training.
    """
    table = tables["train"]
    names = read_columns(table)
    lower = {name.lower(): name for name in reversed(names)}
    path = lower.get("path") or likely_column("path", names)
    if path is None:
        raise UserError(f"{table} has the columns {', '.join(names)}, and none that names the images: call it path")
    options: dict[str, Any] = {"path": path} if path != "path" else {}
    label = None
    if not {"label", "labels"} & set(lower):
        label = likely_column("label", [name for name in names if name != path])
        if label is None:
            raise UserError(
                f"{table} has the columns {', '.join(names)}, and none that names the classes: call it label"
            )
        options["label"] = label
    splits = {role: role for role in tables}
    others: tuple[str, ...] = ()
    rows = list(read_rows(table, Columns(path=path, label=label)))
    if not rows:
        raise UserError(f"{table} has a header, but no lines: it lists no images")
    columns = [lower[name] for name in _SPLIT_COLUMNS if name in lower] if len(tables) == 1 else []
    if columns:
        column, splits, others = _split_column(table, Columns(path=path, label=label), columns)
        options |= {"file": table.name, "split_column": column}
    else:
        options["file"] = {role: path.name for role, path in tables.items()}
    if folder := _root(root, rows[0].path):
        options["root"] = folder
    kinds = f"paths in the column {path!r}, classes in {label or lower.get('label') or lower.get('labels')!r}"
    return Layout("manifest", str(root), options, splits, f"{words} ({kinds})", others)


def _split_column(
    table: Path, columns: Columns, candidates: Sequence[str]
) -> tuple[str, dict[str, str], tuple[str, ...]]:
    """Returns the first column that names a split for training, its splits by their part in a run, and other splits."""
    read = {}
    for column in candidates:
        rows = read_rows(table, columns._replace(split=column))
        values = read[column] = list(dict.fromkeys(row.split for row in rows if row.split))
        found = role_names(values)
        if "train" in found:
            return column, found, tuple(value for value in values if value not in found.values())
    column, values = next(iter(read.items()))
    raise UserError(
        f"the column {column!r} of {table} has the values {some(values)}, and none is called train: call them train, "
        "validation and test, or give the column another name if it tells no splits apart"
    )


def _root(root: Path, path: str) -> str | None:
    """Returns the folder beside a table in which its first image is; None for the folder of the table."""
    if is_file(root / path):
        return None
    folders = sorted(folder.name for folder in root.iterdir() if folder.is_dir())
    return next((name for name in folders if is_file(root / name / path)), None)
