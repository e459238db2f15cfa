"""Barlow Twins and VICReg against loops over images and dimensions, and where all embeddings are one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses import decorrelation
from jaxvision.parallel.mesh import shard_batch

barlow_twins, vicreg = jax.jit(decorrelation.barlow_twins), jax.jit(decorrelation.vicreg)
LOSSES = {"barlow_twins": barlow_twins, "vicreg": vicreg}


@pytest.fixture(scope="module")
def embeddings():
    """Two views of 16 images, in 5 dimensions that differ in mean, deviation and correlation."""
    rng = np.random.default_rng(0)
    image, noise = rng.normal(size=(16, 1, 5)), rng.normal(size=(16, 2, 5))
    mixed = (image + 0.5 * noise) @ rng.normal(size=(5, 5))
    return (mixed * rng.uniform(0.1, 0.6, 5) + rng.normal(size=5)).astype(np.float32)


def test_barlow_twins_equals_a_loop_over_pairs_of_dimensions(embeddings):
    """Zbontar et al. 2021, eq. 1 and 2, on dimensions with mean 0; 1e-5 is added to the variances."""
    a, b = (view.astype(np.float64) for view in np.moveaxis(embeddings, 1, 0))
    a, b = a - a.mean(0), b - b.mean(0)
    n, d = a.shape
    c = np.zeros((d, d))
    for i in range(d):
        for j in range(d):
            norms = np.sqrt((a[:, i] ** 2).sum() + n * 1e-5) * np.sqrt((b[:, j] ** 2).sum() + n * 1e-5)
            c[i, j] = sum(a[k, i] * b[k, j] for k in range(n)) / norms
    outside = [c[i, j] ** 2 for i in range(d) for j in range(d) if i != j]
    terms = barlow_twins(embeddings)
    np.testing.assert_allclose(terms.invariance, sum((1 - c[i, i]) ** 2 for i in range(d)), rtol=1e-4)
    np.testing.assert_allclose(terms.redundancy, sum(outside), rtol=1e-4)
    np.testing.assert_allclose(terms.correlation, np.mean(np.diag(c)), rtol=1e-4)
    np.testing.assert_allclose(terms.cross_correlation, np.sqrt(np.mean(outside)), rtol=1e-4)


def test_vicreg_equals_a_loop_over_dimensions(embeddings):
    """Bardes et al. 2022, eq. 1 to 5."""
    views = np.moveaxis(embeddings.astype(np.float64), 1, 0)
    n, d = views[0].shape
    hinges, outside = [], 0.0
    for z in views:
        mean = z.sum(0) / n
        c = sum(np.outer(row - mean, row - mean) for row in z) / (n - 1)
        hinges += [max(0.0, 1 - np.sqrt(c[j, j] + 1e-4)) for j in range(d)]
        outside += sum(c[i, j] ** 2 for i in range(d) for j in range(d) if i != j) / d
    terms = vicreg(embeddings)
    assert 0 < sum(hinge > 0 for hinge in hinges) < 2 * d  # both sides of the hinge are seen
    np.testing.assert_allclose(terms.variance, np.mean(hinges), rtol=1e-4)
    np.testing.assert_allclose(terms.invariance, ((views[0] - views[1]) ** 2).sum(1).mean() / d, rtol=1e-4)
    np.testing.assert_allclose(terms.covariance, outside, rtol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_eight_devices_equal_one_in_value_and_gradient(name, embeddings, mesh):
    def weighted(z):
        terms = LOSSES[name](z)
        return sum(weight * term for weight, term in zip((1.0, 0.7, 0.3), terms)), terms

    of = jax.jit(jax.value_and_grad(weighted, has_aux=True))
    got, expected = of(shard_batch(embeddings, mesh())), of(embeddings)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, expected)


@pytest.mark.parametrize("name", LOSSES)
def test_a_collapse_has_the_stated_terms_and_finite_gradients(name):
    stated = {"barlow_twins": (3, 0, 0, 0), "vicreg": (0.99, 0, 0)}
    one = jnp.ones((4, 2, 3))
    np.testing.assert_allclose(LOSSES[name](one), stated[name], atol=1e-6)
    trained = 2 if name == "barlow_twins" else 3  # terms of the loss; the others are only watched
    gradients = jax.jit(jax.jacrev(lambda z: jnp.stack(LOSSES[name](z)[:trained])))(one)
    assert np.isfinite(gradients).all()


def test_dimensions_that_are_all_one_are_told_from_dimensions_of_their_own():
    z = np.random.default_rng(0).normal(size=(64, 1, 4)).repeat(2, axis=1)
    repeated = np.broadcast_to(z[..., :1], z.shape)
    assert barlow_twins(repeated).cross_correlation > 0.99
    assert barlow_twins(z).cross_correlation < 0.3
    assert vicreg(repeated).covariance > 10 * vicreg(z).covariance
