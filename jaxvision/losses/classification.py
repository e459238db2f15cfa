"""Losses of classification, per example.

Labels are class numbers, int [b], or distributions over k classes, float [b, k] (one-hot, smoothed, mixed).

A logit of -inf masks its class, whose probability is then 0. If the label of a masked class is 0, the class adds
nothing to a cross entropy or its gradient, and smoothing gives it no share. If its label is not 0, the loss is
infinite.
"""

import jax
import jax.numpy as jnp

from jaxvision.registry import part


@part("loss")
def softmax_cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Computes the cross entropy of the softmax.

    Args:
      logits: Logits of k classes, float [b, k].
      labels: Class numbers, int [b] in [0, k), or distributions, float [b, k] with rows that sum to 1.
      smoothing: Share of each label that is spread evenly over all classes that are not masked, in [0, 1)
        (Szegedy et al. 2016, sec. 7).

    Returns:
      Loss of each example in nats, float32 [b].

    >>> import numpy as np
    >>> loss = softmax_cross_entropy(jnp.array([[3.2, 5.1, -1.7]]), jnp.array([0]))
    >>> print(np.round(loss, 4))
    [2.0404]
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -weighted(_distribution(logits, labels, smoothing), log_probabilities).sum(-1)


@part("loss", multi_label=True)
def sigmoid_cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Computes the binary cross entropy of every class by itself, summed over classes.

    It serves data sets with several labels per image and, as in Beyer et al. 2020 (ReaL), sec. 5, single labels.

    Args:
      logits: Logits of k classes, float [b, k].
      labels: Class numbers, int [b] in [0, k), or targets in [0, 1], float [b, k]; rows need not sum to 1.
      smoothing: Share of each label that is spread evenly over all classes that are not masked, in [0, 1).

    Returns:
      Loss of each example in nats, float32 [b].

    >>> sigmoid_cross_entropy(jnp.zeros((1, 3)), jnp.array([0])).round(3).tolist()  # 3 ln 2
    [2.0789999961853027]
    """
    targets, logits = _distribution(logits, labels, smoothing), logits.astype(jnp.float32)
    log_yes, log_no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)  # log p and log(1 - p)
    return -(weighted(targets, log_yes) + weighted(1 - targets, log_no)).sum(-1)


@part("loss")
def squared_error(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Computes half the squared distance between outputs and labels, summed over classes.

    This is classification as regression on one-hot labels (Hui & Belkin 2021, "Evaluation of neural architectures
    trained with square loss vs cross-entropy", sec. 2, without their rescaling for many classes).

    Args:
      logits: Outputs for k classes, float [b, k]; no softmax is applied.
      labels: Class numbers, int [b] in [0, k), or targets, float [b, k]; rows need not sum to 1.
      smoothing: Share of each label that is spread evenly over all classes that are not masked, in [0, 1).

    Returns:
      Loss of each example, float32 [b].

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


def weighted(weights: jax.Array, values: jax.Array) -> jax.Array:
    """Returns `weights * values`, and 0 where the weight is 0, even if the value is infinite.

    Args:
      weights: Weights, float of any shape.
      values: Values of the same shape, float.

    >>> weighted(jnp.array([0.0, 2.0]), jnp.array([jnp.inf, 3.0])).tolist()
    [0.0, 6.0]
    """
    # 0 * -inf is NaN. The inner `where` keeps the NaN out of the gradient, too: the outer one alone would not.
    return jnp.where(weights == 0, 0.0, weights * jnp.where(weights == 0, 0.0, values))
