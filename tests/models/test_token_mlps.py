"""Networks of perceptrons: ResMLP, gMLP, CycleMLP and S2-MLP."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models.cycle_mlp import CycleBlock, CycleMixer, staircase
from jaxvision.models.gmlp import GMLPBlock
from jaxvision.models.resmlp import ResMLPBlock
from jaxvision.models.s2_mlp import S2Block, spatial_shift


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


OFFSETS = (0, 1, -1)  # of channels 0, 1, 2, 0, 1, 2, ... in the authors' code


def naive_staircase(x, axis):
    """Place by place and channel by channel, zeros outside."""
    y = np.zeros_like(x)
    sides = x.shape[1:3]
    for place in np.ndindex(*sides):
        for channel in range(x.shape[-1]):
            seen = list(place)
            seen[axis - 1] += OFFSETS[channel % 3]
            if 0 <= seen[axis - 1] < sides[axis - 1]:
                y[:, place[0], place[1], channel] = x[:, seen[0], seen[1], channel]
    return y


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("grid", [(4, 3), (1, 2)])
def test_channels_look_at_neighbouring_places_in_turn(axis, grid):
    x = np.random.default_rng(1).normal(size=(2, *grid, 7)).astype(np.float32)
    np.testing.assert_array_equal(staircase(x, axis), naive_staircase(x, axis))


def cycle_mixer(x, p):
    """Chen et al. 2022, with the reweighting of the authors' code: the branches in the order across, down, here."""
    across = dense(naive_staircase(x, 2), p["across"])
    down = dense(naive_staircase(x, 1), p["down"])
    branches = np.stack([across, down, x @ p["here"]["kernel"]], axis=-1)  # b h w c 3
    mean = branches.sum(-1).mean((1, 2))
    scores = np.exp(dense(gelu(dense(mean, p["reweight_0"])), p["reweight_1"]).reshape(*mean.shape, 3))
    weights = scores / scores.sum(-1, keepdims=True)
    return dense((branches * weights[:, None, None]).sum(-1), p["out"])


def test_block_of_cycle_mlp_equals_its_formula(random_variables):
    block = CycleBlock(ratio=2, drop_path=0.0, gelu="exact", dtype=jnp.float32)
    x, p = draw(block, random_variables, (2, 4, 3, 8))
    z = x + cycle_mixer(layer_norm(x, p["mixer_norm"], 1e-5), p["mixer"])
    hidden = gelu(dense(layer_norm(z, p["mlp_norm"], 1e-5), p["mlp"]["dense_0"]))
    np.testing.assert_allclose(run(block, p, x), z + dense(hidden, p["mlp"]["dense_1"]), rtol=1e-4, atol=1e-5)


def test_a_cycle_mixer_sees_its_row_and_its_column():
    """What changes at one place reaches its four neighbours only; the weights of the branches see the mean."""
    mixer = CycleMixer("exact", jnp.float32)
    x = np.random.default_rng(1).normal(size=(1, 5, 5, 6)).astype(np.float32)
    params = jax.jit(mixer.init)(jax.random.key(0), x)["params"]
    params["reweight_1"] = jax.tree.map(jnp.zeros_like, params["reweight_1"])  # equal weights
    moved = x.copy()
    moved[:, 2, 2] += 1
    apply = jax.jit(lambda x: mixer.apply({"params": params}, x))
    changed = np.abs(np.asarray(apply(moved) - apply(x)))[0].max(-1) > 1e-7
    assert set(zip(*np.nonzero(changed))) == {(2, 2), (1, 2), (3, 2), (2, 1), (2, 3)}


