"""The axes of our arrays in other libraries.

Ours: convolutions [h, w, in, out]; linear layers [in, out]; attention's query, key and value
[in, heads, d] with biases [heads, d], its output [heads, d, out].
"""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

HEADS_OUT = re.compile(r"(?:query|key|value)/(?:kernel|bias)$")


class Layout(NamedTuple):
    """Two inverse functions.

    Attributes:
      away: Function `(our array, our path) -> their array`.
      home: Function `(their array, our path, our shape) -> our array`.
    """

    away: Callable[[np.ndarray, str], np.ndarray]
    home: Callable[[np.ndarray, str, tuple[int, ...]], np.ndarray]


def _matrix(x: np.ndarray, path: str) -> np.ndarray:
    """Returns a linear kernel as [in, out], with heads merged, and a bias with one axis."""
    if not path.endswith("kernel"):
        return x.reshape(-1) if HEADS_OUT.search(path) else x
    inputs = x.shape[:1] if HEADS_OUT.search(path) else x.shape[:-1]
    return x.reshape(math.prod(inputs), -1)


def _torch_away(x: np.ndarray, path: str) -> np.ndarray:
    if path.endswith("kernel") and x.ndim == 4:
        return x.transpose(3, 2, 0, 1)  # HWIO to OIHW
    return _matrix(x, path).T if path.endswith("kernel") else _matrix(x, path)


def _torch_home(y: np.ndarray, path: str, shape: tuple[int, ...]) -> np.ndarray:
    if path.endswith("kernel") and y.ndim == 4:
        return y.transpose(2, 3, 1, 0)
    return (y.T if path.endswith("kernel") else y).reshape(shape)


LAYOUTS = {
    "same": Layout(lambda x, path: x, lambda y, path, shape: y),
    "torch": Layout(_torch_away, _torch_home),
    # A linear layer over a whole map, ours [h, w, c, out], stored as [out, c * h * w].
    "torch_map": Layout(
        lambda x, path: x.transpose(3, 2, 0, 1).reshape(x.shape[3], -1),
        lambda y, path, shape: y.reshape(shape[3], shape[2], *shape[:2]).transpose(2, 3, 1, 0),
    ),
    # A linear layer stored as a 1x1 convolution, OIHW or HWIO.
    "torch_1x1": Layout(lambda x, path: x.T[:, :, None, None], lambda y, path, shape: y[:, :, 0, 0].T),
    "tf_1x1": Layout(lambda x, path: x[None, None], lambda y, path, shape: y[0, 0]),
    # Without leading axes of length one: [1, n, d] as [n, d], [1, 1, d] as [d].
    "bare": Layout(
        lambda x, path: x.reshape(x.shape[-1:] if math.prod(x.shape[:-1]) == 1 else x.shape[-2:]),
        lambda y, path, shape: y.reshape(shape),
    ),
    # A factor of each channel as [c, 1, 1].
    "spatial": Layout(lambda x, path: x[:, None, None], lambda y, path, shape: y.reshape(shape)),
    # A factor of each channel as [1, 1, c].
    "of_tokens": Layout(lambda x, path: x[None, None], lambda y, path, shape: y.reshape(shape)),
    "one": Layout(lambda x, path: x.reshape(1), lambda y, path, shape: y.reshape(shape)),  # a scalar as [1]
}
