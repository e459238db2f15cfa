"""Receptive fields, against the formula for chains of layers, published ones, and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.analysis.accounting import Conv, Pool, receptive_field
from jaxvision.explain.base import layer, layers
from jaxvision.explain.receptive_fields import receptive_fields, sees_everything

CHAINS = [
    [Conv(2, 3), Conv(2, 3), Conv(2, 3)],
    [Conv(2, 5, 2, 2), Pool(3, 2, 1), Conv(2, 3, 1, 1)],
    [Conv(4, 4, 4), Conv(4, 3, 1, 1, groups=2), Pool(2, 2)],
]


def chain(layers):
    """Convolutions and max poolings in a row, with weights of 1."""

    def outputs(_, x):
        for size in layers:
            sides, strides = ((size.padding, size.padding),) * 2, (size.stride,) * 2
            if isinstance(size, Pool):
                x = nn.max_pool(x, (size.size,) * 2, strides, sides)
            else:
                kernel = jnp.ones((size.size, size.size, x.shape[-1] // size.groups, size.features))
                numbers = ("NHWC", "HWIO", "NHWC")
                x = jax.lax.conv_general_dilated(
                    x, kernel, strides, sides, dimension_numbers=numbers, feature_group_count=size.groups
                )
        return {"map": x}

    return outputs


@pytest.mark.parametrize("layers", CHAINS, ids=str)
def test_the_field_of_a_chain_is_that_of_the_formula(layers):
    """Every place of the map: its window begins at i * jump - padding, and is cut at the border of the image."""
    outputs, size = chain(layers), (24, 30)
    height, width, _ = jax.eval_shape(outputs, {}, jnp.zeros((1, *size, 3)))["map"].shape[1:]
    places = [(i, j, 1) for i in range(height) for j in range(width)]
    side, padding, jump = receptive_field(layers), 0, 1
    for one in layers:
        padding, jump = padding + one.padding * jump, jump * one.stride
    expected = [
        [max(i * jump - padding, 0), min(i * jump - padding + side, 24)]
        + [max(j * jump - padding, 0), min(j * jump - padding + side, 30)]
        for i, j, _ in places
    ]
    assert receptive_fields(outputs, {}, size, "map", places).tolist() == expected
    assert not sees_everything(outputs, {}, size, ["map"])["map"]


def test_dilation():
    """Three 3x3 kernels of dilation 1, 2 and 4 see 15x15 pixels (Yu and Koltun 2016, sec. 2)."""

    def outputs(_, x):
        for dilation in (1, 2, 4):
            kernel, numbers = jnp.ones((3, 3, x.shape[-1], 1)), ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", rhs_dilation=(dilation,) * 2, dimension_numbers=numbers
            )
        return {"map": x}

    found = receptive_fields(outputs, {}, (32, 32), "map", [(16, 10, 0), (0, 31, 0)])
    assert found.tolist() == [[9, 24, 3, 18], [0, 8, 24, 32]]


def test_the_field_belongs_to_the_unit_and_not_to_its_place():
    """Channels of an Inception block see windows of different sides; one may be padding only, and one a constant."""

    def outputs(_, x):
        wide = nn.max_pool(x, (5, 5), (1, 1), "SAME")
        outside = jnp.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]
        return {"map": jnp.stack([x[..., 0], wide[..., 0], outside[..., 0]], axis=-1)}

    found = receptive_fields(outputs, {}, (8, 8), "map", [(4, 4, 0), (4, 4, 1), (0, 4, 2), (1, 4, 2)])
    assert found.tolist() == [[4, 5, 4, 5], [2, 7, 2, 7], [0, 0, 0, 0], [0, 1, 4, 5]]


def test_nan_passes_a_relu_before_a_sum():
    """In one loop of XLA's CPU backend it does not, from a few hundred numbers on."""
    outputs = lambda _, x: {"map": nn.avg_pool(nn.relu(jnp.tile(x, (1, 1, 1, 6))), (2, 2), (2, 2))}
    assert receptive_fields(outputs, {}, (32, 32), "map", [(3, 8, 0)]).tolist() == [[6, 8, 16, 18]]
    summed = lambda _, x: {"map": nn.relu(jnp.tile(x, (1, 1, 1, 6))).sum((1, 2), keepdims=True)}
    assert receptive_fields(summed, {}, (32, 32), "map", [(0, 0, 0)]).tolist() == [[0, 32, 0, 32]]


def built(name, side, **options):
    model = models.build(name, num_classes=None, **options)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, side, side, 3)), train=False))
    # Numbers do not matter, because 0 times NaN is NaN; zeros are quick to make.
    variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variables)
    return lambda variables, x: model.apply(variables, x, train=False)[1], variables


@pytest.mark.parametrize(
    ("name", "options", "side", "fields"),
    [
        # Up to the first and the fourth max pooling of VGG-16, and stages of ResNet-18: Araujo et al. 2019, eq. 2.
        (
            "vgg",
            dict(variant="16", width=1 / 32),
            128,
            {"stages/0": 6, "stages/3": 100},
        ),
        ("resnet", dict(variant="18", width=1 / 32), 128, {"stages/0": 43, "stages/1": 99}),
    ],
)
def test_published_networks(name, options, side, fields):
    outputs, variables = built(name, side, **options)
    shapes = jax.eval_shape(outputs, variables, jnp.zeros((1, side, side, 3)))["stages"]
    for stage, field in fields.items():
        middle = shapes[int(stage[-1])].shape[1] // 2
        ((top, bottom, left, right),) = receptive_fields(
            outputs, variables, (side, side), stage, [(middle, middle, 0)], batch=4
        )
        assert (bottom - top, right - left) == (field, field)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(models.NAMES))
def test_no_layer_of_any_model_swallows_nan(name, random_variables):
    """The field holds every pixel with respect to which the unit has a gradient, in the last map of each stage."""
    side = models.NAMES.more(models.NAMES[name], "image_size", 32)
    model = models.build(name, 5, **models.NAMES.small(name))
    images = jax.random.uniform(jax.random.key(0), (1, side, side, 3))
    variables = random_variables(model.init, images)
    outputs = lambda variables, x: model.apply(variables, x, train=False)[1]
    maps = {key: x for key, x in named(jax.jit(outputs)(variables, images)).items() if x.ndim == 4}
    # The strongest response: it is past a ReLU.
    units = {key: np.unravel_index(int(x[0].argmax()), x.shape[1:]) for key, x in maps.items()}

    def score(x):
        out = named(outputs(variables, x))
        return {key: out[key][0][unit] for key, unit in units.items()}

    gradients = jax.jit(jax.jacrev(score))(images) if maps else {}
    for key, gradient in gradients.items():
        ((top, bottom, left, right),) = receptive_fields(outputs, variables, (side, side), key, [units[key]], batch=4)
        rows, columns = np.nonzero(np.asarray(gradient[0] != 0).any(axis=-1))
        assert top <= rows.min() <= rows.max() < bottom
        assert left <= columns.min() <= columns.max() < right


def named(out):
    return {key: layer(out, key) for key in layers(out)}
