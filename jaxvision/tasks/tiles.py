"""Square pieces of images, for pretext tasks that ask how the pieces belong together."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from jaxvision.errors import UserError

if TYPE_CHECKING:
    from flax import linen as nn


def cut_pieces(images: jax.Array, corners: jax.Array, size: int) -> jax.Array:
    """Cuts square pieces out of images, with a place for each colour channel.

    Args:
      images: Images, float [b, h, w, c].
      corners: Top left pixels (y, x) of each piece in each channel, int [b, n, c, 2]; [b, n, 1, 2] for the same place
        in all channels.
      size: Side of the pieces in pixels.

    Returns:
      float [b, n, size, size, c].

    >>> cut_pieces(jnp.arange(9.0).reshape(1, 3, 3, 1), jnp.array([[[[1, 1]], [[0, 1]]]]), 2)[0, :, :, :, 0].tolist()
    [[[4.0, 5.0], [7.0, 8.0]], [[1.0, 2.0], [4.0, 5.0]]]
    """
    b, n = corners.shape[:2]
    corners = jnp.broadcast_to(corners, (b, n, images.shape[-1], 2))

    def window(channel: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(channel, corner, (size, size))

    piece = jax.vmap(window, in_axes=(-1, 0), out_axes=-1)  # over channels
    return jax.vmap(lambda image, places: jax.vmap(lambda place: piece(image, place))(places))(images, corners)


def standardize(pieces: jax.Array) -> jax.Array:
    """Shifts and scales each piece, or image, to mean 0 and deviation 1 over all its values.

    Neighbours have similar brightness and contrast, which would tell where a piece belongs (Noroozi and Favaro 2016).
    The deviation is at least 1 / sqrt(number of values), as in TensorFlow's per_image_standardization.

    Args:
      pieces: Pieces, float [..., h, w, c].

    Returns:
      float [..., h, w, c].

    >>> standardize(jnp.array([[[1.0], [3.0]]])).ravel().tolist()
    [-1.0, 1.0]
    """
    axes = (-3, -2, -1)
    size = pieces.shape[-3] * pieces.shape[-2] * pieces.shape[-1]
    deviation = jnp.maximum(pieces.std(axes, keepdims=True), size**-0.5)
    return (pieces - pieces.mean(axes, keepdims=True)) / deviation


def check_share(name: str, value: float, low: float = 0.0) -> None:
    """Checks that a length in the config is a share in [low, 1].

    Args:
      name: Name of the key, for the message.
      value: Value of the key.
      low: Lower bound.

    Raises:
      UserError: If it is not.
    """
    if not low <= value <= 1:
        raise UserError(f"{name} must be a share in [{low:g}, 1], not {value!r}")


def check_trunk(name: str, trunk: "nn.Module") -> None:
    """Refuses a trunk with learned position embeddings, which fit pieces or whole images but not both.

    Args:
      name: Name of the task, for the message.
      trunk: Model of the task.

    Raises:
      UserError: If the trunk has learned position embeddings.
    """
    if getattr(trunk, "posemb", None) == "learned":
        raise UserError(
            f"the task {name!r} trains on pieces and evaluates whole images, but posemb 'learned' fits one size: "
            "set model.posemb to 'sincos2d' or 'rope'"
        )
