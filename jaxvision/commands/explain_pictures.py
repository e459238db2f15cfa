"""The pictures of `jaxvision explain`: maps over images, and their layout."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from jaxvision.analysis.sheets import Cell, sheet
from jaxvision.explain.base import HEIGHT, Explanation, Row, Subject, Tile, class_of

HEAT = "inferno"
SHARE = 0.7  # of the colour of a map over an image; the rest is the image in grey
STRONGEST = 99  # percentile of the absolute values that gets the strongest colour


def section(explanation: Explanation, path: Path) -> list[str]:
    """Draws an explanation.

    Args:
      explanation: Explanation with at least one row.
      path: PNG file to write.

    Returns:
      The text about the picture, paragraphs in Markdown.
    """
    drawn = [f"## {explanation.title}", explanation.text]
    if not explanation.rows:
        return drawn
    _draw(explanation.rows, path, explanation.height)
    return [*drawn, f"![{explanation.title.lower()}]({path.name})"]


def overview(subject: Subject, explanations: Sequence[Explanation], path: Path) -> list[str]:
    """Draws the maps of all instruments side by side, a row for each image.

    Args:
      subject: Model and images.
      explanations: Explanations of the subject.
      path: PNG file to write.

    Returns:
      The text about the picture; nothing if fewer than two instruments drew maps.
    """
    shown = [one for one in explanations if one.summary is not None]
    if len(shown) < 2:
        return []
    rows = []
    for i, image in enumerate(subject.images):
        maps = [Tile(image, one.summary[i], one.title, signed=one.signed) for one in shown if one.summary is not None]
        rows.append(Row(class_of(subject, i), [Tile(image, None, subject.names[i] if subject.names else ""), *maps]))
    _draw(rows, path)
    return ["## All maps", "Each is explained below.", f"![all maps]({path.name})"]


def colours(tile: Tile, side: int = HEIGHT) -> np.ndarray:
    """Colours a map, and puts it over its image.

    Args:
      tile: Image, map, or both.
      side: Least height of the result in pixels.

    Returns:
      Picture, float [h, w, 3] in [0, 1].
    """
    if tile.map is None:
        return np.clip(np.asarray(tile.image, np.float32), 0, 1)
    values = np.nan_to_num(np.asarray(tile.map, np.float32))
    bound = float(np.percentile(np.abs(values), STRONGEST)) if tile.bound is None else tile.bound
    bound = bound or float(np.abs(values).max()) or 1.0
    height, width = values.shape if tile.image is None else tile.image.shape[:2]
    scale = max(1, -(-side // height))
    height, width = height * scale, width * scale
    strength = _resized(np.clip(values / bound, -1, 1), height, width)
    if tile.image is None:
        grey = np.zeros_like(strength)
    else:
        grey = _resized(np.asarray(tile.image, np.float32).mean(-1), height, width)
    if values.min() >= 0 and not tile.signed:
        coloured = matplotlib.colormaps[HEAT](strength)[..., :3]
        return coloured if tile.image is None else SHARE * coloured + (1 - SHARE) * grey[..., None]
    ends = np.where(strength[..., None] > 0, (0.84, 0.1, 0.1), (0.1, 0.25, 0.84))
    light = 1.0 - 0.5 * (1 - grey) if tile.image is not None else np.ones_like(grey)
    share = np.abs(strength)[..., None]
    return share * ends + (1 - share) * light[..., None]


def _draw(rows: Sequence[Row], path: Path, height: int = HEIGHT) -> None:
    cells = [(row.name, [Cell(colours(tile, height), tile.words) for tile in row.tiles]) for row in rows]
    lines = 2 if any(tile.words for row in rows for tile in row.tiles) else 0
    sheet(cells, side=height, lines=lines).save(path, optimize=True)


def _resized(values: np.ndarray, height: int, width: int) -> np.ndarray:
    enlarged = Image.fromarray(values.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(enlarged), -1, 1)
