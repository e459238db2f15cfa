"""The encoder's parts against naive loops, and the identities of attention."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.models import transformer
from jaxvision.models.positions import rope2d, rotate
from jaxvision.models.transformer import GELUS, Attention, BlockOptions, Mlp, TransformerBlock

PATCHES = jax.random.normal(jax.random.key(0), (2, 6, 16))


def attend(attention, variables, x=PATCHES, angles=None):
    return np.asarray(jax.jit(attention.apply)(variables, x, x, angles))


def softmax(x):
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def normalise(x, p):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * p["scale"] + p["bias"]


@pytest.mark.parametrize(
    "options", [{}, {"qk_norm": True}, {"causal": True}, {"rotary": True}, {"features": 5}], ids=str
)
def test_attention_equals_a_loop_over_heads(random_variables, options):
    options = dict(options)
    angles = rope2d(2, 3, 8) if options.pop("rotary", False) else None
    attention = Attention(num_heads=2, **options)
    x = np.asarray(PATCHES)
    variables = random_variables(attention.init, x, x)
    p = variables["params"]
    want = np.zeros((2, 6, options.get("features", 16))) + p["out"]["bias"]
    for head in range(2):
        q, k, v = (x @ p[n]["kernel"][:, head] + p[n]["bias"][head] for n in ("query", "key", "value"))
        if "qk_norm" in options:
            q, k = normalise(q, p["query_norm"]), normalise(k, p["key_norm"])
        if angles is not None:
            q, k = (np.asarray(rotate(y[:, :, None], angles))[:, :, 0] for y in (q, k))
        scores = q @ k.swapaxes(1, 2) / np.sqrt(8)
        if "causal" in options:
            scores = np.where(np.tri(6, dtype=bool), scores, -np.inf)
        want += softmax(scores) @ v @ p["out"]["kernel"][head]
    np.testing.assert_allclose(attend(attention, variables, x, angles), want, rtol=1e-4, atol=1e-5)


def test_attention_is_equivariant_to_the_order_of_tokens(random_variables):
    attention = Attention(num_heads=2)
    variables = random_variables(attention.init, PATCHES, PATCHES)
    order = np.array([3, 0, 5, 1, 4, 2])
    want = attend(attention, variables)[:, order]
    np.testing.assert_allclose(attend(attention, variables, PATCHES[:, order]), want, atol=1e-5)


@pytest.mark.parametrize("num_heads", [1, 4, 16])
def test_heads_do_not_change_the_number_of_parameters(num_heads):
    """4 D^2 + 4 D."""
    params = jax.eval_shape(Attention(num_heads).init, jax.random.key(0), PATCHES, PATCHES)
    assert sum(x.size for x in jax.tree.leaves(params)) == 4 * 16**2 + 4 * 16


def block(**options):
    return TransformerBlock(BlockOptions(**{"num_heads": 2, "mlp_dim": 64} | options), jnp.float32)


def run(layer, variables, x=PATCHES, angles=None):
    return np.asarray(jax.jit(functools.partial(layer.apply, train=False))(variables, x, 1.0, angles=angles))


def drawn(random_variables, layer):
    return random_variables(functools.partial(layer.init, train=False), PATCHES, 1.0)


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({}, 0),
        ({"qk_norm": True}, 4 * 64),
        ({"layer_scale": 0.1}, 2 * 768),
        ({"parallel": "mlp"}, -2 * 768),
        ({"parallel": "pairs"}, 12 * 768**2 + 13 * 768),
    ],
    ids=str,
)
def test_block_parameter_count(options, more):
    """12 D^2 + 13 D: 7,087,872 at the base size."""
    layer = block(num_heads=12, mlp_dim=3072, **options)
    params = jax.eval_shape(functools.partial(layer.init, train=False), jax.random.key(0), jnp.zeros((1, 4, 768)), 1.0)
    assert sum(x.size for x in jax.tree.leaves(params)) == 7_087_872 + more


def test_attention_alone_carries_information_between_tokens(random_variables):
    layer = block()
    variables = drawn(random_variables, layer)
    moved = PATCHES.at[:, 0].multiply(-2.0)
    assert np.abs(run(layer, variables, moved) - run(layer, variables))[:, 1:].max() > 1e-3
    variables["params"]["attention"]["out"]["kernel"] *= 0
    np.testing.assert_allclose(run(layer, variables, moved)[:, 1:], run(layer, variables)[:, 1:], atol=1e-6)


def test_parallel_mlp_sees_what_attention_sees(random_variables):
    layer = block(parallel="mlp", layer_scale=0.1)
    variables = drawn(random_variables, layer)
    p = variables["params"]
    x = np.asarray(PATCHES)
    y = normalise(x, p["norm"])
    branch = Attention(2).apply({"params": p["attention"]}, y, y) + Mlp(64).apply({"params": p["mlp"]}, y, False)
    np.testing.assert_allclose(run(layer, variables), x + p["branch_scale"]["scale"] * branch, rtol=1e-4, atol=1e-5)


def test_a_small_layer_scale_starts_near_the_identity():
    layer = block(layer_scale=1e-6)
    variables = jax.jit(functools.partial(layer.init, train=False))(jax.random.key(0), PATCHES, 1.0)
    np.testing.assert_allclose(run(layer, variables), PATCHES, atol=1e-4)
    assert not np.array_equal(run(layer, variables), PATCHES)


def test_rotary_attention_sees_the_order_of_tokens(random_variables):
    layer = block()
    variables = drawn(random_variables, layer)
    angles = rope2d(2, 3, 8)
    reverse = run(layer, variables, PATCHES[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(reverse, run(layer, variables), atol=1e-5)
    reverse = run(layer, variables, PATCHES[:, ::-1], angles)[:, ::-1]
    assert np.abs(reverse - run(layer, variables, angles=angles)).max() > 1e-3


def test_gelus():
    """Values at 1: x * Phi(x), its tanh form, and x * sigmoid(1.702 x)."""
    want = {"exact": 0.8413447, "tanh": 0.8411920, "quick": 0.8457957}
    for name, value in want.items():
        assert GELUS[name](jnp.float32(1)) == pytest.approx(value, abs=1e-6), name


def stored(function, *args, shape):
    """Number of arrays of a shape that the backward pass of a function reads."""
    return sum(jnp.shape(x) == shape for x in jax.tree.leaves(jax.vjp(function, *args)[1]))


@pytest.mark.parametrize("form", GELUS)
def test_the_backward_pass_of_a_gelu_stores_its_input_only(form):
    x = jax.random.normal(jax.random.key(0), (64, 8))
    ours, plain = functools.partial(transformer.gelu, form=form), GELUS[form]
    assert stored(ours, x, shape=x.shape) == 1
    assert stored(plain, x, shape=x.shape) > 1
    results = [jax.jit(jax.value_and_grad(lambda x, f=f: (f(x) ** 2).sum()))(x) for f in (ours, plain)]
    chex.assert_trees_all_close(*results, rtol=1e-6, atol=1e-6)


def test_the_backward_pass_of_attention_stores_one_array_of_the_size_of_the_scores():
    q, k, v = (jax.random.normal(jax.random.key(i), (2, n, 3, 5)) for i, n in enumerate((7, 9, 9)))
    assert stored(transformer.attend, q, k, v, shape=(2, 3, 7, 9)) == 1


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(("n", "queries", "d"), [(7, 7, 5), (6, 1, 64), (5, 9, 8)])
def test_attention_with_the_heads_first_is_that_of_jax(n, queries, d, dtype, causal):
    q, k, v = (
        jax.random.normal(jax.random.key(i), (2, length, 3, d), dtype) for i, length in enumerate((queries, n, n))
    )

    def losses(function):
        squares = lambda *qkv: (function(*qkv).astype(jnp.float32) ** 2).sum()
        return jax.value_and_grad(squares, (0, 1, 2))(q, k, v), function(q, k, v)

    ours = losses(lambda q, k, v: transformer.attend(q, k, v, causal))
    theirs = losses(lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=causal))
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
    chex.assert_trees_all_close(
        ours, theirs, rtol=1e-5 if dtype == jnp.float32 else 2e-2, atol=1e-5 if dtype == jnp.float32 else 5e-2
    )
