"""Pieces cut out of images, for pretext tasks that ask how the pieces belong together."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.errors import UserError


def cut(images: jax.Array, corners: jax.Array, size: int) -> jax.Array:
    """Cuts square pieces out of images, each colour channel at a place of its own.

    Args:
      images: float [B, H, W, C].
      corners: int [B, N, C, 2], the top left pixel (y, x) of each piece in each channel; [B, N, 1, 2] for one
        place in all channels.
      size: side of the pieces in pixels.

    Returns:
      float [B, N, size, size, C].

    >>> cut(jnp.arange(9.0).reshape(1, 3, 3, 1), jnp.array([[[[1, 1]], [[0, 1]]]]), 2)[0, :, :, :, 0].tolist()
    [[[4.0, 5.0], [7.0, 8.0]], [[1.0, 2.0], [4.0, 5.0]]]
    """
    b, n = corners.shape[:2]
    corners = jnp.broadcast_to(corners, (b, n, images.shape[-1], 2))

    def window(channel: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(channel, corner, (size, size))

    of_piece = jax.vmap(window, in_axes=(-1, 0), out_axes=-1)  # each channel
    return jax.vmap(lambda image, places: jax.vmap(lambda place: of_piece(image, place))(places))(images, corners)


def standardize(pieces: jax.Array) -> jax.Array:
    """Shifts and scales each piece, or image, to mean 0 and deviation 1 over all its values.

    So neither brightness nor contrast, which neighbours share, tells where a piece belongs (Noroozi and Favaro 2016).
    The deviation is at least 1 / sqrt(number of values), as in TensorFlow's per_image_standardization.

    Args:
      pieces: float [..., h, w, C].

    >>> standardize(jnp.array([[[1.0], [3.0]]])).ravel().tolist()
    [-1.0, 1.0]
    """
    axes = (-3, -2, -1)
    size = pieces.shape[-3] * pieces.shape[-2] * pieces.shape[-1]
    deviation = jnp.maximum(pieces.std(axes, keepdims=True), size**-0.5)
    return (pieces - pieces.mean(axes, keepdims=True)) / deviation


def check_share(name: str, value: float, low: float = 0.0) -> None:
    """Raises UserError where a length of the config is no share in [low, 1]."""
    if not low <= value <= 1:
        raise UserError(f"{name} is a share in [{low:g}, 1], not {value!r}")


def check_trunk(name: str, trunk: Any) -> None:
    """Raises UserError where the trunk of a task holds positions for pieces, so that it could not see a whole image."""
    if getattr(trunk, "posemb", None) == "learned":
        raise UserError(
            f"the task {name!r} trains on pieces and is judged on whole images, but posemb 'learned' fits one size: "
            "set model.posemb to 'sincos2d' or 'rope'"
        )
