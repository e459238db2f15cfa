"""Saliency by gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.explain import gradients
from jaxvision.explain.base import Subject

W = np.random.default_rng(0).normal(size=(4 * 4 * 3, 3)).astype(np.float32)


def linear(variables, images):
    return {"logits": (2 * images - 1).reshape(len(images), -1) @ variables}


def test_the_gradient_of_a_linear_model_is_its_weights():
    images = jnp.asarray(np.random.default_rng(1).uniform(size=(2, 4, 4, 3)), jnp.float32)
    found = gradients.gradient(linear, W, images, jnp.array([2, 0]))
    # The pixels are normalised to [-1, 1], so a unit of the pixel range is two units of the input.
    np.testing.assert_array_equal(found, 2 * W.T[[2, 0]].reshape(2, 4, 4, 3))
    np.testing.assert_array_equal(gradients.saliency(found), 2 * np.abs(W.T[[2, 0]]).reshape(2, 4, 4, 3).max(-1))


def curved(variables, images):
    return {"logits": jnp.tanh((images.reshape(len(images), -1) - 0.3) @ variables * 0.2) * jnp.array([1.0, 2.0, 3.0])}


def test_integrated_gradients_are_complete():
    images = jnp.asarray(np.random.default_rng(1).uniform(size=(3, 4, 4, 3)), jnp.float32)
    targets = jnp.array([2, 0, 1])
    for baseline in (0.0, 0.5):
        found = gradients.integrated_gradients(curved, W, images, targets, baseline, 64)
        logits = lambda x: np.take_along_axis(np.asarray(curved(W, x)["logits"]), np.asarray(targets)[:, None], 1)[:, 0]
        rise = logits(images) - logits(jnp.full_like(images, baseline))
        np.testing.assert_allclose(found.sum((1, 2, 3)), rise, atol=2e-3)


def test_smoothgrad_of_a_linear_model_is_its_gradient():
    images = jnp.asarray(np.random.default_rng(1).uniform(size=(2, 4, 4, 3)), jnp.float32)
    found = gradients.smoothgrad(linear, W, images, jnp.array([2, 0]), jax.random.key(0), samples=3)
    np.testing.assert_allclose(found, 2 * W.T[[2, 0]].reshape(2, 4, 4, 3), rtol=1e-5)
    # Of a curved one it is the mean over the noise, which is drawn for each image by itself.
    once = gradients.smoothgrad(curved, W, images, jnp.array([2, 2]), jax.random.key(1), samples=1)
    assert np.abs(once - gradients.gradient(curved, W, images, jnp.array([2, 2]))).max() > 1e-3


def test_the_parts():
    images = np.random.default_rng(1).uniform(size=(3, 4, 4, 3)).astype(np.float32)
    subject = Subject(curved, W, images, np.array([0, 1, 2]), ("a", "b", "c"), batch=2)
    for shown in (
        gradients.explain_gradient(subject),
        gradients.explain_smoothgrad(subject, samples=2),
        gradients.explain_integrated(subject, steps=8),
    ):
        assert shown.summary.shape == (3, 4, 4)
        assert [row.name for row in shown.rows] == ["a", "b", "c"]
    assert shown.rows[0].tiles[1].words.startswith("integrated: sum")
