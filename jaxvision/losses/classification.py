"""Losses of classification, per example.

Labels are class numbers `int [B]` or distributions `float [B, K]` (one-hot, smoothed, mixed).

A logit of -inf masks its class, which has probability 0: it adds nothing to a cross entropy or its gradient where its
label is 0, and smoothing gives it nothing. Where the label of a masked class is not 0, the loss is infinite.
"""

import jax
import jax.numpy as jnp

from jaxvision.found import part


@part("loss")
def softmax_cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross entropy of the softmax, in nats.

    Args:
      logits: float [B, K].
      labels: int [B] in [0, K), or float [B, K] whose rows sum to 1.
      smoothing: share of each label that is spread evenly over all classes that are not masked, in [0, 1)
        (Szegedy et al. 2016, sec. 7).

    Returns:
      float32 [B].

    >>> import numpy as np
    >>> loss = softmax_cross_entropy(jnp.array([[3.2, 5.1, -1.7]]), jnp.array([0]))
    >>> print(np.round(loss, 4))
    [2.0404]
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -_weighted(_distribution(logits, labels, smoothing), log_probabilities).sum(-1)


@part("loss", multi_label=True)
def sigmoid_cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Binary cross entropy of every class on its own, summed over classes, in nats.

    Used for multi-label sets and as in Beyer et al. 2020 (ReaL), sec. 5, for single labels.

    Args and returns: as `softmax_cross_entropy`; rows of float labels need not sum to 1.
    """
    targets, logits = _distribution(logits, labels, smoothing), logits.astype(jnp.float32)
    log_yes, log_no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)  # of the probability and its complement
    return -(_weighted(targets, log_yes) + _weighted(1 - targets, log_no)).sum(-1)


@part("loss")
def squared_error(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Half the squared distance between the outputs themselves and the label, summed over classes.

    Classification as regression on one-hot labels (Hui & Belkin 2021, "Evaluation of neural architectures trained
    with square loss vs cross-entropy", sec. 2, without their rescaling for many classes).

    Args and returns: as `softmax_cross_entropy`; rows of float labels need not sum to 1.

    >>> squared_error(jnp.array([[1.0, 2.0]]), jnp.array([0])).tolist()
    [2.0]
    """
    targets = _distribution(logits, labels, smoothing)
    return 0.5 * jnp.square(logits.astype(jnp.float32) - targets).sum(-1)


def _distribution(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    num_classes = logits.shape[-1]
    if jnp.issubdtype(labels.dtype, jnp.integer):
        labels = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    if not smoothing:
        return labels
    unmasked = (logits > -jnp.inf).astype(jnp.float32)
    return (1 - smoothing) * labels + smoothing * unmasked / jnp.maximum(unmasked.sum(-1, keepdims=True), 1)


def _weighted(weights: jax.Array, values: jax.Array) -> jax.Array:
    """`weights * values`, 0 where the weight is 0, whatever the value: 0 times -inf is no number, nor its gradient."""
    return jnp.where(weights == 0, 0.0, weights * jnp.where(weights == 0, 0.0, values))
