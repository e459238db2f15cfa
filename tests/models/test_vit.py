"""Vision Transformer: its parts against plainer equivalents, its options against each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models import positions


def build(**options):
    return models.build("vit", 5, **{"variant": "mu/4", "depth": 2, **options})


def stack(params):
    """Unrolled parameters to scanned ones."""
    encoder = dict(params["encoder"])
    blocks = [encoder.pop(name) for name in sorted(encoder) if name.startswith("block_")]
    encoder["blocks"] = jax.tree.map(lambda *x: jnp.stack(x), *blocks)
    return {**params, "encoder": encoder}


def test_parameter_paths(images):
    model = build(depth=1, pool="token", posemb="learned")
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    flat = {jax.tree_util.keystr(p, simple=True, separator="/"): x.shape for p, x in jax.tree.leaves_with_path(params)}
    block = "encoder/block_00"
    assert flat == {
        "cls": (1, 1, 32),
        "embedding/bias": (32,),
        "embedding/kernel": (4, 4, 3, 32),
        f"{block}/attention/key/bias": (2, 16),
        f"{block}/attention/key/kernel": (32, 2, 16),
        f"{block}/attention/out/bias": (32,),
        f"{block}/attention/out/kernel": (2, 16, 32),
        f"{block}/attention/query/bias": (2, 16),
        f"{block}/attention/query/kernel": (32, 2, 16),
        f"{block}/attention/value/bias": (2, 16),
        f"{block}/attention/value/kernel": (32, 2, 16),
        f"{block}/attention_norm/bias": (32,),
        f"{block}/attention_norm/scale": (32,),
        f"{block}/mlp/dense_0/bias": (128,),
        f"{block}/mlp/dense_0/kernel": (32, 128),
        f"{block}/mlp/dense_1/bias": (32,),
        f"{block}/mlp/dense_1/kernel": (128, 32),
        f"{block}/mlp_norm/bias": (32,),
        f"{block}/mlp_norm/scale": (32,),
        "encoder/norm/bias": (32,),
        "encoder/norm/scale": (32,),
        "head/bias": (5,),
        "head/kernel": (32, 5),
        "pos_embedding": (1, 17, 32),
    }


@pytest.mark.parametrize("pool", ["token", "gap", "map", "none"])
@pytest.mark.parametrize("posemb", ["learned", "sincos2d"])
def test_pools(images, pool, posemb):
    model = build(pool=pool, posemb=posemb, depth=1)
    features, out = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x)[0], images)
    batch = (2, 16) if pool == "none" else (2,)
    assert features.shape == (*batch, 32)
    assert out["logits"].shape == (*batch, 5)
    assert out["tokens"].shape == (2, 16, 32)


def test_learned_positions_of_a_base_grid_serve_images_of_other_sizes(images, random_variables):
    """The same variables as a model of that grid, with the positions that `resize_positions` gives for the images."""
    options = dict(depth=1, pool="token", posemb="learned")
    variables = random_variables(build(**options).init, images)
    small = images[:, :8, 4:]  # 2 x 3 patches
    params = variables["params"]
    fitted = positions.resize_positions(params["pos_embedding"], (4, 4), (2, 3), prefix=1)
    expected, _ = jax.jit(build(**options).apply)({"params": {**params, "pos_embedding": fitted}}, small)
    features, _ = jax.jit(build(base_grid=4, **options).apply)(variables, small)
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


def test_gap_is_the_mean_of_the_tokens(images, random_variables):
    model = build()
    features, out = jax.jit(model.apply)(random_variables(model.init, images), images)
    np.testing.assert_allclose(features, out["tokens"].mean(1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("posemb", ["none", "sincos2d", "rope"])
def test_only_positions_tell_the_order_of_patches(images, random_variables, posemb):
    model = build(posemb=posemb)
    variables = random_variables(model.init, images)
    shuffled = images.reshape(2, 4, 4, 16, 3)[:, ::-1].reshape(2, 16, 16, 3)  # rows of patches in reverse
    apply = jax.jit(model.apply)
    a, b = (apply(variables, x)[0] for x in (images, shuffled))
    assert np.allclose(a, b, atol=1e-5) == (posemb == "none")


@pytest.mark.parametrize("option", ["dropout", "drop_path"])
def test_dropping_happens_in_training_only(images, random_variables, option):
    model, plain = build(**{option: 0.5}), build()
    variables = random_variables(model.init, images)
    want, _ = jax.jit(plain.apply)(variables, images)
    np.testing.assert_array_equal(jax.jit(model.apply)(variables, images)[0], want)
    train = jax.jit(lambda key: model.apply(variables, images, train=True, rngs={"dropout": key})[0])
    draws = [train(jax.random.key(i)) for i in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.allclose(draws[0], draws[2])
    assert not np.allclose(draws[0], want)


def test_drop_path_spares_the_first_block(images, random_variables):
    model = build(drop_path=0.9)
    variables = random_variables(model.init, images)
    want = jax.jit(model.apply)(variables, images)[1]["stages"]
    train = jax.jit(functools.partial(model.apply, train=True))
    got = train(variables, images, rngs={"dropout": jax.random.key(0)})[1]["stages"]
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6)
    assert not np.allclose(got[1], want[1])


def loss_and_gradients(model):
    def loss(params, images):
        features, out = model.apply({"params": params}, images, train=True)
        return (features**2).mean() + (out["logits"] ** 2).mean() + (out["stages"][0] ** 2).mean()

    return jax.jit(jax.value_and_grad(loss))


@pytest.mark.parametrize(
    ("remat", "options"),
    [
        ("none", {}),
        ("full", {}),
        ("full", {"posemb": "rope", "qk_norm": True, "layer_scale": 0.1, "parallel": "pairs"}),
    ],
)
def test_scanned_equals_unrolled(images, random_variables, remat, options):
    plain, scanned = build(**options), build(scan=True, remat=remat, **options)
    params = random_variables(plain.init, images)["params"]
    shapes = jax.tree.map(jnp.shape, random_variables(scanned.init, images)["params"])
    assert shapes == jax.tree.map(jnp.shape, stack(params))
    loss, gradients = loss_and_gradients(plain)(params, images)
    scanned_loss, scanned_gradients = loss_and_gradients(scanned)(stack(params), images)
    np.testing.assert_allclose(loss, scanned_loss, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), stack(gradients), scanned_gradients
    )


def test_scanned_blocks_start_different_and_drop_different_paths(images):
    model = build(scan=True, drop_path=0.5, dropout=0.5)
    params = jax.jit(model.init)(jax.random.key(0), images)["params"]
    kernel = params["encoder"]["blocks"]["mlp"]["dense_0"]["kernel"]
    assert not np.allclose(kernel[0], kernel[1])
    train = jax.jit(functools.partial(model.apply, train=True))
    features, _ = train({"params": params}, images, rngs={"dropout": jax.random.key(0)})
    assert np.isfinite(features).all()


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_remat_changes_no_gradient(images, random_variables, remat):
    plain = build()
    params = random_variables(plain.init, images)["params"]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        loss_and_gradients(plain)(params, images),
        loss_and_gradients(build(remat=remat))(params, images),
    )


def test_gelu_choices_differ_a_little(images, random_variables):
    tanh, exact = build(gelu="tanh"), build(gelu="exact")
    variables = random_variables(tanh.init, images)
    gap = np.abs(jax.jit(tanh.apply)(variables, images)[0] - jax.jit(exact.apply)(variables, images)[0]).max()
    assert 0 < gap < 1e-2


def test_a_new_model_predicts_uniformly(images):
    model = build(depth=1)
    (_, out), _ = jax.jit(model.init_with_output)(jax.random.key(0), images)
    assert not out["logits"].any()
