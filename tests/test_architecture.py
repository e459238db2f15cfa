"""What pages name exists: files and links of every page; functions, methods and classes of docs/architecture.md."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("experiments/*/README.md"))]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
SPANS = sorted(set(re.findall(r"`([^`\n]+)`", PAGE)))
PATHS = [span for span in SPANS if re.fullmatch(r"[\w/]+\.py|(\w+/)+", span)]
FILES = (".py", ".json", ".jsonl", ".md")
DOTTED = [span for span in SPANS if re.fullmatch(r"[A-Za-z]\w*(\.\w+)+", span) and not span.endswith(FILES)]
CLASSES = [match[1] for span in SPANS if (match := re.fullmatch(r"([A-Z][a-z]\w*)(\(.*\))?", span))]
LIBRARIES = ("jax", "lax", "math", "optax")
# Folders of a workdir, not of the repository.
WRITTEN = {"tensorboard/"}
# Keys of these sections of a config are attributes of a class.
SECTIONS = {"data": "DataSection", "train": "TrainSection", "init": "InitSection", "mesh": "MeshSection"}
KEYS = {*(f"config.{name}" for name in (*SECTIONS, "evals", "model", "task", "optimizer")), "optimizer.players.NAME"}


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
    if name.split(".")[0] in LIBRARIES or name in KEYS:
        return
    # A module or class; a class by the name of its instance, as in `source.info`; a section of a config.
    if any(member in MEMBERS.get(one, ()) for one in (owner, owner.capitalize(), SECTIONS.get(owner))):
        return
    pytest.fail(f"docs/architecture.md names {name}, which is defined nowhere in jaxvision/")


@pytest.mark.parametrize("name", CLASSES)
def test_classes_exist(name):
    assert name in ALL_CLASSES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_links_of_a_page_exist(page):
    text = page.read_text()
    files = re.findall(r"`((?:\w+/)+\w+\.py)`", text)
    places = (ROOT, ROOT / "jaxvision", ROOT / "configs", page.parent)
    assert [file for file in files if not any((place / file).is_file() for place in places)] == []
    for link in re.findall(r"\]\(([^)\s:]+)\)", text):
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page} links to {link}"
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if heading else ()
        anchors = [re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings]
        assert not heading or heading in anchors, f"{page} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_imports_of_a_page_exist(page):
    for module, names in re.findall(r"from (jaxvision[\w.]*) import ([\w, ]+)", page.read_text()):
        folder = ROOT.joinpath(*module.split("."))
        for name in names.split(", "):
            there = [folder / name, folder / f"{name}.py"]
            assert name in MEMBERS[module.split(".")[-1]] or any(path.exists() for path in there), f"{module}.{name}"


def test_the_package_lists_its_files():
    listed = re.findall(
        r"[\w]+(?:\.py|/)", ast.get_docstring(ast.parse((ROOT / "jaxvision" / "__init__.py").read_text()))
    )
    files = {path.name for path in (ROOT / "jaxvision").glob("*.py")} - {"__init__.py"}
    folders = {f"{path.parent.name}/" for path in (ROOT / "jaxvision").glob("*/__init__.py")}
    assert set(listed) == files | folders
