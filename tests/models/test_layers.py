"""Shared layers against their plainer equivalents."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.models.heads import AttentionPool
from jaxvision.models.layers import (
    BatchNorm,
    Conv,
    Dropout,
    DropPath,
    avg_pool,
    batch_norm,
    linear_decay,
    max_pool,
    standardize_weight,
)
from jaxvision.traced import Varied


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


@pytest.mark.parametrize("size", [1, 3])
def test_grouped_conv_equals_convolutions_of_the_groups_side_by_side(size):
    """Krizhevsky et al. 2012: two halves that do not see each other. Xie et al. 2017, fig. 3c: any number of groups."""
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 6))
    grouped, alone = Conv(4, size, 2, groups=2), Conv(2, size, 2)
    kernel = jax.random.normal(jax.random.key(1), (size, size, 3, 4))
    assert grouped.init(jax.random.key(1), x)["params"]["kernel"].shape == kernel.shape
    halves = [
        alone.apply({"params": {"kernel": kernel[..., 2 * i : 2 * i + 2]}}, x[..., 3 * i : 3 * i + 3]) for i in (0, 1)
    ]
    got = grouped.apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(got, jnp.concatenate(halves, axis=-1), rtol=1e-5, atol=1e-5)


def test_conv_starts_with_kaimings_deviation():
    x = jnp.zeros((1, 8, 8, 64))
    for size, groups in ((3, 1), (1, 1), (3, 4)):
        kernel = Conv(128, size, groups=groups).init(jax.random.key(0), x)["params"]["kernel"]
        assert np.std(kernel) == pytest.approx((2 / (size * size * 128)) ** 0.5, rel=0.02)
        assert abs(np.mean(kernel)) < 0.02 * np.std(kernel) * 5


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


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (1, 7, 9, 2), (1, 1, 1, 1)])
def test_avg_pool_equals_a_loop(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    rows, columns = (range(0, n, 2) for n in shape[1:3])
    want = [[x[:, i : i + 2, j : j + 2].mean((1, 2)) for j in columns] for i in rows]
    np.testing.assert_allclose(avg_pool(x), np.transpose(want, (2, 0, 1, 3)), rtol=1e-5, atol=1e-6)


POOLS = [(3, 2, 0), (3, 1, 1), (2, 2, "SAME"), (3, 2, ((0, 1), (1, 0))), (3, 3, 0), (5, 3, 2)]


@pytest.mark.parametrize(("size", "stride", "padding"), POOLS)
def test_pools_of_any_size_equal_flax(size, stride, padding):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    pads = padding if isinstance(padding, str | tuple) else ((padding, padding), (padding, padding))
    options = {"window_shape": (size, size), "strides": (stride, stride), "padding": pads}
    got = max_pool(x, size=size, stride=stride, padding=padding)
    np.testing.assert_array_equal(got, nn.max_pool(x, **options))
    got = avg_pool(x, size, stride, padding)
    np.testing.assert_allclose(got, nn.avg_pool(x, **options, count_include_pad=False), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "padding"), [((1, 7), None), ((3, 3), 0), ((5, 5), "SAME"), ((1, 1), 1), ((4, 4), 2)])
def test_conv_with_sides_padding_and_bias_equals_flax(size, padding):
    pads = {None: [(size[0] // 2,) * 2, (size[1] // 2,) * 2], "SAME": "SAME"}.get(padding, padding)
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    ours, flax = Conv(4, size, 2, padding=padding, bias=True), nn.Conv(4, size, (2, 2), pads)
    variables = jax.tree.map(lambda w: w + 0.1, flax.init(jax.random.key(1), x))
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(1), x)) == jax.tree.map(jnp.shape, variables)
    np.testing.assert_allclose(ours.apply(variables, x), flax.apply(variables, x), rtol=1e-4, atol=1e-5)


def test_batch_norm_gives_each_channel_mean_0_and_variance_1():
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (8, 4, 4, 5))
    y, variables = batch_norm("norm", True, jnp.float32).init_with_output(jax.random.key(1), x)
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var((0, 1, 2)), 1, rtol=1e-4)
    kept = batch_norm("norm", False, jnp.float32).apply(variables, x)
    np.testing.assert_allclose(kept, x / np.sqrt(1 + 1e-5), rtol=1e-5)  # mean 0 and variance 1, as they start


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(8, 5, 5, 3), (16, 3)])
def test_batch_norm_equals_flax(shape, dtype, train):
    """Values, gradients and running statistics; the channels have means of up to ten deviations."""
    x, pulled = (jax.random.normal(jax.random.key(i), shape) for i in range(2))
    x = (x + jnp.array([0.0, -3.0, 10.0])).astype(dtype)
    ours = BatchNorm(train, 0.9, 1e-5, dtype=dtype)
    theirs = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, dtype=dtype)
    variables = {
        "params": {"scale": jnp.array([1.0, 0.5, -2.0]), "bias": jnp.array([0.1, 0.2, 0.3])},
        "batch_stats": {"mean": jnp.array([0.1, -2.5, 9.0]), "var": jnp.array([1.5, 0.5, 1.0])},
    }
    chex.assert_trees_all_equal_shapes_and_dtypes(*(n.init(jax.random.key(0), x) for n in (ours, theirs)))

    def run(layer):
        def loss(params, x):
            y, new = layer.apply({**variables, "params": params}, x, mutable=["batch_stats"])
            return (y.astype(jnp.float32) * pulled).sum(), (y, new)

        (_, out), grads = jax.value_and_grad(loss, (0, 1), has_aux=True)(variables["params"], x)
        return out, grads

    # In bfloat16 the gradients of the parameters are sums of terms of that precision.
    tolerance = dict(rtol=2e-5, atol=1e-4) if dtype == jnp.float32 else dict(rtol=1e-2, atol=6e-2)
    chex.assert_trees_all_close(run(ours), run(theirs), **tolerance)
    assert run(ours)[0][0].dtype == dtype


def test_batch_norm_without_offset_starts_as_it_is_told():
    x = jax.random.normal(jax.random.key(0), (8, 3))
    layer = batch_norm("norm", True, jnp.float32, zero=True, bias=False)
    y, variables = layer.init_with_output(jax.random.key(1), x)
    assert list(variables["params"]) == ["scale"]
    np.testing.assert_array_equal(y, np.zeros_like(x))


def test_stochastic_depth_keeps_the_blocks_that_its_paper_counts():
    strengths = np.concatenate(linear_decay((18, 18, 18)))
    np.testing.assert_allclose(strengths, np.arange(1, 55) / 54)
    assert (1 - 0.5 * strengths).sum() == pytest.approx(40.25)


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


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dropout_equals_flax_bit_for_bit(dtype):
    x, rngs = jax.random.normal(jax.random.key(0), (4, 5), dtype), {"dropout": jax.random.key(1)}
    for rate, train in [(0.0, True), (0.3, True), (0.3, False)]:
        flax = nn.Dropout(rate, deterministic=not train).apply({}, x, rngs=rngs)
        np.testing.assert_array_equal(Dropout(rate).apply({}, x, train, rngs=rngs), flax)


@pytest.mark.parametrize("layer", [lambda rate, *args, **kw: Dropout(rate).apply({}, *args, **kw), None])
def test_rates_may_be_traced(layer):
    layer = layer or (lambda rate, x, train, **kw: DropPath(rate).apply({}, x, 1.0, train, **kw))
    x, rngs = jax.random.normal(jax.random.key(0), (64, 5)), {"dropout": jax.random.key(1)}
    rates = [0.0, 0.25, 0.5]
    traced = jax.vmap(lambda rate: layer(Varied(rate), x, True, rngs=rngs))(jnp.array(rates))
    for one, rate in zip(traced, rates, strict=True):
        np.testing.assert_allclose(one, layer(rate, x, True, rngs=rngs), rtol=1e-6)
