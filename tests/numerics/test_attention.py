"""Identities of attention (Vaswani et al. 2017, sec. 3.2) that hold for any weights; the loop is in tests/models."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.analysis.accounting import macs
from jaxvision.models.transformer import Attention

B, N, D, H = 2, 6, 16, 4
TOKENS = jax.random.normal(jax.random.key(0), (B, N, D))


@pytest.fixture(scope="module")
def params():
    keys = jax.random.split(jax.random.key(1), 8)
    shapes = jax.eval_shape(Attention(H).init, jax.random.key(0), TOKENS, TOKENS)["params"]
    leaves, tree = jax.tree.flatten(shapes)
    return jax.tree.unflatten(tree, [0.5 * jax.random.normal(key, x.shape) for key, x in zip(keys, leaves)])


@functools.partial(jax.jit, static_argnames=("heads", "causal"))
def attend(params, x=TOKENS, heads=H, causal=False):
    return Attention(heads, causal=causal).apply({"params": params}, x, x)


def changed(params, layer, **leaves):
    return {**params, layer: {**params[layer], **leaves}}


def test_weights_of_every_query_sum_to_1(params):
    """Where all values are the same, so is every output, whatever the scores are."""
    value = jax.random.normal(jax.random.key(2), (H, D // H))
    same = changed(params, "value", kernel=jnp.zeros((D, H, D // H)), bias=value)
    want = jnp.einsum("hk,hkd->d", value, params["out"]["kernel"]) + params["out"]["bias"]
    np.testing.assert_allclose(attend(same), jnp.broadcast_to(want, (B, N, D)), rtol=1e-4, atol=1e-5)


def test_queries_of_zero_take_the_mean(params):
    flat = changed(params, "query", kernel=jnp.zeros((D, H, D // H)), bias=jnp.zeros((H, D // H)))
    values = jnp.einsum("bnd,dhk->bnhk", TOKENS, params["value"]["kernel"]) + params["value"]["bias"]
    want = jnp.einsum("bhk,hkd->bd", values.mean(1), params["out"]["kernel"]) + params["out"]["bias"]
    np.testing.assert_allclose(attend(flat), jnp.broadcast_to(want[:, None], (B, N, D)), rtol=1e-4, atol=1e-5)


def test_what_all_keys_share_has_no_effect(params):
    """It adds one number to all scores of a query. So the bias of the keys, which many leave out, has no gradient."""
    moved = changed(params, "key", bias=params["key"]["bias"] + 3.0)
    np.testing.assert_allclose(attend(moved), attend(params), rtol=1e-3, atol=1e-4)


def test_heads_are_single_heads_side_by_side(params):
    """Each head alone, as attention with one head of width D: padded with zeros, and its queries times sqrt(H),
    because scores are divided by sqrt(D) there and by sqrt(D / H) here."""

    def single(h):
        def alone(layer, scale=1.0):
            kernel = jnp.zeros((D, 1, D)).at[:, 0, : D // H].set(params[layer]["kernel"][:, h])
            bias = jnp.zeros((1, D)).at[0, : D // H].set(params[layer]["bias"][h])
            return {"kernel": scale * kernel, "bias": scale * bias}

        out = jnp.zeros((1, D, D)).at[0, : D // H].set(params["out"]["kernel"][h])
        zero = jnp.zeros(D)
        return {
            "query": alone("query", H**0.5),
            "key": alone("key"),
            "value": alone("value"),
            "out": {"kernel": out, "bias": zero},
        }

    heads = sum(attend(single(h), heads=1) for h in range(H))
    np.testing.assert_allclose(heads + params["out"]["bias"], attend(params), rtol=1e-4, atol=1e-5)


def test_the_past_does_not_see_the_future(params):
    later = TOKENS.at[:, 4:].multiply(-2.0)
    before, after = (np.asarray(attend(params, x, causal=True)) for x in (TOKENS, later))
    np.testing.assert_allclose(before[:, :4], after[:, :4], rtol=1e-5, atol=1e-6)
    assert np.abs(before - after)[:, 4:].min(axis=-1).max() > 1e-3


@pytest.mark.parametrize(("heads", "tokens"), [(1, 14**2), (12, 14**2), (12, 14**2 + 1), (12, 16**2)])
def test_work_grows_with_the_square_of_tokens_and_not_with_heads(heads, tokens):
    """4 N D^2 in the projections and N^2 D each for scores and for sums: 14^4 = 38,416 scores a head."""
    x = jax.ShapeDtypeStruct((1, tokens, 192), jnp.float32)
    attention = Attention(heads)
    variables = jax.eval_shape(attention.init, jax.random.key(0), x, x)
    scores = (macs(attention.apply, variables, x, x) - 4 * tokens * 192**2) / (2 * 192)
    assert scores == tokens**2 == {196: 38_416, 197: 38_809, 256: 65_536}[tokens]
