"""The swapped prediction of SwAV: from one view of an image, the prototypes that another view is assigned to."""

import jax
import jax.numpy as jnp


def swapped_prediction(scores: jax.Array, targets: jax.Array, temperature: float = 0.1) -> jax.Array:
    """Computes the cross entropy between the assignments of the first views and the predictions from all other views.

    Caron et al. 2020 (SwAV), eq. 2 and 6: with p the softmax of the scores divided by the temperature, the loss of
    views v and i is -sum_k q_ik log p_vk. It is the mean over all pairs of a view i that has an assignment and another
    view v, so its size does not depend on the number of views (as in the authors' code; eq. 2 and 6 are sums). No
    gradient passes through the assignments.

    Args:
      scores: Products of features and prototypes, float [b, v, k] with v at least 2.
      targets: Assignments q of the first g of these views, float [b, g, k]; each row is a distribution.
      temperature: Temperature of the softmax, above 0.

    Returns:
      Loss of each image in nats, float32 [b].

    >>> scores = jnp.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    >>> targets = jnp.array([[[1.0, 0.0], [1.0, 0.0]]])
    >>> [f"{x:.4f}" for x in swapped_prediction(scores, targets, 1.0)]  # a mean of 0.3133 and 1.3133
    ['0.8133']
    """
    v, g = scores.shape[1], targets.shape[1]
    logs = jax.nn.log_softmax(scores.astype(jnp.float32) / temperature)
    pairs = -jnp.einsum("bik,bvk->biv", jax.lax.stop_gradient(targets), logs, precision=jax.lax.Precision.HIGHEST)
    other = jnp.arange(g)[:, None] != jnp.arange(v)  # i v
    return jnp.where(other, pairs, 0).sum((1, 2)) / (g * (v - 1))


def in_use(scores: jax.Array) -> jax.Array:
    """Computes how many prototypes a batch uses: the exponential of the entropy of the shares of their examples.

    Each example counts for the prototype with its highest score. The result is 1 if all examples have the same one, as
    they do if all features are equal. The assignments themselves would not show that: Sinkhorn's algorithm always gives
    every prototype the same share.

    Args:
      scores: Scores of examples, float [n, k].

    Returns:
      float32 scalar in [1, min(n, k)].

    >>> f"{in_use(jnp.eye(4)):.3f}", f"{in_use(jnp.ones((4, 4))):.3f}"
    ('4.000', '1.000')
    """
    shares = jax.nn.one_hot(scores.argmax(-1), scores.shape[-1]).mean(0)
    return jnp.exp(-jax.scipy.special.xlogy(shares, shares).sum())
