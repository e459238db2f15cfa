"""Turns the kernels of a network's first layer into pictures."""

from typing import Any

import numpy as np

from jaxvision import paths

PyTree = Any

CHANNELS = (3, 1)  # channels of colour images and of grey ones


def first(params: PyTree) -> tuple[str, np.ndarray] | None:
    """Finds the kernel of the first convolution, or of a ViT's patch embedding.

    Args:
      params: Parameters of a network.

    Returns:
      Its path and its values, float [h, w, 3 or 1, N]; None if no parameter has such a shape.

    >>> first({"head": {"kernel": np.ones((8, 2))}, "stem": {"kernel": np.ones((7, 7, 3, 8))}})[0]
    'stem/kernel'
    """
    named = paths.flatten(params)
    for channels in CHANNELS:
        for name, kernel in named.items():
            if kernel.ndim == 4 and kernel.shape[2] == channels and kernel.shape[0] > 1:
                return name, np.asarray(kernel)
    return None


def pictures(kernel: np.ndarray) -> np.ndarray:
    """Turns each filter of a kernel into a picture, scaled by its own largest weight, in order of falling norm.

    Args:
      kernel: Weights, float [h, w, C, N], with C of 3 or 1.

    Returns:
      Float [N, h, w, 3] in [0, 1]; a weight of 0 is 0.5, grey.

    >>> pictures(np.array([0.0, -2.0, 1.0]).reshape(1, 1, 3, 1)).ravel().tolist()
    [0.5, 0.0, 0.75]
    """
    filters = np.moveaxis(np.asarray(kernel, np.float32), -1, 0)  # n h w c
    filters = filters[np.argsort(-np.square(filters).sum((1, 2, 3)), kind="stable")]
    largest = np.abs(filters).max(axis=(1, 2, 3), keepdims=True)
    scaled = 0.5 + 0.5 * filters / np.maximum(largest, 1e-12)
    return np.broadcast_to(scaled, (*scaled.shape[:3], 3))
