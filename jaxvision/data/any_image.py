"""An image in any form in which a Python program may hold it, as what `decode` takes: bytes of a file, or pixels."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxvision.data import decoding
from jaxvision.data.decoding import BadImage
from jaxvision.data.formats import MAX_PIXELS

_CHANNELS = (1, 3, 4)


def to_stored(image: Any) -> bytes | np.ndarray:
    """Returns an image as the bytes of its file, or as pixels, for the host operation `decode`.

    Args:
      image: Path of a file; bytes of a file; PIL image; dict with "bytes" or "path", as in the sets of Hugging Face; or
        an array or tensor, see `pixels_of`.

    Returns:
      Bytes of the file; or uint8 [h, w, 3]. An array that has this form already is not copied.

    Raises:
      BadImage: It is none of these, or values are outside of their range.
      OSError: The file cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        return Path(image).expanduser().read_bytes()
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, Image.Image):
        return decoding.pixels_of_pillow(image, MAX_PIXELS)
    if isinstance(image, dict) and (image.get("bytes") is not None or image.get("path") is not None):
        return to_stored(image["bytes"] if image.get("bytes") is not None else image["path"])
    if hasattr(image, "__array__") or hasattr(image, "detach"):
        return pixels_of(image)
    raise BadImage(
        f"its image is a {type(image).__name__}, not a path, the bytes of a file, a PIL image, an array or a tensor"
    )


def is_image(value: Any) -> bool:
    """Returns whether a value is one image, by its type and shape alone; see `to_stored`.

    Args:
      value: Value of any type.

    >>> is_image(np.zeros((4, 4, 3), np.uint8)), is_image("a.png"), is_image(3)
    (True, False, False)
    """
    if isinstance(value, bytes | bytearray | memoryview | Image.Image):
        return True
    if isinstance(value, dict):
        return "bytes" in value and "path" in value
    shape = tuple(getattr(value, "shape", ()))
    return len(shape) == 2 or (len(shape) == 3 and (shape[-1] in _CHANNELS or shape[0] in _CHANNELS))


def pixels_of(image: Any) -> np.ndarray:
    """Returns the pixels of an array or a tensor.

    Args:
      image: Array [h, w] or [h, w, c], or tensor of torch [h, w] or [c, h, w], with 1, 3 or 4 channels; of the last, an
        alpha channel, nothing is kept. uint8 in 0 to 255, uint16, of which the high byte is kept as of 16-bit files, or
        floats in [0, 1].

    Returns:
      uint8 [h, w, 3].

    Raises:
      BadImage: Its shape or type is another, or values are outside of their range.

    >>> pixels_of(np.ones((2, 2), np.float32))[0, 0].tolist()
    [255, 255, 255]
    """
    tensor = hasattr(image, "detach")
    array = np.asarray(image.detach().cpu()) if tensor else np.asarray(image)
    if array.ndim == 3 and array.shape[-1] not in _CHANNELS:
        if not tensor and array.shape[0] not in _CHANNELS:
            raise BadImage(f"its image is an array of shape {array.shape}, not [height, width, 1, 3 or 4 channels]")
        if not tensor:
            raise BadImage(
                f"its image is an array of shape {array.shape}: the channels must come last, as in "
                f"array.transpose(1, 2, 0); only tensors of torch have them first"
            )
    if tensor and array.ndim == 3 and array.shape[0] in _CHANNELS:
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[-1] == 4:
        array = array[..., :3]
    return decoding.three_channels(_bytes(array))


def _bytes(array: np.ndarray) -> np.ndarray:
    """The values as uint8, of the same shape."""
    if array.dtype == np.uint16:
        if array.size and 0 < int(array.max()) < 256:
            raise BadImage(
                f"its image has values of uint16 up to {int(array.max())} only, which would be black, since uint16 "
                "stands for 0 to 65535: give pixels in 0 to 255 as uint8, as in array.astype(np.uint8)"
            )
        return (array >> 8).astype(np.uint8)
    if array.dtype.kind != "f" or not array.size:
        return array
    least, most = float(array.min()), float(array.max())
    if not (least >= 0 and most <= 1):  # also if one is NaN
        advice = (
            "give pixels that are not normalised (for torchvision, leave Normalize out), since the augmentation spec "
            "normalises"
        )
        if least >= 0 and 1 < most <= 255:
            advice = "divide pixels in 0 to 255 by 255, or give them as uint8, as in array.astype(np.uint8)"
        raise BadImage(f"its image has floats from {least:.4g} to {most:.4g}, not from 0 to 1: {advice}")
    return np.rint(array * 255).astype(np.uint8)
