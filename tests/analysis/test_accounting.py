"""Accounting against the tables of the papers, against XLA's count, and against the support of gradients.

The tables are those of AlexNet, GoogLeNet's stem, VGG-16 and LeNet as courses give them, each cell computed anew.
"""

import itertools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.analysis.accounting import Conv, Dense, Pool, costs, macs, receptive_field
from jaxvision.errors import UserError
from jaxvision.models import layers
from jaxvision.step_costs import flops_of

REFERENCE = json.loads((pathlib.Path(__file__).parents[1] / "reference" / "param_counts.json").read_text())

ALEXNET = [
    Conv(64, 11, 4, 2),
    Pool(3, 2),
    Conv(192, 5, padding=2),
    Pool(3, 2),
    Conv(384, 3, padding=1),
    Conv(256, 3, padding=1),
    Conv(256, 3, padding=1),
    Pool(3, 2),
    Dense(4096),
    Dense(4096),
    Dense(1000),
]
GOOGLENET_STEM = [Conv(64, 7, 2, 3), Pool(3, 2, 1), Conv(64, 1), Conv(192, 3, padding=1), Pool(3, 2, 1)]
LENET = [Conv(20, 5, padding=2), Pool(2, 2), Conv(50, 5, padding=2), Pool(2, 2), Dense(500), Dense(10)]


def thousands(values, unit):
    return [round(value / unit) for value in values]


@pytest.mark.parametrize(
    ("pixels", "size", "stride", "padding", "want"),
    [
        (7, 3, 1, 0, 5),
        (7, 3, 2, 0, 3),
        (7, 3, 1, 1, 7),
        (4, 3, 1, 1, 4),
        (4, 3, 2, 1, 2),
        (32, 5, 1, 0, 28),
        (32, 5, 1, 2, 32),
        (227, 11, 4, 2, 56),
        (56, 3, 2, 0, 27),
    ],
)
def test_size_of_an_output(pixels, size, stride, padding, want):
    [row] = costs([Conv(1, size, stride, padding)], (pixels, pixels, 1))
    assert row.shape == (want, want, 1)


def test_alexnet():
    """Krizhevsky 2014, one column, on 227 pixels padded by 2. Courses print 145 M for conv4, which has 149.5 M."""
    rows = costs(ALEXNET, (227, 227, 3))
    assert thousands([r.memory for r in rows], 1024) == [784, 182, 547, 127, 254, 169, 169, 36, 16, 16, 4]
    assert thousands([r.weights for r in rows if r.weights], 1e3) == [23, 307, 664, 885, 590, 37749, 16777, 4096]
    assert thousands([r.macs for r in rows if r.macs], 1e6) == [73, 224, 112, 150, 100, 38, 17, 4]
    assert sum(r.weights for r in rows) == 61_090_496
    assert sum(r.macs for r in rows) / 1e6 == pytest.approx(716.8, abs=0.05)


def test_stem_of_googlenet():
    """Szegedy et al. 2015, table 1. Its multiply-adds are 477.7 M together; courses print 418 M."""
    rows = costs(GOOGLENET_STEM, (224, 224, 3))
    assert thousands([r.memory for r in rows], 1024) == [3136, 784, 784, 2352, 588]
    assert thousands([r.macs for r in rows], 1e6) == [118, 0, 13, 347, 0]
    assert sum(r.weights for r in rows) == 124_096
    assert sum(r.macs for r in rows) / 1e6 == pytest.approx(477.7, abs=0.05)
    assert sum(r.memory for r in rows) / 2**20 == pytest.approx(7.46, abs=0.01)


