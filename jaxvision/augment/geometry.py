"""Padding, resizing and crops."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxvision.arguments import MAX_SIDE
from jaxvision.augment.moves import Move, exact_move
from jaxvision.augment.operations import Operation, fixed, geometric
from jaxvision.augment.registry import check_interval, check_number, check_per_channel, check_size, ops
from jaxvision.errors import UserError, unknown

FILTERS = ("linear", "cubic", "lanczos3", "lanczos5")
PADDING_MODES = {"zero": "constant", "reflect": "reflect", "edge": "edge"}


@ops.register()
def pad(padding, fill=0.0) -> Operation:
    """Adds pixels on all sides: images become [b, h + 2 vertical, w + 2 horizontal, 3].

    Args:
      padding: Number of pixels to add on each side, or (vertical, horizontal).
      fill: Content of the added pixels: a number or three numbers in the range of the images (before `normalize`, 0 is
        black), "reflect" (the image mirrored about its outermost pixels) or "edge" (the outermost pixels repeated).

    Raises:
      UserError: If an argument is out of range, or `fill` is unknown.
    """
    sides = (padding, padding) if isinstance(padding, int) else padding
    if not isinstance(sides, (tuple, list)) or len(sides) != 2:
        raise UserError(f"augmentation pad: padding must be a whole number or (vertical, horizontal), not {padding!r}")
    vertical, horizontal = (check_number("pad", "padding", side, high=MAX_SIDE, kind=int) for side in sides)
    if isinstance(fill, str) and fill not in ("reflect", "edge"):
        raise unknown("fill of pad", fill, ("reflect", "edge"))
    value = None if isinstance(fill, str) else check_per_channel("pad", "fill", fill)

    def padded(values, mode):
        around = [(0, 0)] * (values.ndim - 3) + [(vertical, vertical), (horizontal, horizontal), (0, 0)]
        return jnp.pad(values, around, mode)

    def filled(values, colour):
        inner = padded(jnp.ones((*values.shape[-3:-1], 1), bool), "constant")
        return jnp.where(inner, padded(values, "constant"), colour)

    def move(size):
        return Move(
            lambda images: padded(images, fill) if value is None else filled(images, jnp.array(value)),
            lambda values, new: padded(values, fill) if value is None else filled(values, new),
            lambda points: points + jnp.array([horizontal, vertical]),
        )

    return fixed(move)


@ops.register()
def resize(size, method: str = "linear") -> Operation:
    """Resizes images to `size`, without keeping the aspect ratio.

    Args:
      size: Side of the result in pixels, or (height, width).
      method: Interpolation, "nearest" or one of `FILTERS`. The filters get wider when they shrink an image
        (antialiasing), as in Pillow, but not in OpenCV and plain `F.interpolate`.
    """
    size = check_size("resize", size)
    _check_method("resize", method, ("nearest", *FILTERS))

    return fixed(lambda before: _resize(before, size, method))


@ops.register()
def resize_short(size: int, method: str = "linear") -> Operation:
    """Resizes the shorter side to `size` pixels and keeps the aspect ratio; the longer side is rounded down.

    Args:
      size: Length of the shorter side in pixels, at least 1.
      method: Interpolation, see `resize`.
    """
    check_number("resize_short", "size", size, low=1, high=MAX_SIDE, kind=int)
    _check_method("resize_short", method, ("nearest", *FILTERS))

    def move(before):
        h, w = before
        return _resize(before, (size * h // min(h, w), size * w // min(h, w)), method)

    return fixed(move)


@ops.register()
def central_crop(size) -> Operation:
    """Cuts the middle out of images that are at least as large as `size`.

    If the difference of the sides is odd, the window starts at half of it, rounded to the even number, as in
    torchvision and in the host operation.

    Args:
      size: Side of the result in pixels, or (height, width).
    """
    height, width = check_size("central_crop", size)

    def move(before):
        h, w = before
        check_fits("central_crop", (height, width), (h, w))
        return cut_move(round((h - height) / 2), round((w - width) / 2), height, width)

    return fixed(move)


def cut_move(top: int, left: int, height: int, width: int) -> Move:
    """Makes the move that keeps a window of whole pixels, for arrays with any axes before h, w and c.

    Args:
      top, left, height, width: Place and size of the window in pixels.
    """
    return exact_move(
        lambda values: values[..., top : top + height, left : left + width, :],
        lambda points: points - jnp.array([left, top]),
    )


@ops.register(evaluation=lambda size, padding=0, mode="zero": f"central_crop({size!r})")
def random_crop(size, padding: int = 0, mode: str = "zero") -> Operation:
    """Pads images on all sides and cuts out a window of `size`, with every position equally likely.

    The usual augmentation of CIFAR is `random_crop(32, 4)` (He et al. 2016, sec. 4.2). Evaluation takes the central
    window of the image without padding.

    Args:
      size: Side of the window in pixels, or (height, width).
      padding: Number of pixels to add on each of the four sides.
      mode: Content of the added pixels: "zero" (black before `normalize`, the mean after it), "reflect" or "edge", see
        `pad`.

    Raises:
      UserError: If an argument is out of range, or a window could miss the image.
    """
    height, width = check_size("random_crop", size)
    check_number("random_crop", "padding", padding, high=MAX_SIDE, kind=int)
    if mode not in PADDING_MODES:
        raise unknown("padding mode of random_crop", mode, PADDING_MODES)
    if mode != "reflect" and padding > min(height, width):
        raise UserError(
            f"augmentation random_crop: with a padding of {padding} pixels, windows of {height}x{width} may hold "
            "nothing of the image: set a smaller padding, usually an eighth of the side, or mode='reflect', which has "
            "no such limit"
        )

    around = ((padding, padding), (padding, padding), (0, 0))

    def draw(rng, before):
        sides = (before[0] + 2 * padding, before[1] + 2 * padding)
        check_fits("random_crop", (height, width), sides)
        highest = jnp.array([sides[0] - height, sides[1] - width])
        top, left = jax.random.randint(rng, (2,), 0, highest + 1)

        def window_of(values):
            return jax.lax.dynamic_slice(values, (top, left, 0), (height, width, values.shape[2]))

        def segmentation(values, fill):
            with_fill = {"constant_values": fill} if mode == "zero" else {}
            return window_of(jnp.pad(values, around, PADDING_MODES[mode], **with_fill))

        return Move(
            lambda image: window_of(jnp.pad(image, around, PADDING_MODES[mode])),
            segmentation,
            lambda points: points + (padding - jnp.stack([left, top])),
        )

    return geometric(draw)


def _resize_instead(size, area=None, ratio=None, method="linear"):
    return f"resize({size!r}, {method!r})"


@ops.register(evaluation=_resize_instead)
def random_resized_crop(size, area=(0.08, 1.0), ratio=(3 / 4, 4 / 3), method: str = "linear") -> Operation:
    """Cuts out a box of random area, shape and place and resizes it to `size` (Szegedy et al. 2015, sec. 6).

    The share of the image's area is uniform in `area`, and the logarithm of width / height is uniform between the
    logarithms of `ratio`. As in torchvision, the first of ten candidates that fits into the image is taken; if none
    fits, the first is clipped to the image. Unlike in torchvision, edges of boxes are not rounded to whole pixels.
    Evaluation resizes the whole image.

    Args:
      size: Side of the result in pixels, or (height, width).
      area: Smallest and largest share of the image's area, in (0, 1].
      ratio: Smallest and largest width / height of the box.
      method: Interpolation, one of `FILTERS`.
    """
    size = check_size("random_resized_crop", size)
    area = check_interval("random_resized_crop", "area", area, 0, 1)
    ratio = check_interval("random_resized_crop", "ratio", ratio, 0, float("inf"))
    _check_method("random_resized_crop", method, FILTERS)

    def draw(rng, before):
        sides = jnp.array(before, jnp.float32)
        area_key, ratio_key, place_key = jax.random.split(rng, 3)
        share = jax.random.uniform(area_key, (10,), minval=area[0], maxval=area[1])
        log_ratio = jnp.log(jnp.array(ratio))
        shape = jnp.exp(jax.random.uniform(ratio_key, (10,), minval=log_ratio[0], maxval=log_ratio[1]))
        boxes = jnp.sqrt((sides[0] * sides[1] * share)[:, None] * jnp.stack([1 / shape, shape], 1))  # 10 2
        first = jnp.argmax(jnp.all(boxes <= sides, axis=1))  # 0 where none fits
        box = jnp.minimum(boxes[first], sides)
        corner = jax.random.uniform(place_key, (2,)) * (sides - box)
        scale = jnp.array(size) / box
        return _window_move(before, sides * scale, corner * scale, size, method)

    return geometric(draw)


def _central_window(size, short=(256, 480), method="linear"):
    side = max(check_size("random_short_side_crop", size))
    return f"resize_short({side * 8 // 7}, {method!r})|central_crop({size!r})"


@ops.register(evaluation=_central_window)
def random_short_side_crop(size, short=(256, 480), method: str = "linear") -> Operation:
    """Resizes the shorter side to a random length, keeps the aspect ratio, and cuts out a random window of `size`.

    This is the scale augmentation of ResNet (Simonyan and Zisserman 2015, sec. 3.1; He et al. 2016, sec. 3.4):
    `random_short_side_crop(224)`. The length is uniform over the whole numbers in `short`, then every window is equally
    likely. Evaluation resizes the shorter side to 8 / 7 of `size`, 256 for 224, and takes the central window, as the
    usual single-crop test does.

    Args:
      size: Side of the result in pixels, or (height, width).
      short: Smallest and largest length of the shorter side in pixels, at least `size`.
      method: Interpolation, one of `FILTERS`.
    """
    size = check_size("random_short_side_crop", size)
    low, high = check_interval("random_short_side_crop", "short", short, 0, float("inf"))
    check_number("random_short_side_crop", "short", low, low=max(size), high=MAX_SIDE, kind=int)
    check_number("random_short_side_crop", "short", high, low=max(size), high=MAX_SIDE, kind=int)
    _check_method("random_short_side_crop", method, FILTERS)

    def draw(rng, before):
        side_key, place_key = jax.random.split(rng)
        h, w = before
        side = jax.random.randint(side_key, (), low, high + 1)
        sides = side * jnp.array([h, w]) // min(h, w)
        corner = jax.random.randint(place_key, (2,), 0, sides - jnp.array(size) + 1)
        return _window_move(before, sides, corner, size, method)

    return geometric(draw)


def window(
    image: jax.Array, sides: ArrayLike | tuple, corner: ArrayLike | tuple, size: tuple[int, int], method: str
) -> jax.Array:
    """Resizes an image and cuts out a window, without computing the rest of the resized image.

    Args:
      image: Image, float32 [h, w, c].
      sides: (height, width) of the resized image in pixels, [2]; may be traced.
      corner: (top, left) of the window in the resized image in pixels, [2]; may be traced.
      size: (height, width) of the window in pixels.
      method: Interpolation, one of `FILTERS`.

    Returns:
      float32 [height, width, c].
    """
    scale = jnp.asarray(sides, jnp.float32) / jnp.array(image.shape[:2])
    shape = (*size, image.shape[2])
    out = jax.image.scale_and_translate(image, shape, (0, 1), scale, -jnp.asarray(corner, jnp.float32), method)
    return _in_range(out, method)


def _window_move(before: tuple[int, int], sides, corner, size: tuple[int, int], method: str) -> Move:
    """`window` as a move of images of (height, width) `before`."""
    return Move(
        lambda image: window(image, sides, corner, size, method),
        lambda values, fill: _nearest(values, sides, corner, size),
        lambda points: points * _xy(sides) / _xy(before) - _xy(corner),
    )


def _resize(before: tuple[int, int], sides: tuple[int, int], method: str) -> Move:
    return Move(
        lambda images: _resized(images, sides, method),
        lambda values, fill: _nearest(values, sides, (0, 0), sides),
        lambda points: points * _xy(sides) / _xy(before),
    )


def _nearest(values, sides, corner, size: tuple[int, int]):
    """The same window by nearest neighbour: each pixel of the result shows the pixel at its middle."""
    for axis in (0, 1):
        length = values.shape[axis - 3]
        middles = (jnp.arange(size[axis]) + 0.5 + corner[axis]) * (length / sides[axis])
        values = jnp.take(values, jnp.clip(middles.astype(int), 0, length - 1), axis=axis - 3)
    return values


def _xy(pair):
    """(x, y) from (height, width) or (top, left)."""
    return jnp.asarray(pair, jnp.float32)[::-1]


def _resized(images, sides: tuple[int, int], method: str):
    shape = (*images.shape[:-3], *sides, images.shape[-1])
    return _in_range(jax.image.resize(images, shape, method), method)


def _check_method(op: str, method: str, choices: tuple[str, ...]) -> None:
    if method not in choices:
        raise unknown(f"method of {op}", method, choices)


def _in_range(images, method: str):
    """Clips to [0, 1] what the negative lobes of cubic and Lanczos filters overshoot."""
    return jnp.clip(images, 0, 1) if method not in ("nearest", "linear") else images


def check_fits(op: str, size: tuple[int, int], image: tuple[int, int]) -> None:
    """Checks that a window fits into an image.

    Args:
      op: Name of the operation, for the message.
      size: (height, width) of the window.
      image: (height, width) of the image.

    Raises:
      UserError: If the window is larger.
    """
    if size[0] > image[0] or size[1] > image[1]:
        raise UserError(
            f"augmentation {op}: cannot cut {size[0]}x{size[1]} out of {image[0]}x{image[1]} pixels (height x width): "
            "set a smaller size, or resize the images first"
        )
