"""Each part that a config can name is called by a test of its own folder, so a new one cannot come without a test."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxvision import augment, evals, explain, launch, loggers, losses, models, tasks
from jaxvision.data import sources, text
from jaxvision.data.host_ops import host_ops
from jaxvision.optim import optimizers

HERE = Path(__file__).parent
PARTS = {
    "models": models.NAMES | models.TEXT_NAMES | models.PAIR_NAMES,
    "tasks": tasks.TASKS,
    "evals": evals.EVALUATORS,
    "losses": losses.LOSSES,
    "optim": optimizers.OPTIMIZERS,
    "augment": augment.ops.factories,
    "data": host_ops.factories | text.TOKENIZERS,
    "data/sources": sources.KINDS,
    "launch": launch.LAUNCHERS,
    "loggers": loggers.LOGGERS,
    "explain": explain.EXPLANATIONS,
}
SPEC = r"(?:^|[|(,\[\"'/ ]){name}(?:$|[|(:\"'])"  # in "decode|resize(32)", "knn", "local:4" or "views(2, 'flip_lr')"


def calls(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """The name of each function that is called, with the texts among its arguments, also in dicts and lists."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            inside = [n for argument in (*node.args, *node.keywords) for n in ast.walk(argument)]
            texts = [n.value for n in inside if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            yield getattr(node.func, "attr", getattr(node.func, "id", "")), texts


@functools.cache
def called(folder: str) -> tuple[set[str], str]:
    """The functions that the tests of a folder call, and the texts that they pass to any, one on each line.

    A text may also be passed by way of a constant at the top of the file or by `parametrize`.
    """
    functions, texts = set(), []
    for path in sorted((HERE / folder).glob("test_*.py")):
        tree = ast.parse(path.read_text())
        for name, arguments in calls(tree):
            functions.add(name)
            texts += arguments
        for node in tree.body:
            if isinstance(node, ast.Assign):
                texts += [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return functions, "\n".join(texts)


@pytest.mark.parametrize(("folder", "name"), [(folder, name) for folder, parts in PARTS.items() for name in parts])
def test_every_part_is_called_by_a_test(folder, name):
    functions, texts = called(folder)
    factory = getattr(PARTS[folder][name], "__name__", name)
    in_a_spec = re.search(SPEC.format(name=re.escape(name)), texts, re.MULTILINE)
    assert {name, factory} & functions or in_a_spec, f"no test in tests/{folder} calls {name!r}"


def test_a_mention_is_no_call(monkeypatch, tmp_path):
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals/test_it.py").write_text('"""Tests knn."""\n# knn\nknn = 3\nrun(dict(name="fewshot"))\n')
    monkeypatch.setitem(globals(), "HERE", tmp_path)
    called.cache_clear()
    try:
        test_every_part_is_called_by_a_test("evals", "fewshot")
        with pytest.raises(AssertionError, match="calls 'knn'"):
            test_every_part_is_called_by_a_test("evals", "knn")
    finally:
        called.cache_clear()