def test_vgg_16_down_to_28_pixels():
    """Simonyan & Zisserman 2015, table 1, D: 42.9 MB, 1.1 M and 7485 M, as often printed, leave its conv3_3 out."""
    blocks = [[Conv(c, 3, padding=1)] * n + [Pool(2, 2)] for c, n in ((64, 2), (128, 2), (256, 3))]
    rows = costs(list(itertools.chain(*blocks)), (224, 224, 3))
    assert rows[-1].shape == (28, 28, 256)
    assert sum(r.memory for r in rows if r.weights) / 2**20 == pytest.approx(45.94, abs=0.005)
    assert sum(r.weights for r in rows) == 1_734_336
    assert sum(r.macs for r in rows) / 1e6 == pytest.approx(9335.1, abs=0.05)
    [*_, conv3_3, _] = rows
    assert sum(r.macs for r in rows) - conv3_3.macs == pytest.approx(7485.5e6, abs=5e4)


def test_lenet_of_the_courses():
    rows = costs(LENET, (28, 28, 1))
    assert [r.shape for r in rows[:4]] == [(28, 28, 20), (14, 14, 20), (14, 14, 50), (7, 7, 50)]
    assert [r.weights for r in rows if r.weights] == [500, 25_000, 1_225_000, 5_000]


def test_small_networks_of_the_courses():
    """784-256-10, of 203,530 parameters with biases; and a net for MNIST whose map has 9,216 numbers, of 1,200,330 with
    biases and BatchNorm behind three layers."""
    rows = costs([Dense(256), Dense(10)], (28, 28, 1))
    assert sum(r.weights for r in rows) + 256 + 10 == 203_530
    rows = costs([Conv(32, 3), Conv(64, 3), Pool(2, 2), Dense(128), Dense(10)], (28, 28, 1))
    assert rows[2].memory // 4 == 9_216
    assert sum(r.weights for r in rows) + (32 + 64 + 128 + 10) + 2 * (32 + 64 + 128) == 1_200_330


def test_averaging_the_map_saves_the_weights_of_the_head():
    """GoogLeNet: 1,024,000 weights behind a mean over 7x7 pixels; VGG-16: 123,633,664 behind a flattened map."""
    assert [r.weights for r in costs([Pool(7, 1), Dense(1000)], (7, 7, 1024))] == [0, 1_024_000]
    flattened = costs([Dense(4096), Dense(4096), Dense(1000)], (7, 7, 512))
    assert [r.weights for r in flattened] == [102_760_448, 16_777_216, 4_096_000]


def test_two_small_kernels_are_cheaper_than_a_large_one():
    """Simonyan & Zisserman 2015, sec. 2.3: 18 C^2 weights for the field of a 5x5 kernel, which has 25 C^2."""
    one, two = [Conv(64, 5, padding=2)], [Conv(64, 3, padding=1)] * 2
    assert receptive_field(one) == receptive_field(two) == 5
    assert [sum(r.weights for r in costs(net, (56, 56, 64))) for net in (one, two)] == [25 * 64**2, 18 * 64**2]
    assert [sum(r.macs + np.prod(r.shape) for r in costs(net, (56, 56, 64))) for net in (one, two)] == [
        321_126_400 + 200_704,
        231_211_008 + 2 * 200_704,
    ]


