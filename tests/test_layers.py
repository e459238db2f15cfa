"""Imports go one way, and some libraries are imported in one place only."""

import ast
import re
from pathlib import Path

import pytest

import jaxvision

ROOT = Path(jaxvision.__file__).parent
BASE = {"errors", "exits", "reading", "arguments", "values", "specs", "progress", "durations", "paths", "sections"}
BASE |= {"calls", "literals", "scripts", "own_modules", "registry", "signals", "storage", "traced", "unpacking"}
BASE |= {"path_names", "processes", "lock_files", "locks", "line_files", "outputs", "fields", "layout", "programs"}
BASE |= {"memory", "hardware", "logs"}
BASE |= {"memory", "shipped", "version", "docstrings"}
# The other modules that each module or folder may import.
MAY_IMPORT = {
    **{name: {"errors"} for name in BASE},
    "errors": {"exits"},
    "calls": {"errors", "arguments"},
    "traced": {"specs"},
    "specs": {"errors", "calls", "registry", "own_modules"},
    "signals": {"exits"},
    "sections": {"errors", "arguments"},
    "literals": {"errors", "arguments"},
    "layout": {"errors", "paths"},
    "unpacking": {"errors", "reading"},
    "scripts": {"errors", "reading", "shipped"},
    "own_modules": {"errors", "scripts", "shipped"},
    "registry": {"errors", "calls", "own_modules"},
    "line_files": {"path_names", "storage"},
    "storage": {"errors", "path_names"},
    "lock_files": {"errors", "processes", "storage"},
    "locks": {"errors", "lock_files", "path_names", "processes", "storage"},
    "outputs": {"errors", "reading", "storage"},
    "parallel": BASE,
    "losses": BASE,
    "models": BASE,
    "data": BASE,
    "augment": BASE,
    "optim": BASE,
    "analysis": BASE,
    "loggers": BASE,
    "tasks": BASE | {"models", "losses"},
    "train": BASE | {"parallel", "tasks", "data", "loggers"},
    "explain": BASE | {"models"},
    "evals": BASE | {"parallel", "losses", "data", "augment", "explain"},
    "config": BASE | {"data", "models", "tasks", "optim", "evals", "loggers"},  # what sections are handed to
    "workdir": BASE | {"config", "train"},
    "launches": BASE | {"config", "workdir", "train"},
    "inputs": BASE | {"config", "data", "tasks"},
    "feeding": BASE | {"inputs", "data", "tasks", "train"},
    "transfer": BASE | {"workdir", "models", "train"},
    "cautions": BASE | {"data", "augment", "optim"},
    "evaluations": BASE | {"cautions", "config", "inputs", "data", "evals", "train"},
    "online": BASE | {"losses", "tasks", "evals"},
    "components": BASE | {"config", "data", "evals", "models", "online", "tasks", "optim", "parallel", "train"},
    "experiment": BASE
    | {"config", "inputs", "data", "augment", "models", "tasks", "optim", "parallel", "train", "evals", "transfer"}
    | {"cautions", "evaluations", "components", "feeding", "workdir"},
    "checks": BASE | {"cautions", "components", "experiment", "loggers", "train"},
    "launch": BASE,
    "step_costs": BASE | {"config", "experiment", "analysis", "parallel"},
    "input_costs": BASE | {"config", "feeding", "inputs", "data"},
    "estimate": BASE | {"config", "inputs", "components", "evaluations", "step_costs", "input_costs", "train"},
    "recipes": BASE | {"config", "data", "inputs", "models", "optim", "train", "workdir"},
    "sweep": BASE
    | {"config", "inputs", "workdir", "transfer", "evaluations", "experiment", "checks", "estimate", "launch"}
    | {"step_costs"}
    | {"data", "augment", "models", "parallel", "train", "analysis", "launches"},
    "commands": None,  # anything but the command line
    "cli": None,
    "predictions": set(),
    "trained": None,
    "run": None,
    "api": None,
}
FILES = sorted(ROOT.rglob("*.py"))


def part(file: Path) -> str:
    relative = file.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported(file: Path) -> list[str]:
    """Returns the modules that a file imports at run time, anywhere in it, without those for annotations only."""
    tree, names = ast.parse(file.read_text()), []
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    for_types = {inner for block in blocks for inner in ast.walk(block)}
    for node in set(ast.walk(tree)) - for_types:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_run_one_way(file):
    mine = part(file)
    if mine in ("__init__", "__main__"):
        return
    assert mine in MAY_IMPORT, f"{mine} has no row in MAY_IMPORT: add one in this test and in docs/architecture.md"
    allowed = MAY_IMPORT[mine]
    for name in imported(file):
        if name.startswith("jaxvision."):
            other = name.split(".")[1]
            if allowed is None:
                assert other != "cli" or mine == "cli", f"{file} imports {name}"
            else:
                assert other in allowed | {mine}, f"{file} imports {name}"


def test_the_page_on_architecture_has_the_same_table():
    page = (ROOT.parent / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \| base, ([\w, ]+?)(?: \(.*\))? \|$", page, re.MULTILINE)
    assert len(rows) >= 10
    assert {name: set(others.split(", ")) for name, others in rows} == {
        name: MAY_IMPORT[name] - BASE for name, _ in rows
    }


def test_no_module_needs_itself_while_it_is_imported():
    """Following the imports at the top of a module never leads back to this module."""
    names = {".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__") for file in FILES}
    needs = {}
    for file in FILES:
        name = ".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
        froms = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ImportFrom)]
        pairs = [(node.module, alias.name) for node in froms for alias in node.names if node.module]
        needs[name] = {f"{a}.{b}" if f"{a}.{b}" in names else a for a, b in pairs} & names - {name}

    def reached(name: str) -> set[str]:
        seen, new = set(), {name}
        while new:
            new = set().union(*(needs[one] for one in new)) - seen
            seen |= new
        return seen

    assert [name for name in names if name in reached(name)] == []


@pytest.mark.parametrize(
    ("module", "home"),
    [
        ("flax.linen", "models"),
        ("orbax", ("train/checkpoint.py", "train/stored.py")),  # written, and read
        ("absl", "cli"),
        ("tensorflow_datasets", "data"),
    ],
)
def test_a_library_has_one_home(module, home):
    strays = [
        str(file.relative_to(ROOT))
        for file in FILES
        if any((name + ".").startswith(module + ".") for name in imported(file))
        and not file.relative_to(ROOT).as_posix().startswith(home)
    ]
    assert not strays


@pytest.mark.parametrize("banned", ["tensorflow", "clu", "pickle", "torch"])
def test_never_imported(banned):
    assert not [f for f in FILES if any((name + ".").startswith(banned + ".") for name in imported(f))]


def test_only_parallel_names_mesh_axes():
    axes = {"fsdp", "tensor"}  # "data" is also a section of every config
    allowed = {"parallel", "components"}  # components passes the mesh section on, by keyword
    for file in FILES:
        if part(file) in allowed:
            continue
        strings = {n.value for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Constant)}
        assert not axes & {s for s in strings if isinstance(s, str)}, file
