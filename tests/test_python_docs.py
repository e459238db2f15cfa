"""The code of docs/python.md and of the notebook runs as written."""

import json
import re
from pathlib import Path

import matplotlib
import pytest

DOCS = Path(__file__).parents[1] / "docs"


def test_the_code_of_the_page_on_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # it trains in runs/
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), re.DOTALL)
    assert len(blocks) >= 6
    exec("\n".join(blocks), {})  # as a reader types it, one block after the other


@pytest.mark.slow  # pytest -m slow tests/test_python_docs.py
def test_the_notebook_runs_and_learns():
    matplotlib.use("agg")
    cells = json.loads((DOCS / "first_steps.ipynb").read_text())["cells"]
    scope: dict = {}
    for cell in cells:
        assert not cell.get("outputs"), "the notebook is kept without outputs"
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), scope)
    assert scope["accuracy"] > 0.6  # ten classes: guessing is 10 %
    assert pytest.approx(1) == float((scope["bank"][0] ** 2).sum())
