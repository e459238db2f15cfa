"""What normalisation makes of its inputs, in the places where the models use it (Ba et al. 2016; Ioffe & Szegedy 2015;
Wu & He 2018). The layers themselves are Flax's; BatchNorm's modes are in tests/models."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models.resnet_blocks import ResNetBlock

IMAGES = 3 + 5 * jax.random.normal(jax.random.key(0), (3, 8, 8, 3))


@pytest.fixture(scope="module")
def vit():
    model = models.build("vit", 5, variant="Ti/4", width=32, depth=1, num_heads=2)
    return jax.jit(model.apply), jax.jit(model.init)(jax.random.key(1), IMAGES)


def test_layer_norm_gives_each_token_mean_0_and_variance_1(vit):
    apply, variables = vit
    tokens = apply(variables, IMAGES)[1]["tokens"]  # behind the last norm, whose scale is 1 and bias 0 as yet
    np.testing.assert_allclose(tokens.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(tokens.var(-1), 1, rtol=1e-3)


def test_layer_norm_sees_no_other_example(vit):
    apply, variables = vit
    alone = apply(variables, IMAGES[:1])[1]["tokens"]
    np.testing.assert_allclose(apply(variables, IMAGES)[1]["tokens"][:1], alone, rtol=1e-4, atol=1e-5)


def test_group_norm_gives_each_example_and_group_mean_0_and_variance_1():
    """BiT's last norm, lifted so that the ReLU behind it cuts nothing: over the pixels and 4 of 128 channels."""
    model = models.build("bit", None, blocks=(1,), width=0.5)
    images = 3 + 5 * jax.random.normal(jax.random.key(0), (3, 32, 32, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    variables["params"]["norm"]["bias"] += 100.0
    x = jax.jit(model.apply)(variables, images)[1]["map"] - 100
    groups = x.reshape(3, 8 * 8, 32, 4)
    np.testing.assert_allclose(groups.mean((1, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(groups.var((1, 3)), 1, rtol=1e-3)


def test_scale_of_a_kernel_before_batch_norm_has_no_effect_and_no_gradient():
    """So the gradient is orthogonal to each output channel's weights, and weight decay there changes the effective
    learning rate alone (Ioffe & Szegedy 2015, sec. 3.3; van Laarhoven 2017, sec. 2)."""
    x = jax.random.normal(jax.random.key(2), (8, 6, 6, 4))
    block = ResNetBlock(
        4, 1, bottleneck=False, shortcut="B", stride_in="3x3", zero_init_residual=False, dtype=jnp.float32
    )
    variables = jax.jit(functools.partial(block.init, train=True))(jax.random.key(3), x)
    target = jax.random.normal(jax.random.key(4), x.shape)

    @jax.jit
    def loss(kernel):
        params = {**variables["params"], "conv1": {"kernel": kernel}}
        y, _ = block.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        return (y * target).sum()

    kernel = variables["params"]["conv1"]["kernel"]
    np.testing.assert_allclose(loss(7 * kernel), loss(kernel), rtol=1e-3)
    gradient = jax.grad(loss)(kernel)
    along = (gradient * kernel).sum((0, 1, 2)) / jnp.sqrt((gradient**2).sum((0, 1, 2)) * (kernel**2).sum((0, 1, 2)))
    np.testing.assert_allclose(along, 0, atol=1e-3)
