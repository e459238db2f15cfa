"""What pixels look like: normalisation, colour jitter, and the colour functions of Pillow with a probability each."""

import jax
import jax.numpy as jnp

from jaxvision.augment import pixels
from jaxvision.augment.operations import image_wide, photometric
from jaxvision.augment.registry import check_number, check_per_channel, ops
from jaxvision.errors import UserError


@ops.register()
def normalize(mean=0.5, std=0.5):
    """`(image - mean) / std`. The default takes [0, 1] to [-1, 1], the range of ViT, BiT and CLIP-like models.

    Args:
      mean: a number, or one for each channel, for images in [0, 1].
      std: the same, above 0.
    """
    mean, std = check_per_channel("normalize", "mean", mean), check_per_channel("normalize", "std", std)
    if min(std) <= 0:
        raise UserError(f"augmentation normalize: std must be above 0, not {std}")

    return image_wide(lambda rng, images, statistics: (images - jnp.array(mean)) / jnp.array(std))


@ops.register()
def normalize_imagenet():
    """`normalize` with the means and deviations of ImageNet's training images, as ResNet and DeiT use it."""
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
):
    """Changes brightness, contrast, saturation and hue by random amounts, in random order, as torchvision does.

    The first three are factors uniform in [max(0, 1 - x), 1 + x], hue a shift uniform in [-hue, hue]
    turns, each drawn for every image. SimCLR at strength s is
    `color_jitter(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s, p=0.8)`, with the numbers written out (Chen et
    al. 2020, app. A). The order is drawn once for the batch: a different order for each image costs
    four times the work.

    Brightness has two conventions. The default scales the image, as torchvision and the second version
    of SimCLR's code do ("simclrv2"); `additive_brightness` adds a shift uniform in [-brightness,
    brightness], as `tf.image.random_brightness` and the first version do.

    Args:
      brightness, contrast, saturation: at least 0.
      hue: in [0, 0.5].
      p: probability that an image is changed at all.
      per_example_order: draw the order for every image.
      additive_brightness: brightness shifts the values instead of scaling them.
    """
    check_number("color_jitter", "p", p, high=1)
    factors = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    changes = []  # (function of an image and an amount, lowest and highest amount)
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
def grayscale(p: float = 1.0):
    """Makes images grey (ITU-R 601-2 luma in all three channels) with probability `p`, 0.2 in SimCLR."""
    return _with_probability("grayscale", p, lambda image: jnp.broadcast_to(pixels.gray(image), image.shape))


@ops.register(evaluation="")
def solarize(threshold: float = 128, p: float = 1.0):
    """Inverts values from `threshold` upwards with probability `p`, 0.2 for BYOL's second view (Grill et al. 2020).

    Args:
      threshold: in grey levels, from 0 (inverts all) to 256 (nothing).
      p: probability that an image is changed.
    """
    check_number("solarize", "threshold", threshold, high=256)
    return _with_probability("solarize", p, lambda image: pixels.solarize(image, threshold))


@ops.register(evaluation="")
def posterize(bits: int = 4, p: float = 1.0):
    """Keeps the highest `bits`, 1 to 8, of each 8-bit value with probability `p`, as Pillow's `ImageOps.posterize`."""
    check_number("posterize", "bits", bits, low=1, high=8, kind=int)
    return _with_probability("posterize", p, lambda image: pixels.posterize(image, bits))


@ops.register(evaluation="")
def equalize(p: float = 1.0):
    """Makes each channel's histogram flat with probability `p`, as Pillow's `ImageOps.equalize`."""
    return _with_probability("equalize", p, pixels.equalize)


@ops.register(evaluation="")
def autocontrast(p: float = 1.0):
    """Stretches each channel to the whole of [0, 1] with probability `p`, as Pillow's `ImageOps.autocontrast`."""
    return _with_probability("autocontrast", p, pixels.autocontrast)


@ops.register(evaluation="")
def invert(p: float = 1.0):
    """Replaces images by their negatives, `1 - image`, with probability `p`."""
    return _with_probability("invert", p, pixels.invert)


def _with_probability(name: str, p: float, change):
    """The operation that applies `change(image)` to each image with probability `p`."""
    check_number(name, "p", p, high=1)

    def op(rng, image):
        return jnp.where(jax.random.bernoulli(rng, p), change(image), image)

    return photometric(op)
