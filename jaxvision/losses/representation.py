"""Measures of how embeddings spread, that show a collapse which the loss may hide.

They look at directions: embeddings are scaled to length 1. Where all are equal, alignment is 0 (as it should be),
uniformity 0 (its worst), their deviation 0, and the effective rank that of rounding errors. Where they keep to a few
dimensions, the effective rank says to how many.
"""

import jax
import jax.numpy as jnp

from jaxvision.losses.pairs import Axes, against_all, similarities, unit


def alignment(embeddings: jax.Array) -> jax.Array:
    """Mean squared distance between two views of an image: 0 where they agree, 2 where they are unrelated.

    Wang and Isola 2020, "Understanding contrastive representation learning through alignment and uniformity on the
    hypersphere", eq. 3 with exponent 2.

    Args:
      embeddings: float [B, V, D], V views of each image.

    Returns:
      float32 scalar in [0, 4], the mean over images and pairs of views.

    >>> float(alignment(jnp.array([[[1.0, 0.0], [0.0, 5.0]]])).round(5))
    2.0
    """
    x = unit(embeddings)
    deviation = x - x.mean(axis=1, keepdims=True)
    return 2 / (x.shape[1] - 1) * jnp.square(deviation).sum(axis=(1, 2)).mean()


def uniformity(embeddings: jax.Array) -> jax.Array:
    """Logarithm of the mean Gaussian potential between images: 0 where all are equal, near -4 spread over a sphere.

    Wang and Isola 2020, eq. 4, with t = 2.

    Args:
      embeddings: float [N, D], one view of each image.

    Returns:
      float32 scalar in [-8, 0].

    >>> float(uniformity(jnp.array([[1.0, 0.0], [-1.0, 0.0]])).round(3))
    -8.0
    """
    return jnp.log(gaussian_potential(embeddings).mean())


def gaussian_potential(embeddings: jax.Array, *, chunk: int | None = None, axis_name: Axes | None = None) -> jax.Array:
    """Mean of exp(-2 |x - y|^2) over all other images y, for each image x; see `uniformity`.

    Args:
      embeddings: float [N, D]; under `shard_map` those of one device, compared with all.
      chunk, axis_name: see `pairs.against_all`.

    Returns:
      float32 [N] in (0, 1].

    >>> gaussian_potential(jnp.ones((3, 2))).round(3).tolist()
    [1.0, 1.0, 1.0]
    """

    def row(x, index, everyone):
        potential = jnp.exp(4 * similarities(everyone, x) - 4)  # |x - y|^2 is 2 - 2 xy
        others = jnp.arange(len(everyone)) != index
        return jnp.where(others, potential, 0).sum() / (len(everyone) - 1)

    return against_all(row, unit(embeddings), chunk=chunk, axis_name=axis_name)


def embedding_std(embeddings: jax.Array) -> jax.Array:
    """Standard deviation of each dimension over the batch, averaged, times sqrt(D): 1 on a whole sphere, 0 collapsed.

    Chen and He 2021 (SimSiam), sec. 4.1, where it is not multiplied.

    Args:
      embeddings: float [N, D].

    Returns:
      float32 scalar.

    >>> f"{embedding_std(jnp.eye(4)):.3f}"
    '0.866'
    """
    return unit(embeddings).std(axis=0).mean() * jnp.sqrt(embeddings.shape[1])


def effective_rank(embeddings: jax.Array, order: int = 1) -> jax.Array:
    """How many dimensions the embeddings fill: the exponential of the entropy of the covariance's spectrum.

    With p the eigenvalues of the covariance matrix divided by their sum, order 1 is exp(-sum p log p), the effective
    rank of Roy and Vetterli 2007, sec. 2, of that matrix, and order 2 is 1 / sum p^2, the participation ratio, which is
    never larger and needs no eigenvalues. (RankMe, Garrido et al. 2023, takes the singular values of the embeddings.)

    Args:
      embeddings: float [N, D].
      order: of the Renyi entropy, 1 or 2. Order 1 decomposes a D x D matrix.

    Returns:
      float32 scalar from 1 to D; 0 where all embeddings are equal.

    >>> x = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> float(effective_rank(x).round(3)), float(effective_rank(x, order=2).round(3))
    (2.0, 2.0)
    """
    x = unit(embeddings)
    x = x - x.mean(axis=0)
    covariance = jnp.matmul(x.T, x, precision=jax.lax.Precision.HIGHEST)  # d d
    total = jnp.trace(covariance)
    covariance /= jnp.where(total > 0, total, 1)
    if order == 2:
        rank = 1 / jnp.square(covariance).sum()
    else:
        p = jnp.maximum(jnp.linalg.eigvalsh(covariance), 0)
        rank = jnp.exp(-jax.scipy.special.xlogy(p, p).sum())
    return jnp.where(total > 0, rank, 0)
