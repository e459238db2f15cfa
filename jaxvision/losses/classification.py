"""Losses of classification, per example.

Labels are class numbers `int [B]` or distributions `float [B, K]` (one-hot, smoothed, mixed).
"""

import jax
import jax.numpy as jnp
import optax

from jaxvision.errors import unknown
from jaxvision.traced import known


def softmax_cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross entropy of the softmax, in nats.

    Args:
      logits: float [B, K].
      labels: int [B] in [0, K), or float [B, K] whose rows sum to 1.
      smoothing: share of each label that is spread evenly over all classes, in [0, 1)
        (Szegedy et al. 2016, sec. 7).

    Returns:
      float32 [B].

    >>> import numpy as np
    >>> loss = softmax_cross_entropy(jnp.array([[3.2, 5.1, -1.7]]), jnp.array([0]))
    >>> print(np.round(loss, 4))
    [2.0404]
    """
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), _distribution(logits, labels, smoothing))


def sigmoid_cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Binary cross entropy of every class on its own, summed over classes, in nats.

    Used for multi-label sets and as in Beyer et al. 2020 (ReaL), sec. 5, for single labels.

    Args and returns: as `softmax_cross_entropy`; rows of float labels need not sum to 1.
    """
    targets = _distribution(logits, labels, smoothing)
    return optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), targets).sum(-1)


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
    return labels if known(smoothing) and smoothing == 0 else optax.smooth_labels(labels, smoothing)


LOSSES = {f.__name__: f for f in (softmax_cross_entropy, sigmoid_cross_entropy, squared_error)}


def get(name: str):
    """The loss of that name; UserError otherwise."""
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name]
