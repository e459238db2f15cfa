"""Losses that ask for a margin between scores, per example: hinge, squared hinge, perceptron.

Labels are class numbers, int [b], or weights of the k classes, float [b, k], such as mixed labels; with weights, the
loss of several classes is the weighted sum of the losses of each label, and takes memory for b * k * k numbers.
A logit of -inf masks its class: it violates no margin. If it is the label, the loss is infinite.
"""

import jax
import jax.numpy as jnp

from jaxvision.losses.classification import weighted
from jaxvision.registry import part


@part("loss")
def hinge(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Computes the hinge loss of several classes: the sum over the classes j other than the label y of
    max(0, s_j - s_y + 1).

    Args:
      logits: Scores s of k classes, float [b, k].
      labels: Class numbers, int [b] in [0, k), or weights of the classes, float [b, k].

    Returns:
      Loss of each example, float32 [b].

    Source: Weston & Watkins 1999, "Support vector machines for multi-class pattern recognition", with their margin of 2
      set to 1, as in CS231n.

    >>> hinge(jnp.array([[3.0, 5.0, -1.5]]), jnp.array([0])).tolist()
    [3.0]
    """
    differences, weights = _differences(logits, labels)
    return weighted(weights, jnp.maximum(differences + 1, 0).sum(-1)).sum(-1)


@part("loss")
def squared_hinge(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Computes the squared hinge loss: the sum over the classes j other than the label y of max(0, s_j - s_y + 1)^2.

    Args:
      logits: Scores s of k classes, float [b, k].
      labels: Class numbers, int [b] in [0, k), or weights of the classes, float [b, k].

    Returns:
      Loss of each example, float32 [b].

    Source: Tang 2013, "Deep learning using linear support vector machines", arXiv 1306.0239, eq. 8, there for one class
      against the others.

    >>> squared_hinge(jnp.array([[0.0, 1.0]]), jnp.array([0])).tolist()
    [4.0]
    """
    differences, weights = _differences(logits, labels)
    return weighted(weights, jnp.square(jnp.maximum(differences + 1, 0)).sum(-1)).sum(-1)


@part("loss")
def perceptron(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Computes how far the best wrong class lies above the label: max(0, max_j s_j - s_y) over the classes j but y.

    Its gradient is that of Rosenblatt's rule: nothing for an example that is right, else one step up for the label and
    down for the best wrong class. A tie counts as a mistake, so training can start from zero weights.

    Args:
      logits: Scores s of k classes, float [b, k].
      labels: Class numbers, int [b] in [0, k), or weights of the classes, float [b, k].

    Returns:
      Loss of each example, float32 [b].

    Source: Rosenblatt 1958; for several classes Crammer & Singer 2003, "Ultraconservative online algorithms for
      multiclass problems", sec. 4.

    >>> perceptron(jnp.array([[3.0, 5.0, 1.0]]), jnp.array([0])).tolist()
    [2.0]
    """
    differences, weights = _differences(logits, labels)
    most = differences.max(-1)
    return weighted(weights, jnp.where(most >= 0, most, 0.0)).sum(-1)  # `maximum` would halve the gradient of a tie


@part("loss", multi_label=True)
def binary_hinge(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Computes the hinge loss of every class by itself, summed over classes: max(0, 1 - s) for a label, else
    max(0, 1 + s).

    It serves data sets with several labels per image and, as one class against all others, single labels.

    Args:
      logits: Scores s of k classes, float [b, k].
      labels: Class numbers, int [b] in [0, k), or targets in [0, 1], float [b, k]; rows need not sum to 1.

    Returns:
      Loss of each example, float32 [b].

    Source: Cortes & Vapnik 1995, "Support-vector networks", eq. 18, as a loss.

    >>> binary_hinge(jnp.array([[0.5, -2.0]]), jnp.array([[1.0, 0.0]])).tolist()
    [0.5]
    """
    scores = logits.astype(jnp.float32)
    if jnp.issubdtype(labels.dtype, jnp.integer):
        labels = jax.nn.one_hot(labels, scores.shape[-1])
    no, yes = jnp.maximum(1 + scores, 0), jnp.maximum(1 - scores, 0)
    return (weighted(labels, yes) + weighted(1 - labels, no)).sum(-1)


def _differences(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """s_j - s_y of every class j for each label y, [b, y, j], -inf for j = y and masked j; weights of labels [b, y]."""
    scores = logits.astype(jnp.float32)
    if jnp.issubdtype(labels.dtype, jnp.integer):
        mine = jnp.take_along_axis(scores, labels[:, None], axis=1)  # b 1
        weights, same = jnp.ones_like(mine), jax.nn.one_hot(labels, scores.shape[-1], dtype=bool)[:, None]
    else:
        weights, same = labels, jnp.eye(scores.shape[-1], dtype=bool)[None]
        mine = jnp.where(labels == 0, 0.0, scores)  # a masked class without a weight would be inf, its gradient NaN
    rivals = scores[:, None]  # b 1 j
    return jnp.where(same | (rivals == -jnp.inf), -jnp.inf, rivals - mine[:, :, None]), weights
