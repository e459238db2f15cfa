"""Networks of perceptrons: ResMLP and gMLP."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models.gmlp import GMLPBlock
from jaxvision.models.resmlp import ResMLPBlock


def run(block, params, x):
    return np.asarray(jax.jit(functools.partial(block.apply, train=False))({"params": params}, x, 1.0))


def draw(block, random_variables, shape=(2, 6, 8)):
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return x, random_variables(functools.partial(block.init, train=False), x, 1.0)["params"]


def affine(x, p):
    return x * p["scale"] + p["bias"]


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def gelu(x):
    return np.asarray(jax.nn.gelu(x, approximate=False))


def layer_norm(x, p, epsilon):
    return affine((x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon), p)


def test_block_of_resmlp_equals_its_formula(random_variables):
    """Touvron et al. 2021, eq. 2 and 3."""
    block = ResMLPBlock(drop_path=0.0, layer_scale=0.1, gelu="exact", dtype=jnp.float32)
    x, p = draw(block, random_variables)
    mixed = dense(affine(x, p["token_norm"]).swapaxes(1, 2), p["token_dense"]).swapaxes(1, 2)
    z = x + p["token_scale"]["scale"] * mixed
    y = dense(gelu(dense(affine(z, p["channel_norm"]), p["channel_mlp"]["dense_0"])), p["channel_mlp"]["dense_1"])
    np.testing.assert_allclose(run(block, p, x), z + p["channel_scale"]["scale"] * y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("variant", "factor"), [("S12", 1e-4), ("S24", 1e-5), ("S36", 1e-6)])
def test_branches_of_resmlp_start_near_zero(variant, factor):
    size = models.build("resmlp", 5, variant=variant).size
    assert (size.layer_scale, size.depth) == (factor, int(variant[1:]))


def test_block_of_gmlp_equals_its_formula(random_variables):
    """Liu et al. 2021, eq. 1 and 5."""
    block = GMLPBlock(hidden=10, drop_path=0.0, gelu="exact", dtype=jnp.float32)
    x, p = draw(block, random_variables)
    u, v = np.split(gelu(dense(layer_norm(x, p["norm"], 1e-6), p["dense_0"])), 2, axis=-1)
    gate = dense(layer_norm(v, p["gate_norm"], 1e-5).swapaxes(1, 2), p["gate_dense"]).swapaxes(1, 2)
    np.testing.assert_allclose(run(block, p, x), x + dense(u * gate, p["dense_1"]), rtol=1e-4, atol=1e-5)


def test_the_gate_starts_as_the_identity():
    """At the start half of the hidden units pass unchanged, so a token does not see the others."""
    block = GMLPBlock(hidden=10, drop_path=0.0, gelu="exact", dtype=jnp.float32)
    x = np.random.default_rng(1).normal(size=(2, 6, 8)).astype(np.float32)
    p = jax.jit(functools.partial(block.init, train=False))(jax.random.key(0), x, 1.0)["params"]
    p = jax.tree.map(np.asarray, p)
    assert np.abs(p["gate_dense"]["kernel"]).max() < 1e-5
    u, _ = np.split(gelu(dense(layer_norm(x, p["norm"], 1e-6), p["dense_0"])), 2, axis=-1)
    np.testing.assert_allclose(run(block, p, x), x + dense(u, p["dense_1"]), atol=1e-4)
