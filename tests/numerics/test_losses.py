"""Losses on numbers small enough to check by hand, and where their gradients and minima lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses import LOSSES
from jaxvision.losses.classification import sigmoid_cross_entropy, softmax_cross_entropy, squared_error

LOGITS = jnp.array([[3.2, 5.1, -1.7]])  # the example of many courses; the first class is right


def gradient(loss, logits, labels):
    return jax.grad(lambda z: loss(z, labels).sum())(logits)


def test_squared_error_by_hand():
    """0.5 (0.15 - 1)^2 = 0.36125 and 0.5 (0.05 - 0)^2 = 0.00125."""
    each = squared_error(jnp.array([[0.15], [0.05]]), jnp.array([[1.0], [0.0]]))
    np.testing.assert_allclose(each, [0.36125, 0.00125], rtol=1e-5)
    np.testing.assert_allclose(squared_error(jnp.array([[0.15, 0.05]]), jnp.array([0])), [0.3625], rtol=1e-5)


def test_gradient_of_softmax_cross_entropy_is_prediction_minus_label():
    """exp: 24.53253, 164.02191, 0.182684 of 188.737121, so p = 0.129983, 0.869050, 0.000968."""
    want = [[0.129983 - 1, 0.869050, 0.000968]]
    np.testing.assert_allclose(gradient(softmax_cross_entropy, LOGITS, jnp.array([0])), want, atol=1e-6)


def test_gradient_of_sigmoid_cross_entropy_is_prediction_minus_label():
    want = 1 / (1 + np.exp(-np.array([[3.2, 5.1, -1.7]]))) - [[1, 0, 0]]
    np.testing.assert_allclose(gradient(sigmoid_cross_entropy, LOGITS, jnp.array([0])), want, atol=1e-6)


def test_gradient_of_squared_error_is_output_minus_label():
    np.testing.assert_allclose(gradient(squared_error, LOGITS, jnp.array([0])), [[2.2, 5.1, -1.7]], rtol=1e-6)


def test_cross_entropy_is_divergence_plus_entropy():
    """So for a certain label it is the KL divergence itself, and else it cannot fall below the label's entropy."""
    p = np.exp([3.2, 5.1, -1.7])
    p /= p.sum()
    q = np.array([0.7, 0.2, 0.1])
    entropy, divergence = -(q * np.log(q)).sum(), (q * np.log(q / p)).sum()
    np.testing.assert_allclose(softmax_cross_entropy(LOGITS, jnp.array([q])), [entropy + divergence], rtol=1e-6)
    np.testing.assert_allclose(softmax_cross_entropy(LOGITS, jnp.array([0])), [-np.log(p[0])], rtol=1e-6)
    np.testing.assert_allclose(softmax_cross_entropy(jnp.log(jnp.array([q])), jnp.array([q])), [entropy], rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_the_minimum_is_at_the_label(name):
    labels, sure = jnp.array([[0.7, 0.2, 0.1]]), jnp.array([[1.0, 0.0, 0.0]])
    beyond = 5 * (2 * sure - 1)  # farther from the boundary than any margin
    best, labels = {
        "softmax_cross_entropy": (jnp.log(labels), labels),
        "sigmoid_cross_entropy": (jnp.log(labels) - jnp.log1p(-labels), labels),
        "squared_error": (labels, labels),
        "hinge": (beyond, sure),
        "squared_hinge": (beyond, sure),
        "binary_hinge": (beyond, sure),
        "perceptron": (beyond, sure),
    }[name]
    np.testing.assert_allclose(gradient(LOSSES[name], best, labels), 0, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_a_new_model_starts_at_the_loss_of_guessing(classes):
    """Logits of zero: ln K nats; ln 2 = 0.693147 for each class of the sigmoid loss; 1/2 for one-hot regression."""
    zeros, labels = jnp.zeros((1, classes)), jnp.array([1])
    np.testing.assert_allclose(softmax_cross_entropy(zeros, labels), [np.log(classes)], rtol=1e-6)
    np.testing.assert_allclose(sigmoid_cross_entropy(zeros, labels), [0.693147 * classes], rtol=1e-5)
    np.testing.assert_allclose(squared_error(zeros, labels), [0.5])


def test_softmax_ignores_what_all_logits_share_and_survives_large_ones():
    labels = jnp.array([0])
    np.testing.assert_allclose(softmax_cross_entropy(LOGITS + 500, labels), [2.040355], rtol=1e-4)
    for name in LOSSES:
        assert jnp.isfinite(gradient(LOSSES[name], 1e4 * LOGITS, labels)).all(), name
