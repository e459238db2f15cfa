"""Where tokens are: fixed sin-cos tables, rotations of queries and keys, and learned tables of another size."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import UserError
from jaxvision.models.options import one_of


def sincos2d(h: int, w: int, width: int, temperature: float = 10_000.0) -> jax.Array:
    """Makes the fixed sine-cosine position embedding of a grid.

    Source: Chen, Xie, He 2021 (MoCo v3), as used by Beyer et al. 2022, sec. 3.

    Args:
      h: Number of rows of the grid.
      w: Number of columns of the grid.
      width: Dimension of a token, a multiple of 4.
      temperature: Ratio of the fastest frequency to the slowest; the fastest is 1 radian per position. 10,000 as in
        Vaswani et al. 2017.

    Returns:
      float32 [h * w, width] in [-1, 1].

    >>> sincos2d(14, 14, 384).shape
    (196, 384)
    """
    y, x = jnp.mgrid[:h, :w]
    frequencies = temperature ** -jnp.linspace(0, 1, width // 4)
    y, x = y.reshape(-1, 1) * frequencies, x.reshape(-1, 1) * frequencies  # n d/4
    return jnp.concatenate([jnp.sin(x), jnp.cos(x), jnp.sin(y), jnp.cos(y)], axis=1)


def rope2d(h: int, w: int, head_dim: int, base: float = 100.0) -> jax.Array:
    """Makes the angles of the axial rotary embedding of a grid, for `rotate`.

    Even pairs of channels turn with the column, odd ones with the row, at `head_dim / 4` frequencies each.

    Args:
      h: Number of rows of the grid; the first has angle 0.
      w: Number of columns of the grid; the first has angle 0.
      head_dim: Number of channels of a head, a multiple of 4.
      base: Number that sets the frequencies: from one position to the next, the slowest pair turns by
        `base ** -(1 - 4 / head_dim)` radians and the fastest by 1. 100, because a side of an image is shorter than a
        text; Su et al. 2021 (RoFormer) has 10,000 in one dimension.

    Returns:
      float32 [h * w, head_dim / 2], in radians.

    Source: Heo et al. 2024, "Rotary position embedding for vision transformer", its axial frequencies.

    >>> rope2d(1, 3, 4).tolist()
    [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]
    """
    y, x = jnp.mgrid[:h, :w].reshape(2, -1, 1)
    frequencies = base ** -(jnp.arange(head_dim // 4) / (head_dim // 4))
    return jnp.stack([x * frequencies, y * frequencies], axis=-1).reshape(h * w, head_dim // 2)


def rotate(x: jax.Array, angles: jax.Array) -> jax.Array:
    """Turns neighbouring pairs of channels, so that products of queries and keys depend on differences of angles.

    Args:
      x: Queries or keys, float [b, n, heads, d].
      angles: Angles in radians, float32 [n, d / 2] or [b, n, d / 2].

    Returns:
      [b, n, heads, d] of the type of `x`, computed in float32.

    Source: Su et al. 2021, eq. 14 and 15.

    >>> rotate(jnp.array([[[[1.0, 0.0]]]]), jnp.array([[jnp.pi / 2]])).round(3).tolist()
    [[[[-0.0, 1.0]]]]
    """
    sin, cos = jnp.sin(angles)[..., None, :], jnp.cos(angles)[..., None, :]  # n 1 d/2
    a, b = x[..., 0::2], x[..., 1::2]
    return jnp.stack([a * cos - b * sin, a * sin + b * cos], axis=-1).reshape(x.shape).astype(x.dtype)


def linear_weights(centers: np.ndarray, size: int) -> np.ndarray:
    """Computes the weights of linear interpolation between samples at 0, 1, ..., size - 1.

    Beyond the first and the last sample the interpolation is constant.

    Args:
      centers: Places of the interpolated values, float [n].
      size: Number of samples.

    Returns:
      float [n, size]; rows sum to 1.

    >>> linear_weights(np.array([-0.25, 0.5]), 2).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    distance = np.abs(np.clip(centers, 0, size - 1)[:, None] - np.arange(size))
    return np.maximum(0, 1 - distance)


def resize_positions(
    positions: jax.Array,
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    prefix: int = 0,
    method: str = "bicubic",
) -> jax.Array:
    """Resizes learned position embeddings for images of another resolution.

    Args:
      positions: Position embeddings, float [1, prefix + h * w, d].
      old_grid: Grid (h, w) of these positions, in patches.
      new_grid: Grid (new_h, new_w) of the result, in patches.
      prefix: Number of positions of class and other tokens before the grid; they stay as they are.
      method: Method of resizing: "bicubic" with antialiasing, as in timm's `resample_abs_pos_embed`, or "bilinear" with
        aligned corners, as in the code of the papers (Dosovitskiy et al. 2021, sec. 3.2; big_vision).

    Returns:
      float32 [1, prefix + new_h * new_w, d].

    Raises:
      UserError: An unknown method, or another number of positions than prefix and grid have.

    >>> resize_positions(jnp.arange(4.0).reshape(1, 4, 1), (2, 2), (2, 3), method="bilinear").ravel().tolist()
    [0.0, 0.5, 1.0, 2.0, 2.5, 3.0]
    """
    (old_h, old_w), (new_h, new_w) = old_grid, new_grid
    one_of("method of resize_positions", method, ["bicubic", "bilinear"])
    if positions.shape[1] != prefix + old_h * old_w:
        raise UserError(
            f"positions for {positions.shape[1]} tokens are not those of a {old_h}x{old_w} grid and {prefix} before it"
        )
    d = positions.shape[-1]
    grid = jnp.asarray(positions[0, prefix:], jnp.float32).reshape(old_h, old_w, d)
    if tuple(old_grid) == tuple(new_grid):
        resized = grid
    elif method == "bicubic":
        resized = jax.image.resize(grid, (new_h, new_w, d), "bicubic", antialias=True)
    else:
        rows = linear_weights(np.linspace(0, old_h - 1, new_h), old_h)
        columns = linear_weights(np.linspace(0, old_w - 1, new_w), old_w)
        resized = jnp.einsum("yh,xw,hwd->yxd", rows, columns, grid, precision="highest")
    return jnp.concatenate([positions[:, :prefix], resized.reshape(1, new_h * new_w, d)], axis=1)
