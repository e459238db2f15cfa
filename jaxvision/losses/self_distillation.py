"""Losses of a student that predicts the distribution of a teacher over prototypes, from another view of an image.

DINO (Caron et al. 2021, arXiv 2104.14294). DINOv2 (Oquab et al. 2023, arXiv 2304.07193) adds the loss of masked patches
of iBOT (Zhou et al. 2022, arXiv 2111.07832) and KoLeo (Sablayrolles et al. 2019, arXiv 1806.03198). They are means over
the batch, which is global under sharded jit.
"""

import jax
import jax.numpy as jnp

from jaxvision.losses.pairs import against_all, similarities, unit


def cross_view_entropy(scores: jax.Array, targets: jax.Array, temperature: float = 0.1) -> jax.Array:
    """Computes the cross entropy of a view's prediction and the teacher's target of another view.

    Caron et al. 2021, eq. 3: -sum P_t(x)^T log P_s(x') over the teacher's views x and all other views x' of the
    student, divided by the number of pairs, as in the authors' code.

    Args:
      scores: Student's scores, float [b, v, k]: the views that the teacher sees, then others.
      targets: Teacher's distributions, float [b, g, k] with g at most v.
      temperature: Divisor of the scores, above 0.

    Returns:
      Mean over pairs of views, float32 [b].

    >>> targets = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> [round(float(cross_view_entropy(x, targets, 1.0)[0]), 3) for x in (9 * targets, 9 * targets[:, ::-1])]
    [9.0, 0.0]
    """
    logs = jax.nn.log_softmax(scores.astype(jnp.float32) / temperature)
    g, v = targets.shape[1], logs.shape[1]
    others = logs.sum(1, keepdims=True) - logs[:, :g]  # of all views but that of the target
    return -(targets * others).sum((1, 2)) / (g * (v - 1))


def masked_entropy(scores: jax.Array, targets: jax.Array, masked: jax.Array, temperature: float = 0.1) -> jax.Array:
    """Computes the cross entropy of the prediction for a masked patch and the teacher's target, which sees the patch.

    Zhou et al. 2022 (iBOT), eq. 2: the mean over the masked patches of an image. An image without a mask gives 0 and
    counts in the mean over the batch, as in the authors' code and in DINOv2's.

    Args:
      scores: Student's scores of patches, float [..., m, k].
      targets: Teacher's distributions of the same patches, float [..., m, k].
      masked: True for patches that the student did not see; others do not count, bool [..., m].
      temperature: Divisor of the scores, above 0.

    Returns:
      Mean over the masked patches of each image, float32 [...].

    >>> targets = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    >>> f"{masked_entropy(jnp.array([[0.0, 0.0], [9.0, 0.0]]), targets, jnp.array([True, False])):.3f}"
    '0.693'
    """
    each = -(targets * jax.nn.log_softmax(scores.astype(jnp.float32) / temperature)).sum(-1)
    return jnp.where(masked, each, 0).sum(-1) / jnp.maximum(masked.sum(-1), 1)


def centred(scores: jax.Array, centre: jax.Array, temperature: jax.typing.ArrayLike) -> jax.Array:
    """Makes the teacher's targets: softmax((scores - centre) / temperature), without a gradient.

    Caron et al. 2021, eq. 1 and sec. 3.1, "Avoiding collapse": the centre keeps one prototype from winning everywhere,
    a temperature below the student's keeps the targets from being uniform.

    Args:
      scores: Teacher's scores, float [..., k].
      centre: Moving average of the scores, see `moved_centre`, float [k].
      temperature: Divisor, above 0, a scalar [].

    Returns:
      float32 [..., k], distributions.

    >>> centred(jnp.array([2.0, 1.0]), jnp.array([1.0, 0.0]), 0.04).tolist()
    [0.5, 0.5]
    """
    scores = jax.lax.stop_gradient(scores).astype(jnp.float32)
    return jax.nn.softmax((scores - centre) / temperature)


def moved_centre(centre: jax.Array, mean: jax.Array, momentum: float) -> jax.Array:
    """Moves the centre towards the mean score of a batch: m centre + (1 - m) mean (Caron et al. 2021, eq. 4).

    Args:
      centre: Centre, float [k].
      mean: Mean of the teacher's scores over the whole batch, float [k].
      momentum: Share m of the centre that stays, in [0, 1].

    >>> moved_centre(jnp.zeros(1), jnp.ones(1), 0.75).tolist()
    [0.25]
    """
    return momentum * centre + (1 - momentum) * mean


def temperature_at(step: jax.typing.ArrayLike, start: float, final: float, warmup: int) -> jax.Array:
    """Returns the teacher's temperature in a step: `numpy.linspace(start, final, warmup)`, then `final`.

    As in DINOv2's code. DINO's has the same line by epochs, constant within each epoch.

    Args:
      step: Number of the step, 0 for the first.
      start: Temperature in the first step, above 0.
      final: Temperature from step `warmup - 1` on, above 0.
      warmup: Number of steps of the warm-up; 0 for `final` from the start.

    >>> [round(float(temperature_at(step, 0.04, 0.07, 4)), 3) for step in range(5)]
    [0.04, 0.05, 0.06, 0.07, 0.07]
    """
    share = jnp.minimum(jnp.asarray(step, jnp.float32) / max(warmup - 1, 1), 1.0) if warmup else 1.0
    return jnp.asarray(start + (final - start) * share, jnp.float32)


def entropy(targets: jax.Array) -> jax.Array:
    """Computes the entropy of distributions, in nats: 0 for one prototype, log k for all alike.

    Args:
      targets: Distributions, float [..., k].

    Returns:
      float32 [...].

    >>> [f"{abs(x):.3f}" for x in entropy(jnp.array([[0.5, 0.5], [1.0, 0.0]]))]
    ['0.693', '0.000']
    """
    return -jax.scipy.special.xlogy(targets, targets).sum(-1)


def koleo(features: jax.Array, epsilon: float = 1e-8) -> jax.Array:
    """Computes the estimate of minus the entropy of directions: large if neighbours are near.

    Sablayrolles et al. 2019, sec. 3.2 (after Kozachenko and Leonenko 1987), as in DINOv2, sec. 4, "KoLeo regularizer":
    -mean_i log min_{j != i} |x_i - x_j|, with features of length 1. The gradient moves both points of a pair.

    Args:
      features: Features of one view of each image, float [n, d] with n at least 2.
      epsilon: Number that is added to a distance, so that equal features have a finite loss, -log(2 epsilon).

    Returns:
      float32 [].

    >>> f"{koleo(jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, -3.0]])):.3f}"
    '-0.347'
    """
    x = unit(features)

    def nearest(row: jax.Array, index: jax.Array, everyone: jax.Array) -> jax.Array:
        return jnp.where(jnp.arange(len(everyone)) == index, -jnp.inf, similarities(everyone, row)).argmax()

    near = against_all(nearest, jax.lax.stop_gradient(x))
    distance = jnp.sqrt(jnp.square(x - x[near]).sum(-1) + epsilon**2)
    return -jnp.log(distance + epsilon).mean()
