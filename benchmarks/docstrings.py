"""Measures the documentation of a Python package from its syntax tree and prints a Markdown table.

    python benchmarks/docstrings.py jaxvision                 the table
    python benchmarks/docstrings.py jaxvision OLDER/jaxvision a column for each path, such as an older checkout
    python benchmarks/docstrings.py jaxvision --list args     the offenders, one on each line, and their number

The package is not imported. Public functions are those at the top level of a module, the methods of public classes, and
`__init__`, which may be documented in the class. Names that begin with an underscore and tests do not count. For
`__call__` only the axes are checked. A method also counts as documented if a method of the same name in another class
documents the same arguments: the class then implements a protocol.
"""

import argparse
import ast
import re
import statistics
import sys
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

from signatures import (
    Function,
    Public,
    annotation_nodes,
    definitions,
    has_array,
    last_name,
    public_functions,
    raises_itself,
)

from jaxvision.docstrings import arguments, entries, sections

PREPOSITION = re.compile(
    r"(of|for|to|by|in|on|at|from|with|as|what|where|which|whether|how|until|per)\b", re.IGNORECASE
)
AXES = re.compile(r"\[[\w.*, +/:-]*\]|\b(scalars?|shapes?)\b", re.IGNORECASE)
SOURCE = re.compile(r"arxiv|https?://|\bet al\b|\beq\.|\bequations?\b|\bsec\.|\bsection\b|\b(19|20)\d\d[a-z]?\b", re.I)
KEYS = {"rng", "rngs", "key", "keys"}  # random keys, which have no axes
DIRECTIVE = re.compile(r"#\s*(!|type:|noqa|fmt:|pragma|mypy:|pylint:|ruff:)")


@dataclass
class Share:
    """A count of the things that meet a rule, and the places of those that do not.

    Attributes:
        total: Number of things that the rule is about.
        offenders: Descriptions of those that break it, "path:line: name: reason".
    """

    total: int = 0
    offenders: list[str] = field(default_factory=list)

    def add(self, met: bool, offender: str) -> None:
        """Counts one thing.

        Args:
            met: True if it meets the rule.
            offender: Description to keep if it does not.
        """
        self.total += 1
        if not met:
            self.offenders.append(offender)

    def __str__(self) -> str:
        met = self.total - len(self.offenders)
        return f"{met} of {self.total} ({100 * met / self.total:.0f} %)" if self.total else "none"


@dataclass
class Measures:
    """The measures of a package; see the labels in `table`."""

    lines: list[int] = field(default_factory=list)
    code: int = 0
    comments: int = 0
    args: Share = field(default_factory=Share)
    raises: Share = field(default_factory=Share)
    axes: Share = field(default_factory=Share)
    sources: Share = field(default_factory=Share)
    examples: Share = field(default_factory=Share)
    nouns: Share = field(default_factory=Share)
    any: Share = field(default_factory=Share)


def arrays_without_axes(public: Public) -> list[str]:
    """The arrays in a signature whose axes the docstring does not give, "return" among them; None of them: [].

    Args:
        public: Function.

    Returns:
        The names of the arrays. The axes of an argument are in its description or in a sentence that names it, and
        those of the result outside `Args:`: in brackets, or as the word "scalar" or "shape".
    """
    texts = sections(public.doc)
    described = arguments(public.doc)
    prose = " ".join(text for title, text in texts.items() if title not in ("Args", "Attributes", "Raises"))
    missing = []
    for arg in public.parameters:
        if arg.arg in KEYS or not has_array(arg.annotation):
            continue
        sentence = rf"\b{re.escape(arg.arg)}\b[^.]*?({AXES.pattern})"
        if not AXES.search(described.get(arg.arg, "")) and not re.search(sentence, prose, re.IGNORECASE):
            missing.append(arg.arg)
    if has_array(public.node.returns) and not AXES.search(prose):
        missing.append("return")
    return missing


def count_lines(path: Path) -> tuple[int, int]:
    """Counts the lines of code and of comments in a file; docstrings and directives such as `noqa` are neither.

    Args:
      path: File.
    """
    code, comments, before = set(), 0, tokenize.NEWLINE
    silent = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER}
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type == tokenize.COMMENT:
                comments += not DIRECTIVE.match(token.string)
            # A string that begins a logical line is a docstring.
            elif token.type not in silent and (token.type != tokenize.STRING or before not in silent):
                code.update(range(token.start[0], token.end[0] + 1))
            if token.type not in (tokenize.NL, tokenize.COMMENT):
                before = token.type
    return len(code), comments


def files_of(root: Path) -> list[Path]:
    """Lists the Python files of a package, without tests.

    Args:
      root: Folder of the package, or one file.
    """
    if root.is_file():
        return [root]
    files = [path for path in sorted(root.rglob("*.py")) if not {"test", "tests"} & set(path.relative_to(root).parts)]
    return [path for path in files if not path.name.startswith("test_") and not path.name.endswith("_test.py")]


def measure(root: Path) -> Measures:
    """Measures a package.

    Args:
        root: Folder of the package, or one file of it.

    Returns:
        The measures. Files that this Python cannot parse are named on standard error and left out.
    """
    measures, publics = Measures(), []
    for path in files_of(root):
        text = path.read_text(encoding="utf-8")
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            print(f"{path}: left out, it cannot be parsed: {error}", file=sys.stderr)
            continue
        code, comments = count_lines(path)
        measures.lines.append(len(text.splitlines()))
        measures.code, measures.comments = measures.code + code, measures.comments + comments
        publics += public_functions(tree, str(path))
        add_descriptions(measures, tree, path)
        add_fields(measures, tree, path)
    # The arguments that a protocol, or another implementation of it, describes for a method.
    documented: dict[str, set[str]] = {}
    for public in publics:
        if public.is_method and public.node.name != "__init__":
            documented.setdefault(public.node.name, set()).update(entries(sections(public.doc).get("Args", "")))
    for public in publics:
        add_function(measures, public, documented)
    return measures


