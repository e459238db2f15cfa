"""Statistics of a split, to which `standardize`, `pca_lighting`, `whiten` and the like are fitted.

Sums of 8-bit values and of their products are whole numbers, which int64 and float64 hold exactly. So the result does
not depend, not even in the last bit, on the order of the examples or on the batches.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np

from jaxvision.errors import UserError

MAX_WHITENED = 48 * 48 * 3  # largest number of values of an image; their covariance takes 0.4 GB


class Statistics(NamedTuple):
    """Statistics of images with values in [0, 1], float64. Deviations and covariances divide by n.

    Attributes:
      mean: Mean of each channel over all pixels, [3].
      std: Standard deviation of each channel over all pixels, [3].
      color_values: Eigenvalues of the covariance of RGB values over all pixels, falling, [3].
      color_vectors: Eigenvectors of the same covariance, the columns of [3, 3].
      mean_image: Mean of the images, [h, w, 3].
      pixel_values: Eigenvalues of the covariance of flattened images, falling, [d] with d = h * w * 3; None unless
        asked for.
      pixel_vectors: Eigenvectors of the same covariance, the columns of [d, d]; None unless asked for. The largest
        value of each is positive.
    """

    mean: np.ndarray
    std: np.ndarray
    color_values: np.ndarray
    color_vectors: np.ndarray
    mean_image: np.ndarray
    pixel_values: np.ndarray | None = None
    pixel_vectors: np.ndarray | None = None


def compute_statistics(
    batches: Iterable[dict[str, np.ndarray]], names: Collection[str] = (), field: str = "image"
) -> Statistics:
    """Computes the statistics of all examples in one pass.

    Args:
      batches: Batches with images uint8 [b, h, w, 3] and `mask` bool [b], as `loader.eval_batches` yields them: every
        example once. Masked examples are left out.
      names: Names of the statistics that are needed, from `augment.needs_statistics`. `pixel_values` and
        `pixel_vectors` are computed only if named: their time grows with the cube of the number of pixels.
      field: Name of the images.

    Raises:
      UserError: There is no example, images differ in size, or they are too large for `pixel_values`.

    >>> images = np.zeros((2, 4, 4, 3), np.uint8)
    >>> images[0] = 255
    >>> compute_statistics([{"image": images, "mask": np.array([True, True])}]).std
    array([0.5, 0.5, 0.5])
    """
    whitening = "pixel_values" in names or "pixel_vectors" in names
    count = 0
    sums = color_products = pixel_products = np.zeros((), np.int64)
    for batch in batches:
        images = batch[field][batch["mask"]]
        shape = images.shape[1:]
        if count and sums.shape != shape:
            raise UserError(f"statistics need images of one size, not {_size(sums.shape)} and {_size(shape)}")
        if whitening and np.prod(shape) > MAX_WHITENED:
            raise UserError(f"whitening is for images of at most 48x48, not {_size(shape)}")
        count += len(images)
        sums = sums + images.sum(0, dtype=np.int64)
        for image in images:  # one by one: a batch of large images in float64 would take gigabytes
            pixels = image.reshape(-1, 3).astype(np.float64)
            color_products = color_products + (pixels.T @ pixels).astype(np.int64)
        if whitening:
            flat = images.reshape(len(images), -1).astype(np.float64)
            pixel_products = pixel_products + flat.T @ flat
    if not count:
        raise UserError("there are no examples to compute statistics of")

    mean_image = sums / count / 255
    color = _covariance(sums.sum((0, 1)), color_products, count * sums[..., 0].size)
    statistics = Statistics(
        mean=sums.sum((0, 1)) / (count * sums[..., 0].size) / 255,
        std=np.sqrt(np.diag(color)),
        **dict(zip(("color_values", "color_vectors"), _eigen(color))),
        mean_image=mean_image,
    )
    if whitening:
        flat = mean_image.reshape(-1)
        values, vectors = _eigen(pixel_products / count / 255**2 - np.outer(flat, flat))
        statistics = statistics._replace(pixel_values=values, pixel_vectors=vectors)
    return statistics


def _covariance(sums: np.ndarray, products: np.ndarray, count: int) -> np.ndarray:
    """Returns the covariance of values in [0, 1] from sums of grey levels; exact up to the last division."""
    sums, products = sums.astype(object), products.astype(object)
    return ((count * products - np.outer(sums, sums)) / (count**2 * 255**2)).astype(np.float64)


def _eigen(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    largest = np.abs(vectors).argmax(0)
    return values, vectors * np.sign(vectors[largest, np.arange(len(values))])


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]}"