def naive_shift(x):
    """A quarter of the channels each from the left, the right, above and below; at the border from the place itself."""
    y = x.copy()
    h, w, c = x.shape[1:]
    for i, j, channel in np.ndindex(h, w, c):
        down, across = ((0, -1), (0, 1), (-1, 0), (1, 0))[channel // (c // 4)]
        if 0 <= i + down < h and 0 <= j + across < w:
            y[:, i, j, channel] = x[:, i + down, j + across, channel]
    return y


@pytest.mark.parametrize("grid", [(4, 3), (1, 5), (1, 1)])
def test_spatial_shift_moves_a_quarter_of_the_channels_each_way(grid):
    x = np.random.default_rng(1).normal(size=(2, *grid, 8)).astype(np.float32)
    np.testing.assert_array_equal(spatial_shift(x), naive_shift(x))


def test_spatial_shift_keeps_what_is_inside():
    """Each value in the interior of a map has a place afterwards, one step away: it is a permutation there."""
    x = np.arange(6 * 5 * 4, dtype=np.float32).reshape(1, 6, 5, 4)
    y = np.asarray(spatial_shift(x))
    for channel, (down, across) in enumerate([(0, 1), (0, -1), (1, 0), (-1, 0)]):
        moved = y[:, 1 + down : 5 + down, 1 + across : 4 + across, channel]
        np.testing.assert_array_equal(moved, x[:, 1:5, 1:4, channel])
    edges = [(0, np.s_[:, 0]), (1, np.s_[:, -1]), (2, np.s_[0]), (3, np.s_[-1])]
    for channel, edge in edges:  # where nothing comes from
        np.testing.assert_array_equal(y[0, ..., channel][edge], x[0, ..., channel][edge])


def test_block_of_s2_mlp_equals_its_formula(random_variables):
    block = S2Block(drop_path=0.0, gelu="exact", dtype=jnp.float32)
    x, p = draw(block, random_variables, (2, 3, 4, 8))
    y = naive_shift(gelu(dense(layer_norm(x, p["shift_norm"], 1e-6), p["shift_dense_0"])))
    z = x + dense(y, p["shift_dense_1"])
    hidden = gelu(dense(layer_norm(z, p["channel_norm"], 1e-6), p["channel_mlp"]["dense_0"]))
    np.testing.assert_allclose(run(block, p, x), z + dense(hidden, p["channel_mlp"]["dense_1"]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("variant", "d", "blocks", "quoted"), [("wide", 768, 12, 71e6), ("deep", 384, 36, 51e6)])
def test_parameters_of_s2_mlp(variant, d, blocks, quoted):
    """A block has two layers of d^2, two of 4 d^2, their offsets, and two norms; the shift has no parameters."""
    model = models.build("s2_mlp", 1000, variant=variant, scan=True)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))["params"]
    count = sum(x.size for x in jax.tree.leaves(params))
    block = (2 * d * d + 2 * d) + (8 * d * d + 5 * d) + 2 * 2 * d
    assert count == (16 * 16 * 3 + 1) * d + 2 * d + blocks * block + (d + 1) * 1000
    assert 1 < count / quoted < 1.06  # what is quoted is smaller, see the docstring of the model


@pytest.mark.parametrize(("name", "sizes"), [("cycle_mlp", ((16, 16), (11, 20))), ("s2_mlp", ((16, 16), (8, 20)))])
def test_the_same_weights_take_images_of_any_size(name, sizes):
    model = models.build(name, 5, **models.NAMES.small(name))
    images = [jnp.ones((1, *size, 3)) for size in sizes]
    of_size = [jax.eval_shape(model.init, jax.random.key(0), x)["params"] for x in images]
    assert jax.tree.map(lambda x: x.shape, of_size[0]) == jax.tree.map(lambda x: x.shape, of_size[1])
    variables = {"params": jax.tree.map(lambda x: jnp.full(x.shape, 0.1), of_size[0])}
    features, out = jax.jit(model.apply)(variables, images[1])
    assert np.isfinite(out["logits"]).all()
    assert features.shape == (1, out["map"].shape[-1])
    assert out["map"].shape[1] != out["map"].shape[2]
