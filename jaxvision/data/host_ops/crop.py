"""Cutting and padding without resizing."""

import numpy as np

from jaxvision.arguments import MAX_SIDE, is_whole
from jaxvision.data.decoding import Jpeg
from jaxvision.data.host_ops.base import Joined, Moving, Size, host_ops
from jaxvision.data.host_ops.placing import Window
from jaxvision.data.host_ops.sizes import free, pair
from jaxvision.errors import UserError, shown


def cut(image: np.ndarray, window: Window) -> np.ndarray:
    """Returns the pixels of a window that is inside an image: [..., height, width, c] of the window.

    Args:
      image: Image, [..., h, w, c].
      window: Window of it, not resized.
    """
    rows, columns = (
        slice(at, at + length) for at, length in ((window.top, window.height), (window.left, window.width))
    )
    return image[..., rows, columns, :]


def _cut(image: np.ndarray | Jpeg, window: Window) -> np.ndarray:
    return cut(image.pixels() if isinstance(image, Jpeg) else image, window)


@host_ops.register()
def central_crop(size: int | tuple[int, int]) -> Moving:
    """Cuts the middle out of the image.

    If the rest is odd, half of it is rounded to the nearest even number, as in torchvision's CenterCrop and in the
    operation of the same name on the device.

    Args:
      size: Side, or (height, width), in pixels.

    Raises:
      UserError: (When called.) The image is smaller.
    """
    size = pair(size)

    def choose(height: int, width: int, rng: np.random.Generator) -> Window:
        free_rows, free_columns = free(height, width, size)
        return Window(round(free_rows / 2), round(free_columns / 2), *size, size)

    return Moving(choose, _cut, size)


@host_ops.register()
def corner_crop(size: int | tuple[int, int]) -> Moving:
    """Cuts the upper left corner out of the image.

    This is what a convolution without padding sees of an image that its patches do not fill: of 384 pixels the first
    378, if patches have 14.

    Args:
      size: Side, or (height, width), in pixels.

    Raises:
      UserError: (When called.) The image is smaller.
    """
    size = pair(size)

    def choose(height: int, width: int, rng: np.random.Generator) -> Window:
        free(height, width, size)
        return Window(0, 0, *size, size)

    return Moving(choose, _cut, size)


def _evaluate_random_crop(size, padding: int = 0) -> str:
    return f"central_crop({size})"


@host_ops.register(evaluation=_evaluate_random_crop)
def random_crop(size: int | tuple[int, int], padding: int = 0) -> Joined:
    """Pads every border with black pixels, then cuts a window out at a uniformly random place.

    In evaluation it is `central_crop(size)`.

    Args:
      size: Side, or (height, width), in pixels.
      padding: Width of the border in pixels, at most the shorter side of `size`.

    Raises:
      UserError: The padding is so large that a window may contain nothing of the image.
    """
    size = pair(size)
    border = pad(padding)
    if padding > min(size):
        raise UserError(
            f"random_crop: with a padding of {padding} pixels, windows of {size[0]}x{size[1]} may hold nothing of the "
            "image. The usual padding is an eighth of the side"
        )

    def choose(height: int, width: int, rng: np.random.Generator) -> Window:
        free_rows, free_columns = free(height, width, size)
        return Window(int(rng.integers(free_rows + 1)), int(rng.integers(free_columns + 1)), *size, size)

    return Joined(border, Moving(choose, _cut, size))


@host_ops.register()
def pad(padding: int, value: int = 0) -> Moving:
    """Adds a border on every side of the image.

    Args:
      padding: Width of the border in pixels.
      value: Grey level of the border, 0 to 255.

    Raises:
      UserError: The padding or the value is out of range.
    """
    if not is_whole(padding, least=0) or padding > MAX_SIDE:
        raise UserError(f"pad: padding is a number of pixels, at most {MAX_SIDE:,}, not {shown(padding)}")
    if not (is_whole(value, least=0) and value <= 255):
        raise UserError(f"pad: value is a grey level from 0 to 255, not {shown(value)}")
    padding = int(padding)

    def choose(height: int, width: int, rng: np.random.Generator | None) -> Window:
        size = height + 2 * padding, width + 2 * padding
        return Window(-padding, -padding, *size, size)

    def draw(image: np.ndarray | Jpeg, window: Window) -> np.ndarray:
        image = image.pixels() if isinstance(image, Jpeg) else image
        widths = (*((0, 0),) * (image.ndim - 3), (padding,) * 2, (padding,) * 2, (0, 0))
        return np.pad(image, widths, constant_values=value)

    def larger(height: int | None, width: int | None) -> Size:
        return None if height is None else height + 2 * padding, None if width is None else width + 2 * padding

    return Moving(choose, draw, larger)
