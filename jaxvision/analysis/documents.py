"""A report in Markdown as one HTML page that needs no other file."""

import base64
import html
import mimetypes
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt

from jaxvision import storage
from jaxvision.errors import UserError

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
    """The text as an HTML page with its pictures inside it.

    Args:
      markdown: CommonMark with tables. HTML in it is shown, not obeyed, so that messages and paths may stand in it.
      folder: that paths of pictures are relative to.
      title: of the page.

    Raises:
      UserError: a picture is not there, or is on the network.

    >>> "<p><em>so</em></p>" in page("*so*", Path(), "title")
    True
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    for piece in (piece for token in tokens for piece in token.children or ()):
        if piece.type == "image":
            piece.attrSet("src", _embedded(str(piece.attrGet("src")), folder))
    body = parser.renderer.render(tokens, parser.options, {})
    return _PAGE.format(title=html.escape(title), style=_STYLE, body=body)


def write(markdown: str, path: Path, title: str) -> None:
    """Writes the text to `path` and, as a page of its own, beside it with the suffix .html; each whole or not at all.

    Raises:
      UserError: as `page`, before anything is written.
    """
    whole = page(markdown, path.parent, title)
    for target, text in ((path, markdown), (path.with_suffix(".html"), whole)):
        storage.write(target, text)


def _embedded(source: str, folder: Path) -> str:
    file = folder / unquote(source)
    if not file.is_file():
        raise UserError(f"no picture {source!r} in {folder}")
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
