"""The text transformer: what a token may see, where features are taken, and its options."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError

TOKENS = np.array([[40, 3, 9, 41, 0, 0], [40, 7, 7, 7, 2, 41]])  # 40 starts a text, 41 ends it


def build(**options):
    defaults = {"variant": "mu", "depth": 2, "vocab_size": 42, "length": 6}
    return models.build_text("text_transformer", **defaults | options)


def apply(model, variables, tokens=TOKENS):
    return jax.jit(model.apply)(variables, tokens)


def test_shapes_and_dtypes():
    model = build(dtype=jnp.bfloat16)
    variables = jax.eval_shape(model.init, jax.random.key(0), TOKENS)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    features, out = jax.eval_shape(model.apply, variables, TOKENS)
    assert (features.shape, features.dtype) == ((2, 32), jnp.float32)
    want = {"embedding": (2, 6, 32), "stages": ((2, 6, 32), (2, 6, 32)), "tokens": (2, 6, 32)}
    assert jax.tree.map(lambda x: x.shape, out) == want
    assert {x.dtype for x in jax.tree.leaves(out)} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("causal", [True, False])
def test_what_follows_changes_what_came_before_unless_causal(random_variables, causal):
    model = build(causal=causal)
    variables = random_variables(model.init, TOKENS)
    changed = TOKENS.copy()
    changed[:, 3] = 5
    difference = np.abs(apply(model, variables, changed)[1]["tokens"] - apply(model, variables)[1]["tokens"]).max(
        (0, 2)
    )
    assert (difference[:3] < 1e-6).all() == causal
    assert (difference[3:] > 1e-3).all()


def test_features_are_the_end_tokens(random_variables):
    model = build()
    features, out = apply(model, random_variables(model.init, TOKENS))
    np.testing.assert_allclose(features, [out["tokens"][0, 3], out["tokens"][1, 5]], rtol=1e-6)


def test_padding_after_the_end_of_a_causal_text_does_not_matter(random_variables):
    model = build()
    variables = random_variables(model.init, TOKENS)
    np.testing.assert_allclose(
        apply(model, variables, TOKENS[:1, :4])[0], apply(model, variables, TOKENS[:1])[0], atol=1e-5
    )


@pytest.mark.parametrize(
    ("pool", "want"),
    [
        ("last", lambda x: x[:, -1]),
        ("gap", lambda x: x.mean(1)),
        ("end", lambda x: x[jnp.arange(2), jnp.array([1, 5])]),
    ],
)
def test_pools(random_variables, pool, want):
    model = build(pool=pool, causal=False, end_token=3)
    features, out = apply(model, random_variables(model.init, TOKENS))
    np.testing.assert_allclose(features, want(out["tokens"]), rtol=1e-5, atol=1e-6)


def test_attention_pooling_of_a_text(random_variables):
    model = build(pool="map", causal=False)
    features, _ = apply(model, random_variables(model.init, TOKENS))
    assert features.shape == (2, 32)


def test_gradients_are_finite_and_reach_every_parameter(random_variables):
    model = build()
    params = random_variables(model.init, TOKENS)["params"]
    gradients = jax.jit(jax.grad(lambda p: (model.apply({"params": p}, TOKENS, train=True)[0] ** 2).sum()))(params)
    silent = [jax.tree_util.keystr(p) for p, g in jax.tree.leaves_with_path(gradients) if not g.any()]
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
    assert all("['key']['bias']" in path for path in silent), silent  # softmax ignores what is added to every key


def test_scanned_equals_unrolled(random_variables):
    plain, scanned = build(), build(scan=True, remat="full")
    variables = random_variables(plain.init, TOKENS)
    params = dict(variables["params"])
    encoder = dict(params["encoder"])
    blocks = [encoder.pop(f"block_{i:02}") for i in range(2)]
    encoder["blocks"] = jax.tree.map(lambda *x: np.stack(x), *blocks)
    want, _ = apply(plain, variables)
    np.testing.assert_allclose(apply(scanned, {"params": params | {"encoder": encoder}})[0], want, atol=1e-5)


def test_kernels_start_with_clips_deviations():
    model = build(width=256, num_heads=4, depth=1)
    params = jax.jit(model.init)(jax.random.key(0), TOKENS)["params"]
    block = params["encoder"]["block_00"]
    want = {  # the authors' code: width ** -0.5; that times (2 * depth) ** -0.5; (2 * width) ** -0.5
        "query": (block["attention"]["query"]["kernel"], 256**-0.5),
        "out": (block["attention"]["out"]["kernel"], 256**-0.5 * 2**-0.5),
        "hidden": (block["mlp"]["dense_0"]["kernel"], 512**-0.5),
        "residual": (block["mlp"]["dense_1"]["kernel"], 256**-0.5 * 2**-0.5),
        "embedding": (params["embedding"]["embedding"], 0.02),
        "positions": (params["pos_embedding"], 0.01),
    }
    for name, (kernel, deviation) in want.items():
        assert kernel.std() == pytest.approx(deviation, rel=0.1), name


def test_dropout_needs_training(random_variables):
    model = build(dropout=0.5)
    variables = random_variables(model.init, TOKENS)
    want, _ = apply(build(), variables)
    np.testing.assert_array_equal(apply(model, variables)[0], want)
    train = jax.jit(functools.partial(model.apply, train=True))
    assert not np.allclose(train(variables, TOKENS, rngs={"dropout": jax.random.key(0)})[0], want)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "Q"}, "unknown text transformer size 'Q'"),
        ({"pool": "eos"}, "unknown pool 'eos'"),
        ({"end_token": 42}, "end_token must lie in [0, 42), not 42"),
        ({"vocab_size": 0}, "vocab_size must be above 0"),
        ({"init": "bert"}, "unknown init 'bert'"),
        ({"lenght": 7}, "unknown option of text model 'text_transformer' 'lenght'; did you mean 'length'"),
    ],
    ids=str,
)
def test_mistakes_are_named_when_the_model_is_built(options, message):
    with pytest.raises(UserError) as error:
        build(**options)
    assert message in str(error.value)


def test_a_text_that_is_too_long_is_named():
    with pytest.raises(UserError, match="a text of 7 tokens is longer than the 6"):
        jax.eval_shape(build().init, jax.random.key(0), np.zeros((1, 7), int))


def test_unknown_text_model():
    with pytest.raises(UserError, match="unknown text model 'bert'. Choices: text_transformer"):
        models.build_text("bert")
