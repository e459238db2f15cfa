"""Multilayer perceptron, linear classifier and pixels: counts, DropConnect, and what small nets can represent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models.activations import activation
from jaxvision.models.drop_connect import DropConnectDense
from jaxvision.models.linear import grey_channel


def count(model, *shape):
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))
    return sum(x.size for x in jax.tree.leaves(variables.get("params", {})))


def test_parameters():
    assert count(models.build("mlp", 10, hidden=(256,), grey=True), 28, 28, 3) == 784 * 256 + 256 + 256 * 10 + 10
    assert count(models.build("mlp", 10, hidden=(256,)), 28, 28, 1) == 203_530
    assert count(models.build("linear", 10), 32, 32, 3) == 10 * 3072 + 10 == 30_730
    assert count(models.build("identity", 10), 32, 32, 3) == 0
    assert count(models.build("linear", None), 32, 32, 3) == 0


def test_features_are_the_pixels():
    images = jax.random.uniform(jax.random.key(0), (2, 4, 5, 3))
    for name in ("linear", "identity"):
        model = models.build(name, 3)
        variables = model.init(jax.random.key(0), images)
        features, out = model.apply(variables, images)
        np.testing.assert_array_equal(features, images.reshape(2, 60))
        np.testing.assert_array_equal(out["map"], images)
    np.testing.assert_array_equal(out["logits"], np.zeros((2, 3)))
    grey = models.build("identity", None, grey=True).apply({}, images)[0]
    np.testing.assert_allclose(grey, images.mean(-1).reshape(2, 20), rtol=1e-6)
    np.testing.assert_array_equal(grey_channel(images).shape, (2, 4, 5, 1))


def test_linear_is_the_map_of_the_textbook():
    """Three classes of four pixels: W x + b = (-96.8, 437.9, 60.75)."""
    w = np.array([[0.2, -0.5, 0.1, 2.0], [1.5, 1.3, 2.1, 0.0], [0.0, 0.25, 0.2, -0.3]])
    head = {"kernel": jnp.asarray(w.T), "bias": jnp.array([1.1, 3.2, -1.2])}
    image = jnp.array([56.0, 231.0, 24.0, 2.0]).reshape(1, 2, 2, 1)
    _, out = models.build("linear", 3).apply({"params": {"head": head}}, image)
    np.testing.assert_allclose(out["logits"], [[-96.8, 437.9, 60.75]], rtol=1e-5)


def test_dropconnect_masks_weights_for_each_example():
    x = jnp.ones((3, 4))
    layer = DropConnectDense(5, 0.5)
    params = layer.init(jax.random.key(0), x, False)
    params["params"]["bias"] += 1.0
    y = layer.apply(params, x, True, rngs={"dropout": jax.random.key(1)})
    assert not np.allclose(y[0], y[1])  # equal examples, masks of their own
    kernel, bias = (np.asarray(params["params"][name], np.float64) for name in ("kernel", "bias"))
    columns = np.vstack([kernel, bias])  # what a unit sums: each of the five weights, twice or not at all
    sums = np.array([[np.dot(bits, columns[:, 0])] for bits in np.ndindex(*(2,) * 5)]) * 2
    for value in np.asarray(y[:, 0]):
        assert np.abs(sums - value).min() < 1e-5


def test_dropconnect_keeps_the_mean_and_is_dense_at_rate_zero():
    x = jax.random.normal(jax.random.key(2), (2, 6))
    layer = DropConnectDense(3, 0.3)
    params = layer.init(jax.random.key(0), x, False)
    params["params"]["bias"] += 1.0
    draw = lambda key: layer.apply(params, x, True, rngs={"dropout": key})
    drawn = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(1), 4000))
    whole = x @ params["params"]["kernel"] + params["params"]["bias"]
    error = drawn.std(0) / 4000**0.5
    assert (jnp.abs(drawn.mean(0) - whole) < 5 * error).all()
    np.testing.assert_array_equal(layer.apply(params, x, False), whole)
    np.testing.assert_array_equal(DropConnectDense(3, 0.0).apply(params, x, True), whole)


def test_dropconnect_in_a_model_draws_in_training_only():
    model, images = models.build("mlp", 3, hidden=(8,), dropconnect=0.5, dropout=0.1), jnp.ones((2, 2, 2, 3))
    variables = model.init(jax.random.key(0), images)
    apply = lambda key: model.apply(variables, images, train=True, rngs={"dropout": jax.random.key(key)})[0]
    assert not np.allclose(apply(0), apply(1))
    np.testing.assert_array_equal(*(model.apply(variables, images)[0] for _ in range(2)))


def test_three_relus_are_the_hat_function():
    """relu(x) - 2 relu(x - 1) + relu(x - 2) rises to 1 at 1, falls to 0 at 2 and is 0 elsewhere, exactly."""
    model = models.build("mlp", 1, hidden=(3,))
    dense = {"kernel": jnp.ones((1, 3)), "bias": jnp.array([0.0, -1.0, -2.0])}
    head = {"kernel": jnp.array([[1.0], [-2.0], [1.0]]), "bias": jnp.zeros(1)}
    x = jnp.arange(-256, 1024) / 256
    _, out = model.apply({"params": {"dense1": dense, "head": head}}, x[:, None, None, None])
    np.testing.assert_array_equal(out["logits"][:, 0], jnp.maximum(0, 1 - jnp.abs(x - 1)))


def test_two_layers_fit_a_sine():
    """A ReLU at each of 41 knots and least squares for the head: within 1e-2 of sin(x), as Cybenko's theorem says."""
    model = models.build("mlp", 1, hidden=(41,))
    knots = jnp.linspace(-jnp.pi, jnp.pi, 41)
    params = {"dense1": {"kernel": jnp.ones((1, 41)), "bias": 0.2 - knots}}
    x = jnp.linspace(-jnp.pi, jnp.pi, 401)
    hidden = model.clone(num_classes=None).apply({"params": params}, x[:, None, None, None])[0]
    design = np.hstack([hidden, np.ones((len(x), 1))])
    solved = np.linalg.lstsq(design, np.sin(x), rcond=None)[0].astype(np.float32)
    params["head"] = {"kernel": jnp.asarray(solved[:-1, None]), "bias": jnp.asarray(solved[-1:])}
    _, out = model.apply({"params": params}, x[:, None, None, None])
    assert jnp.abs(out["logits"][:, 0] - jnp.sin(x)).max() < 1e-2


