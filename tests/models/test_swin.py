"""Swin Transformers: windows and their shift, who sees whom, and images of any size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.models import windows
from jaxvision.models.swin import SwinBlock
from jaxvision.models.swin_v2 import SwinV2Block, log_offsets

BLOCK = SwinBlock(2, shifted=True, window=2, drop_path=0.0, gelu="exact", norm_epsilon=1e-5, dtype=jnp.float32)


def run(block, params, x):
    return np.asarray(jax.jit(functools.partial(block.apply, train=False))({"params": params}, x, 1.0))


@pytest.fixture(scope="module")
def drawn(random_variables):
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 4, 4, 8)))
    return x, random_variables(functools.partial(BLOCK.init, train=False), x, 1.0)["params"]


@pytest.mark.parametrize("grid", [(4, 6), (5, 7), (2, 5), (1, 1)])
@pytest.mark.parametrize("shifted", [False, True])
def test_shift_and_reverse_shift_are_the_identity(grid, shifted):
    x = np.random.default_rng(0).normal(size=(2, *grid, 3)).astype(np.float32)
    cover = windows.cover(grid, 3, shifted)
    np.testing.assert_array_equal(windows.join(windows.split(x, cover), cover), x)
    assert all(side % size == 0 for side, size in zip(cover.padded, cover.size))
    assert any(cover.shift) == (shifted and max(grid) > 3)


def test_windows_lie_where_they_should():
    """Of a 4x4 map with windows of 2x2 that are shifted by one, the first window is the middle of the map."""
    x = jnp.arange(16).reshape(1, 4, 4, 1)
    cover = windows.cover((4, 4), 2, shifted=True)
    assert windows.split(x, cover)[0, :, :, 0].tolist() == [
        [5, 6, 9, 10],
        [7, 4, 11, 8],
        [13, 14, 1, 2],
        [15, 12, 3, 0],
    ]
    seen = np.isfinite(windows.hidden(cover))[:, 0].sum(-1)
    assert seen.tolist() == [[4, 4, 4, 4], [2, 2, 2, 2], [2, 2, 2, 2], [1, 1, 1, 1]]


@pytest.mark.parametrize(("place", "changes"), [((0, 0), 1), ((0, 1), 2), ((1, 1), 4)])
def test_the_mask_isolates_windows(drawn, place, changes):
    """What changes with a place is the part of its window that lies beside it before the shift."""
    x, params = drawn
    moved = x.copy()
    moved[:, place[0], place[1], 0] += 3
    changed = np.abs(run(BLOCK, params, moved) - run(BLOCK, params, x)).max((0, 3)) > 0
    assert changed.sum() == changes
    rows, columns = np.nonzero(changed)
    assert max(np.ptp(rows), np.ptp(columns)) <= 1


def test_attention_with_its_bias_equals_its_formula(drawn):
    """Liu et al. 2021, eq. 4, place by place, in windows without a shift."""
    x, params = drawn
    block = BLOCK.clone(shifted=False)
    silent = params | {"mlp": jax.tree.map(np.zeros_like, params["mlp"])}
    p, table = params["attention"], params["position_bias"]
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    y = y * params["attention_norm"]["scale"] + params["attention_norm"]["bias"]
    q, k, v = (np.einsum("bhwd,dne->bhwne", y, p[n]["kernel"]) + p[n]["bias"] for n in ("query", "key", "value"))
    want = x.copy()
    places = [(i, j) for i in range(4) for j in range(4)]
    for i, j in places:
        others = [(a, b) for a, b in places if (a // 2, b // 2) == (i // 2, j // 2)]
        rows = [table[(i - a + 1) * 3 + (j - b + 1)] for a, b in others]
        scores = np.stack(
            [(q[:, i, j] * k[:, a, b]).sum(-1) / 2 + row for (a, b), row in zip(others, rows)]
        )  # n b heads
        weights = np.exp(scores) / np.exp(scores).sum(0)
        mixed = sum(w[..., None] * v[:, a, b] for w, (a, b) in zip(weights, others))
        want[:, i, j] += np.einsum("bne,ned->bd", mixed, p["out"]["kernel"]) + p["out"]["bias"]
    np.testing.assert_allclose(run(block, silent, x), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["swin", "swin_v2"])
def test_the_same_weights_take_images_of_any_size(name):
    model = models.build(name, 5, **models.NAMES.small(name))
    shapes = [(16, 16), (10, 14), (4, 30)]
    params = [jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape, 3))) for shape in shapes]
    assert params[0] == params[1] == params[2]
    _, out = jax.eval_shape(model.apply, params[0], jnp.zeros((1, 10, 14, 3)))
    assert [x.shape for x in out["stages"]] == [(1, 5, 7, 8), (1, 3, 4, 16)]
    with pytest.raises(UserError, match="images of 15x16 pixels cannot be cut into patches of 2x2"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 15, 16, 3)))


def test_a_block_of_version_2_starts_as_the_identity_and_its_bias_fits_other_windows():
    """The norms behind the branches have scales of 0 at the start (the authors' code)."""
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 8)).astype(np.float32)
    options = {"shifted": True, "drop_path": 0.0, "gelu": "exact", "norm_epsilon": 1e-5, "dtype": jnp.float32}
    block = SwinV2Block(2, window=2, pretrained_window=None, **options)
    params = jax.jit(functools.partial(block.init, train=False))(jax.random.key(0), x, 1.0)["params"]
    np.testing.assert_array_equal(run(block, params, x), x)
    wider = block.clone(window=3, pretrained_window=2)
    shapes = lambda block: jax.eval_shape(functools.partial(block.init, train=False), jax.random.key(0), x, 1.0)
    assert shapes(block) == shapes(wider)


def test_offsets_of_version_2_are_spaced_by_logarithms():
    """Liu et al. 2022, eq. 4: sign(x) log(1 + |x|), here with 8 for the largest offset and in units of log 8."""
    assert log_offsets((1, 3), None)[:, 1] == pytest.approx(np.log2([1 / 9, 1 / 5, 1, 5, 9]) / 3)
    assert log_offsets((1, 5), 3)[2:7, 1] == pytest.approx(log_offsets((1, 3), None)[:, 1])
