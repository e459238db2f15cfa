"""Collects the pages of the documentation site in one folder, from which Sphinx builds it.

The Markdown of the repository is written for readers of the repository: its links lead to files and folders of a
clone. This module copies the pages and turns those links into links between pages of the site. It needs no Sphinx.
"""

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from notebook_pages import from_notebook

# The order of the pages. Pages of docs/ that are not named here are added to the chapter `REST`.
CHAPTERS: Mapping[str, tuple[str, ...]] = {
    "First hour": (
        "journeys",
        "your_images",
        "first_steps",
        "python",
        "command_line",
        "questions",
        "coming_from",
    ),
    "Guides": (
        "data",
        "augmentation",
        "models",
        "weights",
        "transfer",
        "self_supervised",
        "image_text",
        "probe_clip",
        "evaluation",
        "seeing",
        "logging",
        "sweeps",
        "clusters",
        "one_server",
        "imagenet",
        "export",
        "extending",
    ),
    "Studies": (),
    "Reference": (),
    "Background": (
        "flow",
        "architecture",
        "reliability",
        "performance",
        "scaling",
        "reproducing",
        "comparison",
        "../CONTRIBUTING",
        "../CHANGELOG",
    ),
}
REST = "Guides"  # the chapter of pages that no chapter names
HOME = "index.md"  # the page of the site that README.md becomes
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
COPIED = (".png", ".jpg", ".svg", ".csv")  # beside pages: pictures and files to download
LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\]|!\[[^\]]*\]\([^)]*\))*\])\(([^)\s:]+)\)")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


class Site(NamedTuple):
    """A folder of pages, and what they link to.

    Attributes:
      root: Root of the repository.
      out: Folder that receives the pages.
      run: True to run the code of notebooks, and show what it prints and draws.
    """

    root: Path
    out: Path
    run: bool = False

    def write(self, path: str | Path, text: str) -> None:
        """Writes a page.

        Args:
          path: Path of the page from the root of the site.
          text: Its text.
        """
        target = self.out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def read(self, page: Path) -> str:
        """Returns the Markdown of a page, with its links leading to pages of the site.

        Args:
          page: Path of a Markdown page or of a notebook.
        """
        text = page.read_text()
        if page.suffix == ".ipynb":
            text = from_notebook(page, self.out / page.parent.relative_to(self.root) if self.run else None)
        parts = FENCE.split(text)
        return "".join(one if one.startswith("```") else self._linked(one, page.parent) for one in parts)

    def _linked(self, text: str, folder: Path) -> str:
        return LINK.sub(lambda match: self._link(match[1], match[2], folder), text)

    def _link(self, label: str, link: str, folder: Path) -> str:
        """A link as the site has it; only its label if it leads to a folder that has no page."""
        if "](" in label:  # a picture that is a link
            label = self._linked(label[1:-1], folder).join("[]")
        path, _, anchor = link.partition("#")
        target = (folder / path).resolve()
        if not path or not target.exists():
            return f"{label}({link})"
        page = self._page_of(target)
        if page is None:
            return label[1:-1]
        name = label.strip("[]")
        if name.endswith((".md", ".ipynb")) or ("/" in name and str(target.parent).endswith(name)):
            label = f"[{title_of(target)}]"  # a reader of the site does not see files
        up = "../" * len(folder.relative_to(self.root).parts)
        return f"{label}({up}{page}{'#' * bool(anchor)}{anchor})"

    def _page_of(self, target: Path) -> str | None:
        """The page of the site, from its root, for a file or folder of the repository."""
        path = target.relative_to(self.root)
        if target.is_dir():
            if (target / "README.md").exists():
                return f"{path}/README.md"
            return "docs/reference/configs.md" if str(path) == "configs" else None
        if path == Path("README.md"):
            return HOME
        if target.suffix == ".ipynb":
            return str(path.with_suffix(".md"))
        if target.suffix in (".md", *COPIED):
            return str(path)
        page = f"files/{path}.md"
        language = {".py": "python", ".json": "json"}.get(target.suffix, "text")
        source = target.read_text()
        self.write(page, f"---\norphan: true\nno-search: true\n---\n\n# {path}\n\n````{language}\n{source}\n````\n")
        return page


def title_of(page: Path) -> str:
    """Returns the title of a page or of a notebook.

    Args:
      page: Path of the page, or of a folder with a README.md.
    """
    file = page / "README.md" if page.is_dir() else page
    text = from_notebook(file) if file.suffix == ".ipynb" else file.read_text()
    return text.partition("\n")[0].removeprefix("# ") if text.startswith("# ") else page.name


def contents(pages: Iterable[str], studies: Iterable[str], reference: Iterable[str]) -> str:
    """Returns the tables of contents, which the site shows beside every page.

    Args:
      pages: Names of the pages of docs/, without suffix.
      studies: Names of the folders of the studies.
      reference: Names of the pages of the reference.
    """
    there = {*pages, "../CONTRIBUTING", "../CHANGELOG"}
    listed = {name for names in CHAPTERS.values() for name in names}
    chapters = {title: [f"docs/{name}" for name in names if name in there] for title, names in CHAPTERS.items()}
    chapters[REST] += [f"docs/{name}" for name in sorted(there - listed)]
    chapters["Studies"] = [f"experiments/{name}/README" for name in studies]
    chapters["Reference"] = [f"docs/reference/{name}" for name in reference]
    trees = []
    for title, names in chapters.items():
        lines = "\n".join(name.replace("docs/../", "") for name in names)
        trees.append(f"```{{toctree}}\n:hidden:\n:maxdepth: 1\n:caption: {title}\n\n{lines}\n```")
    return "\n\n".join(trees) + "\n"


def collect(root: Path, out: Path, reference: Mapping[str, str], run: bool = False) -> Site:
    """Writes all pages of the site into a folder, which is emptied first.

    Args:
      root: Root of the repository.
      out: Folder for the pages.
      reference: Texts of the pages of the reference, by name.
      run: True to run the code of notebooks, and show what it prints and draws.

    Returns:
      The site.
    """
    if out.exists():
        shutil.rmtree(out)
    (out / "docs").mkdir(parents=True)
    site = Site(root, out, run)
    docs = [*sorted((root / "docs").glob("*.md")), *sorted((root / "docs").glob("*.ipynb"))]
    studies = sorted((root / "experiments").glob("*/README.md"))
    for page in [*(root / name for name in TOP), *docs, *studies]:
        path = page.relative_to(root).with_suffix(".md")
        site.write(HOME if path == Path("README.md") else path, site.read(page))
    for folder in ("docs", "experiments"):
        for file in sorted((root / folder).rglob("*")):
            if file.suffix in COPIED and not file.is_relative_to(root / "docs" / "site"):
                (out / file.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, out / file.relative_to(root))
    for name, text in reference.items():
        site.write(f"docs/reference/{name}.md", text)
    trees = contents([page.stem for page in docs], [page.parent.name for page in studies], reference)
    site.write(HOME, f"{(out / HOME).read_text()}\n{trees}")
    return site