@pytest.mark.parametrize(
    ("chain", "field"),
    [
        ([Conv(1, 3)], 3),
        ([Conv(1, 3)] * 2, 5),
        ([Conv(1, 3)] * 3, 7),
        ([Conv(1, 3)] * 4, 9),
        ([Conv(1, 3, 2), Conv(1, 3)], 7),
        ([Conv(1, 7, 2), Pool(3, 2), Conv(1, 3), Conv(1, 3)], 27),  # up to the first block of ResNet-18
        ([Conv(1, 1, 2), Conv(1, 3)], 5),
    ],
)
def test_receptive_field_is_the_support_of_the_gradient(chain, field):
    def centre(x):
        for layer in chain:
            if isinstance(layer, Pool):
                x = layers.max_pool(x)
            else:
                kernel = {"params": {"kernel": jnp.ones((layer.size, layer.size, 1, 1))}}
                x = layers.Conv(1, layer.size, layer.stride).apply(kernel, x)
        return x[0, x.shape[1] // 2, x.shape[2] // 2, 0]

    seen = jax.grad(centre)(jnp.ones((1, 64, 64, 1)))[0, :, :, 0] != 0
    for line in (seen.any(0), seen.any(1)):
        inside = np.flatnonzero(line)
        assert inside[-1] - inside[0] + 1 == field
    assert receptive_field(chain) == field


@pytest.mark.parametrize(
    ("row", "name", "options"),
    [
        ("resnet18", "resnet", {"variant": 18}),
        ("resnext50_32x4d", "resnet", {"variant": "resnext50_32x4d"}),
        ("convnext_tiny", "convnext", {"variant": "tiny"}),
        ("vit_base_patch16_224", "vit", {"variant": "B/16", "pool": "token", "posemb": "learned", "scan": True}),
        ("mixer_b16_224", "mixer", {"variant": "B/16", "scan": True}),
        ("resmlp_12_224", "resmlp", {"variant": "S12", "scan": True}),
        ("gmlp_s16_224", "gmlp", {"variant": "S/16", "scan": True}),
        ("swin_tiny_patch4_window7_224", "swin", {"variant": "tiny"}),
        ("swinv2_tiny_window7_224", "swin_v2", {"variant": "tiny", "window": 7}),
    ],
)
def test_multiply_adds_of_published_models(row, name, options):
    """Counted elsewhere to four decimals of 1e9."""
    model = models.build(name, 1000, **options)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert macs(model.apply, variables, images) / 1e9 == pytest.approx(REFERENCE[row]["gmacs"], abs=5.1e-5)


def test_three_ways_of_counting_lenet_5():
    """416,520 multiply-adds; XLA counts each as two operations, and the biases, ReLUs and poolings too."""
    model = models.build("lenet", 10)
    image = jax.ShapeDtypeStruct((1, 32, 32, 1), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    listed = [Conv(6, 5), Pool(2, 2), Conv(16, 5), Pool(2, 2), Conv(120, 5), Dense(84), Dense(10)]
    rows = costs(listed, (32, 32, 1))
    kernels = [leaf.size for leaf in jax.tree.leaves(variables) if leaf.ndim > 1]
    assert sum(r.macs for r in rows) == macs(model.apply, variables, image) == 416_520
    assert sum(r.weights for r in rows) == sum(kernels)
    assert 1 < flops_of(jax.jit(model.apply).trace(variables, image)) / (2 * 416_520) < 1.04


def test_gradient_costs_twice_the_forward_pass():
    """A product with the transposed weights and one with the transposed inputs (Kaplan et al. 2020, sec. 2.1)."""
    x, w = jax.ShapeDtypeStruct((8, 32), jnp.float32), jax.ShapeDtypeStruct((32, 16), jnp.float32)
    forward = macs(jnp.matmul, x, w)
    both = macs(jax.grad(lambda x, w: jnp.square(x @ w).sum(), argnums=(0, 1)), x, w)
    assert (forward, both) == (8 * 32 * 16, 3 * forward)


def test_loops_and_branches():
    w = jax.ShapeDtypeStruct((8, 8), jnp.float32)

    def power(w):
        return jax.lax.scan(lambda x, _: (jax.checkpoint(jnp.matmul)(x, w), None), w, length=5)[0]

    assert macs(power, w) == 5 * 8**3
    assert macs(lambda w: jax.lax.cond(w[0, 0] > 0, lambda: w @ w @ w, lambda: w), w) == 2 * 8**3


@pytest.mark.parametrize(
    ("layer", "message"),
    [(Conv(8, 5), "does not fit on a map of 4x4"), (Conv(8, 3, groups=2), "groups must divide")],
)
def test_layers_that_do_not_fit(layer, message):
    with pytest.raises(UserError, match=message):
        costs([layer], (4, 4, 3))


def test_a_call_without_results_is_no_work():
    """As XLA's gradients of resizing leave behind."""

    def function(x):
        jax.jit(lambda x: ())(x)
        return x @ x

    assert macs(function, jax.ShapeDtypeStruct((3, 3), "float32")) == 27
