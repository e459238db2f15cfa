"""Losses that keep the dimensions of embeddings apart instead of the images: Barlow Twins and VICReg.

They read means, variances and correlations over the batch. Under sharded jit these are those of the whole batch, on any
number of devices. A correlation matrix of d dimensions takes 4 d^2 bytes: 256 MiB for d = 8,192.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

BARLOW_EPSILON = 1e-5  # of the authors' BatchNorm without scale and offset
VICREG_EPSILON = 1e-4  # Bardes et al. 2022, sec. 4.1, eq. 2


class BarlowTwins(NamedTuple):
    """The two terms of Barlow Twins, and what they are made of.

    Attributes:
      invariance: Sum of (1 - C_ii)^2 over the diagonal of the cross-correlation matrix C.
      redundancy: Sum of C_ij^2 outside the diagonal.
      correlation: Mean of C_ii: 1 if the views of an image agree, 0 if all images have one embedding.
      cross_correlation: Root of the mean of C_ij^2 outside the diagonal: 0 if the dimensions are not correlated, near 1
        if all of them are one.
    """

    invariance: jax.Array
    redundancy: jax.Array
    correlation: jax.Array
    cross_correlation: jax.Array


def barlow_twins(embeddings: jax.Array) -> BarlowTwins:
    """Computes the terms of Barlow Twins: the dimensions of two views correlate each with itself, and no other.

    Zbontar et al. 2021, arXiv 2103.03230, eq. 1 and 2. With z and z' the two views, each dimension with mean 0 and
    variance 1 over the batch, C_ij = mean over images of z_i z'_j, and the loss is sum_i (1 - C_ii)^2 + lambda
    sum_{i != j} C_ij^2. As in the authors' code, 1e-5 is added to the variance.

    Args:
      embeddings: Embeddings of two views of each image, float [b, 2, d] with b at least 2.

    Returns:
      float32 scalars. If all embeddings are equal, C is 0: `invariance` is d, `redundancy` 0.

    >>> z = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])  # two dimensions without correlation
    >>> terms = barlow_twins(jnp.stack([z, 2 * z], axis=1))
    >>> [round(float(x), 3) for x in terms]
    [0.0, 0.0, 1.0, 0.0]
    """
    x = embeddings.astype(jnp.float32)
    b, _, d = x.shape
    x = x - x.mean(axis=0)
    x = x * jax.lax.rsqrt(jnp.square(x).mean(axis=0) + BARLOW_EPSILON)
    correlations = x[:, 0].T @ x[:, 1] / b  # d d
    diagonal = jnp.diagonal(correlations)
    redundancy = jnp.square(_off_diagonal(correlations)).sum()
    return BarlowTwins(
        invariance=jnp.square(1 - diagonal).sum(),
        redundancy=redundancy,
        correlation=diagonal.mean(),
        cross_correlation=jnp.sqrt(redundancy / max(d * (d - 1), 1)),
    )


class VicReg(NamedTuple):
    """The three terms of VICReg, before they are weighted.

    Attributes:
      variance: Mean of max(0, 1 - deviation) over dimensions and views.
      invariance: Mean squared difference of the two views over images and dimensions.
      covariance: Sum of squared covariances of different dimensions, divided by d; the sum over both views.
    """

    variance: jax.Array
    invariance: jax.Array
    covariance: jax.Array


def vicreg(embeddings: jax.Array) -> VicReg:
    """Computes the terms of VICReg: views agree, each dimension has a deviation of 1, and no two of them correlate.

    Bardes et al. 2022, arXiv 2105.04906, sec. 4.1, eq. 1 to 5. With z one view and C its covariance matrix, the terms
    are v(z) = mean_j max(0, 1 - sqrt(C_jj + 1e-4)), s(z, z') = mean_i |z_i - z'_i|^2 and c(z) = sum_{i != j} C_ij^2 /
    d. As in the authors' code, s is divided by d, and v is the mean over the views, where eq. 6 has its sum. The
    published weights of variance, invariance and covariance are 25, 25 and 1 for these.

    Args:
      embeddings: Embeddings of two views of each image, float [b, 2, d] with b at least 2.

    Returns:
      float32 scalars. If all embeddings are equal, `variance` is 0.99 and the others are 0.

    >>> [round(float(x), 3) for x in vicreg(jnp.ones((4, 2, 3)))]
    [0.99, 0.0, 0.0]
    """
    x = embeddings.astype(jnp.float32)
    b, _, d = x.shape
    invariance = jnp.square(x[:, 0] - x[:, 1]).mean()
    x = x - x.mean(axis=0)
    deviations = jnp.sqrt(jnp.square(x).sum(axis=0) / (b - 1) + VICREG_EPSILON)  # 2 d
    covariances = jnp.einsum("bvi,bvj->vij", x, x) / (b - 1)
    return VicReg(
        variance=jax.nn.relu(1 - deviations).mean(),
        invariance=invariance,
        covariance=jnp.square(_off_diagonal(covariances)).sum() / d,
    )


def _off_diagonal(matrices: jax.Array) -> jax.Array:
    """Sets the diagonals of matrices [..., d, d] to 0."""
    return jnp.where(jnp.eye(matrices.shape[-1], dtype=bool), 0, matrices)
