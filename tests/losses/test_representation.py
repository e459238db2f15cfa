"""Measures of spread against their definitions and on batches whose values are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses import representation


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(6, 2, 5))


def _unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_alignment_is_the_mean_squared_distance_of_pairs(x):
    a, b = _unit(x)[:, 0], _unit(x)[:, 1]
    np.testing.assert_allclose(representation.alignment(jnp.asarray(x)), ((a - b) ** 2).sum(1).mean(), rtol=1e-5)
    three = np.random.default_rng(1).normal(size=(4, 3, 5))
    pairs = [((_unit(three)[:, i] - _unit(three)[:, j]) ** 2).sum(1).mean() for i, j in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(representation.alignment(jnp.asarray(three)), np.mean(pairs), rtol=1e-5)


def test_uniformity_is_the_log_of_the_mean_potential_over_pairs(x):
    y = _unit(x[:, 0])
    potentials = [np.exp(-2 * np.sum((y[i] - y[j]) ** 2)) for i in range(6) for j in range(i)]
    np.testing.assert_allclose(representation.uniformity(jnp.asarray(x[:, 0])), np.log(np.mean(potentials)), rtol=1e-5)
    chunked = representation.gaussian_potential(jnp.asarray(x[:, 0]), chunk=4)
    np.testing.assert_allclose(np.log(chunked.mean()), np.log(np.mean(potentials)), rtol=1e-5)


@pytest.mark.parametrize("order", [1, 2])
def test_effective_rank_equals_that_of_the_singular_values(x, order):
    y = _unit(x[:, 0])
    p = np.linalg.svd(y - y.mean(0), compute_uv=False) ** 2
    p = p[p > 1e-12] / p.sum()
    expected = np.exp(-np.sum(p * np.log(p))) if order == 1 else 1 / np.sum(p**2)
    np.testing.assert_allclose(representation.effective_rank(jnp.asarray(x[:, 0]), order), expected, rtol=1e-4)


def test_a_full_sphere_and_a_plane_in_it():
    sphere = jax.random.normal(jax.random.key(0), (4000, 16))
    assert float(representation.embedding_std(sphere)) == pytest.approx(1, abs=0.01)
    assert float(representation.effective_rank(sphere)) == pytest.approx(16, rel=0.01)
    assert float(representation.alignment(sphere.reshape(2000, 2, 16))) == pytest.approx(2, abs=0.05)
    plane = sphere.at[:, 2:].set(0)
    for order in (1, 2):
        assert float(representation.effective_rank(plane, order)) == pytest.approx(2, rel=0.01)


def test_a_collapse_is_seen_in_every_measure():
    same = jnp.broadcast_to(jnp.array([1.0, 2.0, 2.0]), (8, 3))
    assert float(representation.alignment(same[:, None].repeat(2, 1))) == 0
    assert float(representation.uniformity(same)) == pytest.approx(0, abs=1e-5)
    assert float(representation.embedding_std(same)) == pytest.approx(0, abs=1e-5)
    for order in (1, 2):
        assert np.isfinite(float(representation.effective_rank(same, order)))
