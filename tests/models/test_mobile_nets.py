"""MobileNet and EfficientNet: multiply-adds, the rounding of channels, scaling, and what their options change."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.analysis.accounting import macs
from jaxvision.models import efficientnet, inverted_residual
from jaxvision.models.layers import Conv
from jaxvision.models.shufflenet import channel_shuffle


def traced(name, size=224, **options):
    """Parameters, features and `out`, as shapes."""
    model = models.build(name, 10, **options)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return variables["params"], *jax.eval_shape(model.apply, variables, images)


@pytest.mark.slow  # pytest -m slow tests/models/test_mobile_nets.py
@pytest.mark.parametrize("row", [*(f"efficientnet_b{i}" for i in range(2, 8)), "tf_efficientnet_l2"])
def test_multiply_adds_of_the_largest(row, reference):
    model = models.build("efficientnet", 1000, variant=row.split("_")[-1].upper())
    images = jax.ShapeDtypeStruct((1, reference[row]["input"], reference[row]["input"], 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    counted = macs(lambda v, x: model.apply(v, x)[1]["logits"], variables, images)
    assert counted / 1e9 == pytest.approx(reference[row]["gmacs"], abs=5.1e-5)


@pytest.mark.parametrize(("channels", "ratio"), [(512, 0.11306), (64, 0.12674)])
def test_a_separable_convolution_costs_a_part_of_a_dense_one(channels, ratio):
    """1 / N + 1 / 9 of its multiply-adds: Howard et al. 2017, sec. 3.1."""
    images = jax.ShapeDtypeStruct((1, 14, 14, channels), jnp.float32)
    block = inverted_residual.InvertedResidual(
        inverted_residual.Block(channels, residual=False), inverted_residual.Style()
    )

    def cost(module, *args):
        variables = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, *args), images)
        return macs(lambda v, x: module.apply(v, x, *args), variables, images)

    assert cost(block, 0.0, False) / cost(Conv(channels, 3)) == 1 / channels + 1 / 9
    assert 1 / channels + 1 / 9 == pytest.approx(ratio, abs=5e-6)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("mobilenet_v1", (64, 128, 256, 512, 1024)),
        ("mobilenet_v2", (16, 24, 32, 96, 1280)),
        ("mobilenet_v3", (16, 24, 40, 112, 960)),
        ("efficientnet", (16, 24, 40, 112, 1280)),
    ],
)
def test_there_is_a_map_of_each_stride(name, channels):
    _, features, out = traced(name)
    assert [stage.shape[1:] for stage in out["stages"]] == [
        (size, size, c) for size, c in zip((112, 56, 28, 14, 7), channels)
    ]
    assert features.shape == (1, 1280 if name == "mobilenet_v3" else channels[-1])


def test_compound_scaling_doubles_the_cost():
    """Tan & Le 2019, eq. 3: depth * width ** 2 * resolution ** 2, 1.92 for a step of phi."""
    depth, width, size = efficientnet.compound(1)
    assert depth * width**2 * size**2 == pytest.approx(1.92027, abs=5e-6)
    assert efficientnet.compound(0) == (1, 1, 1)
    assert math.prod(efficientnet.compound(3)) == pytest.approx(math.prod(efficientnet.compound(1)) ** 3)


def test_channels_and_blocks_are_rounded_as_by_the_authors():
    """`round_filters` rounds to multiples of 8, never below 90 %; `round_repeats` rounds up."""
    module = models.build("efficientnet", 10, variant="L2")
    assert (module.stem, module.last) == (136, 5504)
    assert [len(stage) for stage in module.stages] == [6, 11, 11, 16, 16, 22, 6]
    assert [stage[0].channels for stage in module.stages] == [72, 104, 176, 344, 480, 824, 1376]
    assert inverted_residual.round_channels(11) == 16  # 8 is less than 90 % of 11
    assert inverted_residual.round_channels(3) == 8


def test_the_widest_convolution_of_mobilenet_v2_is_not_narrowed():
    assert models.build("mobilenet_v2", 10, width=0.5).last == 1280
    assert models.build("mobilenet_v2", 10, width=1.4).last == 1792


def test_a_stage_of_more_blocks_repeats_the_last_without_its_stride():
    module = models.build("mobilenet_v3", 10, blocks=(1, 3))
    assert [(block.expansion, block.stride) for block in module.stages[1]] == [(4, 2), (3, 1), (3, 1)]


def test_small_images_keep_their_size_in_the_stem():
    _, _, out = traced("mobilenet_v2", 32, stem_stride=1, blocks=(1, 1), last=8)
    assert [stage.shape[1:] for stage in out["stages"]] == [(32, 32, 16), (16, 16, 8)]


@pytest.mark.parametrize("options", [{"padding": "SAME"}, {"norm_epsilon": 1e-1}])
def test_padding_and_epsilon_change_what_is_computed(options, random_variables, images):
    small = models.NAMES.small("efficientnet")
    variables = random_variables(models.build("efficientnet", 5, **small).init, images)
    plain, other = (
        jax.jit(models.build("efficientnet", 5, **small, **rest).apply)(variables, images)[0] for rest in ({}, options)
    )
    assert np.abs(plain - other).max() > 1e-3 * np.abs(plain).max()


def test_momentum_is_the_share_of_the_old_statistics(images):
    model = models.build("mobilenet_v1", 5, blocks=(1,), width=0.25, norm_momentum=0.75)
    variables = model.init(jax.random.key(0), images)
    _, state = model.apply(variables, images, train=True, mutable=["batch_stats"])
    before = Conv(8, 3, 2).apply({"params": variables["params"]["stem_conv"]}, images)
    np.testing.assert_allclose(
        state["batch_stats"]["stem_norm"]["mean"], 0.25 * before.mean((0, 1, 2)), rtol=1e-4, atol=1e-6
    )


def test_stochastic_depth_and_dropout_draw_numbers_in_training(images):
    model = models.build("mobilenet_v2", 5, blocks=(1, 2), width=0.25, last=16, drop_path=0.9, dropout=0.5)
    variables = model.init(jax.random.key(0), images)

    def logits(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(variables, images, train=True, rngs=rngs, mutable=["batch_stats"])[0][1]["logits"]

    assert np.abs(logits(0) - logits(1)).max() > 0
    np.testing.assert_array_equal(logits(2), logits(2))


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 12])
def test_a_shuffle_with_c_over_g_groups_undoes_one_with_g(groups):
    x = np.arange(24).reshape(2, 12)
    shuffled = channel_shuffle(jnp.asarray(x), groups)
    np.testing.assert_array_equal(shuffled[1], [12 + 12 // groups * (i % groups) + i // groups for i in range(12)])
    np.testing.assert_array_equal(channel_shuffle(shuffled, 12 // groups), x)


def test_shufflenets_have_the_maps_of_the_papers():
    """Zhang et al. 2018, table 1; Ma et al. 2018, table 5."""
    for name, channels in {"shufflenet": (240, 480, 960), "shufflenet_v2": (116, 232, 1024)}.items():
        _, features, out = traced(name)
        assert out["stem"].shape == (1, 56, 56, 24)
        assert [stage.shape[1:] for stage in out["stages"]] == [
            (28, 28, channels[0]),
            (14, 14, channels[1]),
            (7, 7, channels[2]),
        ]
        assert features.shape == (1, channels[2])
