"""Receptive fields: the pixels that can change a unit of a map, found by overwriting pixels with NaN."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.explain.base import BATCH, Outputs, layer

SIDES = 4  # of an image: pixels are overwritten from its top, bottom, left or right
GREY = 0.5


def receptive_fields(
    outputs: Outputs,
    variables: Any,
    size: tuple[int, int],
    name: str,
    units: Sequence[tuple[int, int, int]] | np.ndarray,
    batch: int = BATCH,
) -> np.ndarray:
    """Finds the receptive fields of units: the smallest rectangle outside of which no pixel can change the unit.

    Nothing about the network is assumed but that NaN passes through it. Rows (or columns) of an image are overwritten
    with NaN, from one of its four sides on, and the unit is looked at. The largest number of rows that leaves it finite
    is found by bisection, for all units and sides together. A pixel whose weight is 0 counts as seen, as does one that
    an attention leaves out by a mask. The images of a batch must not change one another, as with BatchNorm in training.

    It runs on the CPU, because some convolutions of GPUs (FFT, Winograd) spread NaN beyond the window of a kernel; and
    operation by operation, because a ReLU and a sum that XLA joins into one loop on the CPU drop it.

    Args:
      outputs: Pure function of variables and images that returns the map among others.
      variables: Variables of the model.
      size: Height and width of the images, in pixels.
      name: Name of the map, such as "stages/1".
      units: Row and column of the map, and number of the unit, int [p, 3].
      batch: Number of images in a pass.

    Returns:
      First row, row after the last, first column and column after the last, int [p, 4]. All are 0 for a unit that no
      pixel can change.

    >>> every_second = lambda variables, images: {"map": images[:, ::2, ::2]}
    >>> receptive_fields(every_second, {}, (8, 8), "map", [(0, 0, 0), (3, 1, 0)]).tolist()
    [[0, 1, 0, 1], [6, 7, 2, 3]]
    """
    rows, columns, channels = np.asarray(units, int).reshape(-1, 3).T
    lengths = np.repeat(size, 2)  # of the axis along which each side is overwritten
    finite = np.zeros((len(rows), SIDES), int)  # numbers of overwritten rows that leave the unit finite
    changed = np.tile(lengths + 1, (len(rows), 1))  # and that do not; one more than there are rows never does
    respond = _on_cpu(lambda variables, images: jnp.isnan(layer(outputs(variables, images), name)), variables)
    while (changed - finite > 1).any():
        middle = (finite + changed) // 2
        tried = np.stack([np.broadcast_to(np.arange(SIDES), middle.shape), middle], axis=-1)  # p 4 2
        distinct, which = np.unique(tried.reshape(-1, 2), axis=0, return_inverse=True)
        which, is_nan = which.reshape(middle.shape), np.zeros(middle.shape, bool)
        for start in range(0, len(distinct), batch):
            part = respond(overwritten(size, distinct[start : start + batch], batch))
            unit, side = np.nonzero((which >= start) & (which < start + batch))
            is_nan[unit, side] = part[which[unit, side] - start, rows[unit], columns[unit], channels[unit]]
        finite, changed = np.where(is_nan, finite, middle), np.where(is_nan, middle, changed)
    top, bottom, left, right = np.where(finite[:, :1] == size[0], [0, size[0], 0, size[1]], finite).T
    return np.stack([top, size[0] - bottom, left, size[1] - right], axis=1)


def overwritten(size: tuple[int, int], regions: np.ndarray, count: int) -> np.ndarray:
    """Makes grey images in which rows or columns are NaN.

    Args:
      size: Height and width, in pixels.
      regions: Side of each image (0 top, 1 bottom, 2 left, 3 right) and the number of rows or columns from there on
        that are NaN, int [m, 2].
      count: Number of images, at least m; those after the m-th are grey.

    Returns:
      float32 [count, height, width, 3].
    """
    images = np.full((count, *size, 3), GREY, np.float32)
    for image, (side, number) in zip(images, regions.tolist()):
        lines = image if side < 2 else image.swapaxes(0, 1)
        lines[slice(number) if side % 2 == 0 else slice(len(lines) - number, None)] = np.nan
    return images


def sees_everything(outputs: Outputs, variables: Any, size: tuple[int, int], names: Sequence[str]) -> dict[str, bool]:
    """Tells of each map whether the receptive field of a unit in its middle is the whole image.

    Args:
      outputs: Pure function of variables and images that returns the maps among others.
      variables: Variables of the model.
      size: Height and width of the images, in pixels.
      names: Names of the maps.
    """

    def of(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        out = outputs(variables, images)
        maps = {name: layer(out, name) for name in names}
        # One row or column at each side is NaN: all four must reach the middle.
        return {name: jnp.isnan(x[:, x.shape[1] // 2, x.shape[2] // 2]).any(-1).all() for name, x in maps.items()}

    found: Mapping[str, np.ndarray] = _on_cpu(of, variables)(
        overwritten(size, np.array([(side, 1) for side in range(SIDES)]), SIDES)
    )
    return {name: bool(x) for name, x in found.items()}


def _on_cpu(fn: Any, variables: Any) -> Any:
    """A function of variables and images as one of images that runs on the CPU, operation by operation."""
    cpu = jax.local_devices(backend="cpu")[0]
    variables = jax.device_put(variables, cpu)

    def run(images: np.ndarray) -> Any:
        with jax.default_device(cpu), jax.disable_jit(), jax.debug_nans(False):
            return jax.device_get(fn(variables, jax.device_put(images, cpu)))

    return run
