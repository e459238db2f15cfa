"""Converts a Markdown report to one HTML page that needs no other file."""

import base64
import html
import re
from collections.abc import Collection
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

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
LONG = 24  # most characters of a cell that is not broken into lines
WIDE = 9  # most columns of a table that is printed in portrait
_LINKS = re.compile(r"(?:https?|mailto):|#", re.IGNORECASE)
# Colours follow the reader's choice of light or dark. Figures are drawn on white, so they lie on a white card. On paper
# all is black on white, and no figure or row of a table is cut by the end of a page. In a table, long cells and
# the parts of a name are broken into lines. One that is still too wide can be scrolled, with a shadow where it goes on;
# one of many columns has a page of its own on paper, in landscape.
_STYLE = """
:root {
  color-scheme: light dark;
  --text: #222; --faint: #666; --back: #fff; --shade: #f4f4f4; --line: #ddd; --strong: #888; --link: #0b5cad;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #ddd; --faint: #a0a0a0; --back: #16181c; --shade: #24272d; --line: #3a3e46; --strong: #888;
    --link: #7db7ff;
  }
}
body {
  font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
  max-width: 64rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: break-word;
}
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 0.6rem; }
a { color: var(--link); }
table {
  border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0; overflow-wrap: normal;
  background:
    linear-gradient(to right, var(--back) 1rem, transparent) left / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--back) 1rem, transparent) right / 2.5rem 100% no-repeat local,
    linear-gradient(to right, var(--strong), transparent) left / 0.5rem 100% no-repeat scroll,
    linear-gradient(to left, var(--strong), transparent) right / 0.5rem 100% no-repeat scroll;
}
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid var(--line); text-align: left; }
th, td { font-variant-numeric: tabular-nums; vertical-align: top; }
td[style*="right"] { white-space: nowrap; }
td:first-child { min-width: 8em; }
td.long { white-space: normal; overflow-wrap: anywhere; min-width: 10em; }
th { border-bottom: 2px solid var(--strong); vertical-align: bottom; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figure { margin: 1.2rem 0; }
figure img { display: block; box-sizing: border-box; padding: 0.4rem; }
figcaption { color: var(--faint); font-size: 0.9em; margin-top: 0.4rem; }
code, pre { font: 0.9em/1.4 ui-monospace, monospace; background: var(--shade); border-radius: 3px; }
code { padding: 0.1em 0.3em; }
pre { padding: 0.7rem 1rem; overflow-x: auto; }
pre code { padding: 0; font-size: 1em; }
@media print {
  :root {
    color-scheme: light;
    --text: #000; --faint: #333; --back: #fff; --shade: #f4f4f4; --line: #bbb; --strong: #444; --link: #000;
  }
  @page { margin: 16mm; }
  @page wide { size: landscape; }
  body { font-size: 10pt; max-width: none; margin: 0; padding: 0; }
  h1, h2, h3 { break-after: avoid; }
  figure, img, tr { break-inside: avoid; }
  figure img { padding: 0; max-height: 22cm; }
  table { display: table; font-size: 8pt; background: none; }
  table.wide { page: wide; font-size: 7pt; }
  th, td { padding: 0.15rem 0.3rem; }
  th code, td code { padding: 0; background: none; }
  thead { display: table-header-group; }
  pre { white-space: pre-wrap; overflow: visible; }
}
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


def page(markdown: str, folder: Path, title: str, pages: Collection[str] = ()) -> str:
    """Converts Markdown to an HTML page with its pictures embedded.

    A paragraph that holds nothing but a picture becomes a figure. Its caption is the text on the line after it, if that
    is emphasised as a whole, so that readers of the Markdown see it too; or the title of the picture,
    `![words](file.png "title")`; or the words.

    Args:
      markdown: CommonMark with tables. HTML in it is escaped, and only links to the web or within the page are kept, so
        that messages and paths are safe to include.
      folder: Folder that contains the pictures; paths of pictures are relative to it.
      title: Title of the page.
      pages: Relative addresses of other pages, to which links are kept too.

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
        if piece.type == "link_open":
            address = str(piece.attrGet("href"))
            if address not in pages and not _LINKS.match(address):
                piece.attrs.pop("href")
    for opening, inside, closing in zip(tokens, tokens[1:], tokens[2:]):
        pieces = inside.children or []
        if opening.type in ("td_open", "th_open"):
            if len(inside.content) > LONG:
                opening.attrJoin("class", "long")
            inside.children = [_breakable(p.content) if p.type == "code_inline" else p for p in pieces]
        elif opening.type == "paragraph_open" and [piece.type for piece in pieces] == ["image"]:
            opening.tag = closing.tag = "figure"
            words = pieces[0].attrs.pop("title", None) or _text(pieces[0])
            pieces.append(Token("html_inline", "", 0, content=f"<figcaption>{html.escape(str(words))}</figcaption>"))
        elif opening.type == "paragraph_open" and _has_caption(pieces):
            opening.tag = closing.tag = "figure"
            pieces[2].tag = pieces[-1].tag = "figcaption"
    heads = [i for i, token in enumerate(tokens) if token.type == "table_open"]
    for start, stop in zip(heads, [*heads[1:], len(tokens)]):
        if sum(token.type == "th_open" for token in tokens[start:stop]) > WIDE:
            tokens[start].attrJoin("class", "wide")
    body = parser.renderer.render(tokens, parser.options, {})
    return _PAGE.format(title=html.escape(title), style=_STYLE, body=body)


def write(markdown: str, path: Path, title: str, pages: Collection[str] = ()) -> None:
    """Writes the Markdown to `path` and the HTML page next to it, with the suffix .html; each file atomically.

    Args:
      markdown: Text of the report.
      path: Path of the Markdown file; its folder contains the pictures.
      title: Title of the page.
      pages: Relative addresses of other pages, to which links are kept too.

    Raises:
      UserError: For the reasons of `page`, before anything is written.
    """
    whole = page(markdown, path.parent, title, pages)
    for target, text in ((path, markdown), (path.with_suffix(".html"), whole)):
        storage.write(target, text)


def _breakable(value: str) -> Token:
    """A value as code, which may be broken into lines between the parts of a path or a name."""
    text = re.sub(r"([/_=]+|[.,-]+(?=[^\d.,-]))(?=[^/_=])", r"\1<wbr>", html.escape(value))
    return Token("html_inline", "", 0, content=f"<code>{text}</code>")


def _has_caption(pieces: list[Token]) -> bool:
    """True for a picture and, on the next line, text that is emphasised as a whole."""
    kinds = [piece.type for piece in pieces]
    begins = kinds[:3] == ["image", "softbreak", "em_open"]
    return begins and kinds[-1] == "em_close" and kinds.count("em_open") == 1


def _text(picture: Token) -> str:
    """The words of a picture without their markup."""
    return "".join(piece.content for piece in picture.children or () if piece.type in ("text", "code_inline"))


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
