"""Resizing, and cutting with resizing. A resize takes `method=` (see `resizing.METHODS`)."""

import math
from collections.abc import Callable

import numpy as np

from jaxvision.data.decoding import Box, Jpeg
from jaxvision.data.host_ops import sizes
from jaxvision.data.host_ops.base import Moving, host_ops
from jaxvision.data.host_ops.crop import cut
from jaxvision.data.host_ops.placing import Window
from jaxvision.data.host_ops.sizes import further, pair, side
from jaxvision.data.resizing import resizer
from jaxvision.errors import UserError, shown


def _drawn(method: str) -> Callable[[np.ndarray | Jpeg, Window], np.ndarray]:
    """Cuts a window out of an image, a clip or a JPEG, and resizes it."""
    resize = resizer(method)

    def draw(image: np.ndarray | Jpeg, window: Window) -> np.ndarray:
        size = window.size
        part = image.cut(window[:4], size) if isinstance(image, Jpeg) else cut(image, window)
        return np.stack([resize(frame, size) for frame in part]) if part.ndim == 4 else resize(part, size)

    return draw


@host_ops.register()
def resize(size: int | tuple[int, int], method: str = "bilinear") -> Moving:
    """Resizes to a size, whatever the aspect ratio.

    Args:
      size: Side, or (height, width), in pixels.
      method: Filter, one of `resizing.METHODS`.
    """
    size = pair(size)
    return Moving(lambda height, width, rng: Window(0, 0, height, width, size), _drawn(method), size)


@host_ops.register()
def resize_short(size: int, method: str = "bilinear") -> Moving:
    """Resizes the shorter side and keeps the aspect ratio; the longer side is rounded down.

    Args:
      size: Length of the shorter side in pixels.
      method: Filter, one of `resizing.METHODS`.
    """
    size = side("resize_short", size)
    new_size = lambda height, width: (None, None) if None in (height, width) else _short(height, width, size).size
    return Moving(lambda height, width, rng: _short(height, width, size), _drawn(method), new_size)


def _evaluate_random_resize_short(low, high, method: str = "bilinear") -> str:
    return f"resize_short({low}{further(method)})"


@host_ops.register(evaluation=_evaluate_random_resize_short)
def random_resize_short(low: int, high: int, method: str = "bilinear") -> Moving:
    """Resizes the shorter side to a random length and keeps the aspect ratio.

    With a `random_crop` after it, this is the scale augmentation of Simonyan, Zisserman 2015 (arXiv 1409.1556, sec.
    3.1); He et al. 2016 (arXiv 1512.03385, sec. 3.4) draw from [256, 480]. In evaluation it is `resize_short(low)`.

    Args:
      low: Smallest length in pixels.
      high: Largest length in pixels; lengths are uniform and include both ends.
      method: Filter, one of `resizing.METHODS`.

    Raises:
      UserError: `low` is larger than `high`.
    """
    low, high = (side("random_resize_short", length) for length in (low, high))
    if low > high:
        raise UserError(f"random_resize_short: low is at most high, not {low} and {high}")

    def choose(height: int, width: int, rng: np.random.Generator) -> Window:
        return _short(height, width, int(rng.integers(low, high + 1)))

    return Moving(choose, _drawn(method), (None, None))


def _evaluate_random_resized_crop(size, area=None, ratio=None, method: str = "bilinear") -> str:
    short = f"resize_short({round(max(pair(size)) * 8 / 7)}{further(method)})"
    return f"{short}|central_crop({size})"


@host_ops.register(evaluation=_evaluate_random_resized_crop)
def random_resized_crop(
    size: int | tuple[int, int],
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    method: str = "bilinear",
) -> Moving:
    """Cuts a random rectangle out and resizes it (Szegedy et al. 2015, arXiv 1409.4842, sec. 6).

    As in torchvision, after ten rectangles that do not fit, the largest central one of an allowed aspect ratio is
    taken.

    In evaluation the shorter side is resized to 8/7 of `size` (256 for 224), then the middle is cut out.

    Args:
      size: Side, or (height, width), in pixels.
      area: Range (low, high) of the rectangle's share of the image's area, drawn uniformly, in (0, 1].
      ratio: Range (low, high) of its aspect ratio (width / height), drawn log-uniformly.
      method: Filter, one of `resizing.METHODS`.

    Raises:
      UserError: A range is empty or out of bounds.
    """
    size = pair(size)
    if not (sizes.is_range(area) and area[1] <= 1):
        raise UserError(f"random_resized_crop: area is (low, high) with 0 < low <= high <= 1, not {shown(area)}")
    if not sizes.is_range(ratio):
        raise UserError(f"random_resized_crop: ratio is (low, high) with 0 < low <= high, not {shown(ratio)}")

    def choose(height: int, width: int, rng: np.random.Generator) -> Window:
        return Window(*random_box((height, width), area, ratio, rng), size)

    return Moving(choose, _drawn(method), size)


def _short(height: int, width: int, size: int) -> Window:
    """Returns the window of a whole image, and its size once the shorter side is `size`."""
    short = min(height, width)
    return Window(0, 0, height, width, (size * height // short, size * width // short))


def random_box(
    shape: tuple[int, int], area: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> Box:
    """Draws a rectangle as torchvision's RandomResizedCrop.get_params does.

    Args:
      shape: (height, width) of the image in pixels.
      area: Range of the rectangle's share of the image's area.
      ratio: Range of its aspect ratio (width / height).
      rng: Generator of random numbers.

    Returns:
      (top, left, height, width) in pixels.
    """
    rows, columns = shape
    for _ in range(10):
        target = rows * columns * rng.uniform(*area)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        width, height = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < width <= columns and 0 < height <= rows:
            return int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1)), height, width
    height = min(rows, round(columns / ratio[0]))
    width = min(columns, round(rows * ratio[1]))
    return (rows - height) // 2, (columns - width) // 2, height, width
