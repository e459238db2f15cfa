"""What must be done on the host: decode a picture and bring it to a size. uint8 in, uint8 out.

A host spec is a chain such as `"decode|random_resized_crop(224)"`. Its operations act on
`example["image"]` and leave other fields as they are; everything that need not happen here (flips,
colour, mixing, normalisation) runs on the device, in `augment/`.

Every resize is Pillow's filter, bilinear unless told otherwise, whose support grows with the reduction
(antialiased), the one of torchvision on Pillow images. OpenCV's and TensorFlow's defaults give other pixels.
"""

import io
from collections.abc import Callable

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from jaxvision.errors import UserError, unknown
from jaxvision.specs import Registry

HostOp = Callable[[dict, np.random.Generator | None], dict]  # None will do where no operation is random

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
host_ops = Registry("host operation")


class BadImage(Exception):
    """The bytes of an example are not a whole picture."""


def make(spec: str) -> HostOp:
    """Builds the chain of a host spec: `fn(example, rng) -> example`, with a uint8 [H, W, 3] image.

    Raises:
      UserError: the spec cannot be read, or names an operation or arguments that there are not.

    >>> shrink = make("resize(8)|central_crop(4)")
    >>> shrink({"image": np.zeros((20, 30, 3), np.uint8)}, None)["image"].shape
    (4, 4, 3)
    """
    ops = host_ops.build(spec)

    def apply(example: dict, rng: np.random.Generator | None) -> dict:
        for op in ops:
            example = op(example, rng)
        return example

    return apply


