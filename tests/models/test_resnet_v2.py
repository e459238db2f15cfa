"""ResNet v2, Wide ResNet and BiT: pre-activation blocks and what the three set differently."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models import resnet_v2

BATCH_NORM = {"norm": "batch", "standardize": False}


def parameters(model, size=32):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))["params"]


def size_of(model):
    return sum(x.size for x in jax.tree.leaves(parameters(model)))


def test_pre_activation_block_adds_to_its_input(random_variables):
    """With the last kernel constant, weight standardisation makes it 0 and the branch silent."""
    layer = resnet_v2.PreActivationBlock(channels=32, stride=1)
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 128))
    params = random_variables(functools.partial(layer.init, train=False), x)["params"]
    assert "shortcut_conv" not in params
    params["conv3"]["kernel"] = np.ones_like(params["conv3"]["kernel"])
    np.testing.assert_allclose(layer.apply({"params": params}, x, train=False), x, atol=1e-5)


def test_bit_has_no_state(images):
    model = models.build("bit", 5, blocks=(1, 1), width=0.5)
    assert list(jax.eval_shape(model.init, jax.random.key(0), images)) == ["params"]


@pytest.mark.parametrize("variant", ["R50x1", "R101x3"])
def test_bit_variants(variant):
    model = models.build("bit", 10, variant=variant)
    out, variables = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), jnp.zeros((1, 224, 224, 3)))
    depth, factor = {"R50x1": (16, 1), "R101x3": (33, 3)}[variant]
    assert sum(len(v) for k, v in variables["params"].items() if k.startswith("stage")) == depth
    assert out[0].shape == (1, 2048 * factor)
    assert [s.shape[1] for s in out[1]["stages"]] == [56, 28, 14, 7]


def bit_for_cifar(images, params, blocks, channels):
    """An independent BiT at CIFAR size in NumPy-like steps: He et al. 2016b, fig. 4e, with the rule of the groups."""

    def conv(x, name, stride=1):
        kernel = name["kernel"]
        flat = kernel.reshape(-1, kernel.shape[-1])
        kernel = ((flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-10)).reshape(kernel.shape)
        pad = [(kernel.shape[0] // 2,) * 2] * 2
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), pad, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def norm_relu(x, name):
        b, h, w, c = x.shape
        grouped = np.asarray(x).reshape(b, h * w, min(32, c // 4), -1)
        mean, var = grouped.mean((1, 3), keepdims=True), grouped.var((1, 3), keepdims=True)
        x = ((grouped - mean) / np.sqrt(var + 1e-5)).reshape(x.shape)
        return np.maximum(x * name["scale"] + name["bias"], 0)

    x = conv(images, params["stem_conv"])
    for i, count in enumerate(blocks):
        for j in range(count):
            block = params[f"stage{i + 1}"][f"block{j + 1}"]
            stride = 2 if i and not j else 1
            y = norm_relu(x, block["norm1"])
            shortcut = conv(y, block["shortcut_conv"], stride) if "shortcut_conv" in block else x
            y = conv(norm_relu(conv(y, block["conv1"], stride), block["norm2"]), block["conv2"])
            x = shortcut + y
        assert x.shape[-1] == channels * 2**i
    return norm_relu(x, params["norm"]).mean((1, 2))


@pytest.mark.parametrize(("variant", "width", "blocks"), [("R8x1", 1, (1, 1, 1)), ("R20x1", 2, (3, 3, 3))])
def test_bit_for_cifar_keeps_the_form_of_the_paper(variant, width, blocks, random_variables):
    images = jax.random.normal(jax.random.key(0), (2, 12, 12, 3))
    model = models.build("bit", None, variant=variant, width=width)
    params = random_variables(model.init, images)["params"]
    features, _ = model.apply({"params": params}, images)
    with jax.default_matmul_precision("float32"):
        expected = bit_for_cifar(images, params, blocks, 16 * width)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("variant", "parameters"), [("R8x1", 77_850), ("R20x1", 272_282)])
def test_bit_for_cifar_has_the_parameters_of_its_layers(variant, parameters):
    """3x3 kernels as in ResNets for CIFAR, 2 c for each norm of c channels, and a projection at two stages."""
    blocks = (int(variant[1:-2]) - 2) // 6
    kernels = 9 * (3 * 16 + 16 * 16 * 2 * blocks)
    norms, channels = 0, 16
    for stage in (16, 32, 64):
        if stage > channels:
            kernels += channels * stage + 9 * (channels * stage + (2 * blocks - 1) * stage * stage)
        norms += 2 * (channels + stage) + (blocks - 1) * 4 * stage
        channels = stage
    assert kernels + norms + 2 * 64 + 64 * 10 + 10 == parameters
    model = models.build("bit", 10, variant=variant)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(x.size for x in jax.tree.leaves(shapes)) == parameters


@pytest.mark.parametrize("bottleneck", [False, True])
def test_silent_branches_pass_the_input_and_its_gradient_unchanged(bottleneck):
    """He et al. 2016b, eq. 4 and 5: no activation stands in the way of the identity."""
    layer = resnet_v2.PreActivationBlock(
        channels=4, stride=1, bottleneck=bottleneck, zero_init_residual=True, **BATCH_NORM
    )
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 16 if bottleneck else 4))
    variables = layer.init(jax.random.key(1), x, train=False)
    y, pull_back = jax.vjp(lambda x: layer.apply(variables, x, train=False), x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(pull_back(x)[0], x)


def test_a_block_that_changes_the_shape_projects_what_is_activated(random_variables):
    layer = resnet_v2.PreActivationBlock(channels=4, stride=2, bottleneck=False, **BATCH_NORM)
    x = -jnp.abs(jax.random.normal(jax.random.key(0), (1, 4, 4, 2)))
    variables = random_variables(functools.partial(layer.init, train=False), x)
    variables["params"]["norm1"]["bias"] = jnp.full(2, -100.0)  # ReLU closes, for branch and shortcut
    variables["params"]["norm2"]["bias"] = jnp.full(4, -100.0)
    assert not layer.apply(variables, x, train=False).any()


@pytest.mark.parametrize(("stride_in", "strides"), [("3x3", [1, 2, 1]), ("1x1", [2, 1, 1])])
def test_the_convolution_that_strides(stride_in, strides):
    layer = resnet_v2.PreActivationBlock(channels=4, stride=2, stride_in=stride_in)
    assert [stride for _, _, stride in layer._layers()] == strides


@pytest.mark.parametrize(("variant", "blocks", "channels"), [(110, 18, 64), (164, 18, 256), (1001, 111, 256)])
def test_cifar_variants(variant, blocks, channels):
    """Layers: the stem, two or three convolutions a block, and the head."""
    model = models.build("resnet_v2", None, variant=variant)
    assert model.blocks == (blocks,) * 3
    assert 2 + 3 * blocks * (3 if model.bottleneck else 2) == variant
    short = models.build("resnet_v2", None, variant=variant, blocks=(1, 1, 1))
    assert parameters(short)["norm"]["scale"].shape == (channels,)


def test_resnet_164_has_the_published_size():
    """He et al. 2016b, table 4: 1.7 million."""
    assert size_of(models.build("resnet_v2", 10, variant=164)) / 1e6 == pytest.approx(1.7, abs=0.05)


@pytest.mark.parametrize(("variant", "millions"), [("40-4", 8.9), ("16-8", 11.0), ("28-10", 36.5)])
def test_wide_resnets_have_the_published_size(variant, millions):
    """Zagoruyko and Komodakis 2016, table 4."""
    assert size_of(models.build("wide_resnet", 10, variant=variant)) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("option", ["dropout", "drop_path"])
def test_noise_of_a_wide_resnet_is_for_training_alone(images, random_variables, option):
    model, noisy = (models.build("wide_resnet", 5, variant="10-1", **o) for o in ({}, {option: 0.9}))
    variables = random_variables(model.init, images)
    apply = jax.jit(noisy.apply, static_argnames=("train", "mutable"))
    np.testing.assert_array_equal(apply(variables, images)[0], jax.jit(model.apply)(variables, images)[0])
    draws = [
        apply(variables, images, train=True, mutable=("batch_stats",), rngs={"dropout": jax.random.key(seed)})[0][0]
        for seed in range(3)
    ]
    assert np.ptp(draws, axis=0).max() > 0.01
