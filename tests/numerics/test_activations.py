"""Activations of the models: values far out, slopes against the derivative on paper, and units that have died."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.stats import norm

from jaxvision import models
from jaxvision.models.transformer import GELUS

X = np.linspace(-6, 6, 241)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def slope_exact(x):
    """Of x Phi(x) (Hendrycks & Gimpel 2016, sec. 2)."""
    return norm.cdf(x) + x * norm.pdf(x)


def slope_tanh(x):
    """Of 0.5 x (1 + tanh(u)), u = sqrt(2 / pi) (x + 0.044715 x^3)."""
    u, du = (2 / np.pi) ** 0.5 * (x + 0.044715 * x**3), (2 / np.pi) ** 0.5 * (1 + 3 * 0.044715 * x**2)
    return 0.5 * (1 + np.tanh(u)) + 0.5 * x * (1 - np.tanh(u) ** 2) * du


def slope_quick(x):
    """Of x s(1.702 x), by s' = s (1 - s)."""
    s = sigmoid(1.702 * x)
    return s + 1.702 * x * s * (1 - s)


SLOPES = {"exact": slope_exact, "tanh": slope_tanh, "quick": slope_quick}


@pytest.mark.parametrize("name", GELUS)
def test_slopes_of_gelu(name):
    slope = jax.vmap(jax.grad(GELUS[name]))(jnp.asarray(X, jnp.float32))
    np.testing.assert_allclose(slope, SLOPES[name](X), atol=5e-6)
    assert slope[120] == 0.5  # at 0, where ReLU has its corner


@pytest.mark.parametrize("name", GELUS)
def test_gelu_is_0_and_the_identity_far_out(name):
    np.testing.assert_allclose(GELUS[name](jnp.array([-8.0, 0.0, 8.0])), [0, 0, 8], atol=1e-5)


def test_gelu_dips_once_below_zero():
    """To -0.17, its quick form to -0.164, at -0.75 on a grid of 0.05."""
    for name, value in {"exact": -0.1700, "tanh": -0.1700, "quick": -0.1636}.items():
        y = np.asarray(GELUS[name](jnp.asarray(X, jnp.float32)))
        assert X[y.argmin()] == pytest.approx(-0.75)
        assert y.min() == pytest.approx(value, abs=1e-4)
        assert (np.diff(np.sign(np.diff(y[X > -4]))) != 0).sum() == 1


def test_forms_of_gelu_differ_by_little():
    """0.0005 for the tanh form, 0.02 for the quick one: enough to tell weights that were trained with another."""
    exact, tanh, quick = (np.asarray(GELUS[name](jnp.asarray(X, jnp.float32))) for name in ("exact", "tanh", "quick"))
    assert np.abs(tanh - exact).max() == pytest.approx(4.7e-4, rel=0.05)
    assert np.abs(quick - exact).max() == pytest.approx(0.0203, rel=0.02)


def test_gates_and_corners_of_other_activations():
    """Flax's, as ResNets, squeeze-and-excitation and LeNet use them; ReLU's slope at 0 is 0."""
    x = jnp.array([-8.0, 0.0, 8.0])
    np.testing.assert_array_equal(jax.vmap(jax.grad(nn.relu))(x), [0, 0, 1])
    np.testing.assert_allclose(nn.sigmoid(x), sigmoid(np.array([-8, 0, 8])), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(nn.sigmoid))(x), [3.3523767e-4, 0.25, 3.3523767e-4], rtol=1e-4)


def test_a_dead_relu_learns_nothing_and_lets_nothing_through():
    """LeNet's F6 pushed far below zero: the head sees zeros, so only its bias learns, and nothing before it does."""
    model = models.build("lenet", 10)
    images = jax.random.normal(jax.random.key(0), (1, 32, 32, 1))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    params = jax.tree.map(lambda x: jnp.full(x.shape, 0.01), shapes)
    params["f6"]["bias"] -= 100.0

    def loss(params):
        features, out = model.apply({"params": params}, images)
        return jnp.square(out["logits"]).sum(), features

    gradients, features = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert not features.any()
    learning = [jax.tree_util.keystr(path) for path, g in jax.tree.leaves_with_path(gradients) if g.any()]
    assert learning == ["['head']['bias']"]
