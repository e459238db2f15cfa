"""Replacing a box of each image: cutout and random erasing. Segmentations, boxes and points stay as they are."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxvision.augment.operations import Operation, photometric
from jaxvision.augment.registry import check_interval, check_number, check_per_channel, ops
from jaxvision.errors import UserError, unknown

ATTEMPTS = 32  # boxes drawn by random_erasing before it gives up
FILLS = ("uniform", "normal", "mean")
MOST_ERASED = 0.99  # the smallest share of an image that random_erasing may have to fill


@ops.register(evaluation="")
def cutout(size: int) -> Operation:
    """Zeroes one square in each image (DeVries and Taylor 2017, sec. 3.2).

    The centre is uniform over the image, so part of the square may lie outside. Put it after `normalize`, where zero is
    the mean colour, as in the paper.

    Args:
      size: Side of the square in pixels.

    Raises:
      UserError: When called, if the square is larger than the image, so that it could hide all of it.
    """
    check_number("cutout", "size", size, low=1, kind=int)

    def cut(rng, image):
        h, w, _ = image.shape
        if size > max(h, w):
            raise UserError(
                f"augmentation cutout: a square of {size} pixels can hide all of an image of {h}x{w}: set a smaller "
                f"side in pixels, usually half of the image's, as in cutout({max(h, w) // 2})"
            )
        return jnp.where(box_mask(rng, image.shape[:2], size, size)[..., None], 0, image)

    return photometric(cut)


@ops.register(evaluation="")
def random_erasing(p: float = 0.5, area=(0.02, 0.4), ratio=(0.3, 1 / 0.3), fill="uniform") -> Operation:
    """Fills one box of random area, shape and place in each image (Zhong et al. 2020, alg. 1).

    The share of the area, height / width and the top left corner are uniform, and drawn again until the box lies in the
    image. The paper's code, torchvision and timm draw only corners that fit, and the last two draw the logarithm of the
    ratio, so large and long boxes are more frequent there. An image for which none of 32 boxes fits stays as it is:
    less than one in 10,000 with the defaults.

    Args:
      p: Probability that an image is changed at all.
      area: Smallest and largest share of the image's area, in (0, 1].
      ratio: Smallest and largest height / width of the box.
      fill: Content of the box: "uniform", a random value in [0, 1] for each pixel and channel (RE-R, the paper's best);
        "normal", noise of mean 0 and deviation 1, for use after `normalize` (timm's "pixel"); "mean", the image's own
        mean colour; or a number or three numbers, such as 0 (RE-0).

    Raises:
      UserError: If an argument is out of range, or `fill` is unknown.
    """
    check_number("random_erasing", "p", p, high=1)
    area = check_interval("random_erasing", "area", area, 0, 1)
    check_number("random_erasing", "area", area[0], high=MOST_ERASED)
    ratio = check_interval("random_erasing", "ratio", ratio, 0, float("inf"))
    if isinstance(fill, str):
        if fill not in FILLS:
            raise unknown("fill of random_erasing", fill, FILLS)
    else:
        fill = check_per_channel("random_erasing", "fill", fill)

    def erase(rng, image):
        h, w, _ = image.shape
        area_key, ratio_key, place_key, fill_key, p_key = jax.random.split(rng, 5)
        pixels = h * w * jax.random.uniform(area_key, (ATTEMPTS,), minval=area[0], maxval=area[1])
        shape = jax.random.uniform(ratio_key, (ATTEMPTS,), minval=ratio[0], maxval=ratio[1])
        boxes = jnp.stack([jnp.sqrt(pixels * shape), jnp.sqrt(pixels / shape)], 1)  # attempts 2
        boxes = jnp.maximum(jnp.round(boxes).astype(int), 1)
        corners = jax.random.randint(place_key, (ATTEMPTS, 2), 0, jnp.array([h, w]))
        fits = jnp.all(corners + boxes <= jnp.array([h, w]), axis=1)
        first = jnp.argmax(fits)
        hole = rectangle((h, w), corners[first], boxes[first]) & fits[first] & jax.random.bernoulli(p_key, p)
        return jnp.where(hole[..., None], _filling(fill, fill_key, image), image)

    return photometric(erase)


def _filling(fill, rng, image):
    if fill == "uniform":
        return jax.random.uniform(rng, image.shape)
    if fill == "normal":
        return jax.random.normal(rng, image.shape)
    return image.mean(axis=(0, 1)) if fill == "mean" else jnp.array(fill)


def box_mask(rng: jax.Array, sides: tuple[int, int], height: jax.Array | int, width: jax.Array | int) -> jax.Array:
    """Draws a box whose centre is uniform over the pixels of an image, clipped at its border.

    Args:
      rng: Key.
      sides: Sides (h, w) of the image in pixels.
      height, width: Sides of the box in pixels, int []; may be traced.

    Returns:
      bool [h, w], True inside the box.
    """
    centre = jax.random.randint(rng, (2,), 0, jnp.array(sides))
    return rectangle(sides, (centre[0] - height // 2, centre[1] - width // 2), (height, width))


def rectangle(
    sides: tuple[int, int], corner: Sequence[ArrayLike] | jax.Array, size: Sequence[ArrayLike] | jax.Array
) -> jax.Array:
    """Marks the pixels of a box in an image.

    Args:
      sides: Sides (h, w) of the image in pixels.
      corner: Corner (top, left) of the box in pixels, [2]; may be traced.
      size: (height, width) of the box in pixels, [2]; may be traced.

    Returns:
      bool [h, w], True inside the box.

    >>> rectangle((2, 3), (0, 1), (1, 5)).astype(int).tolist()
    [[0, 1, 1], [0, 0, 0]]
    """

    def inside(axis):
        distance = jnp.arange(sides[axis]) - corner[axis]
        return (distance >= 0) & (distance < size[axis])

    return inside(0)[:, None] & inside(1)[None, :]
