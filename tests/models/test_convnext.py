"""ConvNeXt: the block written out, sizes, layer scale and stochastic depth."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from jaxvision import models
from jaxvision.models.convnext import ConvNeXtBlock


def test_block_equals_its_formula(random_variables):
    block = ConvNeXtBlock(drop_path=0.0, layer_scale=1e-6, gelu="exact", dtype=jnp.float32)
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 5, 4, 3)))
    variables = random_variables(functools.partial(block.init, train=False), x, 1.0)
    p = variables["params"]
    padded = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
    y = np.zeros_like(x) + p["depthwise"]["bias"]
    for i in range(7):
        for j in range(7):
            y += padded[:, i : i + 5, j : j + 4] * p["depthwise"]["kernel"][i, j, 0]
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
    y = y * p["norm"]["scale"] + p["norm"]["bias"]
    y = y @ p["mlp"]["dense_0"]["kernel"] + p["mlp"]["dense_0"]["bias"]
    y = y * scipy.special.ndtr(y)
    y = y @ p["mlp"]["dense_1"]["kernel"] + p["mlp"]["dense_1"]["bias"]
    got = jax.jit(functools.partial(block.apply, train=False))(variables, x, 1.0)
    np.testing.assert_allclose(got, x + y * p["scale"]["scale"], rtol=1e-4, atol=1e-5)


def test_stages_at_usual_size():
    model = models.build("convnext", None, variant="tiny")
    x = jnp.zeros((1, 224, 224, 3))
    features, out = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x)[0], x)
    assert [s.shape[1:] for s in out["stages"]] == [(56, 56, 96), (28, 28, 192), (14, 14, 384), (7, 7, 768)]
    assert features.shape == (1, 768)


def build(**options):
    return models.build("convnext", 5, **{"blocks": (1, 2), "channels": 8, **options})


def test_blocks_start_near_the_identity(images):
    model = build(blocks=(1,))
    (_, out), _ = jax.jit(model.init_with_output)(jax.random.key(0), images)
    np.testing.assert_allclose(out["stages"][0], out["stem"], atol=1e-5)
    assert not np.array_equal(out["stages"][0], out["stem"])


def test_layer_scale_is_an_option(images):
    names = jax.tree_util.keystr
    for layer_scale, want in ((1e-6, True), (None, False)):
        params = jax.eval_shape(build(layer_scale=layer_scale).init, jax.random.key(0), images)["params"]
        assert any("['scale']['scale']" in names(p) for p, _ in jax.tree.leaves_with_path(params)) == want


def test_stochastic_depth_grows_from_0(images, random_variables):
    model = build(drop_path=0.9)
    variables = random_variables(model.init, images)
    want = jax.jit(model.apply)(variables, images)[1]["stages"]
    train = jax.jit(functools.partial(model.apply, train=True))
    got = train(variables, images, rngs={"dropout": jax.random.key(0)})[1]["stages"]
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6)
    assert not np.allclose(got[1], want[1])
