"""How segmentations, boxes and points move with their image when a window of it is cut out and resized."""

from typing import NamedTuple

import numpy as np


class Rule(NamedTuple):
    """Rule by which fields move with their image.

    Attributes:
      least_area: Share of its area, in [0, 1], below which a box is dropped.
      fill: Value of pixels of a segmentation that move into view.
    """

    least_area: float = 0.1
    fill: int = 0


class Window(NamedTuple):
    """A rectangle of an image in pixels, which may reach beyond it, and the size to which it is resized.

    A place (x, y) moves to ((x - left) * size[1] / width, (y - top) * size[0] / height).

    Attributes:
      top: First row of the rectangle.
      left: First column of the rectangle.
      height: Number of rows.
      width: Number of columns.
      size: (height, width) of the result.
    """

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]


def move_segmentation(mask: np.ndarray, window: Window, fill: int = 0) -> np.ndarray:
    """Returns the window of a segmentation by nearest neighbour: each pixel is the one at the place of its centre.

    Args:
      mask: Segmentation, integers [h, w] or [h, w, c].
      window: Window of the image, which has the same height and width.
      fill: Value where the window reaches beyond the image.

    >>> move_segmentation(np.array([[1, 2], [3, 4]]), Window(0, 0, 2, 2, (2, 4)))
    array([[1, 1, 2, 2],
           [3, 3, 4, 4]])
    """
    rows = _nearest(window.top, window.height, window.size[0])
    columns = _nearest(window.left, window.width, window.size[1])
    inside = [(at >= 0) & (at < length) for at, length in zip((rows, columns), mask.shape)]
    moved = mask[rows.clip(0, mask.shape[0] - 1)[:, None], columns.clip(0, mask.shape[1] - 1)]
    if not (inside[0].all() and inside[1].all()):
        moved[~(inside[0][:, None] & inside[1])] = fill
    return moved


def _nearest(start: int, length: int, size: int) -> np.ndarray:
    return np.floor(start + (np.arange(size) + 0.5) * length / size).astype(np.int64)


def move_boxes(boxes: np.ndarray, window: Window, least_area: float) -> tuple[np.ndarray, np.ndarray]:
    """Moves boxes into a window and clips them to it.

    Args:
      boxes: Boxes, float [n, 4], x1 y1 x2 y2 in pixels.
      window: Window of their image.
      least_area: Share of its area, in [0, 1], below which a box is dropped.

    Returns:
      Boxes float32 [n, 4], 0 where dropped, and bool [n], False where dropped.

    >>> move_boxes(np.array([[0, 0, 4, 4], [8, 8, 9, 9]]), Window(0, 2, 6, 6, (6, 6)), 0.1)[0].tolist()
    [[0.0, 0.0, 2.0, 4.0], [0.0, 0.0, 0.0, 0.0]]
    """
    scale, shift = _map(window)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    moved = (boxes - np.tile(shift, 2)) * np.tile(scale, 2)
    clipped = moved.clip(0, np.tile(window.size[::-1], 2))
    area, left = areas(moved), areas(clipped)
    kept = (left > 0) & (left >= least_area * area)
    return np.where(kept[:, None], clipped, 0).astype(np.float32), kept


def areas(boxes: np.ndarray) -> np.ndarray:
    """Returns the areas of boxes [n]; 0 for a box that ends before it begins.

    Args:
      boxes: Boxes, [n, 4], x1 y1 x2 y2.

    >>> areas(np.array([[0, 0, 2, 3], [2, 0, 1, 3]])).tolist()
    [6, 0]
    """
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)


def move_points(points: np.ndarray, window: Window) -> np.ndarray:
    """Moves points into a window.

    Args:
      points: Points, [n, 2] of x and y in pixels, or [n, 3] with a visibility.
      window: Window of their image.

    Returns:
      float32 of the same shape; the visibility becomes 0 for points beyond the window.
    """
    scale, shift = _map(window)
    points = np.array(points, np.float64)
    places = (points[:, :2] - shift) * scale
    moved = np.concatenate([places, points[:, 2:]], axis=1)
    beyond = ((places < 0) | (places > window.size[::-1])).any(axis=1)
    moved[beyond, 2:] = 0
    return moved.astype(np.float32)


def _map(window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Returns scale and shift of places, (x, y) each."""
    return np.array([window.size[1] / window.width, window.size[0] / window.height]), np.array(
        [window.left, window.top]
    )
