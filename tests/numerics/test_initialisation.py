"""How the initialisers of this library carry a signal through depth.

The experiment of many courses: 16 inputs, standard normal, through six square layers of 2048. With weights of variance
1 / D (Xavier) a tanh network fades slowly; ReLU halves the second moment, and variance 2 / D (Kaiming) gives it back.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxvision.models.layers import Conv
from jaxvision.models.transformer import Attention, Mlp, kernel_init

WIDTH = 2048


def deviations(init, activation, layers=6):
    """Standard deviation of the activations after each layer."""
    x = jax.random.normal(jax.random.key(0), (16, 1, 1, WIDTH))
    conv, deviation = Conv(WIDTH, 1, kernel_init=init), []
    for i in range(layers):
        x = activation(conv.init_with_output(jax.random.key(i + 1), x)[0])
        deviation.append(float(x.std()))
    return deviation


def test_xavier_keeps_a_tanh_network_alive():
    """The transformer's default, against one draw of the courses and against the limit of wide layers."""
    of_layers = deviations(kernel_init(None), jnp.tanh)
    np.testing.assert_allclose(of_layers, [0.627, 0.488, 0.413, 0.360, 0.324, 0.296], atol=0.02)
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)  # integrates over the standard normal distribution
    limit = 1.0
    for deviation in of_layers:
        limit = np.average(np.tanh(limit * nodes) ** 2, weights=weights) ** 0.5
        assert deviation == pytest.approx(limit, abs=0.015)


def assert_close_after_each_layer(deviation, want):
    """Within three deviations: a layer of 2048 ReLUs multiplies the scale by 1 +- sqrt(5 / 2048) / 2, at random."""
    assert (np.abs(np.log(np.divide(deviation, want))) < 3 * 0.5 * (5 / WIDTH * np.arange(1, 7)) ** 0.5).all(), (
        deviation
    )


def test_kaiming_keeps_a_relu_network_alive():
    """Convolutions' default. Inputs of second moment 1 give normal sums of variance 2, whose positive part has second
    moment 1 again and mean 1 / sqrt(pi): a deviation of 0.826 (0.79 to 0.83 in the draw of the courses)."""
    assert_close_after_each_layer(deviations(Conv.kernel_init, nn.relu), [(1 - 1 / np.pi) ** 0.5] * 6)


def test_relu_fades_without_kaimings_2():
    """As a printed code that divides by sqrt(D) alone: a factor 1 / sqrt(2) a layer."""
    deviation = deviations(nn.initializers.variance_scaling(1.0, "fan_out", "normal"), nn.relu)
    assert_close_after_each_layer(deviation, [0.585, 0.423, 0.298, 0.209, 0.145, 0.102])
    assert_close_after_each_layer(deviation, [((1 - 1 / np.pi) / 2**i) ** 0.5 for i in range(1, 7)])


def test_xavier_counts_all_heads_of_a_kernel():
    """[D, heads, D / heads] is a D x D matrix: uniform within sqrt(6 / (2 D)), with variance 1 / D."""
    x = jnp.zeros((1, 1, 64))
    params = Attention(4).init(jax.random.key(0), x, x)["params"]
    for layer in ("query", "key", "value", "out"):
        check_uniform(params[layer]["kernel"], (6 / (64 + 64)) ** 0.5)


def test_xavier_counts_both_sides_of_a_kernel():
    params = Mlp(256).init(jax.random.key(0), jnp.zeros((1, 64)), False)["params"]
    for layer in ("dense_0", "dense_1"):
        check_uniform(params[layer]["kernel"], (6 / (64 + 256)) ** 0.5)


def check_uniform(weights, limit):
    assert 0.99 * limit < np.abs(weights).max() <= limit
    assert np.std(weights) == pytest.approx(limit / 3**0.5, rel=0.03)
    assert abs(np.mean(weights)) < 4 * limit / (3 * weights.size) ** 0.5