def _on_image(fn: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> HostOp:
    """Turns a function of (image, rng) into a host operation."""

    def apply(example: dict, rng: np.random.Generator | None) -> dict:
        image = example["image"]
        if not isinstance(image, np.ndarray):
            raise UserError("the image is still encoded: put decode at the start of the host spec")
        return {**example, "image": fn(image, rng)}

    return apply


@host_ops.register()
def decode() -> HostOp:
    """Bytes of a JPEG, PNG, WebP, ... to a uint8 [H, W, 3] RGB array, turned upright by the EXIF orientation.

    Grey becomes three equal channels, palettes are looked up, CMYK is converted, an alpha channel is dropped,
    16-bit grey keeps its high byte, and of an animation the first frame is taken. An image that is an array
    already is only given three channels.

    Raises (when called):
      BadImage: the bytes are no picture, or only part of one. A damaged JPEG is refused even where
        libjpeg could fill the rest with grey.
    """

    def apply(example: dict, rng: np.random.Generator | None) -> dict:
        image = example["image"]
        return {**example, "image": _rgb(image if isinstance(image, np.ndarray) else _decode(image))}

    return apply


@host_ops.register()
def resize(size: int | tuple[int, int], method: str = "bilinear") -> HostOp:
    """Resizes to `size` (a side, or height and width), whatever the aspect ratio. `method` may be "bicubic"."""
    size, resample = _pair(size), _filter(method)
    return _on_image(lambda image, rng: _resize(image, size, resample))


@host_ops.register()
def resize_short(size: int, method: str = "bilinear") -> HostOp:
    """Resizes the shorter side to `size` and keeps the aspect ratio; the longer side is rounded down.

    `method` may be "bicubic", which most transformers were trained and judged with.
    """
    resample = _filter(method)
    if not isinstance(size, int):
        raise UserError(f"resize_short: size is a number of pixels, not {size!r}")
    _pair(size)

    def apply(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape[:2]
        short = min(height, width)
        return _resize(image, (size * height // short, size * width // short), resample)

    return _on_image(apply)


@host_ops.register()
def central_crop(size: int | tuple[int, int]) -> HostOp:
    """Cuts the middle `size` (a side, or height and width) out of the image.

    Raises (when called):
      UserError: the image is smaller.
    """
    size = _pair(size)

    def apply(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        free_rows, free_columns = _free(image, size)
        return _cut(image, round(free_rows / 2), round(free_columns / 2), size)

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

    def apply(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        free_rows, free_columns = _free(image, size)
        return _cut(image, rng.integers(free_rows + 1), rng.integers(free_columns + 1), size)

    crop = _on_image(apply)
    return lambda example, rng: crop(border(example, rng), rng)


def _evaluate_random_resized_crop(size, area=None, ratio=None) -> str:
    return f"resize_short({round(max(_pair(size)) * 8 / 7)})|central_crop({size})"


@host_ops.register(evaluation=_evaluate_random_resized_crop)
def random_resized_crop(
    size: int | tuple[int, int], area: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)
) -> HostOp:
    """Cuts a random rectangle out and resizes it to `size` (Szegedy et al. 2015, arXiv 1409.4842, sec. 6).

    The rectangle has a share of the image's area uniform in `area` and an aspect ratio (width / height)
    log-uniform in `ratio`. As in torchvision, after ten rectangles that do not fit the largest central
    one of an allowed aspect ratio is taken.

    In evaluation the shorter side is resized to 8/7 of `size` (256 for 224), then the middle is cut out.
    """
    size = _pair(size)
    if not 0 < area[0] <= area[1] <= 1:
        raise UserError(f"random_resized_crop: area is (low, high) with 0 < low <= high <= 1, not {area}")
    if not 0 < ratio[0] <= ratio[1]:
        raise UserError(f"random_resized_crop: ratio is (low, high) with 0 < low <= high, not {ratio}")

    def apply(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        top, left, height, width = _random_box(image.shape[:2], area, ratio, rng)
        return _resize(_cut(image, top, left, (height, width)), size)

    return _on_image(apply)


@host_ops.register()
def pad(padding: int, value: int = 0) -> HostOp:
    """Adds a border of `padding` pixels of grey level `value` (0 to 255) on every side."""
    if not (isinstance(padding, int) and padding >= 0):
        raise UserError(f"pad: padding is a number of pixels, not {padding!r}")
    if not (isinstance(value, int) and 0 <= value <= 255):
        raise UserError(f"pad: value is a grey level from 0 to 255, not {value!r}")
    widths = ((padding, padding), (padding, padding), (0, 0))
    return _on_image(lambda image, rng: np.pad(image, widths, constant_values=value))


def _random_box(shape, area, ratio, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a rectangle, drawn as torchvision's RandomResizedCrop.get_params does."""
    rows, columns = shape
    for _ in range(10):
        target = rows * columns * rng.uniform(*area)
        aspect = np.exp(rng.uniform(*np.log(ratio)))
        width, height = round(np.sqrt(target * aspect)), round(np.sqrt(target / aspect))
        if 0 < width <= columns and 0 < height <= rows:
            return rng.integers(rows - height + 1), rng.integers(columns - width + 1), height, width
    height = min(rows, round(columns / ratio[0]))
    width = min(columns, round(rows * ratio[1]))
    return (rows - height) // 2, (columns - width) // 2, height, width


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, tuple | list) else ()
    if len(pair) != 2 or not all(isinstance(s, int) and s > 0 for s in pair):
        raise UserError(f"a size is a number of pixels or (height, width), not {size!r}")
    return pair


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


def _filter(method: str) -> Image.Resampling:
    if method not in FILTERS:
        raise unknown("method of a resize", method, FILTERS)
    return FILTERS[method]


def _resize(image: np.ndarray, size: tuple[int, int], resample=Image.Resampling.BILINEAR) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], resample))


def _rgb(image: np.ndarray) -> np.ndarray:
    if image.ndim == 2:
        image = image[:, :, None]
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def _decode(data: bytes) -> np.ndarray:
    try:
        colorspace = _jpeg_colorspace(data)
        if colorspace in ("Gray", "YCbCr", "RGB"):
            pixels = simplejpeg.decode_jpeg(data, "RGB")
            exif = data.find(b"Exif\0\0", 0, 2**16) >= 0
            return _upright(pixels, Image.open(io.BytesIO(data)).getexif()) if exif else pixels
        with Image.open(io.BytesIO(data)) as image:
            return _upright(_pillow_pixels(image), image.getexif())
    except UnidentifiedImageError:
        raise BadImage("not an image of a known format") from None
    except Exception as error:  # decoders raise anything on broken bytes: OSError, SyntaxError, struct.error, ...
        raise BadImage(str(error) or type(error).__name__) from error


def _jpeg_colorspace(data: bytes) -> str | None:
    """The colour space if simplejpeg can read the header of `data`, None if it is left to Pillow."""
    try:
        return simplejpeg.decode_jpeg_header(data)[2]
    except ValueError:
        return None


def _pillow_pixels(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return _rgb((np.asarray(image) >> 8).astype(np.uint8))  # convert("RGB") would clip at 255
    if "transparency" in image.info:
        image = image.convert("RGBA")  # the way Pillow wants palettes with transparency read
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


_TURNS = {  # EXIF 2.32, tag 0x0112: how to turn stored pixels upright
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x),
}


def _upright(pixels: np.ndarray, exif: Image.Exif) -> np.ndarray:
    turn = _TURNS.get(exif.get(0x0112))
    return np.ascontiguousarray(turn(pixels)) if turn else pixels
