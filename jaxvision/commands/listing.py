"""`jaxvision list`: what a config may name, one line each."""

import shutil
import sys
from collections.abc import Iterable

from jaxvision.commands import catalog

WIDEST = 44  # characters of the column of names; a longer name moves its own text only
SUMMARIES = {
    "configs": "published recipes and first runs, for --config",
    "studies": "experiments of several runs with a report, for jaxvision study",
    "sweeps": "searches over a config, for --sweep",
    catalog.VARIANTS: "sizes of the models, for model.variant, or NAME:VARIANT in jaxvision convert",
}


def run_list(word: str | None = None, pattern: str | None = None) -> str:
    """Lists the kinds of things that have names, or the names of one kind.

    Args:
      word: Kind, "models" for instance; None lists the kinds with the number of names.
      pattern: Pattern as in fnmatch, or a part of the name; None lists all.

    Returns:
      One line each. On a terminal, names and descriptions are in columns, and descriptions are cut to its width;
      elsewhere a tab separates the two, and nothing is cut.

    Raises:
      UserError: There is no such kind, or no name matches.
    """
    if word is None:
        return lines((kind, _of_kind(kind)) for kind in catalog.kinds())
    kind = catalog.find_kind(word)
    found = catalog.matching(catalog.entries(kind.word), pattern, kind.word)
    return lines((entry.name, entry.summary) for entry in found)


def lines(rows: Iterable[tuple[str, str]]) -> str:
    """Lays out names with their descriptions, for a terminal or for a pipe.

    Args:
      rows: Pairs of a name and a description of one line.
    """
    rows = list(rows)
    if not sys.stdout.isatty():
        return "\n".join(f"{name}\t{text}" for name, text in rows)
    columns = shutil.get_terminal_size().columns
    width = min(max((len(name) for name, _ in rows), default=0), WIDEST)
    return "\n".join(_cut(f"{name:{width}s}  {text}", columns) for name, text in rows)


def _of_kind(word: str) -> str:
    """The number of names of a kind, and the first of them or what they are for."""
    found = catalog.entries(word)
    names = ", ".join(entry.name for entry in found[:4]) + (", ..." if len(found) > 4 else "")
    return f"{len(found):3d}  {SUMMARIES.get(word) or names}"


def _cut(line: str, columns: int) -> str:
    return line if len(line) <= columns else f"{line[: columns - 3].rstrip()}..."
