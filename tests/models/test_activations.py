"""Activations: values and derivatives at -8, 0 and 8 from their definitions, and units that are never active."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.models import activations
from jaxvision.models.activations import Activate, activation, silent_units

AT = np.array([-8.0, 0.0, 8.0])
E = np.exp(-8.0)
S = 1 / (1 + np.exp(8.0))  # sigmoid(-8)
T = np.tanh(8.0)
CDF, DENSITY = (1 + erf(-8 / 2**0.5)) / 2, np.exp(-32) / (2 * np.pi) ** 0.5  # of the normal distribution at -8
Q = 1 / (1 + np.exp(1.702 * 8))  # sigmoid(-1.702 * 8)
U = np.tanh((2 / np.pi) ** 0.5 * (-8 + 0.044715 * (-8) ** 3))
BY_HAND = {  # values and derivatives; the derivative at a kink is JAX's, where it has one
    "identity": ((-8, 0, 8), (1, 1, 1)),
    "relu": ((0, 0, 8), (0, 0, 1)),
    "relu6": ((0, 0, 6), (0, 0, 0)),
    "leaky_relu(0.1)": ((-0.8, 0, 8), (0.1, 1, 1)),
    "leaky_relu(0.2)": ((-1.6, 0, 8), (0.2, 1, 1)),
    "elu": ((E - 1, 0, 8), (E, 1, 1)),
    "elu(2)": ((2 * E - 2, 0, 8), (2 * E, None, 1)),
    "softplus": ((np.log1p(E), np.log(2), 8 + np.log1p(E)), (S, 0.5, 1 - S)),
    "tanh": ((-T, 0, T), (1 - T**2, 1, 1 - T**2)),
    "sigmoid": ((S, 0.5, 1 - S), (S * (1 - S), 0.25, S * (1 - S))),
    "silu": ((-8 * S, 0, 8 - 8 * S), (S - 8 * S * (1 - S), 0.5, 1 - S + 8 * S * (1 - S))),
    "hard_swish": ((0, 0, 8), (0, 0.5, 1)),
    "gelu": ((-8 * CDF, 0, 8 - 8 * CDF), (CDF - 8 * DENSITY, 0.5, 1 - CDF + 8 * DENSITY)),
    "gelu('tanh')": ((-4 * (1 + U), 0, 4 - 4 * U), (0, 0.5, 1)),
    "gelu('quick')": ((-8 * Q, 0, 8 - 8 * Q), (Q - 8 * 1.702 * Q * (1 - Q), 0.5, 1 - Q + 8 * 1.702 * Q * (1 - Q))),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_values_and_derivatives(name):
    function = activation(name).function
    values, derivatives = BY_HAND[name]
    np.testing.assert_allclose(function(jnp.asarray(AT)), values, rtol=1e-5, atol=1e-6)
    for x, derivative in zip(AT, derivatives):
        if derivative is not None:
            np.testing.assert_allclose(jax.grad(function)(x), derivative, rtol=1e-4, atol=1e-6, err_msg=f"at {x}")


def test_every_activation_is_tested():
    assert {name.partition("(")[0] for name in BY_HAND} | {"prelu", "maxout"} == set(activations.ACTIVATIONS.factories)


def test_derivatives_of_sigmoid_and_tanh_follow_from_their_values():
    x = jnp.linspace(-5, 5, 41)
    s, t = jax.nn.sigmoid(x), jnp.tanh(x)
    np.testing.assert_allclose(jax.vmap(jax.grad(activation("sigmoid").function))(x), s * (1 - s), rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(jax.grad(activation("tanh").function))(x), 1 - t**2, rtol=1e-4, atol=1e-7)


def test_prelu_learns_a_slope_for_each_channel():
    module, x = Activate("prelu(0.1)"), jnp.array([[-8.0, -8.0], [8.0, 0.0]])
    variables = module.init(jax.random.key(0), x)
    np.testing.assert_allclose(variables["params"]["slope"], [0.1, 0.1])
    np.testing.assert_allclose(module.apply(variables, x), [[-0.8, -0.8], [8, 0]], rtol=1e-6)
    gradient = jax.grad(lambda v: module.apply(v, x).sum())(variables)["params"]["slope"]
    np.testing.assert_allclose(gradient, [-8, -8])
    assert not Activate("relu").init(jax.random.key(0), x)


def test_maxout_takes_the_largest_of_the_pieces_beside_each_other():
    x = jnp.array([[-8.0, 8.0, 0.0, -1.0]])
    np.testing.assert_array_equal(activation("maxout(2)").function(x), [[8, 0]])
    np.testing.assert_array_equal(jax.grad(lambda x: activation("maxout(2)").function(x).sum())(x), [[0, 1, 1, 0]])
    with pytest.raises(UserError, match=r"maxout\(3\) needs a multiple of 3 channels, not 4"):
        activation("maxout(3)").function(x)
    model = models.build("mlp", 3, hidden=(4,), activation="maxout(2)")
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 2, 3)))["params"]
    assert shapes["dense1"]["kernel"].shape == (12, 8)
    assert shapes["head"]["kernel"].shape == (4, 3)


def test_a_layer_far_below_zero_is_dead_and_gets_no_gradient():
    model = models.build("mlp", 3, hidden=(5,))
    images = jax.random.uniform(jax.random.key(1), (8, 2, 2, 3))
    params = model.init(jax.random.key(0), images)["params"]
    loss = lambda p: jnp.square(model.apply({"params": p}, images)[1]["logits"] - 1).sum()
    assert not silent_units(model.apply({"params": params}, images)[1]["stages"][0]).all()
    params["dense1"]["bias"] -= 100
    assert silent_units(model.apply({"params": params}, images)[1]["stages"][0]).tolist() == [True] * 5
    gradient = jax.grad(loss)(params)
    assert not gradient["dense1"]["kernel"].any()
    assert not gradient["dense1"]["bias"].any()
    assert gradient["head"]["bias"].any()


def test_a_unit_that_is_active_at_one_place_is_not_silent():
    x = jnp.zeros((2, 3, 3, 2)).at[1, 2, 0, 1].set(0.5)
    assert silent_units(x).tolist() == [True, False]
