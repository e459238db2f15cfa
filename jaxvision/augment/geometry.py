"""Where pixels go: flips, crops and resizing."""

import jax
import jax.numpy as jnp

from jaxvision.augment.registry import image_size, interval, number, on_each_image, ops
from jaxvision.errors import UserError, unknown

FILTERS = ("linear", "cubic", "lanczos3", "lanczos5")
PADDING_MODES = {"zero": "constant", "reflect": "reflect"}


@ops.register(evaluation="")
def flip_lr(p: float = 0.5):
    """Mirrors each image left to right with probability `p`."""
    number("flip_lr", "p", p, high=1)

    def flip(rng, image):
        return jnp.where(jax.random.bernoulli(rng, p), image[:, ::-1], image)

    return on_each_image(flip)


@ops.register()
def resize(size, method: str = "linear"):
    """Resizes images to `size` (a side or (height, width)), aspect ratio not kept.

    Args:
      size: side, or (height, width).
      method: "nearest" or one of FILTERS, which widen when they shrink an image (antialiasing), as
        Pillow's do and those of OpenCV and plain `F.interpolate` do not.
    """
    size = image_size("resize", size)
    _check_method("resize", method, ("nearest", *FILTERS))

    def op(rng, batch):
        images = batch["image"]
        b, _, _, c = images.shape
        return {**batch, "image": _in_range(jax.image.resize(images, (b, *size, c), method), method)}

    return op


@ops.register()
def central_crop(size):
    """Cuts the middle of `size` (a side or (height, width)) out of images at least that large."""
    height, width = image_size("central_crop", size)

    def op(rng, batch):
        images = batch["image"]
        _check_fits("central_crop", (height, width), images.shape[1:3])
        top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
        return {**batch, "image": images[:, top : top + height, left : left + width]}

    return op


@ops.register(evaluation=lambda size, padding=0, mode="zero": f"central_crop({size!r})")
def random_crop(size, padding: int = 0, mode: str = "zero"):
    """Pads images on all sides and cuts out a window of `size`, every position equally likely.

    The usual augmentation of CIFAR is `random_crop(32, 4)` (He et al. 2016, sec. 4.2). Evaluation
    takes the central window of the image without padding.

    Args:
      size: side, or (height, width).
      padding: pixels added to each of the four sides.
      mode: what is added: "zero" (black before `normalize`, the mean after it) or "reflect".
    """
    height, width = image_size("random_crop", size)
    number("random_crop", "padding", padding, kind=int)
    if mode not in PADDING_MODES:
        raise unknown("padding mode of random_crop", mode, PADDING_MODES)

    def crop(rng, image):
        image = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)), PADDING_MODES[mode])
        _check_fits("random_crop", (height, width), image.shape[:2])
        highest = jnp.array([image.shape[0] - height, image.shape[1] - width])
        top, left = jax.random.randint(rng, (2,), 0, highest + 1)
        return jax.lax.dynamic_slice(image, (top, left, 0), (height, width, image.shape[2]))

    return on_each_image(crop)


def _resize_instead(size, area=None, ratio=None, method="linear"):
    return f"resize({size!r}, {method!r})"


@ops.register(evaluation=_resize_instead)
def random_resized_crop(size, area=(0.08, 1.0), ratio=(3 / 4, 4 / 3), method: str = "linear"):
    """Cuts out a box of random area, shape and place and resizes it to `size` (Szegedy et al. 2015, sec. 6).

    The share of the image's area is uniform in `area` and the logarithm of width / height uniform
    in `ratio`. As in torchvision, the first of ten candidates that fits into the image is taken;
    where none fits, the first is clipped to the image. Unlike there, edges of boxes are not rounded
    to whole pixels. Evaluation resizes the whole image.

    Args:
      size: side of the result, or (height, width).
      area: smallest and largest share of the image's area, in (0, 1].
      ratio: smallest and largest width / height of the box.
      method: one of FILTERS, see `resize`.
    """
    size = image_size("random_resized_crop", size)
    area = interval("random_resized_crop", "area", area, 0, 1)
    ratio = interval("random_resized_crop", "ratio", ratio, 0, float("inf"))
    _check_method("random_resized_crop", method, FILTERS)

    def crop(rng, image):
        sides = jnp.array(image.shape[:2], jnp.float32)
        area_key, ratio_key, place_key = jax.random.split(rng, 3)
        share = jax.random.uniform(area_key, (10,), minval=area[0], maxval=area[1])
        log_ratio = jnp.log(jnp.array(ratio))
        shape = jnp.exp(jax.random.uniform(ratio_key, (10,), minval=log_ratio[0], maxval=log_ratio[1]))
        boxes = jnp.sqrt((sides[0] * sides[1] * share)[:, None] * jnp.stack([1 / shape, shape], 1))  # 10 2
        first = jnp.argmax(jnp.all(boxes <= sides, axis=1))  # 0 where none fits
        box = jnp.minimum(boxes[first], sides)
        corner = jax.random.uniform(place_key, (2,)) * (sides - box)
        scale = jnp.array(size) / box
        out = jax.image.scale_and_translate(image, (*size, image.shape[2]), (0, 1), scale, -corner * scale, method)
        return _in_range(out, method)

    return on_each_image(crop)


def _check_method(op: str, method: str, choices: tuple[str, ...]) -> None:
    if method not in choices:
        raise unknown(f"method of {op}", method, choices)


def _in_range(images, method: str):
    """Clips to [0, 1] what the negative lobes of cubic and Lanczos filters overshoot."""
    return jnp.clip(images, 0, 1) if method not in ("nearest", "linear") else images


def _check_fits(op: str, size: tuple[int, int], image: tuple[int, int]) -> None:
    if size[0] > image[0] or size[1] > image[1]:
        raise UserError(
            f"augmentation {op}: cannot cut {size[0]}x{size[1]} out of {image[0]}x{image[1]} pixels (height x width)"
        )
