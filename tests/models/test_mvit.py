"""MViT v2: its attention against the paper's formulas, and images of any size."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models.mvit_v2 import MViTBlock, PooledAttention, distances

BLOCK = MViTBlock(8, 2, stride=2, key_stride=1, norm_epsilon=1e-6, drop_path=0.0, gelu="exact", dtype=jnp.float32)


def normalised(x, p, epsilon=1e-6):
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
    return y * p["scale"] + p["bias"]


def pooled(x, p, name, stride):
    """Projection, convolution of each channel within a head, LayerNorm: [b, h, w, c] -> [b, h', w', heads, d]."""
    y = np.einsum("bhwc,cne->bhwne", x, p[name]["kernel"]) + p[name]["bias"]
    y = np.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0), (0, 0)))
    kernel = p[f"{name}_pool"]["kernel"][:, :, 0]  # 3 3 d
    rows, columns = (range(0, side, stride) for side in x.shape[1:3])
    sums = [[(y[:, i : i + 3, j : j + 3] * kernel[:, :, None]).sum((1, 2)) for j in columns] for i in rows]
    return normalised(np.moveaxis(np.array(sums), 2, 0), p[f"{name}_norm"])


@pytest.mark.parametrize(("stride", "key_stride"), [(2, 1), (1, 2)])
def test_attention_equals_its_formulas(random_variables, stride, key_stride):
    """Li et al. 2022, eq. 1 to 5, query by query: scores with decomposed positions, and the query in the result."""
    attention = PooledAttention(8, 2, stride, key_stride, 1e-6, jnp.float32)
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 4, 6, 6)))
    p = random_variables(functools.partial(attention.init, pretrained=(4, 6)), x)["params"]
    q, k, v = (pooled(x, p, *each) for each in (("query", stride), ("key", key_stride), ("value", key_stride)))
    (h, w), (rows, columns) = q.shape[1:3], k.shape[1:3]
    step, key_step = max(rows // h, 1), max(h // rows, 1)
    want = np.zeros((2, h, w, 8))
    for i in range(h):
        for j in range(w):
            scores = np.zeros((2, 2, rows, columns))  # b heads rows columns
            for a in range(rows):
                for b in range(columns):
                    down = p["row_positions"][i * step - a * key_step + (rows - 1) * key_step]
                    across = p["column_positions"][j * step - b * key_step + (columns - 1) * key_step]
                    scores[:, :, a, b] = (q[:, i, j] * (k[:, a, b] / 2 + down + across)).sum(-1)
            weights = np.exp(scores) / np.exp(scores).sum((2, 3), keepdims=True)
            mixed = np.einsum("bnij,bijne->bne", weights, v) + q[:, i, j]
            want[:, i, j] = np.einsum("bne,nec->bc", mixed, p["out"]["kernel"]) + p["out"]["bias"]
    got = jax.jit(functools.partial(attention.apply, pretrained=(4, 6)))({"params": p}, x)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_every_row_of_a_table_has_a_distance():
    assert np.unique(distances(5, 5)).tolist() == list(range(9))
    for queries, keys in ((7, 14), (14, 7), (3, 7), (7, 2)):
        table = distances(queries, keys)
        assert table.shape == (queries, keys)
        assert table.min() >= 0
        assert table.max() <= 2 * max(queries, keys) - 2
        assert (np.diff(table, axis=0) > 0).all()
        assert (np.diff(table, axis=1) < 0).all()


def test_the_shortcut_is_the_linear_layer_of_the_norm_and_its_maxima(random_variables):
    x = np.asarray(jax.random.normal(jax.random.key(0), (1, 4, 4, 6)))
    p = random_variables(functools.partial(BLOCK.init, pretrained=(4, 4), strength=1.0, train=False), x)["params"]
    silent = dict(p, mlp=jax.tree.map(np.zeros_like, p["mlp"]))
    silent["attention"] = dict(p["attention"], out=jax.tree.map(np.zeros_like, p["attention"]["out"]))
    y = normalised(x, p["attention_norm"]) @ p["shortcut"]["kernel"] + p["shortcut"]["bias"]
    want = [[y[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].max((1, 2)) for j in (0, 2)] for i in (0, 2)]
    got = jax.jit(functools.partial(BLOCK.apply, pretrained=(4, 4), strength=1.0, train=False))({"params": silent}, x)
    np.testing.assert_allclose(got, np.moveaxis(np.array(want), 2, 0), rtol=1e-4, atol=1e-5)


def test_weights_for_one_size_take_images_of_any_size():
    small = models.NAMES.small("mvit_v2")
    shapes = lambda model, *sides: jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *sides, 3)))
    plain = models.build("mvit_v2", 5, **small)
    model = plain.clone(pretrained_size=16)
    wanted = shapes(plain, 16, 16)
    assert shapes(plain, 10, 15) != wanted == shapes(model, 10, 15)
    _, out = jax.eval_shape(model.apply, wanted, jnp.zeros((1, 10, 15, 3)))
    assert [x.shape for x in (out["stem"], *out["stages"])] == [(1, 5, 8, 8), (1, 5, 8, 8), (1, 3, 4, 16)]


def test_sides_of_queries_and_keys_are_those_of_the_paper():
    model = models.build("mvit_v2", None, blocks=(1, 2, 1, 1))
    seen = {}

    def look(next_fun, args, kwargs, context):
        y = next_fun(*args, **kwargs)
        if context.method_name == "__call__" and context.module.name in ("query_pool", "key_pool"):
            seen["/".join(context.module.path)] = y.shape[1]
        return y

    with nn.intercept_methods(look):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    sides = {path.replace("/attention", ""): side for path, side in seen.items()}
    assert [sides[f"stage{i}/block1/query_pool"] for i in (1, 2, 3, 4)] == [56, 28, 14, 7]
    assert (sides["stage1/block1/key_pool"], sides["stage2/block1/key_pool"]) == (14, 28)
    assert (sides["stage2/block2/query_pool"], sides["stage2/block2/key_pool"]) == (28, 14)
