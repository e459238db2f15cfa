"""NASNet-A: its cells, their wiring, and the sides and channels of its maps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models.layers import avg_pool, max_pool
from jaxvision.models.nasnet import Cell, FactorizedReduction, Separable

SMALL = {"blocks": (2, 1), "channels": 8, "stem": 8}


@pytest.mark.parametrize("reduces", [False, True])
def test_cell_equals_its_figure(random_variables, reduces):
    """Zoph et al. 2018, fig. 4, sum by sum."""
    cell = Cell(4, reduces, "conv", False, 0.0, jnp.float32)
    x, before = (jax.random.normal(jax.random.key(i), (2, 5, 5, 6)) for i in (0, 1))
    variables = random_variables(partial(cell.init, strength=1.0, train=False), x, before)
    inside = lambda name: {kind: tree[name] for kind, tree in variables.items()}

    def adjusted(name, x):
        p, stats = (inside(name)[kind] for kind in ("params", "batch_stats"))
        y = np.maximum(x, 0) @ p["conv"]["kernel"][0, 0]
        y = (y - stats["norm"]["mean"]) / np.sqrt(stats["norm"]["var"] + 1e-3)
        return y * p["norm"]["scale"] + p["norm"]["bias"]

    def separable(pair, side, x, size, stride=1):
        return Separable(4, size, stride, jnp.float32).apply(inside(f"pair{pair}_{side}"), x, train=False)

    h, p = adjusted("current", x), adjusted("previous_conv", before)
    average = partial(avg_pool, size=3, stride=1, padding="SAME")
    if reduces:
        a = separable(1, "left", h, 5, 2) + separable(1, "right", p, 7, 2)
        b = max_pool(h, padding="SAME") + separable(2, "right", p, 7, 2)
        c = avg_pool(h, 3, 2, "SAME") + separable(3, "right", p, 5, 2)
        d = average(a) + b
        want = [b, c, d, separable(5, "left", a, 3) + max_pool(h, padding="SAME")]
    else:
        a = separable(1, "left", h, 5) + separable(1, "right", p, 3)
        b = separable(2, "left", p, 5) + separable(2, "right", p, 3)
        want = [p, a, b, average(h) + p, 2 * average(p), separable(5, "left", h, 3) + h]
    got = cell.apply(variables, x, before, strength=1.0, train=False)
    np.testing.assert_allclose(got, np.concatenate(want, -1), rtol=1e-4, atol=1e-4)


def test_halved_map_has_every_second_pixel_and_its_neighbours():
    block = FactorizedReduction(2, jnp.float32)
    x = jnp.arange(1.0, 10).reshape(1, 3, 3, 1)
    variables = jax.tree.map(jnp.ones_like, block.init(jax.random.key(0), x, train=False))
    variables["batch_stats"]["norm"] = {"mean": jnp.zeros(2), "var": jnp.full(2, 1 - 1e-3)}
    y = block.apply(variables, x, train=False) - 1  # the offset of BatchNorm
    np.testing.assert_allclose(y[0, :, :, 0], [[1, 3], [7, 9]], rtol=1e-6)
    np.testing.assert_allclose(y[0, :, :, 1], [[5, 0], [0, 0]], rtol=1e-6, atol=1e-6)


def test_first_cell_behind_a_reduction_sees_the_last_map_ahead_of_it(random_variables):
    """As in the mobile network; tests/parity/test_nasnet.py has the large one, whose `skip` is True."""
    model = models.build("nasnet", None, **SMALL, skip=False)
    x = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
    variables = random_variables(model.init, x)
    _, out = jax.jit(model.apply)(variables, x)
    of_stage = {kind: tree["stage3"]["block1"] for kind, tree in variables.items()}
    cell = Cell(16, False, "halved", False, 0.0, jnp.float32)
    blocks = out["blocks"]  # stage1/reduction, stage2/reduction, A, B, stage3/reduction, C
    got = jax.jit(partial(cell.apply, strength=1.0, train=False))(of_stage, blocks[4], blocks[3])
    np.testing.assert_allclose(got, blocks[5], rtol=1e-4, atol=1e-4 * np.abs(blocks[5]).max())


def test_averages_may_count_the_padding():
    cell = Cell(4, True, "none", True, 0.0, jnp.float32)
    y = cell._apply("average", jnp.ones((1, 3, 3, 1)), 2, "", False)
    np.testing.assert_allclose(9 * y[0, :, :, 0], [[4, 4], [4, 4]], rtol=1e-6)


def test_sides_and_channels_of_the_maps():
    model = models.build("nasnet", None, variant="mobile", blocks=(1, 1, 1))
    images = jnp.zeros((1, 224, 224, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    features, out = jax.eval_shape(model.apply, variables, images)
    wanted = [(111, 32), (56, 44), (28, 6 * 44), (14, 12 * 44), (7, 24 * 44)]
    assert [(x.shape[1], x.shape[3]) for x in (out["stem"], *out["stages"])] == wanted
    assert features.shape == (1, 1056)


def test_drop_path_drops_operations_and_no_identity():
    cell = Cell(4, False, "conv", False, 1 - 1e-7, jnp.float32)
    x, before = (jax.random.normal(jax.random.key(i), (1, 4, 4, 24)) for i in (0, 1))
    variables = cell.init(jax.random.key(0), x, before, strength=1.0, train=False)
    draw = {"dropout": jax.random.key(1)}
    y, _ = cell.apply(variables, x, before, 1.0, True, rngs=draw, mutable=["batch_stats"])
    previous, *sums = jnp.split(y, 6, axis=-1)
    assert [bool(s.any()) for s in sums] == [False, False, True, False, True]
    np.testing.assert_array_equal(sums[2], previous)
