"""Lays out pictures with words under them on one page."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_FONT = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"  # Pillow's own lacks letters beyond Latin-1
_NAME, _TITLE, _WORDS = 60, 400, 2000  # most characters of a name, a title and the words under a picture
_GAP = 6  # pixels between cells
_FRAME = 3  # of these pixels, those that a frame takes
_LINE = 13  # pixels from one line of words to the next
_CHARACTER = 6.2  # mean width in pixels


class Cell(NamedTuple):
    """A picture with words under it.

    Attributes:
      image: Picture, uint8 or float [H, W, 3], or several in a row, [..., H, W, 3].
      words: Words under the picture.
      frame: Colour of a frame around the picture; None for no frame.
    """

    image: np.ndarray
    words: str = ""
    frame: str | None = None


def sheet(rows: Sequence[tuple[str, Sequence[Cell]]], side: int = 112, title: str = "", lines: int = 2) -> Image.Image:
    """Lays out rows of cells on one page.

    Float images with values outside [0, 1], such as normalised ones, are rescaled to it.

    Args:
      rows: Rows, each a name, written at the left, and its cells.
      side: Height of each picture on the page, in pixels; smaller pictures are enlarged by nearest neighbour.
      title: Title over the page.
      lines: Number of lines of words under a picture; further lines are dropped.
    """
    rows, title = [(name[:_NAME], cells) for name, cells in rows], title[:_TITLE]
    pictures = [[_picture(cell.image, side) for cell in cells] for _, cells in rows]
    left = max((round(len(name) * _CHARACTER) + 2 * _GAP for name, _ in rows if name), default=_GAP)
    width = left + max(sum(p.width + _GAP for p in row) for row in pictures)
    height = side + lines * _LINE + _GAP
    page = Image.new("RGB", (max(width, round(len(title) * _CHARACTER)), len(rows) * height + 2 * _LINE), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.truetype(_FONT, 10)
    draw.text((_GAP, 4), title, "black", font)
    for (name, cells), row, y in zip(rows, pictures, range(2 * _LINE, page.height, height)):
        draw.text((_GAP, y + side / 2 - 6), name, "black", font)
        x = left
        for cell, picture in zip(cells, row):
            if cell.frame:
                draw.rectangle(
                    (x - _FRAME, y - _FRAME, x + picture.width + _FRAME - 1, y + side + _FRAME - 1), cell.frame
                )
            page.paste(picture, (x, y))
            words = textwrap.wrap(cell.words[:_WORDS], max(int(picture.width / _CHARACTER), 8))
            draw.multiline_text((x, y + side + 1), "\n".join(words[:lines]), "black", font, spacing=2)
            x += picture.width + _GAP
    return page


def join_pages(pages: Sequence[Image.Image]) -> Image.Image:
    """Joins pages side by side.

    Args:
      pages: Pages, from left to right.

    >>> join_pages([Image.new("RGB", (4, 8)), Image.new("RGB", (6, 2))]).size
    (10, 8)
    """
    whole = Image.new("RGB", (sum(p.width for p in pages), max(p.height for p in pages)), "white")
    for i, page in enumerate(pages):
        whole.paste(page, (sum(p.width for p in pages[:i]), 0))
    return whole


def grid(cells: Sequence[Cell], columns: int = 8, **options) -> Image.Image:
    """Lays out cells in rows of `columns`.

    Args:
      cells: Cells, in reading order.
      columns: Number of cells in a row.
      **options: Further arguments of `sheet`.

    >>> grid([Cell(np.zeros((8, 8, 3), np.uint8))] * 3, columns=2, side=16).height > 32
    True
    """
    return sheet([("", cells[i : i + columns]) for i in range(0, len(cells), columns)], **options)


def _picture(image: np.ndarray, side: int) -> Image.Image:
    image = np.asarray(image)
    if image.ndim > 3:
        image = np.concatenate(list(image.reshape(-1, *image.shape[-3:])), axis=1)  # h v*w 3
    if image.dtype != np.uint8:
        low, high = min(image.min(), 0), max(image.max(), 1)
        image = np.round((image - low) / (high - low) * 255).astype(np.uint8)
    height, width = image.shape[:2]
    kind = Image.Resampling.NEAREST if height < side else Image.Resampling.LANCZOS
    return Image.fromarray(image).resize((max(round(width * side / height), 1), side), kind)
