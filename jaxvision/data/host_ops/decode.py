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
    """Decodes a JPEG, PNG, WebP, ... to a uint8 [h, w, 3] RGB array, turned upright by its EXIF orientation.

    Grey becomes three equal channels, palettes are looked up, CMYK is converted, an alpha channel is dropped, 16-bit
    grey keeps its high byte, and of an animation or a TIFF of several pages the first picture is taken. An image that
    is a uint8 array already only gets three channels, and so does a clip [t, h, w, c]. The format is one of
    `formats.FORMATS`; no other is tried, so that no file can start another program.

    Args:
      max_pixels: Largest number of pixels; larger images are refused by their headers, before they are decoded. The
        default is 67 million.
      fast: True to decode JPEGs with libjpeg's quicker inverse transform and without interpolating colours. If the next
        operation resizes to a quarter of the size or less, libjpeg also reduces by 2, 4 or 8 first, to no less than
        twice the wanted size. The pixels differ a little; with False they equal Pillow's.

    Raises:
      UserError: `max_pixels` is no number of pixels.
      BadImage: (When called.) The bytes are no picture, only part of one, one that is too large, or one of
        floating-point or 32-bit numbers, whose range is unknown. A damaged JPEG is refused even if libjpeg could fill
        the rest with grey.
    """
    if not is_whole(max_pixels):
        raise UserError(f"decode: max_pixels is a number of pixels, not {shown(max_pixels)}")
    return Decode(int(max_pixels), fast)


class Decode:
    """The operation `decode`.

    Args:
      max_pixels: Largest number of pixels.
      fast: True to decode JPEGs at reduced precision.
    """

    moves = False

    def __init__(self, max_pixels: int, fast: bool):
        self._max_pixels, self._fast = max_pixels, fast

    def __call__(self, example: dict, rng: np.random.Generator | None) -> dict:
        return {**example, "image": self._read(example["image"])}

    def bind(self, call: str, scene: Scene) -> tuple[Apply, Scene]:
        """Returns the operation on all images that an example has.

        Args:
          call: Text of the operation in the spec.
          scene: Fields of the examples.
        """
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
        picture = decoding.read_image(image, self._max_pixels)
        return picture.pixels(fast=False) if isinstance(picture, Jpeg) and not self._fast else picture
