"""Losses of predicted pixels, over the patches of an image that the network did not see."""

import jax
import jax.numpy as jnp

EPSILON = 1e-6  # of the variance of a patch


def normalize_patches(patches: jax.Array, epsilon: float = EPSILON) -> jax.Array:
    """Scales each patch to mean 0 and variance 1 over its numbers.

    Args:
      patches: Patches, float [..., p].
      epsilon: Number that is added to the variance, which is the unbiased one.

    Returns:
      float32 [..., p].

    Source: He et al. 2022 (MAE), arXiv 2111.06377, sec. 3, "Reconstruction target", and its code.

    >>> [f"{x:.3f}" for x in normalize_patches(jnp.array([1.0, 2.0, 3.0]))]
    ['-1.000', '0.000', '1.000']
    """
    mean, deviation = _moments(patches, epsilon)
    return (patches - mean) / deviation


def denormalize_patches(values: jax.Array, patches: jax.Array, epsilon: float = EPSILON) -> jax.Array:
    """Undoes `normalize_patches`: gives each patch of `values` the mean and the variance of that of `patches`.

    Args:
      values: Predicted patches on the normalised scale, float [..., p].
      patches: Patches of the image, float [..., p].
      epsilon: Number that was added to the variance.

    Returns:
      float32 [..., p].

    >>> patches = jnp.array([1.0, 2.0, 3.0])
    >>> [f"{x:.3f}" for x in denormalize_patches(normalize_patches(patches), patches)]
    ['1.000', '2.000', '3.000']
    """
    mean, deviation = _moments(patches, epsilon)
    return values * deviation + mean


def masked_error(predictions: jax.Array, targets: jax.Array, masked: jax.Array, power: int = 2) -> jax.Array:
    """Averages |prediction - target| ** power over the numbers of the masked patches of all images.

    Args:
      predictions: Predicted patches, float [b, n, p].
      targets: Patches, float [b, n, p].
      masked: True for the patches that count, bool [b, n]; at least one.
      power: 2 for the mean squared error (He et al. 2022, sec. 3), 1 for L1 (Xie et al. 2022, eq. 1).

    Returns:
      float32 [].

    >>> masked_error(jnp.zeros((1, 2, 1)), jnp.array([[[3.0], [5.0]]]), jnp.array([[True, False]])).item()
    9.0
    """
    errors = (jnp.abs(predictions.astype(jnp.float32) - targets) ** power).mean(axis=-1)  # b n
    return jnp.where(masked, errors, 0).sum() / masked.sum()


def blind_error(targets: jax.Array, masked: jax.Array, power: int = 2) -> jax.Array:
    """Returns the error of a network that predicts the mean masked patch of the batch, whatever it sees.

    It is the least error of a constant for a power of 2, and a little more for 1, whose best constant is the median.

    Args:
      targets: Patches, float [b, n, p].
      masked: True for the patches that count, bool [b, n]; at least one.
      power: Power of the error, see `masked_error`.

    Returns:
      float32 [].

    >>> blind_error(jnp.array([[[1.0], [3.0]]]), jnp.array([[True, True]])).item()
    1.0
    """
    mean = jnp.where(masked[..., None], targets, 0).sum(axis=(0, 1)) / masked.sum()  # p
    return masked_error(jnp.broadcast_to(mean, targets.shape), targets, masked, power)


def _moments(patches: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array]:
    """Means and deviations of patches, float32 [..., 1]."""
    patches = patches.astype(jnp.float32)
    variance = patches.var(axis=-1, keepdims=True, ddof=1)
    return patches.mean(axis=-1, keepdims=True), jnp.sqrt(variance + epsilon)
