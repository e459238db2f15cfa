"""What must be done on the host: decode a picture and bring it to a size. uint8 in, uint8 out.

A host spec is a chain such as `"decode|random_resized_crop(224)"`. Its operations act on
`example["image"]` and leave other fields as they are; everything that need not happen here (flips,
colour, mixing, normalisation) runs on the device, in `augment/`.

A resize takes `method=` (see `resizing.METHODS`). The default is Pillow's bilinear filter, whose support
grows with the reduction (antialiased), the one of torchvision on Pillow images.
"""

import math
import numbers
from collections.abc import Callable, Sequence

import numpy as np

from jaxvision.arguments import MAX_SIDE, is_whole
from jaxvision.data import decoding
from jaxvision.data.decoding import BadImage, Box, Jpeg
from jaxvision.data.formats import MAX_PIXELS
from jaxvision.data.resizing import Resize, resizer
from jaxvision.errors import UserError, reading_fields, shown
from jaxvision.specs import Registry, parse

__all__ = ["CLASS_NAME", "BadImage", "HostOp", "host_ops", "make"]

HostOp = Callable[[dict, np.random.Generator | None], dict]  # None will do where no operation is random
CLASS_NAME = "/class_name"  # the field in which operations find the name of the class of an example; no set's own

host_ops = Registry("host operation", where="jaxvision.data.host_ops.host_ops")


def make(spec: str, classes: Sequence[str] = ()) -> HostOp:
    """Builds the chain of a host spec: `fn(example, rng) -> example`, with a uint8 [H, W, 3] image.

    Args:
      spec: operations joined by `|`.
      classes: names of the classes of the examples, for operations that make text of them.

    Raises:
      UserError: the spec cannot be read, or names an operation or arguments that there are not.

    >>> shrink = make("resize(8)|central_crop(4)")
    >>> shrink({"image": np.zeros((20, 30, 3), np.uint8)}, None)["image"].shape
    (4, 4, 3)
    """
    calls = parse(spec)
    ops = host_ops.build(spec)

    def apply(example: dict, rng: np.random.Generator | None) -> dict:
        # A label beyond the names, like the -1 of a test split of TFDS that hides its labels, has no name.
        if classes and is_whole(label := example.get("label"), least=0) and label < len(classes):
            example = {**example, CLASS_NAME: classes[label]}
        for call, op in zip(calls, ops):
            with reading_fields(f"host operation {call}", example):
                example = op(example, rng)
        image = example.get("image")
        return {**example, "image": image.pixels()} if isinstance(image, Jpeg) else example

    return apply


