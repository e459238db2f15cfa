"""Contrastive losses between the views of images, per view.

Embeddings are [B, V, D]: V views of each of B images; they are scaled to length 1 here. Under `shard_map` they are the
images of one device, and every view is compared with those of all devices: see `pairs.against_all` for `chunk` and
`axis_name`, which change memory and layout but not the result.
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
    """The normalised temperature-scaled cross entropy: another view of the image among all views of the batch.

    Chen et al. 2020 (SimCLR), eq. 1, for two views: the loss of view i with the other view j of its image is
    -log(exp(s_ij / t) / sum over k != i of exp(s_ik / t)), where s is the cosine. The mean over all views is the loss
    of the batch. More views of an image count as in `supervised_contrastive`.

    Args:
      embeddings: float [B, V, D], V at least 2.
      temperature: t, positive.
      chunk, axis_name: see `pairs.against_all`; rows are views.

    Returns:
      (loss, correct), both float32 [B, V]: in nats, and 1 where a view of the same image is more similar than every
      view of another. The mean of `correct` is the contrastive accuracy; guessing gives (V - 1) / (B V - 1), and
      embeddings that are all equal, or no numbers, 0.

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
    """The same with all views of the same class as positives.

    Khosla et al. 2020 (SupCon), eq. 2: the loss of a view is the mean over its positives, outside the logarithm. (Their
    code multiplies it by the temperature.)

    Args:
      embeddings: float [B, V, D], V at least 2.
      labels: int [B].
      temperature: positive.
      chunk, axis_name: see `pairs.against_all`; rows are views.

    Returns:
      (loss, correct), float32 [B, V]; correct is 1 where another view of the class is more similar than every view of
      another class.

    >>> z = jax.random.normal(jax.random.key(0), (3, 2, 4))
    >>> bool(jnp.all(supervised_contrastive(z, jnp.arange(3))[0] == nt_xent(z)[0]))
    True
    """
    b, v, d = embeddings.shape

    def row(own, index, everyone):
        z, label = own
        keys, labels = everyone
        self = jnp.arange(len(keys)) == index
        logits = jnp.where(self, -jnp.inf, similarities(keys, z) / temperature)  # n
        positive = (labels == label) & ~self
        log_probability = logits - jax.nn.logsumexp(logits)
        loss = -jnp.where(positive, log_probability, 0).sum() / positive.sum()
        # Strictly: where all are equal, the first would be right by its place in the batch.
        own_best = jnp.where(positive, logits, -jnp.inf).max()
        other_best = jnp.where(positive | self, -jnp.inf, logits).max()
        return loss, (own_best > other_best).astype(jnp.float32)

    rows = unit(embeddings).reshape(b * v, d), jnp.repeat(labels, v)
    loss, correct = against_all(row, rows, chunk=chunk, axis_name=axis_name)
    return loss.reshape(b, v), correct.reshape(b, v)
