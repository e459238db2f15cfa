"""Losses between images and texts, per pair: the text of an image among those of the batch.

Embeddings are [B, D]; row i of the texts belongs to image i. They are scaled to length 1 here, and similarities, norms
and losses are float32 whatever comes in. Under `shard_map` the rows are those of one device, and they are compared with
the rows of all. Three layouts give the same numbers:

    dense     `chunk=None`: a device holds its B rows of similarities with all N texts of the global batch
    chunked   `chunk=c`: c x N at a time; the backward pass computes them again
    ring      `ring=True`: the texts go round the devices and are never gathered; `chunk` then bounds a block, c x B
"""

import math

import jax
import jax.numpy as jnp

from jaxvision.losses.pairs import Axes, against_all, similarities, unit
from jaxvision.losses.ring import around

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
    """The cross entropy of the text among all texts and of the image among all images, averaged.

    Radford et al. 2021 (CLIP), fig. 3. With s_ij the cosine of image i and text j, and logits z = scale s + bias, the
    loss of pair i is the mean of log sum_j exp z_ij and log sum_j exp z_ji, less z_ii. The bias changes nothing.

    Args:
      image, text: float [B, D], of any length.
      scale: positive; CLIP learns its logarithm.
      bias: added to the logits.
      ids: integers [B, ...]. Where those of two pairs are equal, neither is a wrong answer for the other. None to
        compare every pair with all others.
      chunk, ring, axis_name: the layout, see above.

    Returns:
      (loss, correct), float32 [B]: in nats, and 1 where no other text is as similar to the image as its own.

    >>> loss, correct = softmax(jnp.eye(2), 3 * jnp.eye(2), scale=1.0)
    >>> [round(float(x), 4) for x in loss], correct.tolist()
    ([0.3133, 0.3133], [1.0, 1.0])
    """
    x, y = scale * unit(image), unit(text)  # rows whose inner products are the logits
    tags = _tags(ids, len(x), axis_name)
    if ring:
        combine = (("logsumexp", "sum", "max"), ("logsumexp",))
        of_rows, (of_texts,) = around(_softmax_block, combine, x, y, tags, chunk=chunk, axis_name=axis_name)
        of_images, right, best = of_rows
        return (of_images + of_texts) / 2 - right, (right > best).astype(jnp.float32)

    def row(own, index, everyone):
        x, y, tag = own
        images, texts, tags = everyone
        same, hidden = _relation(tag, tags)
        forward, backward = (jnp.where(hidden, _HIDDEN, z) for z in (similarities(texts, x), similarities(images, y)))
        right, best = _own_and_best(forward, same, hidden)
        loss = (jax.nn.logsumexp(forward) + jax.nn.logsumexp(backward)) / 2 - right
        return loss, (right > best).astype(jnp.float32)

    return against_all(row, (x, y, tags), chunk=chunk, axis_name=axis_name)


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
    """The binary cross entropy of every image with every text: do they belong together?

    Zhai et al. 2023 (SigLIP), eq. 1: the loss of image i is the sum over j of log(1 + exp(-z_ij)) where j is i, and of
    log(1 + exp(z_ij)) elsewhere; the mean over images is theirs.

    Args and returns: as `softmax`. Equal `ids` leave a pair of two out of the sum.

    >>> loss, _ = sigmoid(jnp.eye(2), jnp.eye(2), scale=10.0, bias=-10.0)
    >>> [round(float(x), 4) for x in loss]
    [0.6932, 0.6932]
    """
    x, y = scale * unit(image), unit(text)
    bias = jnp.asarray(bias, jnp.float32)
    tags = _tags(ids, len(x), axis_name)
    if ring:
        if axis_name is not None:
            bias = jax.lax.pcast(bias, axis_name, to="varying")
        rows = x, jnp.broadcast_to(bias, (len(x),))
        combine = (("sum", "sum", "max"), ())
        (loss, right, best), _ = around(_sigmoid_block, combine, rows, y, tags, chunk=chunk, axis_name=axis_name)
        return loss, (right > best).astype(jnp.float32)

    def row(own, index, everyone):
        x, tag = own
        texts, tags = everyone
        same, hidden = _relation(tag, tags)
        logits = similarities(texts, x) + bias
        right, best = _own_and_best(logits, same, hidden)
        return _binary(logits, same, hidden).sum(), (right > best).astype(jnp.float32)

    return against_all(row, (x, tags), (y, tags), chunk=chunk, axis_name=axis_name)


def chance(loss: str, pairs: int) -> float:
    """The loss of the best answer that looks neither at images nor at texts.

    Of the softmax that is ln B, every text being as likely; of the sigmoid the entropy of the share 1 / B of right
    pairs, times B: ln B + (B - 1) ln(B / (B - 1)). A loss that stays there says that the towers learn nothing.

    >>> round(chance("softmax", 256), 3), round(chance("sigmoid", 256), 3)
    (5.545, 6.543)
    """
    of_others = (pairs - 1) * math.log(pairs / (pairs - 1)) if pairs > 1 and loss == "sigmoid" else 0.0
    return math.log(pairs) + of_others


LOSSES = {"softmax": softmax, "sigmoid": sigmoid}


def _tags(ids: jax.Array | None, n: int, axis_name: Axes | None) -> tuple[jax.Array, jax.Array | None]:
    """The place of each row in the global batch, and what it must not be told from."""
    start = 0 if axis_name is None else jax.lax.axis_index(axis_name) * n
    return start + jnp.arange(n), None if ids is None else ids.reshape(n, -1)


def _relation(tag, tags) -> tuple[jax.Array, jax.Array]:
    """bool [N] of one row: which column is its own, and which other columns it is not compared with."""
    (index, mine), (indices, theirs) = tag, tags
    same = indices == index
    return same, jnp.zeros_like(same) if mine is None else (theirs == mine).all(-1) & ~same


def _binary(logits: jax.Array, same: jax.Array, hidden: jax.Array) -> jax.Array:
    return jnp.where(hidden, 0, jax.nn.softplus(jnp.where(same, -logits, logits)))


def _logits(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)  # as in `similarities`


def _own_and_best(logits: jax.Array, same: jax.Array, hidden: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of each row the logit of its own column, 0 where that is in another block, and the greatest of the others."""
    return jnp.where(same, logits, 0).sum(-1), jnp.where(same | hidden, _HIDDEN, logits).max(-1)


def _softmax_block(x, y, tags):
    same, hidden = jax.vmap(_relation, (0, None))(*tags)
    logits = jnp.where(hidden, _HIDDEN, _logits(x, y))
    of_rows = jax.nn.logsumexp(logits, 1), *_own_and_best(logits, same, hidden)
    return of_rows, (jax.nn.logsumexp(logits, 0),)


def _sigmoid_block(rows, y, tags):
    x, bias = rows
    same, hidden = jax.vmap(_relation, (0, None))(*tags)
    logits = _logits(x, y) + bias[:, None]
    return (_binary(logits, same, hidden).sum(1), *_own_and_best(logits, same, hidden)), ()
