"""Networks described by a spec: published counts, shapes row by row, layers, and invariance to shifts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.models import cnn_layers


def shapes(model, *shape):
    images = jnp.zeros((1, *shape))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return variables, jax.eval_shape(model.apply, variables, images)


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def test_the_net_of_nine_layers_with_batchnorm():
    variables, (_, out) = shapes(models.build("cnn", 10, variant="bn9"), 28, 28, 3)
    assert count(variables["params"]) == 1_200_330
    assert out["map"].shape == (1, 12, 12, 64)
    assert next(x.shape[1:] for x in out["layers"] if x.ndim == 2) == (9216,)
    assert variables["params"]["head"]["kernel"].shape == (128, 10)


def test_lenet_row_by_row():
    """28x28x20, 14x14x20, 14x14x50, 7x7x50, 2450, 500: each layer with its parameters."""
    variables, (features, out) = shapes(models.build("cnn", 10, variant="lenet_caffe"), 28, 28, 3)
    rows = [x.shape[1:] for x in out["layers"]]
    want = [(28, 28, 1), *[(28, 28, 20)] * 2, (14, 14, 20), *[(14, 14, 50)] * 2, (7, 7, 50), (2450,), (500,), (500,)]
    assert rows == want
    sizes = {name: (x["kernel"].size, x["bias"].size) for name, x in variables["params"].items()}
    assert sizes == {"conv1": (500, 20), "conv2": (25_000, 50), "dense1": (1_225_000, 500), "head": (5_000, 10)}
    assert count(variables["params"]) == 1_256_080
    assert [x.shape for x in out["stages"]] == [(1, 14, 14, 20), (1, 7, 7, 50)]
    assert features.shape == (1, 500)


def test_lenet_of_the_first_paper():
    variables, _ = shapes(models.build("cnn", 10, variant="lenet5"), 28, 28, 3)
    assert count(variables["params"]) == 61_706


def test_alexnet_of_dive_into_deep_learning():
    """The single-stream AlexNet of d2l.ai, sec. 8.1, for grey images of 224x224 pixels and ten classes."""
    spec = (
        "grey|conv(96, 11, 4, padding=1)|relu|pool(3, 2)|conv(256, 5)|relu|pool(3, 2)|conv(384)|relu|conv(384)|relu"
        "|conv(256)|relu|pool(3, 2)|flatten|dense(4096)|relu|dropout(0.5)|dense(4096)|relu|dropout(0.5)"
    )
    variables, (features, out) = shapes(models.build("cnn", 10, layers=spec), 224, 224, 3)
    assert [x.shape[1:] for x in out["stages"]] == [(26, 26, 96), (12, 12, 256), (5, 5, 256)]
    assert features.shape == (1, 4096)
    convolutions = 121 * 96 + 96 + 25 * 96 * 256 + 256 + 9 * (256 * 384 + 384 * 384 + 384 * 256) + 384 + 384 + 256
    assert count(variables["params"]) == convolutions + 6400 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 10 + 10


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        ("conv(4, 2, padding=0)", (15, 15, 4)),
        ("conv(4, 3, 2)|lrn", (8, 8, 4)),
        ("conv(4, 1, groups=2, bias=False)", (16, 16, 4)),
        ("pool(3, 2, 1)", (8, 8, 4)),
        ("pool(mean=True)", (8, 8, 4)),
        ("fractional_pool(1.414)", (11, 11, 4)),
        ("fractional_pool(order='random', overlap=True)", (11, 11, 4)),
        ("maxout(2)|hard_swish|gelu('tanh')", (16, 16, 2)),
        ("relu6|elu|softplus|sigmoid|silu|identity|leaky_relu(0.2)", (16, 16, 4)),
        ("global_pool|dense(3, dropconnect=0.5)|dropout(0.5)", (3,)),
    ],
)
def test_shape_of_each_layer(spec, shape):
    model, images = models.build("cnn", None, layers=spec), jnp.ones((2, 16, 16, 4))
    variables = model.init(jax.random.key(0), images)
    rngs = {"dropout": jax.random.key(1)}
    _, out = jax.eval_shape(lambda v: model.apply(v, images, train=True, rngs=rngs), variables)
    assert out["layers"][-1].shape == (2, *shape)
    used = set(cnn_layers.LAYERS.factories)
    assert used >= {call.partition("(")[0] for call in spec.split("|")}


def test_a_convolution_is_that_of_a_loop():
    x = np.random.default_rng(0).normal(size=(1, 5, 6, 4)).astype(np.float32)
    for size, stride, padding, groups in ((3, 2, 1, 1), (2, 1, 0, 2), (3, 1, 2, 1)):
        spec = f"conv(4, {size}, {stride}, {padding}, {groups})"
        model = models.build("cnn", None, layers=spec)
        params = model.init(jax.random.key(0), jnp.asarray(x))["params"]
        params["conv1"]["bias"] += 0.5
        kernel = np.asarray(params["conv1"]["kernel"])
        padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        got = np.asarray(model.apply({"params": params}, jnp.asarray(x))[1]["map"])
        for i, j, c in np.ndindex(*got.shape[1:]):
            first = c // (4 // groups) * (4 // groups)
            inputs = slice(first, first + 4 // groups)
            top, left = i * stride, j * stride
            window = padded[0, top : top + size, left : left + size, inputs]
            np.testing.assert_allclose(got[0, i, j, c], (window * kernel[..., c]).sum() + 0.5, rtol=1e-4, atol=1e-5)


def test_fractional_pooling_draws_in_training_only():
    model = models.build("cnn", None, layers="fractional_pool(1.5)|flatten")
    images = jax.random.normal(jax.random.key(0), (1, 12, 12, 3))
    train = lambda key: model.apply({}, images, train=True, rngs={"dropout": jax.random.key(key)})[0]
    assert len({tuple(np.asarray(train(key))[0]) for key in range(4)}) > 1
    np.testing.assert_array_equal(model.apply({}, images)[0], model.apply({}, images)[0])
    fixed = models.build("cnn", None, layers="fractional_pool(1.5, 'fixed')|flatten")
    np.testing.assert_array_equal(fixed.apply({}, images, train=True)[0], model.apply({}, images)[0])


def test_images_that_are_too_small_name_the_layer():
    model = models.build("cnn", 10, layers="conv(4, 5, padding=0)|pool|conv(4, 5, padding=0)")
    with pytest.raises(UserError, match=r"conv\(4, 5, padding=0\) leaves nothing of a map of 4x4 pixels"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 12, 12, 3)))
    bad = models.build("cnn", 10, layers="conv(4)|maxout(3)")
    with pytest.raises(UserError, match=r"maxout\(3\): maxout\(3\) needs a multiple of 3 channels, not 4"):
        jax.eval_shape(bad.init, jax.random.key(0), jnp.zeros((1, 12, 12, 3)))


def test_convolution_moves_with_the_image_and_its_mean_does_not():
    """An object on black, moved by two pixels: the mean of its map is the same, the features of an MLP are not."""
    image = jnp.zeros((1, 20, 20, 3)).at[:, 6:12, 6:12].set(jax.random.normal(jax.random.key(0), (1, 6, 6, 3)))
    moved = jnp.roll(image, (2, 2), axis=(1, 2))
    features, maps = {}, {}
    cnn = "conv(8, bias=False)|relu|conv(8, bias=False)|relu|global_pool"
    for name, options in {"cnn": dict(layers=cnn), "mlp": dict(hidden=(8,))}.items():
        model = models.build(name, None, **options)
        variables = model.init(jax.random.key(1), image)
        (a, out), (b, out_moved) = (model.apply(variables, x) for x in (image, moved))
        features[name], maps[name] = (a, b), (out, out_moved)
    (a, b), (before, after) = features["cnn"], (out["map"] for out in maps["cnn"])
    np.testing.assert_allclose(a, b, rtol=1e-5)
    np.testing.assert_allclose(jnp.roll(before, (2, 2), (1, 2))[:, 3:-3, 3:-3], after[:, 3:-3, 3:-3], atol=1e-5)
    a, b = features["mlp"]
    assert jnp.abs(a - b).max() > 0.1 * jnp.abs(a).max()
