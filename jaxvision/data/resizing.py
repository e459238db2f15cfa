"""The filters of a resize. They give different pixels, so a config names one and should not change it."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from jaxvision.errors import UserError, unknown

Resize = Callable[[np.ndarray, tuple[int, int]], np.ndarray]

METHODS = {
    "bilinear": "Pillow's, antialiased: what torchvision does to Pillow images",
    "bicubic": "Pillow's, antialiased: CLIP, most evaluations of vision transformers",
    "opencv_linear": "not antialiased, as TensorFlow's and OpenCV's default: much faster, aliased when it reduces",
    "opencv_area": "the mean of the pixels that fall into one: antialiased reductions; enlarges as opencv_linear",
}


def resizer(method: str) -> Resize:
    """Returns the function `resize(image, size)` of a method.

    Args:
      method: Key of `METHODS`.

    Returns:
      A function from uint8 [h, w, 3] and size = (new_h, new_w) to uint8 [new_h, new_w, 3].

    Raises:
      UserError: The method is unknown, or needs OpenCV, which is not installed.

    >>> resizer("bilinear")(np.full((4, 6, 3), 7, np.uint8), (2, 2))[:, :, 0].tolist()
    [[7, 7], [7, 7]]
    """
    if method not in METHODS:
        raise unknown("method of resizing", method, METHODS)
    if method.startswith("opencv"):
        resize = _opencv(method)
    else:
        kind = Image.Resampling[method.upper()]

        def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
            return np.asarray(Image.fromarray(image).resize(size[::-1], kind))

    return lambda image, size: image if image.shape[:2] == size else resize(image, size)


def _opencv(method: str) -> Resize:
    try:
        import cv2
    except ImportError:
        raise UserError(f"method={method!r} needs OpenCV: pip install 'jaxvision[opencv]'") from None
    cv2.setNumThreads(1)  # the loader's threads already use every core
    kind = {"opencv_linear": cv2.INTER_LINEAR, "opencv_area": cv2.INTER_AREA}[method]
    return lambda image, size: cv2.resize(image, size[::-1], interpolation=kind)