def add_function(measures: Measures, public: Public, documented: dict[str, set[str]]) -> None:
    """Adds a function to the measures.

    Args:
        measures: Measures to add to.
        public: Function.
        documented: Names of the arguments that are described for the methods of a name, in any class.
    """
    texts = sections(public.doc)
    described = set(arguments(public.doc))
    if public.is_method and public.node.name != "__init__":
        described |= documented.get(public.node.name, set())
    annotations = [*((arg.arg, arg.annotation) for arg in public.parameters), ("return", public.node.returns)]
    if any(has_array(annotation) for name, annotation in annotations if name not in KEYS):
        missing = arrays_without_axes(public)
        measures.axes.add(not missing, f"{public.place}: {', '.join(missing)}")
    if public.node.name == "__call__":
        return
    if public.parameters:
        missing = [arg.arg for arg in public.parameters if arg.arg not in described]
        measures.args.add(not missing, f"{public.place}: {', '.join(missing)}")
    if raises_itself(public.node):
        measures.raises.add("Raises" in texts, public.place)
    measures.sources.add(bool(SOURCE.search(public.doc)), public.place)
    measures.examples.add(">>>" in public.doc, public.place)
    for name, annotation in annotations:
        if annotation is not None:
            is_any = "Any" in map(last_name, annotation_nodes(annotation))
            measures.any.add(not is_any, f"{public.place}: {name}: {ast.unparse(annotation)}")


def add_descriptions(measures: Measures, tree: ast.Module, path: Path) -> None:
    """Adds the descriptions of arguments and attributes in the docstrings of a module, private ones too.

    Args:
        measures: Measures to add to.
        tree: Syntax tree of the module.
        path: Path of the file.
    """
    for node in ast.walk(tree):
        if not isinstance(node, Function | ast.ClassDef | ast.Module):
            continue
        texts = sections(ast.get_docstring(node) or "")
        for title in ("Args", "Attributes"):
            together: dict[str, list[str]] = {}
            for name, text in entries(texts.get(title, "")).items():
                together.setdefault(text, []).append(name)
            for text, names in together.items():
                place = f"{path}:{getattr(node, 'lineno', 1)}: {', '.join(names)}: {text}"
                measures.nouns.add(not PREPOSITION.match(text), place)


def add_fields(measures: Measures, tree: ast.Module, path: Path) -> None:
    """Adds the types of the fields of the public classes of a module.

    Args:
        measures: Measures to add to.
        tree: Syntax tree of the module.
        path: Path of the file.
    """
    for node in definitions(tree.body):
        for one in node.body if isinstance(node, ast.ClassDef) else []:
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and one.target.id[0] != "_":
                is_any = "Any" in map(last_name, annotation_nodes(one.annotation))
                place = f"{path}:{one.lineno}: {node.name}.{one.target.id}: {ast.unparse(one.annotation)}"
                measures.any.add(not is_any, place)


def table(packages: dict[str, Measures]) -> str:
    """The measures in Markdown.

    Args:
        packages: Measures of each package by its name.

    Returns:
        The table: a row for each measure, a column for each package.
    """
    rows = {
        "files": lambda m: f"{len(m.lines):,}",
        "median file, lines": lambda m: f"{statistics.median(m.lines or [0]):.0f}",
        "longest file, lines": lambda m: f"{max(m.lines, default=0):,}",
        "public functions with parameters: `Args:` names all of them": lambda m: m.args,
        "public functions that raise: `Raises:` says so": lambda m: m.raises,
        "public functions with arrays: axes given for every one": lambda m: m.axes,
        "public functions with a source or an equation": lambda m: m.sources,
        "public functions with a `>>>` example": lambda m: m.examples,
        "descriptions of arguments that begin with a preposition or a relative word": lambda m: (
            f"{len(m.nouns.offenders)} of {m.nouns.total}"
        ),
        "comments per 100 lines of code": lambda m: f"{100 * m.comments / max(m.code, 1):.1f}",
        "`Any` in public signatures and fields": lambda m: f"{len(m.any.offenders)} of {m.any.total}",
    }
    lines = [f"| measure | {' | '.join(packages)} |", "|---|" + "--:|" * len(packages)]
    lines += [f"| {label} | {' | '.join(str(show(m)) for m in packages.values())} |" for label, show in rows.items()]
    return "\n".join(lines)


def main() -> None:
    """Prints the table, or the offenders of one measure."""
    parser = argparse.ArgumentParser(description="Measures the documentation of Python packages.")
    parser.add_argument("paths", nargs="+", type=Path, help="folders of packages, or files")
    choices = ("args", "raises", "axes", "sources", "examples", "nouns", "any")
    parser.add_argument("--list", choices=choices, help="measure whose offenders to print, in place of the table")
    options = parser.parse_args()
    for path in options.paths:
        if not path.exists():
            parser.error(f"{path} does not exist: give the folder of a package, or a file")
    packages = {str(path): measure(path) for path in options.paths}
    if not options.list:
        print(table(packages))
        return
    for measures in packages.values():
        share = getattr(measures, options.list)
        print("\n".join([*share.offenders, f"{len(share.offenders)} of {share.total}"]))


if __name__ == "__main__":
    main()
