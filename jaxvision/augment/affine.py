"""Resampling one image: affine maps, their matrices, and values between pixels."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxvision.augment.moves import Move


def affine_matrices(strength: ArrayLike, h: int, w: int) -> dict[str, tuple]:
    """Returns the affine map of each geometric operation.

    The numbers (a, b, c, d, e, f) mean that the output pixel (x, y) shows the input at (ax + by + c, dx + ey + f), in
    pixels from the image's centre. Shears keep the top left corner of the first pixel in place, as Pillow's `AFFINE`
    does: row y, whose middle is at y + 1/2, shows the input s (y + 1/2) further right.

    Args:
      strength: Strength of the operation, [], see `policy.apply_operation`.
      h, w: Height and width of the image in pixels.

    Returns:
      Six arrays float32 [] by name of the operation, and for "identity".
    """
    s = jnp.asarray(strength, jnp.float32)
    zero, one = jnp.zeros_like(s), jnp.ones_like(s)
    cos, sin = jnp.cos(jnp.deg2rad(s)), jnp.sin(jnp.deg2rad(s))
    return {
        "identity": (one, zero, zero, zero, one, zero),
        "rotate": (cos, -sin, zero, sin, cos, zero),  # counter-clockwise
        "shear_x": (one, s, s * h / 2, zero, one, zero),
        "shear_y": (one, zero, zero, s, one, s * w / 2),
        "translate_x": (one, zero, s * w, zero, one, zero),
        "translate_y": (one, zero, zero, zero, one, s * h),
    }


def warp(image: jax.Array, matrix: tuple | jax.Array, fill: ArrayLike, method: str = "nearest") -> jax.Array:
    """Resamples one image by an affine map.

    Args:
      image: Image, float32 [h, w, c].
      matrix: Map, six numbers [6], see `affine_matrices`.
      fill: Value of pixels that the map takes from outside the image, [] or [c].
      method: Interpolation, see `sample`.

    Returns:
      float32 [h, w, c].
    """
    h, w, _ = image.shape
    a, b, tx, d, e, ty = matrix
    x, y = centred_grid(h, w)
    return sample(image, d * x + e * y + ty + h / 2, a * x + b * y + tx + w / 2, fill, method)


def warp_move(matrix: tuple | jax.Array, size: tuple[int, int], fill: ArrayLike, method: str) -> Move:
    """Makes the move of an affine map.

    Args:
      matrix: Map, six numbers [6], see `affine_matrices`.
      size: (height, width) of the image.
      fill: Value of pixels that the map takes from outside the image, [] or [c].
      method: Interpolation, see `sample`.
    """
    return Move(
        lambda image: warp(image, matrix, fill, method),
        lambda values, new: warp(values, matrix, new),
        lambda points: warp_points(points, matrix, size),
    )


def warp_points(points: jax.Array, matrix: tuple | jax.Array, size: tuple[int, int]) -> jax.Array:
    """Computes where `warp` shows the points of an image.

    Args:
      points: Points (x, y) in pixels from the top left corner, float32 [..., 2].
      matrix: Map, six numbers [6], see `affine_matrices`.
      size: (height, width) of the image.

    Returns:
      Points in the result, float32 [..., 2].

    >>> warp_points(jnp.array([[1.0, 2.0]]), (1, 0, -3.0, 0, 1, 0), (8, 8)).tolist()
    [[4.0, 2.0]]
    """
    a, b, tx, d, e, ty = matrix
    middle = jnp.array([size[1] / 2, size[0] / 2])
    x, y = jnp.moveaxis(points - middle, -1, 0)
    x, y = x - tx, y - ty
    determinant = a * e - b * d
    return jnp.stack([(e * x - b * y) / determinant, (a * y - d * x) / determinant], axis=-1) + middle


def centred_grid(h: int, w: int) -> tuple[jax.Array, jax.Array]:
    """Returns the coordinates of the middle of every pixel, in pixels from the image's centre.

    Args:
      h, w: Height and width of the image.

    Returns:
      (x [h, w], y [h, w]), float32.

    >>> x, y = centred_grid(1, 2)
    >>> x.tolist(), y.tolist()
    ([[-0.5, 0.5]], [[0.0, 0.0]])
    """
    y, x = jnp.mgrid[:h, :w]
    return x - (w - 1) / 2, y - (h - 1) / 2


def sample(image: jax.Array, row: jax.Array, column: jax.Array, fill: ArrayLike, method: str = "nearest") -> jax.Array:
    """Interpolates the values of an image at points between its pixels.

    Args:
      image: Image, float32 [h, w, c].
      row, column: Points, float32 [p, q], in pixels from the image's top left corner: the middle of the first pixel is
        at 0.5.
      fill: Value of the pixels outside the image, [] or [c].
      method: Interpolation, "nearest", or "linear" between the four nearest pixels, as SciPy's `map_coordinates` of
        order 1 in the mode "grid-constant".

    Returns:
      float32 [p, q, c].

    >>> sample(jnp.array([[[0.0], [1.0]]]), jnp.array([[0.5]]), jnp.array([[0.75]]), 0.0, "linear").item()
    0.25
    """
    h, w, c = image.shape
    if method == "linear":
        row, column = row - 0.5, column - 0.5
    top, left = jnp.floor(row).astype(int), jnp.floor(column).astype(int)
    if method == "linear":
        rows, columns = jnp.stack([top, top, top + 1, top + 1]), jnp.stack([left, left + 1, left, left + 1])  # 4 h w
    else:
        rows, columns = top, left
    inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    source = jnp.clip(rows, 0, h - 1) * w + jnp.clip(columns, 0, w - 1)
    values = jnp.where(inside[..., None], image.reshape(h * w, c)[source], jnp.asarray(fill))  # one gather for all four
    if method == "nearest":
        return values
    down, right = (row - top)[..., None], (column - left)[..., None]
    upper = values[0] + right * (values[1] - values[0])
    lower = values[2] + right * (values[3] - values[2])
    return upper + down * (lower - upper)
