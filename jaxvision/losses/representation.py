"""Measures of how embeddings spread. They show a collapse that the loss may hide.

They measure directions: embeddings are scaled to length 1. If all embeddings are equal, alignment is 0 (its best
value), uniformity is 0 (its worst), the standard deviation is 0, and the effective rank is 0 or the rank of rounding
errors. If the embeddings fill only a few dimensions, the effective rank says how many.
"""

import jax
import jax.numpy as jnp

from jaxvision.losses.pairs import Axes, against_all, similarities, unit


def alignment(embeddings: jax.Array) -> jax.Array:
    """Computes the mean squared distance between two views of an image: 0 if they agree, 2 if they are unrelated.

    Wang and Isola 2020, "Understanding contrastive representation learning through alignment and uniformity on the
    hypersphere", eq. 3 with exponent 2.

    Args:
      embeddings: Embeddings of v views of each image, float [b, v, d] with v at least 2.

    Returns:
      float32 scalar in [0, 4], the mean over images and pairs of views.

    >>> float(alignment(jnp.array([[[1.0, 0.0], [0.0, 5.0]]])).round(5))
    2.0
    """
    x = unit(embeddings)
    deviation = x - x.mean(axis=1, keepdims=True)
    return 2 / (x.shape[1] - 1) * jnp.square(deviation).sum(axis=(1, 2)).mean()


def uniformity(embeddings: jax.Array) -> jax.Array:
    """Computes the logarithm of the mean Gaussian potential: 0 if all images are equal, near -4 on a whole sphere.

    Wang and Isola 2020, eq. 4, with t = 2.

    Args:
      embeddings: Embeddings of one view of each image, float [n, d] with n at least 2.

    Returns:
      float32 scalar in [-8, 0].

    >>> float(uniformity(jnp.array([[1.0, 0.0], [-1.0, 0.0]])).round(3))
    -8.0
    """
    return jnp.log(gaussian_potential(embeddings).mean())


def gaussian_potential(embeddings: jax.Array, *, chunk: int | None = None, axis_name: Axes | None = None) -> jax.Array:
    """Computes the mean of exp(-2 |x - y|^2) over all other images y, for each image x; see `uniformity`.

    Args:
      embeddings: Embeddings of images, float [n, d]; under `shard_map` those of one device, compared with all.
      chunk: Number of images that are compared with all at a time, see `pairs.against_all`; None for all.
      axis_name: Names of the mesh axes over which the images are split, under `shard_map`.

    Returns:
      float32 [n] in (0, 1].

    >>> gaussian_potential(jnp.ones((3, 2))).round(3).tolist()
    [1.0, 1.0, 1.0]
    """

    def row(x, index, everyone):
        potential = jnp.exp(4 * similarities(everyone, x) - 4)  # |x - y|^2 is 2 - 2 xy
        others = jnp.arange(len(everyone)) != index
        return jnp.where(others, potential, 0).sum() / (len(everyone) - 1)

    return against_all(row, unit(embeddings), chunk=chunk, axis_name=axis_name)


def embedding_std(embeddings: jax.Array) -> jax.Array:
    """Computes the standard deviation of each dimension, averaged, times sqrt(d): 1 on a whole sphere, 0 in a collapse.

    Chen and He 2021 (SimSiam), sec. 4.1, without the factor sqrt(d).

    Args:
      embeddings: Embeddings of images, float [n, d].

    Returns:
      float32 scalar in [0, 1].

    >>> f"{embedding_std(jnp.eye(4)):.3f}"
    '0.866'
    """
    return unit(embeddings).std(axis=0).mean() * jnp.sqrt(embeddings.shape[1])


def effective_rank(embeddings: jax.Array, order: int = 1) -> jax.Array:
    """Computes how many dimensions the embeddings fill: the exponential of the entropy of the covariance's spectrum.

    Let p be the eigenvalues of the covariance matrix, divided by their sum. Order 1 is exp(-sum p log p), the effective
    rank of that matrix (Roy and Vetterli 2007, sec. 2). Order 2 is 1 / sum p^2, the participation ratio, which is never
    larger and needs no eigenvalues. (RankMe, Garrido et al. 2023, takes the singular values of the embeddings instead.)

    Args:
      embeddings: Embeddings of images, float [n, d].
      order: Order of the Renyi entropy, 1 or 2. Order 1 decomposes a d x d matrix, which takes longer.

    Returns:
      float32 scalar in [1, d]; 0 if all embeddings are equal.

    >>> x = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> float(effective_rank(x).round(3)), float(effective_rank(x, order=2).round(3))
    (2.0, 2.0)
    """
    x = unit(embeddings)
    x = x - x.mean(axis=0)
    covariance = jnp.matmul(x.T, x, precision=jax.lax.Precision.HIGHEST)  # d d
    total = jnp.trace(covariance)
    covariance /= jnp.where(total > 0, total, 1)
    if order == 2:  # the sum of squared eigenvalues is the sum of squared entries
        rank = 1 / jnp.square(covariance).sum()
    else:
        p = jnp.maximum(jnp.linalg.eigvalsh(covariance), 0)
        rank = jnp.exp(-jax.scipy.special.xlogy(p, p).sum())
    return jnp.where(total > 0, rank, 0)
