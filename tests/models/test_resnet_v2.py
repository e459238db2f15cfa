"""ResNet v2, Wide ResNet and BiT: pre-activation blocks and what the three set differently."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models import resnet_v2

BATCH_NORM = {"norm": "batch", "standardize": False}


def parameters(model, size=32):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))["params"]


def size_of(model):
    return sum(x.size for x in jax.tree.leaves(parameters(model)))


def test_pre_activation_block_adds_to_its_input(random_variables):
    """With the last kernel constant, weight standardisation makes it 0 and the branch silent."""
    layer = resnet_v2.PreActivationBlock(channels=32, stride=1)
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 128))
    params = random_variables(functools.partial(layer.init, train=False), x)["params"]
    assert "shortcut_conv" not in params
    params["conv3"]["kernel"] = np.ones_like(params["conv3"]["kernel"])
    np.testing.assert_allclose(layer.apply({"params": params}, x, train=False), x, atol=1e-5)


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


@pytest.mark.parametrize("bottleneck", [False, True])
def test_silent_branches_pass_the_input_and_its_gradient_unchanged(bottleneck):
    """He et al. 2016b, eq. 4 and 5: no activation stands in the way of the identity."""
    layer = resnet_v2.PreActivationBlock(
        channels=4, stride=1, bottleneck=bottleneck, zero_init_residual=True, **BATCH_NORM
    )
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 16 if bottleneck else 4))
    variables = layer.init(jax.random.key(1), x, train=False)
    y, pull_back = jax.vjp(lambda x: layer.apply(variables, x, train=False), x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(pull_back(x)[0], x)


def test_a_block_that_changes_the_shape_projects_what_is_activated(random_variables):
    layer = resnet_v2.PreActivationBlock(channels=4, stride=2, bottleneck=False, **BATCH_NORM)
    x = -jnp.abs(jax.random.normal(jax.random.key(0), (1, 4, 4, 2)))
    variables = random_variables(functools.partial(layer.init, train=False), x)
    variables["params"]["norm1"]["bias"] = jnp.full(2, -100.0)  # ReLU closes, for branch and shortcut
    variables["params"]["norm2"]["bias"] = jnp.full(4, -100.0)
    assert not layer.apply(variables, x, train=False).any()


@pytest.mark.parametrize(("stride_in", "strides"), [("3x3", [1, 2, 1]), ("1x1", [2, 1, 1])])
def test_the_convolution_that_strides(stride_in, strides):
    layer = resnet_v2.PreActivationBlock(channels=4, stride=2, stride_in=stride_in)
    assert [stride for _, _, stride in layer._layers()] == strides


@pytest.mark.parametrize(("variant", "blocks", "channels"), [(110, 18, 64), (164, 18, 256), (1001, 111, 256)])
def test_cifar_variants(variant, blocks, channels):
    """Layers: the stem, two or three convolutions a block, and the head."""
    model = models.build("resnet_v2", None, variant=variant)
    assert model.blocks == (blocks,) * 3
    assert 2 + 3 * blocks * (3 if model.bottleneck else 2) == variant
    short = models.build("resnet_v2", None, variant=variant, blocks=(1, 1, 1))
    assert parameters(short)["norm"]["scale"].shape == (channels,)


def test_resnet_164_has_the_published_size():
    """He et al. 2016b, table 4: 1.7 million."""
    assert size_of(models.build("resnet_v2", 10, variant=164)) / 1e6 == pytest.approx(1.7, abs=0.05)


@pytest.mark.parametrize(("variant", "millions"), [("40-4", 8.9), ("16-8", 11.0), ("28-10", 36.5)])
def test_wide_resnets_have_the_published_size(variant, millions):
    """Zagoruyko and Komodakis 2016, table 4."""
    assert size_of(models.build("wide_resnet", 10, variant=variant)) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("option", ["dropout", "drop_path"])
def test_noise_of_a_wide_resnet_is_for_training_alone(images, random_variables, option):
    model, noisy = (models.build("wide_resnet", 5, variant="10-1", **o) for o in ({}, {option: 0.9}))
    variables = random_variables(model.init, images)
    apply = jax.jit(noisy.apply, static_argnames=("train", "mutable"))
    np.testing.assert_array_equal(apply(variables, images)[0], jax.jit(model.apply)(variables, images)[0])
    draws = [
        apply(variables, images, train=True, mutable=("batch_stats",), rngs={"dropout": jax.random.key(seed)})[0][0]
        for seed in range(3)
    ]
    assert np.ptp(draws, axis=0).max() > 0.01
