"""Saliency by gradients."""

import jax.numpy as jnp
import numpy as np

from jaxvision.explain import gradients

W = np.random.default_rng(0).normal(size=(4 * 4 * 3, 3)).astype(np.float32)


def linear(variables, images):
    return {"logits": (2 * images - 1).reshape(len(images), -1) @ variables}


def test_the_gradient_of_a_linear_model_is_its_weights():
    images = jnp.asarray(np.random.default_rng(1).uniform(size=(2, 4, 4, 3)), jnp.float32)
    found = gradients.gradient(linear, W, images, jnp.array([2, 0]))
    # The pixels are normalised to [-1, 1], so a unit of the pixel range is two units of the input.
    np.testing.assert_array_equal(found, 2 * W.T[[2, 0]].reshape(2, 4, 4, 3))
    np.testing.assert_array_equal(gradients.saliency(found), 2 * np.abs(W.T[[2, 0]]).reshape(2, 4, 4, 3).max(-1))
