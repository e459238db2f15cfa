"""Every file, folder, function and class that docs/architecture.md names in backticks exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
SPANS = sorted(set(re.findall(r"`([^`\n]+)`", PAGE)))
PATHS = [span for span in SPANS if re.fullmatch(r"[\w/]+\.py|(\w+/)+", span)]
FILES = (".py", ".json", ".jsonl", ".md")
DOTTED = [span for span in SPANS if re.fullmatch(r"[A-Za-z]\w*(\.\w+)+", span) and not span.endswith(FILES)]
CLASSES = [match[1] for span in SPANS if (match := re.fullmatch(r"([A-Z][a-z]\w*)(\(.*\))?", span))]
LIBRARIES = ("jax", "lax", "math", "optax")
# Folders of a workdir, not of the repository.
WRITTEN = {"tensorboard/"}
# Sections of a config are checked against these classes; the keys of the other sections depend on what they name.
SECTIONS = {"data": "DataSection", "train": "TrainSection", "init": "InitSection", "mesh": "MeshSection"}
OPEN_SECTIONS = ("config", "optimizer", "model", "task", "evals", "source")


def _members(node: ast.AST) -> set[str]:
    """Names that are defined in the body of a module, class or function, or imported there."""
    names = set()
    for child in getattr(node, "body", ()):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            names.add(child.name)
        elif isinstance(child, ast.Assign):
            names.update(target.id for target in child.targets if isinstance(target, ast.Name))
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            names.add(child.target.id)
        elif isinstance(child, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in child.names)
        elif isinstance(child, ast.If | ast.With | ast.Try):
            names |= _members(child)
    return names


def _definitions() -> tuple[dict[str, set[str]], set[str]]:
    """By module, class or function the names in it; and the names of all classes."""
    members: dict[str, set[str]] = {}
    classes = set()
    for file in sorted((ROOT / "jaxvision").rglob("*.py")):
        tree = ast.parse(file.read_text())
        module = file.parent.name if file.stem == "__init__" else file.stem
        members.setdefault(module, set()).update(_members(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                members.setdefault(node.name, set()).update(_members(node))
            if isinstance(node, ast.ClassDef):
                classes.add(node.name)
    return members, classes


MEMBERS, ALL_CLASSES = _definitions()


def test_the_page_names_many_things():
    assert len(PATHS) > 60
    assert len(DOTTED) > 20
    assert len(CLASSES) > 5


@pytest.mark.parametrize("path", PATHS)
def test_paths_exist(path):
    if path in WRITTEN:
        return
    file = path.endswith(".py")
    for place in (ROOT / "jaxvision" / path, ROOT / path):
        if place.is_file() if file else place.is_dir():
            return
    pytest.fail(f"docs/architecture.md names {path}, which is not in the repository")


@pytest.mark.parametrize("name", DOTTED)
def test_functions_methods_and_keys_exist(name):
    *_, owner, member = name.split(".")
    if name.split(".")[0] in LIBRARIES or member in MEMBERS.get(owner, ()):
        return
    if owner in SECTIONS and member in MEMBERS[SECTIONS[owner]]:
        return
    if name.split(".")[0] in OPEN_SECTIONS:
        return
    pytest.fail(f"docs/architecture.md names {name}, which is defined nowhere in jaxvision/")


@pytest.mark.parametrize("name", CLASSES)
def test_classes_exist(name):
    assert name in ALL_CLASSES
