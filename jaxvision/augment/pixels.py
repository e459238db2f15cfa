"""Colour functions of one image, after Pillow's ImageEnhance and ImageOps.

Every function takes an image, float32 [H, W, 3] in [0, 1], and returns another. Strengths may be
traced scalars. Pillow rounds to 8 bits after each function and these do not, so results agree to
about one grey level; where a definition counts grey levels (posterize, equalize), the image is
rounded to 8 bits first.
"""

import jax.numpy as jnp

GRAY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R 601-2 luma, as in Pillow's mode "L"


def gray(image):
    """Luma, float32 [H, W, 1].

    >>> gray(jnp.array([[[1.0, 0.0, 0.0]]])).shape
    (1, 1, 1)
    """
    # Written out by channel, here and in `hue`: XLA's CPU backend takes over ten times longer to reduce the last axis.
    return sum(weight * image[..., i : i + 1] for i, weight in enumerate(GRAY_WEIGHTS))


def blend(start, image, factor):
    """Moves from `start` (factor 0) through the image (factor 1) and beyond, clipped to [0, 1].

    >>> float(blend(jnp.float32(0.5), jnp.float32(0.6), 3.0)).__round__(3)
    0.8
    """
    return jnp.clip(start + factor * (image - start), 0, 1)


def brightness(image, factor):
    """Scales the image: factor 0 is black, 1 the image."""
    return blend(0.0, image, factor)


def shift(image, amount):
    """Adds `amount` to every value, clipped to [0, 1]: the additive convention of brightness."""
    return jnp.clip(image + amount, 0, 1)


def contrast(image, factor):
    """Factor 0 is a plane of the image's mean luma, 1 the image."""
    return blend(gray(image.mean(axis=(0, 1), keepdims=True)), image, factor)


def saturation(image, factor):
    """Factor 0 is the grey image, 1 the image. RandAugment calls this "color"."""
    return blend(gray(image), image, factor)


def sharpness(image, factor):
    """Factor 0 is the image smoothed by a 3x3 filter (its border left as it is), 1 the image."""
    h, w, _ = image.shape
    # Nine shifted sums: XLA's CPU backend runs them several times faster than a grouped convolution.
    around = sum(image[i : h - 2 + i, j : w - 2 + j] for i in range(3) for j in range(3))
    smooth = (around + 4 * image[1:-1, 1:-1]) / 13
    return blend(image.at[1:-1, 1:-1].set(smooth), image, factor)


def hue(image, shift):
    """Turns the hue in HSV space by `shift` turns, usually in [-0.5, 0.5].

    >>> [round(float(v), 3) for v in hue(jnp.array([[[1.0, 0.0, 0.0]]]), 1 / 3)[0, 0]]
    [0.0, 1.0, 0.0]
    """
    r, g, b = image[..., :1], image[..., 1:2], image[..., 2:]  # h w 1
    value = jnp.maximum(jnp.maximum(r, g), b)
    chroma = value - jnp.minimum(jnp.minimum(r, g), b)
    safe = jnp.where(chroma > 0, chroma, 1)
    sixths = jnp.select([value == r, value == g], [(g - b) / safe, (b - r) / safe + 2], (r - g) / safe + 4)
    # Each channel falls from `value` to `value - chroma` with the distance between its own hue and the pixel's.
    position = sixths + 6 * shift + jnp.array([5.0, 3.0, 1.0])  # h w 3
    position -= 6 * jnp.floor(position / 6)
    return value - chroma * jnp.clip(jnp.minimum(position, 4 - position), 0, 1)


def invert(image):
    """Negates the image: `1 - image`."""
    return 1 - image


def solarize(image, threshold):
    """Inverts the values from `threshold`, in grey levels, upwards: 0 inverts all, 256 nothing."""
    return jnp.where(image >= threshold / 255, 1 - image, image)


def solarize_add(image, amount):
    """Adds `amount` grey levels to values below grey level 128."""
    return jnp.where(image < 128 / 255, jnp.clip(image + amount / 255, 0, 1), image)


def posterize(image, bits):
    """Keeps the highest `bits` (a whole number from 0 to 8) of each 8-bit value."""
    drop = 8 - jnp.asarray(bits, jnp.int32)
    return ((_levels(image) >> drop) << drop) / 255


def autocontrast(image):
    """Stretches each channel to the whole range; a channel of one value stays as it is."""
    low, high = image.min(axis=(0, 1)), image.max(axis=(0, 1))
    return jnp.where(high > low, (image - low) / jnp.where(high > low, high - low, 1), image)


def equalize(image):
    """Spreads each channel's values so that its histogram becomes flat, in Pillow's integer arithmetic."""
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
