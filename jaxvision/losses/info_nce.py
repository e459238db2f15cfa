"""InfoNCE: each query must find its key among other keys, which come from a queue or from the batch.

Queries and keys are scaled to length 1. Keys of a queue take no gradient; those of the batch do, unless a task stops
it, as it does for the keys of a teacher.
"""

import jax
import jax.numpy as jnp

from jaxvision.losses.pairs import Axes, against_all, similarities, unit


def against_queue(
    queries: jax.Array, keys: jax.Array, queue: jax.Array, temperature: float = 0.2
) -> tuple[jax.Array, jax.Array]:
    """Computes InfoNCE of each query with its key and the keys of a queue.

    He et al. 2020 (MoCo), eq. 1: the loss of a query q with the key k+ is -log(exp(q k+ / t) / (exp(q k+ / t) + sum
    over the queue of exp(q k / t))). Keys of other images of the batch are no negatives.

    Args:
      queries: Queries, float [b, d].
      keys: Key of each query, float [b, d].
      queue: Negative keys of length 1, float32 [n, d].
      temperature: Temperature t, above 0: 0.07 in MoCo, 0.2 in MoCo v2.

    Returns:
      (loss, correct), float32 [b] each. The loss is in nats. `correct` is 1 where the key is more similar to the query
      than every key of the queue. If all vectors are equal, the loss is log(n + 1) and `correct` is 0.

    >>> loss, correct = against_queue(jnp.eye(2), jnp.eye(2), jnp.array([[0.6, 0.8]]), temperature=1.0)
    >>> [f"{x:.3f}" for x in loss], correct.tolist()
    (['0.513', '0.598'], [1.0, 1.0])
    """
    q, k = unit(queries), unit(jax.lax.stop_gradient(keys))
    positive = (q * k).sum(-1)  # b
    negatives = jnp.matmul(q, jax.lax.stop_gradient(queue).T, precision=jax.lax.Precision.HIGHEST)  # b n
    logits = jnp.concatenate([positive[:, None], negatives], axis=1) / temperature
    # Strictly greater: in a collapse all are equal, and >= would call every query correct.
    return jax.nn.logsumexp(logits, axis=1) - logits[:, 0], (positive > negatives.max(1)).astype(jnp.float32)


def against_batch(
    queries: jax.Array,
    keys: jax.Array,
    temperature: float = 0.2,
    *,
    chunk: int | None = None,
    axis_name: Axes | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Computes InfoNCE of each query with the keys of the whole batch.

    Chen, Xie, He 2021 (MoCo v3), eq. 1, without its factor 2 t: the negatives of a query are the keys of the other
    images. The options `chunk` and `axis_name` of `pairs.against_all` change memory and layout but not the result.

    Args:
      queries: Queries, float [b, d].
      keys: Key of each query, float [b, d].
      temperature: Temperature t, above 0: 0.2 for a ViT in MoCo v3, 1 for a ResNet.
      chunk: Number of queries that are compared with all keys at a time; None for all.
      axis_name: Names of the mesh axes over which the batch is split, under `shard_map`.

    Returns:
      (loss, correct), float32 [b] each. The loss is in nats. `correct` is 1 where the key is more similar to the query
      than every other key. If all vectors are equal, the loss is log(b) and `correct` is 0.

    >>> loss, correct = against_batch(jnp.eye(2), jnp.eye(2), temperature=1.0)
    >>> [f"{x:.3f}" for x in loss], correct.tolist()
    (['0.313', '0.313'], [1.0, 1.0])
    """

    def row(query, index, everyone):
        s = similarities(everyone, query)  # n
        others = jnp.where(jnp.arange(len(s)) == index, -jnp.inf, s)
        loss = jax.nn.logsumexp(s / temperature) - s[index] / temperature
        return loss, (s[index] > others.max()).astype(jnp.float32)

    rows = unit(queries), unit(keys)
    return against_all(row, *rows, chunk=chunk, axis_name=axis_name)
