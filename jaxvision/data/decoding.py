"""From the bytes of an image file to RGB pixels, or BadImage; never to a part of a picture."""

import io
import math
from collections.abc import Callable

import numpy as np
import simplejpeg
from PIL import Image

from jaxvision.data.formats import FORMATS, MAX_PIXELS, MAX_SCANS
from jaxvision.data.signatures import describe_bytes

_SCAN = b"\xff\xda"  # marker of a scan, which cannot occur in pixels
_SEQUENTIAL = {0xC0, 0xC1}  # frames whose components may come in one scan
_PLAIN = {*_SEQUENTIAL, 0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}  # these, tables, comments and applications
_TILE = 2**20  # pixels of a TIFF tile that is decoded whatever the limit
Box = tuple[int, int, int, int]  # top, left, height, width


class BadImage(Exception):
    """The bytes of an example are not a whole picture, or are one larger than allowed."""


class Jpeg:
    """A JPEG that is decoded later, when the wanted part and its size are known.

    Args:
      data: Content of the file.
      height: Height as stored, in pixels, before the picture is turned upright.
      width: Width as stored.

    Attributes:
      shape: (height, width, 3) of the upright picture.
    """

    def __init__(self, data: bytes, height: int, width: int):
        self._data = data
        self._orientation = _jpeg_orientation(data)
        self._stored = height, width
        self.shape = (*(self._stored[::-1] if self._orientation >= 5 else self._stored), 3)

    def pixels(self, factor: int = 1, fast: bool = True) -> np.ndarray:
        """Decodes the whole picture, reduced by a factor, to uint8 [h, w, 3].

        To reduce, libjpeg inverts a smaller discrete cosine transform, which takes less time than the full one.

        Args:
          factor: 1, 2, 4 or 8.
          fast: True to invert with fewer digits and not to interpolate colours; with False the pixels equal Pillow's.

        Returns:
          uint8 [ceil(h / factor), ceil(w / factor), 3].

        Raises:
          BadImage: The file is damaged.
        """
        rows, columns = (-(-side // factor) for side in self._stored)
        size = dict(min_height=rows, min_width=columns, min_factor=factor)
        image = _decode_jpeg(self._data, "RGB", fastdct=fast, fastupsample=fast, **size)
        return _upright(image, self._orientation)

    def cut(self, box: Box, size: tuple[int, int]) -> np.ndarray:
        """Decodes a part of the picture, reduced by the largest factor that leaves it at least twice the wanted size.

        The box is rounded to pixels of the reduced picture, so the part shifts by at most half a pixel.

        Args:
          box: Part of the upright picture, in pixels.
          size: Wanted (height, width), in pixels.

        Returns:
          uint8 [h, w, 3].

        Raises:
          BadImage: The file is damaged.
        """
        top, left, height, width = box
        ratio = min(height / size[0], width / size[1])
        factor = next((f for f in (8, 4, 2) if 2 * f <= ratio), 1)
        rows, columns = max(1, round(height / factor)), max(1, round(width / factor))
        image = self.pixels(factor)
        # The last row and column of a reduced picture may reach beyond it; if it was turned, they may come first.
        above = image.shape[0] * factor - self.shape[0] if self._orientation in (3, 4, 7, 8) else 0
        before = image.shape[1] * factor - self.shape[1] if self._orientation in (2, 3, 6, 7) else 0
        top = min(round((top + above) / factor), image.shape[0] - rows)
        left = min(round((left + before) / factor), image.shape[1] - columns)
        return image[top : top + rows, left : left + columns]


def read_image(data: bytes, max_pixels: int) -> Jpeg | np.ndarray:
    """Reads the header of an image, and decodes the image if `Jpeg` cannot do so later.

    Pillow takes JPEGs with samplings that simplejpeg has no name for; a damaged one among these may pass.

    Args:
      data: Content of an image file.
      max_pixels: Largest number of pixels that is decoded.

    Returns:
      A `Jpeg` if simplejpeg can decode it, else the pixels from Pillow, uint8 [h, w, 3].

    Raises:
      BadImage: The bytes are no picture, only part of one, or one of more than `max_pixels`; then nothing is decoded.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise BadImage(f"its image is a {type(data).__name__}, not the bytes of an image file")
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except KeyError:  # simplejpeg has no name for the sampling 4:4:1, but decodes it
        with _opened(data, max_pixels) as image:
            (width, height), colorspace = image.size, image.mode
    except Exception:
        return _decode_by_pillow(data, max_pixels)
    _check_size(width, height, max_pixels)
    if not _has_one_scan(data) and (scans := bytes(data).count(_SCAN)) > MAX_SCANS:
        raise BadImage(f"the JPEG has {scans:,} scans, each as long in work as all of it; {MAX_SCANS} is the limit")
    if colorspace in ("Gray", "YCbCr", "RGB"):
        return Jpeg(data, height, width)
    _decode_jpeg(data, "CMYK")  # Pillow converts colours, but fills damaged parts with grey
    return _decode_by_pillow(data, max_pixels)


def image_size(data: bytes) -> tuple[int, int]:
    """Returns (height, width) of the upright picture in pixels, from its header alone.

    Args:
      data: Content of an image file.

    Raises:
      BadImage: The bytes are no picture of a supported format.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise BadImage(f"its image is a {type(data).__name__}, not the bytes of an image file")
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        orientation = _jpeg_orientation(data)
    except Exception:
        with _opened(data, MAX_PIXELS) as image:
            (width, height), orientation = image.size, _orientation(image.getexif)
    return (width, height) if orientation >= 5 else (height, width)


def three_channels(image: np.ndarray) -> np.ndarray:
    """Returns a grey or colour image as an array of three channels.

    Args:
      image: Image, uint8 [h, w], [h, w, 1] or [h, w, 3].

    Returns:
      uint8 [h, w, 3].

    Raises:
      BadImage: The array is of another type or shape, or holds no pixels.

    >>> three_channels(np.zeros((2, 3), np.uint8)).shape
    (2, 3, 3)
    """
    if image.dtype != np.uint8:
        raise BadImage(f"its image is an array of {image.dtype}, not uint8, so the range of its values is not known")
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
        raise BadImage(
            f"its image is an array of shape {image.shape}, not (height, width), with 1 or 3 channels or none"
        )
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def pixels_of_pillow(image: Image.Image, max_pixels: int) -> np.ndarray:
    """Returns the pixels of an image that Pillow has opened, as `read_image` returns those of its file.

    Args:
      image: Image of Pillow, whose EXIF orientation, if it has one, is applied.
      max_pixels: Largest number of pixels that is decoded.

    Returns:
      uint8 [h, w, 3].

    Raises:
      BadImage: It cannot be decoded, or its pixels have no known range.
    """
    _check_size(*image.size, max_pixels)
    try:
        pixels = _pillow_pixels(image)
    except BadImage:
        raise
    except Exception as error:  # decoders raise anything on broken bytes: OSError, SyntaxError, struct.error, ...
        raise BadImage(f"the {image.format or 'image'} is damaged or truncated: {_words(error)}") from error
    return _upright(pixels, _orientation(image.getexif))


def _decode_jpeg(data: bytes, colorspace: str, **options) -> np.ndarray:
    try:
        return simplejpeg.decode_jpeg(data, colorspace, **options)
    except Exception as error:
        raise BadImage(_words(error)) from error


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height == 0:
        raise BadImage(f"the image has {width}x{height} pixels, so there is nothing in it")
    if width * height > max_pixels:
        raise BadImage(f"the image has {width}x{height} pixels, and decode(max_pixels={max_pixels}) is the limit")


def _decode_by_pillow(data: bytes, max_pixels: int) -> np.ndarray:
    with _opened(data, max_pixels) as image:
        return pixels_of_pillow(image, max_pixels)


def _words(error: Exception) -> str:
    """Returns the message of an exception of a library, with its type if there is no message or only a key."""
    text = " ".join(str(error).split())
    return text if text and not isinstance(error, KeyError) else f"{type(error).__name__} {text}".strip()


def _opened(data: bytes, max_pixels: int) -> Image.Image:
    """Reads the header of an image of one of `FORMATS`, and nothing else.

    This is `Image.open` for these formats alone. The limit of pixels is `max_pixels`, not Pillow's global one, which
    only warns.

    Raises:
      BadImage: The bytes are no such image, or one of more than `max_pixels`.
    """
    Image.init()
    reason = ""
    for kind in FORMATS:
        factory, accept = Image.OPEN.get(kind, (None, None))
        fits = factory and (accept is None or accept(bytes(data[:16])))
        if isinstance(fits, str):  # the reason why this build of Pillow cannot read the format
            reason = reason or fits
        elif fits and factory:
            try:
                if kind == "WEBP":
                    _check_size(*_webp_size(data), max_pixels)  # Pillow would reserve memory for all pixels
                image = factory(io.BytesIO(data), "")
            except BadImage:
                raise
            except Exception as error:
                reason = reason or f"it begins like {kind}, but is damaged or truncated: {_words(error)}"
                continue
            _check_size(*image.size, max_pixels)
            tile = [_number(getattr(image, "tag_v2", {}).get(tag)) for tag in (322, 323)]  # TileWidth, TileLength
            if math.prod(tile) > max(max_pixels, _TILE):
                raise BadImage(f"the TIFF has tiles of {tile[0]}x{tile[1]} pixels, more than are decoded")
            return image
    raise BadImage(describe_bytes(data) or reason or f"it is none of the formats that are read: {', '.join(FORMATS)}")


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _webp_size(data: bytes) -> tuple[int, int]:
    """Returns (width, height) of an extended WebP (RFC 9649, sec. 2.7), which may be huge; (1, 1) for other kinds."""
    if data[12:16] != b"VP8X" or len(data) < 30:
        return 1, 1
    return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1


def _pillow_pixels(image: Image.Image) -> np.ndarray:
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        kind = "floating-point numbers" if image.mode == "F" else "signed or of 32 bits"
        raise BadImage(f"its pixels are {kind}, whose range is not known: convert it to 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):  # 16 bits; convert("RGB") would clip at 255
        return three_channels(_high_byte(image))
    if "transparency" in image.info:
        image = image.convert("RGBA")  # as Pillow recommends for palettes with transparency
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _high_byte(image: Image.Image) -> np.ndarray:
    """Returns the eight highest bits of grey pixels, uint8 [h, w], where Pillow leaves a TIFF as it is stored."""
    tags = getattr(image, "tag_v2", {})
    bits = 12 if tags.get(258) == (12,) else 16
    grey = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    return 255 - grey if tags.get(262) == 0 else grey  # photometric interpretation 0: white is zero


def _has_one_scan(data: bytes) -> bool:
    """Returns whether a JPEG surely has one scan, from its header alone: counting all scans takes a tenth of the time
    of decoding.

    A decoder reads several scans if the frame is progressive, or if its first scan lacks some of its components. A
    header with any marker beyond `_PLAIN` is left to the count, since decoders may read on from another place.
    """
    at, components = 2, -1
    while len(data) > at + 9 and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == _SCAN[1]:
            return data[at + 4] == components
        if kind not in _PLAIN:
            return False
        if kind in _SEQUENTIAL:
            components = data[at + 9]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _jpeg_orientation(data: bytes) -> int:
    """Returns the EXIF orientation, 1 if there is none."""
    at = 2
    while (
        data[at : at + 1] == b"\xff"
        and (kind := data[at + 1 : at + 2])
        and (kind == b"\xfe" or b"\xe0" <= kind <= b"\xef")
    ):
        length = int.from_bytes(data[at + 2 : at + 4], "big")  # length of a segment APPn or a comment
        if data[at + 4 : at + 10] == b"Exif\0\0":

            def load(segment: bytes = data[at + 4 : at + 2 + length]) -> Image.Exif:
                exif = Image.Exif()
                exif.load(segment)
                return exif

            return _orientation(load)
        at += 2 + length
    return 1


def _orientation(load: Callable[[], Image.Exif]) -> int:
    """Returns the orientation of the EXIF that `load` reads; 1 if it is damaged, since only the orientation is lost."""
    try:
        orientation = load().get(0x0112, 1)
    except Exception:
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TURNS else 1


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
