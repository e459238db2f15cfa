"""Assignments of a batch to prototypes that use all prototypes equally (Sinkhorn and Knopp's algorithm)."""

import jax
import jax.numpy as jnp

NONE = -1e30  # the logarithm of 0, finite so that no example at all gives no NaN


def sinkhorn(
    scores: jax.Array, epsilon: jax.typing.ArrayLike = 0.05, iterations: int = 3, counted: jax.Array | None = None
) -> jax.Array:
    """Assigns examples to prototypes softly, so that each prototype gets the same share of the examples.

    SwAV (Caron et al. 2020, sec. 3.1, eq. 3 to 5, and the listing of app. A): Q = diag(u) exp(scores / epsilon)
    diag(v), with u and v such that, after enough iterations, every prototype has a total weight of n / k and every
    example of 1. The last normalisation is that of the examples, so their weights sum to 1 exactly. DINOv2 (Oquab et
    al. 2023, sec. 4) uses it to centre the teacher. It is computed in logarithms, so no temperature overflows. Sums run
    over the whole batch, on all devices under sharded jit. No gradient passes.

    Args:
      scores: Score of every example with every prototype, float [n, k].
      epsilon: Temperature, above 0, a scalar []; the smaller, the harder the assignment.
      iterations: Number of times that rows and columns are normalised, at least 1.
      counted: False for examples that take no part, such as places that are not filled, bool [n]; None for all True.

    Returns:
      float32 [n, k], each row a distribution over the prototypes. Rows that are not counted mean nothing.

    >>> [[f"{x:.2f}" for x in row] for row in sinkhorn(jnp.array([[9.0, 1.0], [8.0, 1.0]]), 1.0, iterations=50)]
    [['0.62', '0.38'], ['0.38', '0.62']]
    """
    logs = jax.lax.stop_gradient(scores).astype(jnp.float32) / epsilon
    for _ in range(iterations):
        shares = logs if counted is None else jnp.where(counted[:, None], logs, NONE)
        logs -= jax.nn.logsumexp(shares, axis=0, keepdims=True)  # the examples of each prototype
        logs -= jax.nn.logsumexp(logs, axis=1, keepdims=True)  # the prototypes of each example
    return jnp.exp(logs)
