"""Affine maps of one image: their matrices, and resampling by them."""

import jax.numpy as jnp


def affine_matrices(strength, h: int, w: int) -> dict[str, tuple]:
    """For each geometric operation (a, b, c, d, e, f): output pixel (x, y) shows input (ax + by + c, dx + ey + f).

    Coordinates are pixels from the image's centre.
    """
    s = jnp.asarray(strength, jnp.float32)
    zero, one = jnp.zeros_like(s), jnp.ones_like(s)
    cos, sin = jnp.cos(jnp.deg2rad(s)), jnp.sin(jnp.deg2rad(s))
    return {
        "identity": (one, zero, zero, zero, one, zero),
        "rotate": (cos, -sin, zero, sin, cos, zero),  # counter-clockwise
        "shear_x": (one, s, s * (h - 1) / 2, zero, one, zero),
        "shear_y": (one, zero, zero, s, one, s * (w - 1) / 2),
        "translate_x": (one, zero, s * w, zero, one, zero),
        "translate_y": (one, zero, zero, zero, one, s * h),
    }


def warp(image, matrix, fill):
    """Resamples one image by an affine map, nearest neighbour.

    Args:
      image: float32 [H, W, C].
      matrix: six numbers, see `affine_matrices`.
      fill: value where the map leaves the image.

    Returns:
      float32 [H, W, C].
    """
    h, w, c = image.shape
    a, b, tx, d, e, ty = matrix
    y, x = jnp.mgrid[:h, :w]
    x, y = x - (w - 1) / 2, y - (h - 1) / 2
    column = jnp.floor(a * x + b * y + tx + w / 2).astype(int)  # + (w - 1) / 2 back to indices, + 1 / 2 to round
    row = jnp.floor(d * x + e * y + ty + h / 2).astype(int)
    inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
    source = jnp.clip(row, 0, h - 1) * w + jnp.clip(column, 0, w - 1)
    return jnp.where(inside[..., None], image.reshape(h * w, c)[source], fill)
