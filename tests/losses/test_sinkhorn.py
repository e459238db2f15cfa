"""Sinkhorn's algorithm against the listing of the paper, as loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses.sinkhorn import sinkhorn


def by_hand(scores, epsilon, iterations):
    """Caron et al. 2020, app. A: the matrix is k x n, its total is 1, rows are brought to 1/k and columns to 1/n."""
    q = np.exp(np.asarray(scores, np.float64) / epsilon).T
    k, n = q.shape
    q /= q.sum()
    for _ in range(iterations):
        for row in range(k):
            q[row] /= q[row].sum() * k
        for column in range(n):
            q[:, column] /= q[:, column].sum() * n
    return (q * n).T


@pytest.mark.parametrize("iterations", [1, 3])
def test_it_is_the_paper_s_listing(iterations):
    scores = np.random.default_rng(0).normal(0, 0.3, (12, 5))
    np.testing.assert_allclose(
        sinkhorn(jnp.asarray(scores), 0.05, iterations), by_hand(scores, 0.05, iterations), rtol=2e-4, atol=1e-7
    )


def test_every_prototype_gets_its_share_and_every_example_exactly_one():
    scores = jnp.asarray(np.random.default_rng(1).normal(0, 0.3, (12, 4)) + np.array([5, 0, 0, 0]), jnp.float32)
    weights = sinkhorn(scores, 0.5, 100)  # all examples prefer the first prototype
    np.testing.assert_allclose(weights.sum(0), 3, rtol=1e-3)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)


def test_large_scores_stay_finite_and_no_gradient_passes():
    scores = jnp.asarray([[300.0, 0.0], [299.0, 0.0]])
    assert np.isfinite(sinkhorn(scores, 0.01)).all()
    slope = jax.grad(lambda x: (sinkhorn(x) * jnp.arange(2)).sum())(scores)
    assert not slope.any()


def test_examples_that_are_not_counted_change_nothing():
    scores = np.random.default_rng(4).normal(size=(6, 3)).astype(np.float32)
    counted = np.array([1, 1, 0, 1, 0, 1], bool)
    np.testing.assert_allclose(sinkhorn(scores, counted=counted)[counted], sinkhorn(scores[counted]), rtol=1e-5)
    assert np.isfinite(sinkhorn(scores, counted=np.zeros(6, bool))).all()
