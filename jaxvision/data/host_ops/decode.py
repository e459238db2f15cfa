"""From the bytes of image files to pixels."""

import numpy as np

from jaxvision.arguments import is_whole
from jaxvision.data import decoding
from jaxvision.data.decoding import Jpeg
from jaxvision.data.formats import MAX_PIXELS
from jaxvision.data.host_ops.base import Apply, Scene, host_ops
from jaxvision.errors import UserError, shown


@host_ops.register()
def decode(max_pixels: int = MAX_PIXELS, fast: bool = False) -> "Decode":
    """Bytes of a JPEG, PNG, WebP, ... to a uint8 [H, W, 3] RGB array, turned upright by the EXIF orientation.

    Grey becomes three equal channels, palettes are looked up, CMYK is converted, an alpha channel is dropped,
    16-bit grey keeps its high byte, and of an animation or a TIFF of several pages the first is taken. An image
    that is a uint8 array already is only given three channels, and so is a clip [T, H, W, C]. The formats are those of
    `formats.FORMATS`; no other is tried, so that no bytes start another program.

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
    return Decode(int(max_pixels), fast)


class Decode:
    """The operation `decode`."""

    moves = False

    def __init__(self, max_pixels: int, fast: bool):
        self._max_pixels, self._fast = max_pixels, fast

    def __call__(self, example: dict, rng: np.random.Generator | None) -> dict:
        return {**example, "image": self._read(example["image"])}

    def bind(self, call: str, scene: Scene) -> tuple[Apply, Scene]:
        """Decodes all images that an example has."""
        names, out = scene.images(), {}
        for name in names:
            shape = scene.fields[name].shape
            pixels = shape if len(shape) < 3 else shape[:-1]
            out[name] = scene.fields[name]._replace(shape=(*pixels, 3), dtype="uint8")

        def apply(example: dict, rng: np.random.Generator | None) -> dict:
            return example | {name: self._read(example[name]) for name in names if name in example}

        return apply, scene.with_fields(out)

    def _read(self, image: bytes | np.ndarray) -> np.ndarray | Jpeg:
        if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 4:
            return np.stack([decoding.three_channels(frame) for frame in image])
        if isinstance(image, np.ndarray):
            return decoding.three_channels(image)
        image = decoding.read(image, self._max_pixels)
        return image.pixels(fast=False) if isinstance(image, Jpeg) and not self._fast else image
