"""Converts a Markdown report to one HTML page that needs no other file."""

import base64
import html
import re
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt

from jaxvision import storage
from jaxvision.errors import UserError, shown

# A page may show pictures of these kinds from its own folder. An SVG in an <img> runs no script and loads no file.
PICTURES = {
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
LARGEST = 2**27  # largest picture, in bytes
_LINKS = re.compile(r"(?:https?|mailto):|#", re.IGNORECASE)
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 0.6rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0; }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid #ddd; text-align: left; font-variant-numeric: tabular-nums; }
th { border-bottom: 2px solid #888; }
img { max-width: 100%; height: auto; }
code, pre { font: 0.9em/1.4 ui-monospace, monospace; background: #f5f5f5; border-radius: 3px; }
code { padding: 0.1em 0.3em; }
pre { padding: 0.7rem 1rem; overflow-x: auto; }
pre code { padding: 0; }
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}</body>
</html>
"""


def page(markdown: str, folder: Path, title: str) -> str:
    """Converts Markdown to an HTML page with its pictures embedded.

    Args:
      markdown: CommonMark with tables. HTML in it is escaped, and only links to the web or within the page are kept, so
        that messages and paths are safe to include.
      folder: Folder that contains the pictures; paths of pictures are relative to it.
      title: Title of the page.

    Returns:
      The text of the page.

    Raises:
      UserError: If a picture is not in the folder, is none of `PICTURES`, is too large, or is on the network.

    >>> "<p><em>so</em></p>" in page("*so*", Path(), "title")
    True
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    for piece in (piece for token in tokens for piece in token.children or ()):
        if piece.type == "image":
            piece.attrSet("src", _embedded(str(piece.attrGet("src")), folder))
        if piece.type == "link_open" and not _LINKS.match(str(piece.attrGet("href"))):
            piece.attrs.pop("href")
    body = parser.renderer.render(tokens, parser.options, {})
    return _PAGE.format(title=html.escape(title), style=_STYLE, body=body)


def write(markdown: str, path: Path, title: str) -> None:
    """Writes the Markdown to `path` and the HTML page next to it, with the suffix .html; each file atomically.

    Args:
      markdown: Text of the report.
      path: Path of the Markdown file; its folder contains the pictures.
      title: Title of the page.

    Raises:
      UserError: For the reasons of `page`, before anything is written.
    """
    whole = page(markdown, path.parent, title)
    for target, text in ((path, markdown), (path.with_suffix(".html"), whole)):
        storage.write(target, text)


def _embedded(source: str, folder: Path) -> str:
    try:
        file = (folder / unquote(source)).resolve()
        inside = file.is_relative_to(folder.resolve()) and file.is_file()
    except (OSError, ValueError):  # a name that no file can have
        inside = False
    if not inside:
        raise UserError(f"the picture {shown(source)} is not in {folder}")
    kind = PICTURES.get(file.suffix.lower())
    if kind is None:
        raise UserError(f"{shown(source)} in {folder} is not a picture that a page can show: {', '.join(PICTURES)}")
    if file.stat().st_size > LARGEST:
        raise UserError(f"the picture {file} has {file.stat().st_size:,} bytes, and a page holds at most {LARGEST:,}")
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
