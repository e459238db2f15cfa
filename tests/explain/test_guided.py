"""Guided backpropagation."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.explain import gradients, guided
from jaxvision.explain.base import Subject

A = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
B = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
X = np.random.default_rng(2).uniform(size=(4, 2, 2, 3)).astype(np.float32)
K = np.array([0, 1, 2, 0])


def net(activation):
    def outputs(variables, images):
        a, b = variables
        hidden = jax.jit(lambda x: activation(x @ a))(images.reshape(len(images), -1) - 0.5)
        return {"logits": jnp.maximum(hidden, -9) @ b}

    return outputs


def test_what_is_negative_is_dropped_at_each_relu():
    found = guided.guided_gradient(net(jax.nn.relu), (A, B), X, K)
    for i, (x, k) in enumerate(zip(X.reshape(4, 12) - 0.5, K)):
        back = np.where((x @ A > 0) & (B[:, k] > 0), B[:, k], 0)  # a loop over a net of one ReLU, by hand
        np.testing.assert_allclose(found[i].ravel(), A @ back, rtol=1e-4, atol=1e-6)


def test_other_activations_have_nothing_to_guide():
    outputs = net(jnp.tanh)
    same = gradients.gradient(outputs, (A, B), X, K)
    np.testing.assert_allclose(guided.guided_gradient(outputs, (A, B), X, K), same, rtol=1e-5, atol=1e-6)
    assert "no ReLU" in guided._why_not(Subject(outputs, (A, B), X, K))
    assert guided._why_not(Subject(net(jax.nn.relu), (A, B), X, K)) is None
    assert guided.explain_guided(Subject(net(jax.nn.relu), (A, B), X, K)).summary.shape == (4, 2, 2)
