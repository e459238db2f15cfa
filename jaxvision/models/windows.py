"""Windows on a map, for attention within them: where they lie, who sees whom, and how far apart two places are."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Windows(NamedTuple):
    """Windows that cover a map of any size, as in the authors' code for detection (Swin-Transformer-Object-Detection).

    A map that is no whole number of windows is padded with zeros below and on the right. The zeros take part in the
    attention, and their results are cut off. A shifted map is moved up and to the left, and what leaves it comes in at
    the other side.

    Attributes:
      grid: Height and width (h, w) of the map.
      size: Height and width of a window.
      shift: Number of places by which the map moves up, and to the left.
    """

    grid: tuple[int, int]
    size: tuple[int, int]
    shift: tuple[int, int]

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the map with its zeros."""
        (h, w), (rows, columns) = self.grid, self.size
        return -(-h // rows) * rows, -(-w // columns) * columns


def cover(grid: tuple[int, ...], window: int, shifted: bool) -> Windows:
    """Lays windows on a map. Along a side that is no longer than a window there is one window, without a shift.

    Args:
      grid: Height and width of the map.
      window: Side of a window.
      shifted: True to shift the windows by half of their side, rounded down.

    >>> cover((14, 5), 7, shifted=True)
    Windows(grid=(14, 5), size=(7, 5), shift=(3, 0))
    """
    sizes = [min(side, window) for side in grid]
    shifts = [window // 2 if shifted and side > window else 0 for side in grid]
    return Windows((grid[0], grid[1]), (sizes[0], sizes[1]), (shifts[0], shifts[1]))


def split(x: jax.Array, windows: Windows) -> jax.Array:
    """Pads and shifts a map and cuts it into windows.

    Args:
      x: Map, [b, h, w, c].
      windows: Windows on the map.

    Returns:
      [b, m, n, c]: m windows, row by row, of n places each, row by row.

    >>> split(jnp.arange(4).reshape(1, 2, 2, 1), Windows((2, 2), (1, 2), (0, 1)))[0, :, :, 0].tolist()
    [[1, 0], [3, 2]]
    """
    (h, w), (rows, columns), (b, c) = windows.padded, windows.size, (x.shape[0], x.shape[-1])
    x = jnp.pad(x, ((0, 0), (0, h - x.shape[1]), (0, w - x.shape[2]), (0, 0)))
    x = jnp.roll(x, [-s for s in windows.shift], axis=(1, 2))
    x = x.reshape(b, h // rows, rows, w // columns, columns, c)
    return x.swapaxes(2, 3).reshape(b, -1, rows * columns, c)


def join(x: jax.Array, windows: Windows) -> jax.Array:
    """Puts windows together to a map, without its zeros; undoes `split`.

    Args:
      x: Windows, [b, m, n, c].
      windows: Windows on the map.

    Returns:
      [b, h, w, c].
    """
    (h, w), (rows, columns), (b, c) = windows.padded, windows.size, (x.shape[0], x.shape[-1])
    x = x.reshape(b, h // rows, w // columns, rows, columns, c).swapaxes(2, 3).reshape(b, h, w, c)
    return jnp.roll(x, windows.shift, axis=(1, 2))[:, : windows.grid[0], : windows.grid[1]]


def hidden(windows: Windows) -> np.ndarray | None:
    """Says which places of a window do not see each other: those that are neighbours by the shift only.

    Args:
      windows: Windows on a map.

    Returns:
      float32 [m, 1, n, n], -inf for such a pair and 0 for others; None if the windows are not shifted.

    Source: Liu et al. 2021, sec. 3.2, fig. 4. The authors' code adds -100, which leaves a weight of e^-100.

    >>> hidden(Windows((1, 2), (1, 2), (0, 1)))[0, 0].tolist()
    [[0.0, -inf], [-inf, 0.0]]
    """
    if not any(windows.shift):
        return None
    came_in = [np.arange(side) >= side - shift for side, shift in zip(windows.padded, windows.shift)]
    region = 2 * came_in[0][:, None] + came_in[1]  # h w
    (h, w), (rows, columns) = windows.padded, windows.size
    region = region.reshape(h // rows, rows, w // columns, columns).swapaxes(1, 2).reshape(-1, rows * columns)  # m n
    return np.where(region[:, :, None] == region[:, None, :], 0, -np.inf)[:, None].astype(np.float32)


def offsets(size: tuple[int, int], reach: tuple[int, int]) -> np.ndarray:
    """Numbers the offset between any two places of a window, for a table with a row for each offset.

    Args:
      size: Height and width of the window.
      reach: Height and width of the largest window that the table serves.

    Returns:
      int [n, n]: the number of the offset (place i minus place j), of (2 * rows - 1) * (2 * columns - 1) for the
      largest window, row by row from the most negative one.

    Source: Liu et al. 2021, sec. 3.2, eq. 4.

    >>> offsets((1, 2), (1, 2)).tolist(), offsets((1, 2), (1, 3)).tolist()
    ([[1, 0], [2, 1]], [[2, 1], [3, 2]])
    """
    places = np.mgrid[: size[0], : size[1]].reshape(2, -1).T  # n 2
    y, x = (places[:, None] - places[None] + np.array(reach) - 1).transpose(2, 0, 1)
    return y * (2 * reach[1] - 1) + x
