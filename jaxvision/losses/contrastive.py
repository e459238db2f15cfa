"""Contrastive losses between the views of images, per view.

Embeddings are [b, v, d]: v views of each of b images. The losses scale them to length 1. Under `shard_map` the b images
are those of one device, and every view is compared with the views of all devices. The options `chunk` and `axis_name`
of `pairs.against_all` change memory and layout but not the result.
"""

import jax
import jax.numpy as jnp

from jaxvision.losses.pairs import Axes, against_all, similarities, unit


def nt_xent(
    embeddings: jax.Array,
    temperature: float = 0.1,
    *,
    chunk: int | None = None,
    axis_name: Axes | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Computes NT-Xent, the normalised temperature-scaled cross entropy, the loss of SimCLR.

    Each view must find the other view of its image among all views of the batch. Chen et al. 2020, eq. 1: the loss of
    view i with the other view j of its image is -log(exp(s_ij / t) / sum over k != i of exp(s_ik / t)), where s is the
    cosine. The loss of the batch is the mean over all views. With more than two views of an image, they count as in
    `supervised_contrastive`.

    Args:
      embeddings: Embeddings of views, float [b, v, d] with v at least 2.
      temperature: Temperature t, above 0. 0.1 as in SimCLR's runs on ImageNet; a smaller one weighs the most similar
        views of other images more.
      chunk: Number of views that are compared with all at a time, see `pairs.against_all`; None for all.
      axis_name: Names of the mesh axes over which the images are split, under `shard_map`.

    Returns:
      (loss, correct), float32 [b, v] each. The loss is in nats. `correct` is 1 where another view of the same image is
      more similar than every view of another image; its mean is the contrastive accuracy. Guessing gives
      (v - 1) / (b v - 1). Embeddings that are all equal, or NaN, give 0.

    >>> loss, correct = nt_xent(jnp.array([[[1.0, 0.0], [2.0, 0.0]], [[0.0, 1.0], [0.0, 3.0]]]), temperature=1.0)
    >>> f"{loss.mean():.4f}", correct[0].tolist()
    ('0.5514', [1.0, 1.0])
    """
    b = len(embeddings)
    images = jnp.arange(b)
    if axis_name is not None:
        images += jax.lax.axis_index(axis_name) * b
    return supervised_contrastive(embeddings, images, temperature, chunk=chunk, axis_name=axis_name)


def supervised_contrastive(
    embeddings: jax.Array,
    labels: jax.Array,
    temperature: float = 0.1,
    *,
    chunk: int | None = None,
    axis_name: Axes | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Computes the supervised contrastive loss: all other views of the same class are positives.

    Khosla et al. 2020 (SupCon), eq. 2: the loss of a view is the mean over its positives, outside the logarithm. (Their
    code multiplies it by the temperature.)

    Args:
      embeddings: Embeddings of views, float [b, v, d] with v at least 2.
      labels: Class numbers of the images, int [b].
      temperature: Temperature above 0 by which cosines are divided.
      chunk: Number of views that are compared with all at a time, see `pairs.against_all`; None for all.
      axis_name: Names of the mesh axes over which the images are split, under `shard_map`.

    Returns:
      (loss, correct), float32 [b, v] each. The loss is in nats. `correct` is 1 where another view of the class is more
      similar than every view of another class.

    >>> z = jax.random.normal(jax.random.key(0), (3, 2, 4))
    >>> bool(jnp.all(supervised_contrastive(z, jnp.arange(3))[0] == nt_xent(z)[0]))
    True
    """
    b, v, d = embeddings.shape

    def row(view, index, everyone):
        z, label = view
        keys, labels = everyone
        itself = jnp.arange(len(keys)) == index
        logits = jnp.where(itself, -jnp.inf, similarities(keys, z) / temperature)  # n
        positive = (labels == label) & ~itself
        log_probability = logits - jax.nn.logsumexp(logits)
        loss = -jnp.where(positive, log_probability, 0).sum() / positive.sum()
        best_positive = jnp.where(positive, logits, -jnp.inf).max()
        best_negative = jnp.where(positive | itself, -jnp.inf, logits).max()
        # Strictly greater: in a collapse all are equal, and >= would call every view correct.
        return loss, (best_positive > best_negative).astype(jnp.float32)

    rows = unit(embeddings).reshape(b * v, d), jnp.repeat(labels, v)
    loss, correct = against_all(row, rows, chunk=chunk, axis_name=axis_name)
    return loss.reshape(b, v), correct.reshape(b, v)
