"""Colour functions of one image, after Pillow's ImageEnhance and ImageOps.

Every function takes an image, float32 [h, w, 3] in [0, 1], and returns one of the same shape. Strengths are scalars and
may be traced. Pillow rounds to 8 bits after each function and these do not, so results agree to about one grey level.
Functions that count grey levels (posterize, equalize) round the image to 8 bits first.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

GRAY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R 601-2 luma, as in Pillow's mode "L"


def gray(image: jax.Array) -> jax.Array:
    """Computes the luma of an image.

    Args:
      image: Image, float32 [h, w, 3] in [0, 1].

    Returns:
      float32 [h, w, 1] in [0, 1].

    >>> gray(jnp.array([[[1.0, 0.0, 0.0]]])).shape
    (1, 1, 1)
    """
    # Written out by channel, here and in `hue`: XLA's CPU backend takes over ten times longer to reduce the last axis.
    red, green, blue = (weight * image[..., i : i + 1] for i, weight in enumerate(GRAY_WEIGHTS))
    return red + green + blue


def blend(start: ArrayLike, image: jax.Array, factor: ArrayLike) -> jax.Array:
    """Moves from `start` (factor 0) to the image (factor 1) and beyond, clipped to [0, 1].

    Args:
      start: Start, a number or an array that broadcasts to [h, w, 3].
      image: Image, float32 [h, w, 3] in [0, 1].
      factor: Factor, [], at least 0.

    Returns:
      float32 [h, w, 3] in [0, 1].

    >>> float(blend(jnp.float32(0.5), jnp.float32(0.6), 3.0)).__round__(3)
    0.8
    """
    return jnp.clip(start + factor * (image - start), 0, 1)


def brightness(image: jax.Array, factor: ArrayLike) -> jax.Array:
    """Scales the image.

    Args:
      image: Image, float32 [h, w, 3] in [0, 1].
      factor: Factor, []: 0 is black, 1 the image.

    Returns:
      float32 [h, w, 3] in [0, 1].

    >>> brightness(jnp.full((1, 1, 3), 0.5), 0.5)[0, 0].tolist()
    [0.25, 0.25, 0.25]
    """
    return blend(0.0, image, factor)


def shift(image: jax.Array, amount: ArrayLike) -> jax.Array:
    """Adds a number to every value, clipped to [0, 1]: the additive convention of brightness.

    Args:
      image: Image, float32 [h, w, 3] in [0, 1].
      amount: Number to add, [], in [-1, 1].

    Returns:
      float32 [h, w, 3] in [0, 1].

    >>> shift(jnp.full((1, 1, 3), 0.75), 0.5)[0, 0].tolist()
    [1.0, 1.0, 1.0]
    """
    return jnp.clip(image + amount, 0, 1)


def contrast(image: jax.Array, factor: ArrayLike) -> jax.Array:
    """Scales the distance of the values to the image's mean luma.

    Args:
      image: Image, float32 [h, w, 3] in [0, 1].
      factor: Factor, []: 0 is a plane of the mean luma, 1 the image.

    Returns:
      float32 [h, w, 3] in [0, 1].
    """
    return blend(gray(image.mean(axis=(0, 1), keepdims=True)), image, factor)


def saturation(image: jax.Array, factor: ArrayLike) -> jax.Array:
    """Scales the distance of the values to the grey image. RandAugment calls this "color".

    Args:
      image: Image, float32 [h, w, 3] in [0, 1].
      factor: Factor, []: 0 is the grey image, 1 the image.

    Returns:
      float32 [h, w, 3] in [0, 1].
    """
    return blend(gray(image), image, factor)


def sharpness(image: jax.Array, factor: ArrayLike) -> jax.Array:
    """Scales the distance of the values to the image smoothed by a 3x3 filter, whose border is not smoothed.

    Args:
      image: Image, float32 [h, w, 3] in [0, 1].
      factor: Factor, []: 0 is the smoothed image, 1 the image.

    Returns:
      float32 [h, w, 3] in [0, 1].
    """
    h, w, _ = image.shape
    # Nine shifted sums: XLA's CPU backend runs them several times faster than a grouped convolution.
    around = sum(image[i : h - 2 + i, j : w - 2 + j] for i in range(3) for j in range(3))
    smooth = (around + 4 * image[1:-1, 1:-1]) / 13
    return blend(image.at[1:-1, 1:-1].set(smooth), image, factor)


def hue(image: jax.Array, shift: ArrayLike) -> jax.Array:
    """Turns the hue in HSV space.

    Args:
      image: Image, float32 [h, w, 3] in [0, 1].
      shift: Number of turns, [], usually in [-0.5, 0.5].

    Returns:
      float32 [h, w, 3] in [0, 1].

    >>> [round(float(v), 3) for v in hue(jnp.array([[[1.0, 0.0, 0.0]]]), 1 / 3)[0, 0]]
    [0.0, 1.0, 0.0]
    """
    r, g, b = image[..., :1], image[..., 1:2], image[..., 2:]  # h w 1
    value = jnp.maximum(jnp.maximum(r, g), b)
    chroma = value - jnp.minimum(jnp.minimum(r, g), b)
    safe = jnp.where(chroma > 0, chroma, 1)
    sixths = jnp.select([value == r, value == g], [(g - b) / safe, (b - r) / safe + 2], (r - g) / safe + 4)
    # In HSV, each channel falls from `value` to `value - chroma` with the distance of the pixel's hue to its own.
    position = sixths + 6 * shift + jnp.array([5.0, 3.0, 1.0])  # h w 3
    position -= 6 * jnp.floor(position / 6)
    return value - chroma * jnp.clip(jnp.minimum(position, 4 - position), 0, 1)


def invert(image: jax.Array) -> jax.Array:
    """Negates the image: `1 - image`.

    Args:
      image: Image, float32 [h, w, 3] in [0, 1].

    Returns:
      float32 [h, w, 3] in [0, 1].

    >>> invert(jnp.full((1, 1, 3), 0.25))[0, 0].tolist()
    [0.75, 0.75, 0.75]
    """
    return 1 - image


def solarize(image: jax.Array, threshold: ArrayLike) -> jax.Array:
    """Inverts the values from `threshold` upwards.

    Args:
      image: Image, float32 [h, w, 3] in [0, 1].
      threshold: Grey level, []: 0 inverts all values, 256 none.

    Returns:
      float32 [h, w, 3] in [0, 1].

    >>> solarize(jnp.array([[[0.25, 0.5, 1.0]]]), 128)[0, 0].tolist()
    [0.25, 0.5, 0.0]
    """
    return jnp.where(image >= threshold / 255, 1 - image, image)


def solarize_add(image: jax.Array, amount: ArrayLike) -> jax.Array:
    """Adds a number of grey levels to values below grey level 128.

    Args:
      image: Image, float32 [h, w, 3] in [0, 1].
      amount: Number of grey levels, [].

    Returns:
      float32 [h, w, 3] in [0, 1].
    """
    return jnp.where(image < 128 / 255, jnp.clip(image + amount / 255, 0, 1), image)


def posterize(image: jax.Array, bits: ArrayLike) -> jax.Array:
    """Keeps the highest bits of each 8-bit value.

    Args:
      image: Image, float32 [h, w, 3] in [0, 1].
      bits: Number of bits, [], whole and from 0 to 8.

    Returns:
      float32 [h, w, 3] in [0, 1].

    >>> (posterize(jnp.array([[[255.0, 128.0, 127.0]]]) / 255, 1)[0, 0] * 255).round().tolist()
    [128.0, 128.0, 0.0]
    """
    drop = 8 - jnp.asarray(bits, jnp.int32)
    return ((_levels(image) >> drop) << drop) / 255


def autocontrast(image: jax.Array) -> jax.Array:
    """Stretches each channel to the whole range. A channel with a single value stays as it is.

    Args:
      image: Image, float32 [h, w, 3] in [0, 1].

    Returns:
      float32 [h, w, 3] in [0, 1].

    >>> autocontrast(jnp.array([[[0.2], [0.7]], [[0.45], [0.2]]]))[..., 0].round(2).tolist()
    [[0.0, 1.0], [0.5, 0.0]]
    """
    low, high = image.min(axis=(0, 1)), image.max(axis=(0, 1))
    return jnp.where(high > low, (image - low) / jnp.where(high > low, high - low, 1), image)


def equalize(image: jax.Array) -> jax.Array:
    """Makes the histogram of each channel flat, in Pillow's integer arithmetic.

    Args:
      image: Image, float32 [h, w, 3] in [0, 1].

    Returns:
      float32 [h, w, 3] in [0, 1].
    """
    levels = _levels(image).reshape(-1, 3)
    channels = jnp.arange(3)
    counts = jnp.zeros((3, 256), jnp.int32).at[channels, levels].add(1)
    step = (len(levels) - counts[channels, levels.max(axis=0)]) // 255  # the highest level in use is not counted
    below = jnp.cumsum(counts, axis=1) - counts
    table = jnp.clip((step[:, None] // 2 + below) // jnp.maximum(step, 1)[:, None], 0, 255)  # 3 256
    return jnp.where(step > 0, table[channels, levels], levels).reshape(image.shape) / 255


def _levels(image):
    """The nearest 8-bit grey levels, int32."""
    return jnp.round(image * 255).astype(jnp.int32)
