"""The documentation site: its pages are collected, its reference is complete, its links lead somewhere."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxvision.config import schema

ROOT = Path(__file__).parents[1]
NEEDED = ("sphinx", "myst_parser", "furo")
INSTALLED = all(importlib.util.find_spec(name) for name in NEEDED)
MARKDOWN_LINK = re.compile(r"\]\(([^)\s:]+)\)")


@pytest.fixture(scope="module")
def reference():
    import api_pages
    import reference_pages

    return {**reference_pages.pages(ROOT), **api_pages.pages()}


@pytest.fixture(scope="module")
def site(tmp_path_factory, reference):
    import site_pages

    return site_pages.collect(ROOT, tmp_path_factory.mktemp("site") / "pages", reference)


def test_every_page_of_the_repository_is_in_the_site(site):
    for page in ROOT.glob("docs/*.md"):
        assert (site.out / "docs" / page.name).is_file()
    contents = (site.out / "index.md").read_text()
    for page in site.out.glob("docs/**/*.md"):
        assert str(page.relative_to(site.out).with_suffix("")) in contents, "a page that no table of contents has"


def test_links_lead_to_pages_of_the_site(site):
    for page in site.out.rglob("*.md"):
        if "files" in page.parts:
            continue  # sources, shown as they are
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for link in MARKDOWN_LINK.findall(text):
            target = page.parent / link.partition("#")[0]
            assert target.is_file() or link.startswith("#"), f"{page.relative_to(site.out)} links to {link}"


def test_links_are_named_by_the_title_of_their_page(site):
    assert "[The flow](../docs/flow.md)" in (site.out / "docs" / "journeys.md").read_text()
    assert "[Weights in and out](../docs/weights.md)" in (site.out / "docs" / "questions.md").read_text()


def test_a_notebook_shows_what_its_code_prints_and_draws(tmp_path):
    import notebook_pages

    texts = ["# A title\n\nText.", "x = 2", "print(x)\nx + 1", "import matplotlib.pyplot as plt\n\nplt.plot([1, x]);"]
    kinds = ["markdown", "code", "code", "code"]
    cells = [{"cell_type": kind, "source": [text]} for kind, text in zip(kinds, texts)]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
    assert "```text" not in notebook_pages.from_notebook(tmp_path / "a.ipynb")
    page = notebook_pages.from_notebook(tmp_path / "a.ipynb", tmp_path)
    assert page.startswith("# A title\n\nThis page is the notebook")
    assert "```python\nprint(x)\nx + 1\n```\n\n```text\n2\n3\n```" in page
    [picture] = tmp_path.glob("*.png")
    assert page.count("```text") == 1
    assert page.rstrip().endswith(f"![]({picture.name})")


def test_links_of_the_notebooks_exist():
    import site_pages

    for notebook in ROOT.glob("docs/*.ipynb"):
        for link in MARKDOWN_LINK.findall(site_pages.from_notebook(notebook)):
            path = link.partition("#")[0]
            assert not path or (notebook.parent / path).exists(), f"{notebook.name} links to {link}"


def test_every_key_and_option_has_a_meaning():
    import reference_pages

    lacking = []
    for section in reference_pages.config_sections():
        lacking += [f"{section.name}.{row.name}" for row in section.rows if not row.meaning]
    for kind in reference_pages.kinds().values():
        for name, part in kind.parts.items():
            rows = reference_pages.options(part, kind.program)
            lacking += [f"{kind.title}: {name}({row.name})" for row in rows if not row.meaning]
            lacking += [] if part.__doc__ else [f"{kind.title}: {name}"]
    assert not lacking, lacking


def test_the_reference_has_what_a_config_may_hold(reference):
    rows = dict(re.findall(r"^## ([\w.]+)\n(.*?)(?=^## |\Z)", reference["config"], re.DOTALL | re.MULTILINE))
    assert {f"{name}.NAME" if name in ("evals", "loggers") else name for name in schema.SECTIONS} - set(rows) == {
        "seed",
        "augment",
    }
    for section in set(schema.SECTIONS) - {"seed", "augment"}:
        entry = section in schema.ENTRIES
        config = {section: {"NAME": {}}} if entry else {section: {}}
        for key in schema.section_keys(config, (section, "NAME") if entry else (section,)) or ():
            if key != "players":
                title = f"{section}.NAME" if entry else section
                assert f"| `{key}` |" in rows[title], f"{section}.{key} is not in the reference"
    assert "| `learning_rate` | a number of at least 0 | required |" in rows["optimizer"]
    assert "| `per_class` |" in rows["data.subset"]
    assert "## vit\n" in reference["models"]
    assert "`drop_path`" in reference["models"]


def test_a_missing_extra_is_one_line(tmp_path):
    """As where Sphinx is not installed: a module of its name that cannot be imported."""
    (tmp_path / "furo.py").write_text("raise ImportError('no', name='furo')\n")
    command = [sys.executable, "docs/site/make_site.py", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr.strip() == "furo is not installed: pip install -e '.[docs]'"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="needs the extra docs: pip install -e '.[docs]'")
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "docs/site/make_site.py", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    html = tmp_path / "site" / "html"
    assert (html / "index.html").is_file()
    assert "learning_rate" in (html / "docs" / "reference" / "config.html").read_text()
    for page in html.rglob("*.html"):  # nothing is fetched by a reader's browser either
        loaded = re.findall(r'<(?:script|link|img)[^>]* (?:src|href)="(https?://[^"]*)"', page.read_text())
        assert not loaded, f"{page.name} loads {loaded}"
