"""Bytes of an image file to RGB pixels, or BadImage: never part of a picture."""

import io
import struct

import numpy as np
import simplejpeg
from PIL import Image

Box = tuple[int, int, int, int]  # top, left, height, width


class BadImage(Exception):
    """The bytes of an example are not a whole picture, or a larger one than is allowed."""


class Jpeg:
    """A JPEG that is decoded when it is known which part of it is wanted, and at which size.

    Attributes:
      shape: (height, width, 3) of the upright picture.
    """

    def __init__(self, data: bytes, height: int, width: int):
        self._data = data
        self._orientation = _jpeg_orientation(data)
        self._stored = height, width
        self.shape = (*(self._stored[::-1] if self._orientation >= 5 else self._stored), 3)

    def pixels(self, factor: int = 1, fast: bool = True) -> np.ndarray:
        """The whole picture reduced by `factor`, one of 1, 2, 4 and 8: uint8 [ceil(H / factor), ceil(W / factor), 3].

        To reduce, libjpeg inverts a smaller discrete cosine transform, which takes less time than a whole one. With
        `fast` it inverts with fewer digits and does not interpolate colours; else the pixels are those of Pillow.

        Raises:
          BadImage: the file is damaged.
        """
        rows, columns = (-(-side // factor) for side in self._stored)
        size = dict(min_height=rows, min_width=columns, min_factor=factor)
        image = _decode_jpeg(self._data, "RGB", fastdct=fast, fastupsample=fast, **size)
        return _upright(image, self._orientation)

    def cut(self, box: Box, size: tuple[int, int]) -> np.ndarray:
        """The part in `box`, reduced by the largest factor that leaves it at least twice the `size` it is wanted at.

        The box is rounded to pixels of the reduced picture, so what is wanted shifts by at most half a pixel.

        Raises:
          BadImage: the file is damaged.
        """
        top, left, height, width = box
        ratio = min(height / size[0], width / size[1])
        factor = next((f for f in (8, 4, 2) if 2 * f <= ratio), 1)
        rows, columns = max(1, round(height / factor)), max(1, round(width / factor))
        image = self.pixels(factor)
        # Reduced, the last row and column may reach beyond the picture; turned, they may come first.
        above = image.shape[0] * factor - self.shape[0] if self._orientation in (3, 4, 7, 8) else 0
        before = image.shape[1] * factor - self.shape[1] if self._orientation in (2, 3, 6, 7) else 0
        top = min(round((top + above) / factor), image.shape[0] - rows)
        left = min(round((left + before) / factor), image.shape[1] - columns)
        return image[top : top + rows, left : left + columns]


def read(data: bytes, max_pixels: int) -> Jpeg | np.ndarray:
    """A `Jpeg` whose header has been read where simplejpeg can decode it, else uint8 [H, W, 3] pixels by Pillow.

    Raises:
      BadImage: the bytes are no picture, only part of one, or one of more than `max_pixels`; then nothing is decoded.
    """
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return _decode_by_pillow(data, max_pixels)
    _check_size(width, height, max_pixels)
    if colorspace in ("Gray", "YCbCr", "RGB"):
        return Jpeg(data, height, width)
    _decode_jpeg(data, "CMYK")  # Pillow converts the colours, but would go on with grey where the file is damaged
    return _decode_by_pillow(data, max_pixels)


def three_channels(image: np.ndarray) -> np.ndarray:
    """Makes [H, W], [H, W, 1] or [H, W, 3] the last of these."""
    if image.ndim == 2:
        image = image[:, :, None]
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def _decode_jpeg(data: bytes, colorspace: str, **options) -> np.ndarray:
    try:
        return simplejpeg.decode_jpeg(data, colorspace, **options)
    except ValueError as error:
        raise BadImage(str(error)) from None


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if not 0 < width * height <= max_pixels:
        raise BadImage(f"the image has {width}x{height} pixels, and decode(max_pixels={max_pixels}) is the limit")


def _decode_by_pillow(data: bytes, max_pixels: int) -> np.ndarray:
    try:
        with _open(data) as image:
            _check_size(*image.size, max_pixels)
            return _upright(_pillow_pixels(image), image.getexif().get(0x0112, 1))
    except BadImage:
        raise
    except Exception as error:  # decoders raise anything on broken bytes: OSError, SyntaxError, struct.error, ...
        raise BadImage(str(error) or type(error).__name__) from error


def _open(data: bytes) -> Image.Image:
    """`Image.open` without its limit of pixels, which is a global that warns; `max_pixels` takes its place."""
    Image.init()
    for kind in Image.ID:
        factory, accept = Image.OPEN[kind]
        fits = accept is None or accept(data[:16])
        if not fits or isinstance(fits, str):  # a text says why the kind cannot be read
            continue
        try:
            return factory(io.BytesIO(data), "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # not of this kind after all
            continue
    raise BadImage("not an image of a known format")


def _pillow_pixels(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return three_channels((np.asarray(image) >> 8).astype(np.uint8))  # convert("RGB") would clip at 255
    if "transparency" in image.info:
        image = image.convert("RGBA")  # the way Pillow wants palettes with transparency read
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _jpeg_orientation(data: bytes) -> int:
    """The EXIF orientation, 1 where there is none."""
    at = 2
    while data[at : at + 1] == b"\xff" and (0xE0 <= data[at + 1] <= 0xEF or data[at + 1] == 0xFE):  # APPn, comment
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 4 : at + 10] == b"Exif\0\0":
            exif = Image.Exif()
            try:
                exif.load(data[at + 4 : at + 2 + length])
                orientation = exif.get(0x0112, 1)
            except (SyntaxError, struct.error):  # no more than the picture's way up is lost
                return 1
            return orientation if orientation in _TURNS else 1
        at += 2 + length
    return 1


_TURNS = {  # EXIF 2.32, tag 0x0112: how to turn stored pixels upright
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x),
}


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    turn = _TURNS.get(orientation)
    return np.ascontiguousarray(turn(pixels)) if turn else pixels
