"""Shared layers against their plainer equivalents."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.models.heads import AttentionPool
from jaxvision.models.layers import Conv, DropPath, max_pool, standardize_weight


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("height", [8, 9])
def test_conv_equals_flax(size, stride, height):
    x = jax.random.normal(jax.random.key(0), (2, height, 8, 5))
    ours = Conv(4, size, stride)
    flax = nn.Conv(4, (size, size), (stride, stride), [(size // 2, size // 2)] * 2, use_bias=False)
    variables = ours.init(jax.random.key(1), x)
    assert variables["params"]["kernel"].shape == (size, size, 5, 4)
    np.testing.assert_allclose(ours.apply(variables, x), flax.apply(variables, x), rtol=1e-5, atol=1e-5)


def test_standardized_conv_ignores_scale_and_offset_of_its_kernel():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 5))
    conv = Conv(4, standardize=True)
    variables = conv.init(jax.random.key(1), x)
    moved = jax.tree.map(lambda w: 3 * w + 0.5, variables)
    np.testing.assert_allclose(conv.apply(variables, x), conv.apply(moved, x), rtol=1e-4, atol=1e-4)


def test_standardize_weight():
    kernel = np.random.default_rng(0).normal(2, 3, (3, 3, 5, 4)).astype(np.float32)
    flat = kernel.reshape(-1, 4)
    want = (flat - flat.mean(0)) / flat.std(0)
    np.testing.assert_allclose(standardize_weight(kernel).reshape(-1, 4), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (1, 7, 9, 2)])
def test_max_pool_equals_flax(shape):
    x = jax.random.normal(jax.random.key(0), shape)

    def flax_max_pool(x):
        return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))

    np.testing.assert_array_equal(max_pool(x), flax_max_pool(x))
    gradients = [jax.grad(lambda x, f=f: (f(x) ** 2).sum())(x) for f in (max_pool, flax_max_pool)]
    np.testing.assert_allclose(*gradients)


def test_max_pool_with_zero_padding():
    assert max_pool(-jnp.ones((1, 2, 2, 1)), padding_value=0.0).item() == 0
    assert max_pool(-jnp.ones((1, 2, 2, 1))).item() == -1


def test_drop_path_drops_whole_examples_and_keeps_the_mean():
    x = jnp.ones((4000, 2, 3))
    y = DropPath(0.5).apply({}, x, 0.5, True, rngs={"dropout": jax.random.key(0)})
    kept = y[:, 0, 0] > 0
    np.testing.assert_allclose(y[kept], 1 / 0.75, rtol=1e-6)
    assert not y[~kept].any()
    assert abs(kept.mean() - 0.75) < 0.03


@pytest.mark.parametrize(("rate", "train"), [(0.0, True), (0.5, False)])
def test_drop_path_that_drops_nothing_needs_no_key(rate, train):
    x = jnp.ones((4, 2, 3))
    np.testing.assert_array_equal(DropPath(rate).apply({}, x, 1.0, train), x)


def test_attention_pool_ignores_the_order_of_tokens(random_variables):
    tokens = jax.random.normal(jax.random.key(0), (2, 6, 8))
    pool = AttentionPool(num_heads=2, mlp_dim=16)
    apply = jax.jit(functools.partial(pool.apply, train=False))
    variables = random_variables(functools.partial(pool.init, train=False), tokens)
    pooled = apply(variables, tokens)
    assert pooled.shape == (2, 8)
    np.testing.assert_allclose(pooled, apply(variables, tokens[:, ::-1]), rtol=1e-5, atol=1e-5)
