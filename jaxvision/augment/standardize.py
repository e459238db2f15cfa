"""Standardising images by the statistics of the training split (see data/statistics.py), or by their own.

All operations work on float32 [..., h, w, 3] in [0, 1], with or without views.
"""

import math

import jax
import jax.numpy as jnp

from jaxvision.augment.operations import Operation, image_wide
from jaxvision.augment.registry import check_number, ops, uses_statistics
from jaxvision.errors import UserError, unknown

KINDS = ("zca", "pca")


@ops.register()
@uses_statistics("mean", "std")
def standardize() -> Operation:
    """Standardises images, `(image - mean) / std`, with mean and deviation of each channel over the training pixels."""

    def change(rng, images, statistics):
        return (images - _read(statistics, "mean")) / _read(statistics, "std")

    return image_wide(change)


@ops.register()
def standardize_image() -> Operation:
    """Gives each image mean 0 and deviation 1 over all its values, as `tf.image.per_image_standardization`.

    The deviation is at least 1 / sqrt(H * W * 3), so that a uniform image becomes 0.
    """

    def change(rng, images, statistics):
        axes = (-3, -2, -1)
        least = 1 / math.sqrt(math.prod(images.shape[-3:]))
        centred = images - images.mean(axes, keepdims=True)
        return centred / jnp.maximum(centred.std(axes, keepdims=True), least)

    return image_wide(change)


@ops.register()
@uses_statistics("mean_image")
def subtract_mean_image() -> Operation:
    """Subtracts the mean of the training images, pixel by pixel (Krizhevsky et al. 2012, sec. 2)."""

    def change(rng, images, statistics):
        return _centred("subtract_mean_image", images, statistics)

    return image_wide(change)


@ops.register(evaluation="")
@uses_statistics("color_values", "color_vectors")
def pca_lighting(std: float = 0.1) -> Operation:
    """Shifts the colour of each image along the principal components of the training pixels.

    Krizhevsky et al. 2012, sec. 4.1: sum_i a_i l_i p_i is added to every pixel, where l and p are the eigenvalues and
    eigenvectors of the 3 x 3 covariance of RGB values, and a_i ~ Normal(0, std) is drawn once for each image. Here
    values are in [0, 1], and the result is clipped to [0, 1]; the paper mentions no clipping.

    Args:
      std: Deviation of the factors a_i, at least 0; 0.1 in the paper.
    """
    check_number("pca_lighting", "std", std)

    def bind(call, scene):
        names = scene.images(call)

        def op(rng, batch):
            values, vectors = (_read(batch["statistics"], name) for name in ("color_values", "color_vectors"))
            shifted = {}
            for name in names:
                images, frames = batch[name], len(scene.fields[name].shape) - 3
                amounts = std * jax.random.normal(rng, (*images.shape[: images.ndim - 3 - frames], 3)) * values
                shift = jnp.expand_dims(amounts @ vectors.T, tuple(range(-3 - frames, -1)))
                shifted[name] = jnp.clip(images + shift, 0, 1)
            return {**batch, **shifted}

        return op, scene

    return Operation(bind)


@ops.register()
@uses_statistics("mean_image", "pixel_values", "pixel_vectors")
def whiten(kind: str = "zca", epsilon: float = 0.1) -> Operation:
    """Decorrelates all values of an image and scales them to one variance, by a map fitted to the training images.

    With x the flattened image, m the mean image, and l and V the eigenvalues and eigenvectors of the covariance of x,
    "pca" is y = diag(1 / sqrt(l + epsilon)) V^T (x - m), and "zca" is V y, the whitening that changes x least, so that
    images still look like images (Krizhevsky 2009, app. B). Images can have at most 48 x 48 pixels.

    Args:
      kind: Kind of whitening, "zca" or "pca". The values of "pca" are sorted by falling variance, and no longer belong
        to a place in the image.
      epsilon: Number above 0 that is added to the variances of values in [0, 1]. Directions with a smaller variance,
        mostly noise, are amplified less.

    Raises:
      UserError: If `kind` is unknown or `epsilon` is out of range. When called, if images have another size than the
        mean image.
    """
    if kind not in KINDS:
        raise unknown("kind of whiten", kind, KINDS)
    check_number("whiten", "epsilon", epsilon, low=1e-12)

    def change(rng, images, statistics):
        centred = _centred("whiten", images, statistics)
        vectors = _read(statistics, "pixel_vectors")  # d d
        flat = centred.reshape(*centred.shape[:-3], -1)
        # Directions of small variance are amplified hundreds of times, so the default precision of TPUs and GPUs, which
        # is lower than float32, is not enough.
        white = jnp.matmul(flat, vectors, precision="highest") / jnp.sqrt(_read(statistics, "pixel_values") + epsilon)
        if kind == "zca":
            white = jnp.matmul(white, vectors.T, precision="highest")
        return white.reshape(centred.shape)

    return image_wide(change, "the values of 'pca' have no place in the image" if kind == "pca" else "")


def _read(statistics, name: str):
    return jnp.asarray(statistics[name], jnp.float32)


def _centred(op: str, images, statistics):
    mean = _read(statistics, "mean_image")
    if images.shape[-3:] != mean.shape:
        raise UserError(
            f"augmentation {op}: the mean image is {mean.shape[0]}x{mean.shape[1]}, but images here "
            f"are {images.shape[-3]}x{images.shape[-2]}: resize them to the size of the mean image in the host spec"
        )
    return images - mean
