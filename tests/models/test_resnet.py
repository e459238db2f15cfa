"""ResNet v1 and v2: blocks, options, and what BatchNorm does in training and in evaluation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models import resnet, resnet_v2


def block(**options):
    defaults = {"channels": 4, "stride": 1, "bottleneck": False, "shortcut": "B", "stride_in": "3x3"}
    return resnet.Block(**defaults | {"zero_init_residual": True, "dtype": jnp.float32} | options)


def first_output(layer, x):
    """What a newly initialised block returns in training, and its variables."""
    return jax.jit(functools.partial(layer.init_with_output, train=True))(jax.random.key(1), x)


@pytest.mark.parametrize("bottleneck", [False, True])
def test_a_new_block_is_the_identity(bottleneck):
    layer = block(bottleneck=bottleneck)
    x = jnp.abs(jax.random.normal(jax.random.key(0), (2, 8, 8, 16 if bottleneck else 4)))
    np.testing.assert_array_equal(first_output(layer, x)[0], x)
    assert not np.allclose(first_output(block(bottleneck=bottleneck, zero_init_residual=False), x)[0], x)


def test_shortcut_a_subsamples_and_pads_channels():
    layer = block(channels=8, stride=2, shortcut="A")
    x = jnp.abs(jax.random.normal(jax.random.key(0), (2, 8, 8, 4)))
    y, variables = first_output(layer, x)
    np.testing.assert_array_equal(y, jnp.pad(x[:, ::2, ::2], [(0, 0)] * 3 + [(0, 4)]))
    assert not [name for name in variables["params"] if name.startswith("shortcut")]


@pytest.mark.parametrize(("stride_in", "strides"), [("3x3", [1, 2, 1]), ("1x1", [2, 1, 1])])
def test_the_convolution_that_strides(stride_in, strides):
    assert [s for _, _, s in block(bottleneck=True, stride=2, stride_in=stride_in)._layers()] == strides


@pytest.mark.parametrize("variant", [18, 50, 20])
def test_stages_at_usual_sizes(variant):
    model = models.build("resnet", None, variant=variant)
    x = jnp.zeros((1, 32, 32, 3) if variant == 20 else (1, 224, 224, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    features, out = jax.eval_shape(model.apply, variables, x)
    sizes, channels = {
        18: ([56, 28, 14, 7], [64, 128, 256, 512]),
        50: ([56, 28, 14, 7], [256, 512, 1024, 2048]),
        20: ([32, 16, 8], [16, 32, 64]),
    }[variant]
    assert [s.shape for s in out["stages"]] == [(1, n, n, c) for n, c in zip(sizes, channels)]
    assert features.shape == (1, channels[-1])
    assert "stage1/block1/conv1/kernel" in {
        jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in jax.tree.leaves_with_path(variables["params"])
    }


def test_width_multiplies_channels():
    model = models.build("resnet", 10, variant=20, width=2)
    features, _ = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x)[0], jnp.zeros((1, 32, 32, 3)))
    assert features.shape == (1, 128)


@pytest.fixture(scope="module")
def trained(images, random_variables):
    """A model, its variables, and what one training step makes of the statistics."""
    model = models.build("resnet", 5, variant=8)
    variables = random_variables(model.init, images)
    train = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
    (features, _), updated = train(variables, images)
    return model, variables, features, updated["batch_stats"]


def test_batch_norm_follows_the_batch_in_training(trained, images):
    _, variables, _, updated = trained
    kernel = variables["params"]["stem_conv"]["kernel"]
    x = np.asarray(resnet.Conv(16).apply({"params": {"kernel": kernel}}, images)).reshape(-1, 16)
    old, new = variables["batch_stats"]["stem_norm"], updated["stem_norm"]
    np.testing.assert_allclose(new["mean"], 0.9 * old["mean"] + 0.1 * x.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new["var"], 0.9 * old["var"] + 0.1 * x.var(0), rtol=1e-4, atol=1e-5)


def test_batch_norm_uses_what_it_kept_in_evaluation(trained, images):
    model, variables, trained_features, updated = trained
    evaluate = jax.jit(model.apply)
    before, _ = evaluate(variables, images)
    after, _ = evaluate({**variables, "batch_stats": updated}, images)
    assert not np.allclose(before, after)
    assert not np.allclose(after, trained_features)
    alone, _ = evaluate(variables, images[:1])
    np.testing.assert_allclose(alone, before[:1], rtol=1e-4, atol=1e-5)


def test_statistics_are_float32_under_bfloat16(images):
    model = models.build("resnet", 5, variant=8, dtype=jnp.bfloat16)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    train = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    _, updated = jax.eval_shape(train, variables, images)
    assert {x.dtype for x in jax.tree.leaves(updated)} == {jnp.dtype("float32")}


def test_pre_activation_block_adds_to_its_input(random_variables):
    """With the last kernel constant, weight standardisation makes it 0 and the branch silent."""
    layer = resnet_v2.Block(channels=32, stride=1, dtype=jnp.float32)
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 128))
    params = random_variables(layer.init, x)["params"]
    assert "shortcut_conv" not in params
    params["conv3"]["kernel"] = np.ones_like(params["conv3"]["kernel"])
    np.testing.assert_allclose(jax.jit(layer.apply)({"params": params}, x), x, atol=1e-5)


def test_bit_has_no_state(images):
    model = models.build("bit", 5, blocks=(1, 1), width=0.5)
    assert list(jax.eval_shape(model.init, jax.random.key(0), images)) == ["params"]


@pytest.mark.parametrize("variant", ["R50x1", "R101x3"])
def test_bit_variants(variant):
    model = models.build("bit", 10, variant=variant)
    out, variables = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), jnp.zeros((1, 224, 224, 3)))
    depth, factor = {"R50x1": (16, 1), "R101x3": (33, 3)}[variant]
    assert sum(len(v) for k, v in variables["params"].items() if k.startswith("stage")) == depth
    assert out[0].shape == (1, 2048 * factor)
    assert [s.shape[1] for s in out[1]["stages"]] == [56, 28, 14, 7]
