"""Notebooks as pages of the site: their text and code, and what the code prints and draws if it is run."""

import ast
import contextlib
import io
import json
from pathlib import Path
from typing import Any


def read_cells(path: Path) -> list[tuple[str, str]]:
    """Returns the cells of a notebook, as pairs (kind, text).

    Args:
      path: File of the notebook.
    """
    cells = json.loads(path.read_text())["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]


def from_notebook(path: Path, pictures: Path | None = None) -> str:
    """Returns a notebook as Markdown.

    Args:
      path: File of the notebook.
      pictures: Folder for the figures that the code draws; None to show the code without running it.
    """
    (_, title), *cells = read_cells(path)
    heading, _, text = title.partition("\n")
    texts = [heading, f"This page is the notebook `docs/{path.name}`; the tests run it.", text.strip()]
    scope: dict[str, Any] = {}
    for i, (kind, text) in enumerate(cells):
        if kind != "code":
            texts.append(text)
            continue
        texts.append(f"```python\n{text}\n```")
        if pictures is not None:
            texts.append(run_cell(text, scope, pictures, f"{path.stem}_{i}"))
    return "\n\n".join(text for text in texts if text) + "\n"


def run_cell(code: str, scope: dict[str, Any], pictures: Path, name: str) -> str:
    """Runs the code of a cell, and returns as Markdown what a notebook would show below it.

    Args:
      code: Code of the cell.
      scope: Names that the cells before have defined.
      pictures: Folder for figures.
      name: Name of the cell, for the names of its figures.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    *statements, last = ast.parse(code).body
    pyplot.close("all")  # a cell would draw into an open figure of the program that calls this
    shows = isinstance(last, ast.Expr) and not code.rstrip().endswith(";")  # the value of the last line
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(statements if shows else [*statements, last], []), name, "exec"), scope)
        value = eval(compile(ast.Expression(last.value), name, "eval"), scope) if shows else None
    output = printed.getvalue() + ("" if value is None else f"{value!r}\n")
    shown = [f"```text\n{output}```"] if output else []
    for number in pyplot.get_fignums():
        file = f"{name}_{number}.png"
        pyplot.figure(number).savefig(pictures / file, dpi=100, bbox_inches="tight")
        shown.append(f"![]({file})")
    pyplot.close("all")
    return "\n\n".join(shown)
