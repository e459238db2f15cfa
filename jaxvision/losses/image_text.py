"""Losses between images and texts, per pair: the text of an image among the texts of the batch.

Embeddings are [b, d]; row i of the texts belongs to image i. The losses scale them to length 1 and compute in float32,
even if the embeddings are bfloat16. Under `shard_map` the b rows are those of one device, and they are compared with
the n rows of all devices. Three layouts give the same numbers:

    dense     `chunk=None`: a device holds the similarities of its rows with all texts, b x n
    chunked   `chunk=c`: it holds c x n at a time; the backward pass computes them again
    ring      `ring=True`: the texts travel around the devices and are never gathered; it holds c x b at a time
"""

import math

import jax
import jax.numpy as jnp

from jaxvision.losses.pairs import Axes, against_all, similarities, unit
from jaxvision.losses.ring import ring_compare

_HIDDEN = -1e30  # in place of -inf, whose gradient would be NaN


def softmax(
    image: jax.Array,
    text: jax.Array,
    scale: jax.Array | float,
    bias: jax.Array | float = 0.0,
    ids: jax.Array | None = None,
    *,
    chunk: int | None = None,
    ring: bool = False,
    axis_name: Axes | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Computes CLIP's loss: the cross entropy of the text among all texts and of the image among all images, averaged.

    Radford et al. 2021 (CLIP), fig. 3. With s_ij the cosine of image i and text j, and logits z = scale s + bias, the
    loss of pair i is the mean of log sum_j exp z_ij and log sum_j exp z_ji, minus z_ii. The bias cancels out.

    Args:
      image: Embeddings of images, float [b, d], not scaled to length 1.
      text: Embeddings of their texts, float [b, d], not scaled to length 1.
      scale: Factor of the cosines, above 0, float scalar: the inverse of the temperature. CLIP learns its logarithm.
      bias: Number that is added to the logits, float scalar.
      ids: Identities of the pairs, int [b, ...]. Pairs with equal ids, such as two texts of one image, are no wrong
        answers for each other. None to compare every pair with all others.
      chunk: Number of rows that are computed at a time; None for all.
      ring: True to send the texts around the devices instead of gathering them.
      axis_name: Names of the mesh axes over which the pairs are split, under `shard_map`.

    Returns:
      (loss, correct), float32 [b] each. The loss is in nats. `correct` is 1 where the image is more similar to its own
      text than to every other text.

    >>> loss, correct = softmax(jnp.eye(2), 3 * jnp.eye(2), scale=1.0)
    >>> [round(float(x), 4) for x in loss], correct.tolist()
    ([0.3133, 0.3133], [1.0, 1.0])
    """
    x, y = scale * unit(image), unit(text)  # rows whose inner products are the logits
    tags = _tags(ids, len(x), axis_name)
    if ring:
        combine = (("logsumexp", "sum", "max"), ("logsumexp",))
        rows, columns = ring_compare(_softmax_block, combine, x, y, tags, chunk=chunk, axis_name=axis_name)
        (log_sum_of_texts, right, best), (log_sum_of_images,) = rows, columns
        return (log_sum_of_texts + log_sum_of_images) / 2 - right, (right > best).astype(jnp.float32)

    def row(pair, index, everyone):
        x, y, own_ids = pair
        images, texts, all_ids = everyone
        same, hidden = _relation((index, own_ids), (jnp.arange(len(texts)), all_ids))
        to_texts, to_images = (jnp.where(hidden, _HIDDEN, z) for z in (similarities(texts, x), similarities(images, y)))
        right, best = _own_and_best(to_texts, same, hidden)
        loss = (jax.nn.logsumexp(to_texts) + jax.nn.logsumexp(to_images)) / 2 - right
        return loss, (right > best).astype(jnp.float32)

    return against_all(row, (x, y, tags[1]), chunk=chunk, axis_name=axis_name)


def sigmoid(
    image: jax.Array,
    text: jax.Array,
    scale: jax.Array | float,
    bias: jax.Array | float = 0.0,
    ids: jax.Array | None = None,
    *,
    chunk: int | None = None,
    ring: bool = False,
    axis_name: Axes | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Computes SigLIP's loss: the binary cross entropy of every image with every text. Do they belong together?

    Zhai et al. 2023 (SigLIP), sec. 3.2: with logits z as in `softmax`, the loss of image i is log(1 + exp(-z_ii)) plus
    the sum over j != i of log(1 + exp(z_ij)). The mean over images is the paper's loss.

    Args:
      image: Embeddings of images, float [b, d], not scaled to length 1.
      text: Embeddings of their texts, float [b, d], not scaled to length 1.
      scale: Factor of the cosines, above 0, float scalar. SigLIP learns its logarithm, and starts at 10.
      bias: Number that is added to the logits, float scalar. SigLIP learns it from -10, so that the many wrong pairs
        do not dominate the start.
      ids: Identities of the pairs, int [b, ...]. An image and the text of another pair with equal ids are left out of
        the sum. None to compare every pair with all others.
      chunk: Number of rows that are computed at a time; None for all.
      ring: True to send the texts around the devices instead of gathering them.
      axis_name: Names of the mesh axes over which the pairs are split, under `shard_map`.

    Returns:
      (loss, correct), float32 [b] each. The loss is in nats. `correct` is 1 where the image is more similar to its own
      text than to every other text.

    >>> loss, _ = sigmoid(jnp.eye(2), jnp.eye(2), scale=10.0, bias=-10.0)
    >>> [round(float(x), 4) for x in loss]
    [0.6932, 0.6932]
    """
    x, y = scale * unit(image), unit(text)
    bias = jnp.asarray(bias, jnp.float32)
    if axis_name is not None:  # so that its gradient is summed over the devices once, not in each chunk or block
        bias = jax.lax.pcast(bias, axis_name, to="varying")
    tags = _tags(ids, len(x), axis_name)
    if ring:
        rows = x, jnp.broadcast_to(bias, (len(x),))
        combine = (("sum", "sum", "max"), ())
        (loss, right, best), _ = ring_compare(_sigmoid_block, combine, rows, y, tags, chunk=chunk, axis_name=axis_name)
        return loss, (right > best).astype(jnp.float32)

    def row(image_and_ids, index, everyone):
        x, own_ids = image_and_ids
        texts, all_ids = everyone
        same, hidden = _relation((index, own_ids), (jnp.arange(len(texts)), all_ids))
        logits = similarities(texts, x) + bias
        right, best = _own_and_best(logits, same, hidden)
        return _binary(logits, same, hidden).sum(), (right > best).astype(jnp.float32)

    return against_all(row, (x, tags[1]), (y, tags[1]), chunk=chunk, axis_name=axis_name)


def chance_loss(loss: str, pairs: int) -> float:
    """Computes the loss of the best answer that looks neither at images nor at texts.

    For the softmax it is ln b: every text is equally likely. For the sigmoid it is the entropy of the share 1 / b of
    right pairs, times b: ln b + (b - 1) ln(b / (b - 1)). If the loss of a run stays there, the towers learn nothing.

    Args:
      loss: Name of the loss, "softmax" or "sigmoid".
      pairs: Number b of pairs in the global batch, at least 1.

    Returns:
      The loss in nats.

    >>> round(chance_loss("softmax", 256), 3), round(chance_loss("sigmoid", 256), 3)
    (5.545, 6.543)
    """
    wrong_pairs = (pairs - 1) * math.log(pairs / (pairs - 1)) if pairs > 1 and loss == "sigmoid" else 0.0
    return math.log(pairs) + wrong_pairs


LOSSES = {"softmax": softmax, "sigmoid": sigmoid}


def _tags(ids: jax.Array | None, n: int, axis_name: Axes | None) -> tuple[jax.Array, jax.Array | None]:
    """Returns the index of each row in the global batch, int [b], and its ids, int [b, i] or None."""
    start = 0 if axis_name is None else jax.lax.axis_index(axis_name) * n
    return start + jnp.arange(n), None if ids is None else ids.reshape(n, -1)


def _relation(tag, tags) -> tuple[jax.Array, jax.Array]:
    """For one row, bool [n] each: True for the column of its own pair, and for other columns that are left out."""
    (index, ids), (column_indices, column_ids) = tag, tags
    same = column_indices == index
    return same, jnp.zeros_like(same) if ids is None else (column_ids == ids).all(-1) & ~same


def _binary(logits: jax.Array, same: jax.Array, hidden: jax.Array) -> jax.Array:
    return jnp.where(hidden, 0, jax.nn.softplus(jnp.where(same, -logits, logits)))


def _logits(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)  # as in `similarities`


def _own_and_best(logits: jax.Array, same: jax.Array, hidden: jax.Array) -> tuple[jax.Array, jax.Array]:
    """For each row, the logit of its own column (0 if that is in another block) and the greatest other logit."""
    return jnp.where(same, logits, 0).sum(-1), jnp.where(same | hidden, _HIDDEN, logits).max(-1)


def _softmax_block(x, y, tags):
    same, hidden = jax.vmap(_relation, (0, None))(*tags)
    logits = jnp.where(hidden, _HIDDEN, _logits(x, y))
    rows = jax.nn.logsumexp(logits, 1), *_own_and_best(logits, same, hidden)
    return rows, (jax.nn.logsumexp(logits, 0),)


def _sigmoid_block(rows, y, tags):
    x, bias = rows
    same, hidden = jax.vmap(_relation, (0, None))(*tags)
    logits = _logits(x, y) + bias[:, None]
    return (_binary(logits, same, hidden).sum(1), *_own_and_best(logits, same, hidden)), ()
