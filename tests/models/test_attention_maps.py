"""Attention on request: the weights are those that made the output, and nobody pays for them without asking."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models.attention_maps import class_attention, why_no_maps
from jaxvision.models.transformer import Attention

TINY = dict(variant="Ti/4", width=16, depth=2, mlp_dim=16, num_heads=2)


@pytest.mark.parametrize("causal", [False, True])
def test_the_weights_times_the_values_are_the_output(random_variables, causal):
    attention, x = Attention(num_heads=2, causal=causal), jax.random.normal(jax.random.key(0), (3, 5, 8))
    variables = random_variables(attention.init, x, x)
    assert set(variables) == {"params"}
    y, found = attention.apply(variables, x, x, mutable=["intermediates"])
    (weights,) = found["intermediates"]["weights"]
    np.testing.assert_allclose(weights.sum(-1), np.ones((3, 2, 5)), rtol=1e-5)
    assert np.any(np.triu(weights, 1)) is not np.bool_(causal)
    params = variables["params"]
    values = jnp.einsum("bnd,dhe->bnhe", x, params["value"]["kernel"]) + params["value"]["bias"]
    mixed = jnp.einsum("bhqn,bnhe->bqhe", weights, values)
    np.testing.assert_allclose(
        y, jnp.einsum("bqhe,hed->bqd", mixed, params["out"]["kernel"]) + params["out"]["bias"], rtol=1e-3, atol=1e-5
    )
    np.testing.assert_array_equal(y, attention.apply(variables, x, x))


OPTIONS = [{}, dict(registers=3, posemb="rope"), dict(remat="full"), dict(projection_layers=1)]


@pytest.mark.parametrize("options", OPTIONS)
def test_maps_of_the_last_block(random_variables, images, options):
    module = models.build("vit", None, pool="token", **TINY, **options)
    variables = random_variables(module.init, images)
    maps = jax.jit(lambda v: class_attention(module, v, images))(variables)
    assert maps.shape == (2, 2, 4, 4)
    assert np.all(maps > 0)
    assert np.all(maps.sum((2, 3)) < 1)
    # Equal keys, here of zeros, give equal weights to all of the class token, registers and patches.
    attention = variables["params"]["encoder"]["block_01"]["attention"]
    attention["key"] = jax.tree.map(jnp.zeros_like, attention["key"])
    count = 17 + options.get("registers", 0)
    np.testing.assert_allclose(class_attention(module, variables, images), 1 / count, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("resnet", dict(variant="8"), "not a Vision Transformer"),
        ("vit", TINY, "no class token"),
        ("vit", dict(pool="token", scan=True, **TINY), "scanned"),
    ],
)
def test_models_without_maps(name, options, reason):
    assert reason in why_no_maps(models.build(name, None, **options))
    assert why_no_maps(models.build("vit", None, class_token=True, **TINY)) is None