def _on_image(fn: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> HostOp:
    """Turns a function of (image, rng) into a host operation."""

    def apply(example: dict, rng: np.random.Generator | None) -> dict:
        image = _decoded(example)
        return {**example, "image": fn(image.pixels() if isinstance(image, Jpeg) else image, rng)}

    return apply


def _on_box(choose: Callable[[int, int, np.random.Generator], tuple[Box, tuple[int, int]]], resize: Resize) -> HostOp:
    """Makes a host operation that cuts out a box and resizes it: `choose(height, width, rng)` gives both."""

    def apply(example: dict, rng: np.random.Generator | None) -> dict:
        image = _decoded(example)
        box, size = choose(*image.shape[:2], rng)
        part = image.cut(box, size) if isinstance(image, Jpeg) else _cut(image, *box[:2], box[2:])
        return {**example, "image": resize(part, size)}

    return apply


def _decoded(example: dict) -> np.ndarray | Jpeg:
    if isinstance(example["image"], np.ndarray | Jpeg):
        return example["image"]
    raise UserError("the image is still encoded: put decode at the start of the host spec")


@host_ops.register()
def decode(max_pixels: int = MAX_PIXELS, fast: bool = False) -> HostOp:
    """Bytes of a JPEG, PNG, WebP, ... to a uint8 [H, W, 3] RGB array, turned upright by the EXIF orientation.

    Grey becomes three equal channels, palettes are looked up, CMYK is converted, an alpha channel is dropped,
    16-bit grey keeps its high byte, and of an animation or a TIFF of several pages the first is taken. An image
    that is a uint8 array already is only given three channels. The formats are those of `formats.FORMATS`; no other is
    tried, so that no bytes start another program.

    Args:
      max_pixels: larger images are refused by their headers, before they are decoded. The default, 67 million, is
        `formats.MAX_PIXELS`.
      fast: decode JPEGs with libjpeg's quicker inverse transform and without interpolating colours, and where the
        next operation resizes to a quarter of the size or less, let libjpeg reduce by 2, 4 or 8 first, to no less
        than twice the size wanted. The pixels differ a little. Off, pixels are those of Pillow.

    Raises (when called):
      BadImage: the bytes are no picture, only part of one, one that is too large, or one of floating-point or 32-bit
        numbers, whose range is not known. A damaged JPEG is refused even where libjpeg could fill the rest with grey.
    """
    if not is_whole(max_pixels):
        raise UserError(f"decode: max_pixels is a number of pixels, not {shown(max_pixels)}")

    def apply(example: dict, rng: np.random.Generator | None) -> dict:
        image = example["image"]
        if isinstance(image, np.ndarray):
            return {**example, "image": decoding.three_channels(image)}
        image = decoding.read(image, int(max_pixels))
        return {**example, "image": image.pixels(fast=False) if isinstance(image, Jpeg) and not fast else image}

    return apply


@host_ops.register()
def resize(size: int | tuple[int, int], method: str = "bilinear") -> HostOp:
    """Resizes to `size` (a side, or height and width), whatever the aspect ratio."""
    size = _pair(size)
    return _on_box(lambda height, width, rng: ((0, 0, height, width), size), resizer(method))


@host_ops.register()
def resize_short(size: int, method: str = "bilinear") -> HostOp:
    """Resizes the shorter side to `size` and keeps the aspect ratio; the longer side is rounded down."""
    size = _side("resize_short", size)
    return _on_box(lambda height, width, rng: _short(height, width, size), resizer(method))


def _evaluate_random_resize_short(low, high, method: str = "bilinear") -> str:
    return f"resize_short({low}{_method_argument(method)})"


@host_ops.register(evaluation=_evaluate_random_resize_short)
def random_resize_short(low: int, high: int, method: str = "bilinear") -> HostOp:
    """Resizes the shorter side to a length uniform in `low` to `high`, both included, and keeps the aspect ratio.

    With a `random_crop` after it, the scale augmentation of Simonyan, Zisserman 2015 (arXiv 1409.1556, sec. 3.1);
    He et al. 2016 (arXiv 1512.03385, sec. 3.4) draw from [256, 480]. In evaluation it is `resize_short(low)`.
    """
    low, high = (_side("random_resize_short", side) for side in (low, high))
    if low > high:
        raise UserError(f"random_resize_short: low is at most high, not {low} and {high}")

    def choose(height: int, width: int, rng: np.random.Generator) -> tuple[Box, tuple[int, int]]:
        return _short(height, width, int(rng.integers(low, high + 1)))

    return _on_box(choose, resizer(method))


@host_ops.register()
def central_crop(size: int | tuple[int, int]) -> HostOp:
    """Cuts the middle `size` (a side, or height and width) out of the image.

    Where the rest is odd, the window begins at half of it, rounded to the even number as in torchvision's CenterCrop
    and in the operation of the same name on the device.

    Raises (when called):
      UserError: the image is smaller.
    """
    size = _pair(size)

    def apply(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        free_rows, free_columns = _free(image, size)
        return _cut(image, round(free_rows / 2), round(free_columns / 2), size)

    return _on_image(apply)


@host_ops.register()
def corner_crop(size: int | tuple[int, int]) -> HostOp:
    """Cuts the upper left `size` (a side, or height and width) out of the image.

    What a convolution without padding sees of an image that its patches do not fill: of 384 pixels the first 378, if
    they are of 14.

    Raises (when called):
      UserError: the image is smaller.
    """
    size = _pair(size)

    def apply(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        _free(image, size)
        return _cut(image, 0, 0, size)

    return _on_image(apply)


def _evaluate_random_crop(size, padding: int = 0) -> str:
    return f"central_crop({size})"


@host_ops.register(evaluation=_evaluate_random_crop)
def random_crop(size: int | tuple[int, int], padding: int = 0) -> HostOp:
    """Pads every border with `padding` black pixels, then cuts `size` out at a uniformly random place.

    In evaluation it is `central_crop(size)`.
    """
    size = _pair(size)
    border = pad(padding)
    if padding > min(size):
        raise UserError(
            f"random_crop: with a padding of {padding} pixels, windows of {size[0]}x{size[1]} may hold nothing of the "
            "image. The usual padding is an eighth of the side"
        )

    def apply(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        free_rows, free_columns = _free(image, size)
        return _cut(image, rng.integers(free_rows + 1), rng.integers(free_columns + 1), size)

    crop = _on_image(apply)
    return lambda example, rng: crop(border(example, rng), rng)


def _evaluate_random_resized_crop(size, area=None, ratio=None, method: str = "bilinear") -> str:
    return f"resize_short({round(max(_pair(size)) * 8 / 7)}{_method_argument(method)})|central_crop({size})"


@host_ops.register(evaluation=_evaluate_random_resized_crop)
def random_resized_crop(
    size: int | tuple[int, int],
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    method: str = "bilinear",
) -> HostOp:
    """Cuts a random rectangle out and resizes it to `size` (Szegedy et al. 2015, arXiv 1409.4842, sec. 6).

    The rectangle has a share of the image's area uniform in `area` and an aspect ratio (width / height)
    log-uniform in `ratio`. As in torchvision, after ten rectangles that do not fit the largest central
    one of an allowed aspect ratio is taken.

    In evaluation the shorter side is resized to 8/7 of `size` (256 for 224), then the middle is cut out.
    """
    size = _pair(size)
    if not (_is_range(area) and area[1] <= 1):
        raise UserError(f"random_resized_crop: area is (low, high) with 0 < low <= high <= 1, not {shown(area)}")
    if not _is_range(ratio):
        raise UserError(f"random_resized_crop: ratio is (low, high) with 0 < low <= high, not {shown(ratio)}")

    def choose(height: int, width: int, rng: np.random.Generator) -> tuple[Box, tuple[int, int]]:
        return _random_box((height, width), area, ratio, rng), size

    return _on_box(choose, resizer(method))


@host_ops.register()
def pad(padding: int, value: int = 0) -> HostOp:
    """Adds a border of `padding` pixels of grey level `value` (0 to 255) on every side."""
    if not is_whole(padding, least=0) or padding > MAX_SIDE:
        raise UserError(f"pad: padding is a number of pixels, at most {MAX_SIDE:,}, not {shown(padding)}")
    if not (is_whole(value, least=0) and value <= 255):
        raise UserError(f"pad: value is a grey level from 0 to 255, not {shown(value)}")
    widths = ((int(padding),) * 2, (int(padding),) * 2, (0, 0))
    return _on_image(lambda image, rng: np.pad(image, widths, constant_values=value))


def _short(height: int, width: int, size: int) -> tuple[Box, tuple[int, int]]:
    """All of an image, and its size once the shorter side is `size`."""
    short = min(height, width)
    return (0, 0, height, width), (size * height // short, size * width // short)


def _random_box(shape, area, ratio, rng: np.random.Generator) -> Box:
    """Top, left, height and width of a rectangle, drawn as torchvision's RandomResizedCrop.get_params does."""
    rows, columns = shape
    for _ in range(10):
        target = rows * columns * rng.uniform(*area)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        width, height = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < width <= columns and 0 < height <= rows:
            return int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1)), height, width
    height = min(rows, round(columns / ratio[0]))
    width = min(columns, round(rows * ratio[1]))
    return (rows - height) // 2, (columns - width) // 2, height, width


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    pair = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(pair) != 2 or not all(map(is_whole, pair)) or max(pair) > MAX_SIDE:
        raise UserError(
            f"a size is a whole number of pixels or two, (height, width), at most {MAX_SIDE:,}, not {shown(size)}"
        )
    return int(pair[0]), int(pair[1])


def _is_range(value: object) -> bool:
    """Whether an argument is two numbers, (low, high) with 0 < low <= high."""
    pair = value if isinstance(value, tuple | list) else ()
    return len(pair) == 2 and all(isinstance(x, numbers.Real) for x in pair) and 0 < pair[0] <= pair[1]


def _side(op: str, size: int) -> int:
    if not is_whole(size) or size > MAX_SIDE:
        raise UserError(f"{op}: size is a whole number of pixels, at most {MAX_SIDE:,}, not {shown(size)}")
    return int(size)  # one of NumPy may overflow


def _method_argument(method: str) -> str:
    return "" if method == "bilinear" else f", method={method!r}"


def _free(image: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    """How many rows and columns a crop of `size` leaves."""
    free = image.shape[0] - size[0], image.shape[1] - size[1]
    if min(free) < 0:
        raise UserError(
            f"cannot cut {size[0]}x{size[1]} out of an image of {image.shape[0]}x{image.shape[1]} pixels: "
            "put resize, resize_short or pad before the crop in the host spec"
        )
    return free


def _cut(image: np.ndarray, top: int, left: int, size: tuple[int, int]) -> np.ndarray:
    return image[top : top + size[0], left : left + size[1]]
