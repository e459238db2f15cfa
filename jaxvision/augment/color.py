"""What pixels look like: normalisation and colour jitter."""

import jax
import jax.numpy as jnp

from jaxvision.augment import pixels
from jaxvision.augment.registry import number, on_each_image, ops
from jaxvision.errors import UserError


@ops.register()
def normalize(mean=0.5, std=0.5):
    """`(image - mean) / std`. The default takes [0, 1] to [-1, 1], the range of ViT, BiT and CLIP-like models.

    Args:
      mean: a number, or one for each channel, for images in [0, 1].
      std: the same, above 0.
    """
    mean, std = _per_channel("mean", mean), _per_channel("std", std)
    if min(std) <= 0:
        raise UserError(f"augmentation normalize: std must be above 0, not {std}")

    def op(rng, batch):
        return {**batch, "image": (batch["image"] - jnp.array(mean)) / jnp.array(std)}

    return op


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
):
    """Changes brightness, contrast, saturation and hue by random amounts, in random order, as torchvision does.

    The first three are factors uniform in [max(0, 1 - x), 1 + x], hue a shift uniform in [-hue, hue]
    turns, each drawn for every image. SimCLR at strength s is
    `color_jitter(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s, p=0.8)`, with the numbers written out (Chen et
    al. 2020, app. A). The order is drawn once for the batch: a different order for each image costs
    four times the work.

    Args:
      brightness, contrast, saturation: at least 0.
      hue: in [0, 0.5].
      p: probability that an image is changed at all.
      per_example_order: draw the order for every image.
    """
    number("color_jitter", "p", p, high=1)
    factors = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    changes = []  # (function of an image and an amount, lowest and highest amount)
    for name, x in factors.items():
        if number("color_jitter", name, x):
            changes.append((getattr(pixels, name), max(0, 1 - x), 1 + x))
    if number("color_jitter", "hue", hue, high=0.5):
        changes.append((pixels.hue, -hue, hue))
    if not changes:
        return lambda rng, batch: batch
    functions, low, high = zip(*changes)

    def op(rng, batch):
        order_key, rng = jax.random.split(rng)
        batch_order = jax.random.permutation(order_key, len(changes))

        def jitter(rng, image):
            amount_key, order_key, p_key = jax.random.split(rng, 3)
            amounts = jax.random.uniform(amount_key, (len(changes),), minval=jnp.array(low), maxval=jnp.array(high))
            order = jax.random.permutation(order_key, len(changes)) if per_example_order else batch_order
            changed = image
            for i in range(len(changes)):
                changed = jax.lax.switch(order[i], functions, changed, amounts[order[i]])
            return jnp.where(jax.random.bernoulli(p_key, p), changed, image)

        return on_each_image(jitter)(rng, batch)

    return op


def _per_channel(name: str, value) -> tuple:
    values = value if isinstance(value, (tuple, list)) else (value,)
    if len(values) in (1, 3) and all(isinstance(v, (int, float)) for v in values):
        return tuple(values)
    raise UserError(f"augmentation normalize: {name} must be a number or three numbers, not {value!r}")