def test_rings_are_linear_in_polar_coordinates():
    """Two rings about the origin: a linear classifier is near chance in (x, y), and right in (radius, angle)."""
    rng = np.random.default_rng(0)
    angle, label = rng.uniform(-np.pi, np.pi, 400), np.arange(400) % 2
    radius = 1 + label + rng.uniform(-0.2, 0.2, 400)
    cartesian = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    polar = np.stack([np.hypot(*cartesian.T), np.arctan2(*cartesian.T[::-1])], axis=1)
    model = models.build("linear", 2, head_init="zeros")

    def accuracy(points):
        images = jnp.asarray(points, jnp.float32)[:, None, None, :]

        def loss(params):
            logits = model.apply({"params": params}, images)[1]["logits"]
            return -jax.nn.log_softmax(logits)[jnp.arange(400), label].mean()

        step = lambda params, _: (jax.tree.map(lambda p, g: p - g, params, jax.grad(loss)(params)), None)
        start = model.init(jax.random.key(0), images)["params"]
        params = jax.jit(lambda p: jax.lax.scan(step, p, length=1000)[0])(start)
        return float((model.apply({"params": params}, images)[1]["logits"].argmax(1) == label).mean())

    assert accuracy(cartesian) == pytest.approx(0.5, abs=0.12)
    assert accuracy(polar) == 1.0


@pytest.mark.parametrize("name", ["relu", "maxout(2)", "prelu", "tanh"])
def test_hidden_layers_are_those_of_a_loop(name, random_variables):
    model = models.build("mlp", 3, hidden=(4, 6), activation=name)
    images = jax.random.normal(jax.random.key(0), (2, 2, 2, 3))
    params = random_variables(model.init, images)["params"]
    x = images.reshape(2, 12)
    for i in (1, 2):
        x = x @ params[f"dense{i}"]["kernel"] + params[f"dense{i}"]["bias"]
        x = activation(name).function(x, *jax.tree.leaves(params.get(f"act{i}")))
    features, out = model.apply({"params": params}, images)
    np.testing.assert_allclose(features, x, rtol=1e-5, atol=1e-6)
    logits = x @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(out["logits"], logits, rtol=1e-5, atol=1e-6)
