"""The documentation of the package keeps its standard, by benchmarks/docstrings.py, and its English stays plain."""

import ast
import re
from pathlib import Path

import docstrings
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxvision"
# Words that made readers stumble.
WORDS = r"\b(anew|lies there|whereof|thereof|the same command goes on|mend|mended)\b"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def measured():
    return docstrings.measure(PACKAGE)


@pytest.mark.parametrize(
    ("measure", "least"), [("nouns", 1.0), ("raises", 1.0), ("axes", 1.0), ("args", 0.99), ("examples", 0.2)]
)
def test_the_share_of_documented_functions_does_not_fall(measured, measure, least):
    share = getattr(measured, measure)
    met = 1 - len(share.offenders) / share.total
    assert met >= least, f"{measure}: {share}; python benchmarks/docstrings.py jaxvision --list {measure}"


def texts(path):
    """The docstrings and messages of a file, with their lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def test_docstrings_and_messages_are_in_plain_words():
    matches = [
        f"{path.relative_to(ROOT)}:{line}: {match.group()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in texts(path)
        for match in re.finditer(WORDS, text)
    ]
    assert not matches, "\n".join(matches)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_in_plain_words(page):
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    matches = [match.group() for match in re.finditer(WORDS, prose)]
    assert not matches, matches
