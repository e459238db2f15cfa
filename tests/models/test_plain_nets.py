"""AlexNet, ZFNet and VGG: sizes of their maps as published, groups, normalisation, and images of other sizes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.analysis.accounting import macs
from jaxvision.errors import UserError
from jaxvision.models.layers import Conv
from jaxvision.models.plain import FullyConnected, Layer, adaptive_avg_pool


def traced(name, size, num_classes=1000, **options):
    """Shapes of the parameters, of the features and of the intermediates, for one image."""
    model = models.build(name, num_classes, **options)
    images = jnp.zeros((1, size, size, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    features, out = jax.eval_shape(model.apply, variables, images)
    return variables["params"], features, out


def kibibytes(maps):
    return [round(4 * x.size / 1024) for x in maps]


def test_alexnet_has_the_sizes_of_the_tables():
    """Of 227 pixels padded by 2: maps in KiB and kernels in thousands, as courses print them (test_accounting.py)."""
    params, features, out = traced("alexnet", 227)
    pools = [out["stem"], *out["stages"]]
    assert kibibytes(out["convs"]) == [784, 547, 254, 169, 169]
    assert kibibytes(pools) == [182, 127, 36]
    assert kibibytes([out["fc6"], out["fc7"], out["logits"]]) == [16, 16, 4]
    kernels = [x.size for path, x in jax.tree.leaves_with_path(params) if path[-1].key == "kernel"]
    want = [23, 307, 664, 885, 590, 37749, 16777, 4096]
    assert sorted(round(size / 1000) for size in kernels) == sorted(want)
    assert features.shape == (1, 4096)


def test_alexnet_of_2012_has_the_maps_of_the_paper():
    """Krizhevsky et al. 2012, fig. 2: 55x55x48 and so on for each of the two GPUs."""
    params, _, out = traced("alexnet", 227, variant="2012")
    assert [x.shape[1:] for x in out["convs"]] == [
        (55, 55, 96),
        (27, 27, 256),
        (13, 13, 384),
        (13, 13, 384),
        (13, 13, 256),
    ]
    assert [params["stage2"][f"conv{i}"]["kernel"].shape[2] for i in (3, 4, 5)] == [256, 192, 192]
    assert params["stage1"]["conv2"]["kernel"].shape == (5, 5, 48, 256)
    assert out["map"].shape == (1, 6, 6, 256)


def test_alexnet_of_2012_normalises_its_first_two_maps(random_variables):
    model = models.build("alexnet", None, variant="2012", width=1 / 16, hidden=8)
    images = 30 * jax.random.normal(jax.random.key(0), (1, 67, 67, 3))
    variables = random_variables(model.init, images)
    out = jax.jit(model.apply)(variables, images)[1]
    first = np.asarray(out["convs"][0][0], np.float64)  # 15 15 6
    squares = np.pad(first**2, ((0, 0), (0, 0), (2, 2)))
    sums = sum(squares[..., i : i + first.shape[-1]] for i in range(5))
    normal = first / (2 + 1e-4 * sums) ** 0.75
    pooled = np.max([normal[i : i + 13 : 2, j : j + 13 : 2] for i in range(3) for j in range(3)], axis=0)
    np.testing.assert_allclose(out["stem"][0], pooled, rtol=1e-4, atol=1e-5)


def test_zfnet_has_the_maps_of_the_paper():
    """Zeiler & Fergus 2014, fig. 3."""
    _, _, out = traced("zfnet", 224)
    assert [x.shape[1] for x in out["convs"]] == [110, 26, 13, 13, 13]
    assert [x.shape[1] for x in (out["stem"], *out["stages"])] == [55, 13, 6]


def test_vgg_has_the_maps_of_the_paper():
    params, features, out = traced("vgg", 224, variant="16c")
    assert [x.shape[1:] for x in out["stages"]] == [
        (112, 112, 64),
        (56, 56, 128),
        (28, 28, 256),
        (14, 14, 512),
        (7, 7, 512),
    ]
    assert len(out["convs"]) == 13
    assert [params[f"stage{i}"][f"conv{j}"]["kernel"].shape[:2] for i, j in ((3, 7), (4, 10), (5, 13))] == [(1, 1)] * 3
    assert params["hidden"]["fc6"]["kernel"].shape == (7, 7, 512, 4096)
    assert features.shape == (1, 4096)


def test_two_small_kernels_instead_of_a_large_one():
    """Simonyan & Zisserman 2015, sec. 2.3: 18 C^2 weights see what 25 C^2 do."""
    x = jax.ShapeDtypeStruct((1, 56, 56, 64), "float32")
    counts, products = [], []
    for size, layers in ((5, 1), (3, 2)):
        conv = Conv(64, size, bias=True)
        params = jax.eval_shape(conv.init, jax.random.key(0), x)
        counts.append(layers * sum(leaf.size for leaf in jax.tree.leaves(params)))
        products.append(layers * macs(conv.apply, params, x))
    assert counts == [102_464, 73_856]
    assert products[1] * 25 == products[0] * 18


@pytest.mark.parametrize(("side", "size"), [(7, 7), (14, 7), (1, 7), (9, 4), (5, 6)])
def test_adaptive_pooling_equals_its_windows(side, size):
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, side, side + 1, 3)))
    want = np.zeros((2, size, size, 3))
    for i in range(size):
        for j in range(size):
            rows = slice(int(np.floor(i * side / size)), int(np.ceil((i + 1) * side / size)))
            columns = slice(int(np.floor(j * (side + 1) / size)), int(np.ceil((j + 1) * (side + 1) / size)))
            want[:, i, j] = x[:, rows, columns].mean((1, 2))
    np.testing.assert_allclose(adaptive_avg_pool(x, size), want, rtol=1e-5, atol=1e-6)


def test_hidden_layers_equal_their_formula_and_drop_in_training(random_variables):
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 3, 3, 4)))
    layers = FullyConnected(3, 50, dropout=0.5, dtype=jnp.float32)
    variables = random_variables(partial(layers.init, train=False), x)
    p = variables["params"]
    fc6 = np.maximum(np.einsum("bhwc,hwcd->bd", x, p["fc6"]["kernel"]) + p["fc6"]["bias"], 0)
    fc7 = np.maximum(fc6 @ p["fc7"]["kernel"] + p["fc7"]["bias"], 0)
    got = layers.apply(variables, x, train=False)
    np.testing.assert_allclose(got[0], fc6, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got[1], fc7, rtol=1e-4, atol=1e-5)
    dropped, _ = layers.apply(variables, x, train=True, rngs={"dropout": jax.random.key(1)})
    kept = np.asarray(dropped) != 0
    np.testing.assert_allclose(np.asarray(dropped)[kept], 2 * fc6[kept], rtol=1e-4)
    assert 0.2 < kept[fc6 > 0].mean() < 0.8


def test_channels_stay_a_multiple_of_the_groups():
    assert Layer(256, groups=2).scaled(1 / 100).channels == 2
    assert Layer(384, groups=2).scaled(0.5).channels == 192


@pytest.mark.parametrize(
    ("name", "size", "least"), [("alexnet", 62, "63x63"), ("zfnet", 52, "53x53"), ("vgg", 31, "32x32")]
)
def test_small_images_are_refused(name, size, least):
    with pytest.raises(UserError, match=f"images of at least {least} pixels"):
        traced(name, size, None, width=1 / 16, hidden=8)
    traced(name, int(least[:2]), None, width=1 / 16, hidden=8)
