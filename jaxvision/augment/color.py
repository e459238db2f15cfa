"""Colours: normalisation, colour jitter, and the colour functions of Pillow, each with a probability."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxvision.augment import pixels
from jaxvision.augment.operations import Operation, image_wide, photometric
from jaxvision.augment.registry import check_number, check_per_channel, ops
from jaxvision.errors import UserError


@ops.register()
def normalize(mean=0.5, std=0.5) -> Operation:
    """Normalises images, `(image - mean) / std`. The default maps [0, 1] to [-1, 1], the range of ViT and BiT models.

    Args:
      mean: Mean of images in [0, 1], a number or one for each channel.
      std: Deviation of images in [0, 1], a number or one for each channel, above 0.

    Raises:
      UserError: If an argument is not a number or three numbers, or `std` is not above 0.
    """
    mean, std = check_per_channel("normalize", "mean", mean), check_per_channel("normalize", "std", std)
    if min(std) <= 0:
        raise UserError(f"augmentation normalize: std must be above 0, not {std}")

    return image_wide(lambda rng, images, statistics: (images - jnp.array(mean)) / jnp.array(std))


@ops.register()
def normalize_imagenet() -> Operation:
    """Normalises images by the means and deviations of ImageNet's training images, as ResNet and DeiT do."""
    return normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@ops.register(evaluation="")
def color_jitter(
    brightness: float = 0,
    contrast: float = 0,
    saturation: float = 0,
    hue: float = 0,
    p: float = 1.0,
    per_example_order: bool = False,
    additive_brightness: bool = False,
) -> Operation:
    """Changes brightness, contrast, saturation and hue by random amounts, in random order, as torchvision does.

    The first three are factors uniform in [max(0, 1 - x), 1 + x], and hue is a shift uniform in [-hue, hue] turns, all
    drawn for every image. SimCLR at strength s is `color_jitter(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s, p=0.8)`, with the
    numbers written out (Chen et al. 2020, app. A). The order is drawn once for the batch, since an order for each image
    costs four times the work.

    Brightness has two conventions. The default scales the image, as torchvision and the second version of SimCLR's code
    ("simclrv2"). `additive_brightness` adds a shift uniform in [-brightness, brightness], as
    `tf.image.random_brightness` and the first version of SimCLR's code.

    Args:
      brightness, contrast, saturation: Largest changes x of the factors, at least 0.
      hue: Largest shift of the hue in turns, in [0, 0.5].
      p: Probability that an image is changed at all.
      per_example_order: True to draw an order for every image.
      additive_brightness: True to shift values for brightness instead of scaling them.
    """
    check_number("color_jitter", "p", p, high=1)
    factors = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    changes: list[tuple[Callable, float, float]] = []  # function of an image and an amount, lowest and highest amount
    for name, x in factors.items():
        if not check_number("color_jitter", name, x):
            continue
        if name == "brightness" and additive_brightness:
            changes.append((pixels.shift, -x, x))
        else:
            changes.append((getattr(pixels, name), max(0, 1 - x), 1 + x))
    if check_number("color_jitter", "hue", hue, high=0.5):
        changes.append((pixels.hue, -hue, hue))
    if not changes:
        return photometric(lambda rng, image: image)
    functions, low, high = zip(*changes)

    def order_of_batch(rng):
        order_key, rng = jax.random.split(rng)
        return jax.random.permutation(order_key, len(changes)), rng

    def jitter(rng, image, order_of_batch):
        amount_key, order_key, p_key = jax.random.split(rng, 3)
        amounts = jax.random.uniform(amount_key, (len(changes),), minval=jnp.array(low), maxval=jnp.array(high))
        order = jax.random.permutation(order_key, len(changes)) if per_example_order else order_of_batch
        changed = image
        for i in range(len(changes)):
            changed = jax.lax.switch(order[i], functions, changed, amounts[order[i]])
        return jnp.where(jax.random.bernoulli(p_key, p), changed, image)

    return photometric(jitter, once=order_of_batch)


@ops.register(evaluation="")
def grayscale(p: float = 1.0) -> Operation:
    """Makes images grey: ITU-R 601-2 luma in all three channels.

    Args:
      p: Probability that an image is changed, 0.2 in SimCLR.
    """
    return _with_probability("grayscale", p, lambda image: jnp.broadcast_to(pixels.gray(image), image.shape))


@ops.register(evaluation="")
def solarize(threshold: float = 128, p: float = 1.0) -> Operation:
    """Inverts the values from `threshold` upwards.

    Args:
      threshold: Grey level, from 0 (inverts all values) to 256 (inverts none).
      p: Probability that an image is changed, 0.2 for the second view of BYOL (Grill et al. 2020).
    """
    check_number("solarize", "threshold", threshold, high=256)
    return _with_probability("solarize", p, lambda image: pixels.solarize(image, threshold))


@ops.register(evaluation="")
def posterize(bits: int = 4, p: float = 1.0) -> Operation:
    """Keeps the highest bits of each 8-bit value, as Pillow's `ImageOps.posterize`.

    Args:
      bits: Number of bits, from 1 to 8.
      p: Probability that an image is changed.
    """
    check_number("posterize", "bits", bits, low=1, high=8, kind=int)
    return _with_probability("posterize", p, lambda image: pixels.posterize(image, bits))


@ops.register(evaluation="")
def equalize(p: float = 1.0) -> Operation:
    """Makes the histogram of each channel flat, as Pillow's `ImageOps.equalize`.

    Args:
      p: Probability that an image is changed.
    """
    return _with_probability("equalize", p, pixels.equalize)


@ops.register(evaluation="")
def autocontrast(p: float = 1.0) -> Operation:
    """Stretches each channel to the whole range [0, 1], as Pillow's `ImageOps.autocontrast`.

    Args:
      p: Probability that an image is changed.
    """
    return _with_probability("autocontrast", p, pixels.autocontrast)


@ops.register(evaluation="")
def invert(p: float = 1.0) -> Operation:
    """Replaces images by their negatives, `1 - image`.

    Args:
      p: Probability that an image is changed.
    """
    return _with_probability("invert", p, pixels.invert)


def _with_probability(name: str, p: float, change):
    """The operation that applies `change(image)` to each image with probability `p`."""
    check_number(name, "p", p, high=1)

    def op(rng, image):
        return jnp.where(jax.random.bernoulli(rng, p), change(image), image)

    return photometric(op)
