"""ResNet v1: blocks, options, and what BatchNorm does in training and in evaluation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models.layers import Conv
from jaxvision.models.resnet_blocks import ResNetBlock, SqueezeExcite


def block(**options):
    defaults = {"channels": 4, "stride": 1, "bottleneck": False, "shortcut": "B", "stride_in": "3x3"}
    return ResNetBlock(**defaults | {"zero_init_residual": True, "dtype": jnp.float32} | options)


def first_output(layer, x):
    """What a newly initialised block returns in training, and its variables."""
    return jax.jit(functools.partial(layer.init_with_output, train=True))(jax.random.key(1), x)


@pytest.mark.parametrize("bottleneck", [False, True])
def test_a_new_block_is_the_identity(bottleneck):
    layer = block(bottleneck=bottleneck)
    x = jnp.abs(jax.random.normal(jax.random.key(0), (2, 8, 8, 16 if bottleneck else 4)))
    np.testing.assert_array_equal(first_output(layer, x)[0], x)
    assert not np.allclose(first_output(block(bottleneck=bottleneck, zero_init_residual=False), x)[0], x)


def test_shortcut_a_subsamples_and_pads_channels():
    layer = block(channels=8, stride=2, shortcut="A")
    x = jnp.abs(jax.random.normal(jax.random.key(0), (2, 8, 8, 4)))
    y, variables = first_output(layer, x)
    np.testing.assert_array_equal(y, jnp.pad(x[:, ::2, ::2], [(0, 0)] * 3 + [(0, 4)]))
    assert not [name for name in variables["params"] if name.startswith("shortcut")]


@pytest.mark.parametrize(("stride_in", "strides"), [("3x3", [1, 2, 1]), ("1x1", [2, 1, 1])])
def test_the_convolution_that_strides(stride_in, strides):
    layers = block(bottleneck=True, stride=2, stride_in=stride_in)._layers()
    assert [stride for _, _, stride, _ in layers] == strides


@pytest.mark.parametrize("variant", [18, 50, 20])
def test_stages_at_usual_sizes(variant):
    model = models.build("resnet", None, variant=variant)
    x = jnp.zeros((1, 32, 32, 3) if variant == 20 else (1, 224, 224, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    features, out = jax.eval_shape(model.apply, variables, x)
    sizes, channels = {
        18: ([56, 28, 14, 7], [64, 128, 256, 512]),
        50: ([56, 28, 14, 7], [256, 512, 1024, 2048]),
        20: ([32, 16, 8], [16, 32, 64]),
    }[variant]
    assert [s.shape for s in out["stages"]] == [(1, n, n, c) for n, c in zip(sizes, channels)]
    assert features.shape == (1, channels[-1])
    assert "stage1/block1/conv1/kernel" in {
        jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in jax.tree.leaves_with_path(variables["params"])
    }


def test_width_multiplies_channels():
    model = models.build("resnet", 10, variant=20, width=2)
    features, _ = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x)[0], jnp.zeros((1, 32, 32, 3)))
    assert features.shape == (1, 128)


@pytest.fixture(scope="module")
def trained(images, random_variables):
    """A model, its variables, and what one training step makes of the statistics."""
    model = models.build("resnet", 5, variant=8)
    variables = random_variables(model.init, images)
    train = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
    (features, _), updated = train(variables, images)
    return model, variables, features, updated["batch_stats"]


def test_batch_norm_follows_the_batch_in_training(trained, images):
    _, variables, _, updated = trained
    kernel = variables["params"]["stem_conv"]["kernel"]
    x = np.asarray(Conv(16).apply({"params": {"kernel": kernel}}, images)).reshape(-1, 16)
    old, new = variables["batch_stats"]["stem_norm"], updated["stem_norm"]
    np.testing.assert_allclose(new["mean"], 0.9 * old["mean"] + 0.1 * x.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new["var"], 0.9 * old["var"] + 0.1 * x.var(0), rtol=1e-4, atol=1e-5)


def test_batch_norm_uses_what_it_kept_in_evaluation(trained, images):
    model, variables, trained_features, updated = trained
    evaluate = jax.jit(model.apply)
    before, _ = evaluate(variables, images)
    after, _ = evaluate({**variables, "batch_stats": updated}, images)
    assert not np.allclose(before, after)
    assert not np.allclose(after, trained_features)
    alone, _ = evaluate(variables, images[:1])
    np.testing.assert_allclose(alone, before[:1], rtol=1e-4, atol=1e-5)


def test_statistics_are_float32_under_bfloat16(images):
    model = models.build("resnet", 5, variant=8, dtype=jnp.bfloat16)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    train = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    _, updated = jax.eval_shape(train, variables, images)
    assert {x.dtype for x in jax.tree.leaves(updated)} == {jnp.dtype("float32")}


def count(layer, shape, select=""):
    """Parameters of a layer for inputs of `shape`, those whose path contains `select`."""
    x = jnp.zeros(shape)
    params = jax.eval_shape(functools.partial(layer.init, train=True), jax.random.key(0), x)["params"]
    return sum(x.size for p, x in jax.tree.leaves_with_path(params) if select in jax.tree_util.keystr(p))


def test_a_bottleneck_costs_17_18ths_of_two_3x3_convolutions():
    """Every kernel meets every pixel once, so kernel sizes stand for multiplications: 18 C^2 and 17 C^2 a pixel."""
    plain, bottleneck = count(block(), (1, 8, 8, 4), "kernel"), count(block(bottleneck=True), (1, 8, 8, 16), "kernel")
    assert (plain, bottleneck) == (18 * 4**2, 17 * 4**2)


@pytest.mark.parametrize(("channels", "stride", "want"), [(64, 1, 74_112), (128, 2, 230_272)])
def test_a_block_counts_as_d2ls(channels, stride, want):
    """d2l's residual block has a bias in every convolution, and no norm behind its projection."""
    convolutions, norms = (3, 1) if stride == 2 else (2, 0)
    got = count(block(channels=channels, stride=stride), (1, 8, 8, 64))
    assert got + convolutions * channels - norms * 2 * channels == want


@pytest.mark.parametrize(("groups", "width", "excess"), [(4, 24, 256), (32, 4, 512)])
def test_resnext_blocks_cost_about_what_bottlenecks_do(groups, width, excess):
    """Xie et al. 2017, table 2 and sec. 4: C = 64, cardinality and width at equal complexity."""
    grouped = block(channels=64, bottleneck=True, groups=groups, width_per_group=width)
    assert count(grouped, (1, 8, 8, 256), "kernel") == 17 * 64**2 + excess


def test_a_grouped_bottleneck_is_the_sum_of_its_paths(random_variables):
    """Xie et al. 2017, fig. 3: paths that are added up (a), paths side by side before one last convolution (b), and
    groups (c)."""
    groups, channels = 4, 8  # two inner channels a group
    layer = block(channels=channels, bottleneck=True, groups=groups, width_per_group=16)
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 4 * channels))
    params = random_variables(functools.partial(layer.init, train=False), x)["params"]
    kernels = [params[f"conv{i}"]["kernel"] for i in (1, 2, 3)]

    def inner(first, second, groups):
        y = Conv(first.shape[-1], 1).apply({"params": {"kernel": first}}, x)
        y = Conv(second.shape[-1], 3, groups=groups).apply({"params": {"kernel": second}}, jax.nn.relu(y))
        return jax.nn.relu(y)

    last = lambda y, kernel: Conv(4 * channels, 1).apply({"params": {"kernel": kernel}}, y)
    slices = [slice(2 * g, 2 * g + 2) for g in range(groups)]
    paths = [inner(kernels[0][..., s], kernels[1][..., s], 1) for s in slices]
    grouped = last(inner(kernels[0], kernels[1], groups), kernels[2])
    added = sum(last(path, kernels[2][:, :, s]) for path, s in zip(paths, slices))
    side_by_side = last(jnp.concatenate(paths, axis=-1), kernels[2])
    np.testing.assert_allclose(added, grouped, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(side_by_side, grouped, rtol=1e-4, atol=1e-5)


def test_squeeze_and_excitation_equals_its_equations(random_variables):
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 32)).astype(np.float32)
    layer = SqueezeExcite(reduction=16, dtype=jnp.float32)
    variables = random_variables(layer.init, x)
    fc1, fc2 = (variables["params"][name] for name in ("fc1", "fc2"))
    assert fc1["kernel"].shape == (32, 2)
    hidden = np.maximum(x.mean((1, 2)) @ fc1["kernel"] + fc1["bias"], 0)
    gate = 1 / (1 + np.exp(-(hidden @ fc2["kernel"] + fc2["bias"])))
    assert 0 < gate.min() < gate.max() < 1
    np.testing.assert_allclose(layer.apply(variables, x), x * gate[:, None, None], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shortcut", "projections"), [("A", 0), ("B", 2), ("C", 3), ("D", 2), ("none", 0)])
def test_blocks_that_project_their_shortcut(shortcut, projections):
    model = models.build("resnet", 10, variant=8, shortcut=shortcut)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"]
    names = [name for i in (1, 2, 3) for name in params[f"stage{i}"]["block1"]]
    assert names.count("shortcut_conv") == names.count("shortcut_norm") == projections


def test_a_plain_block_has_no_shortcut(random_variables):
    x = jnp.abs(jax.random.normal(jax.random.key(0), (2, 8, 8, 4)))
    residual, plain = (block(shortcut=s, zero_init_residual=False) for s in ("B", "none"))
    variables = random_variables(functools.partial(residual.init, train=False), x)
    variables["params"]["norm2"]["bias"] += 5.0  # keeps the last ReLU open
    difference = residual.apply(variables, x, train=False) - plain.apply(variables, x, train=False)
    np.testing.assert_allclose(difference, x, rtol=1e-4, atol=1e-5)


def test_a_plain_network_trains_from_the_start(images):
    """Zero scales would silence it, so they are the default of residual networks alone."""
    model = models.build("resnet", 10, variant=8, shortcut="none")
    variables = jax.jit(model.init)(jax.random.key(0), images)
    (features, _), _ = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))(variables, images)
    assert np.ptp(features) > 0.1


def test_shortcut_d_averages_before_it_projects(random_variables):
    layer = block(channels=8, stride=2, shortcut="D", zero_init_residual=True)
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 4))
    variables = random_variables(functools.partial(layer.init, train=False), x)
    variables["params"]["norm2"] = {"scale": jnp.zeros(8), "bias": jnp.zeros(8)}
    variables["params"]["shortcut_norm"] = {"scale": jnp.ones(8), "bias": jnp.zeros(8)}
    variables["batch_stats"]["shortcut_norm"] = {"mean": jnp.zeros(8), "var": jnp.ones(8) - 1e-5}
    pooled = np.asarray(x).reshape(2, 3, 2, 3, 2, 4).mean((2, 4))
    want = np.maximum(pooled @ variables["params"]["shortcut_conv"]["kernel"][0, 0], 0)
    np.testing.assert_allclose(layer.apply(variables, x, train=False), want, rtol=1e-4, atol=1e-5)


def test_variants_name_options():
    d = models.build("resnet", 10, variant="50", stem="deep", shortcut="D")
    assert models.build("resnet", 10, variant="50d") == d
    assert models.build("resnet", 10, variant="50d", shortcut="B").stem == "deep"
    assert models.build("resnet", 10, variant="resnext50_32x4d").groups == 32
    assert models.build("resnet", 10, variant=20, shortcut="B").stem == "cifar"


@pytest.mark.parametrize(("layers", "millions"), [(20, 0.27), (110, 1.7), (1202, 19.4)])
def test_cifar_networks_have_the_published_size(layers, millions):
    """He et al. 2016, table 6. Three stages of n blocks, so 6 n + 2 layers, and a count that is linear in n."""
    model = models.build("resnet", 10, variant=layers)
    n = (layers - 2) // 6
    assert model.blocks == (n, n, n)
    ends = [count(models.build("resnet", 10, variant=v), (1, 32, 32, 3)) for v in (8, 20)]
    slope = (ends[1] - ends[0]) / 2
    assert (ends[0] + slope * (n - 1)) / 1e6 == pytest.approx(millions, rel=0.02)


def test_stochastic_depth_drops_blocks_in_training_alone(images, random_variables):
    model, dropping = (models.build("resnet", 5, variant=8, drop_path=rate) for rate in (0.0, 0.9))
    variables = random_variables(model.init, images)
    apply = jax.jit(dropping.apply, static_argnames=("train", "mutable"))
    np.testing.assert_array_equal(apply(variables, images)[0], jax.jit(model.apply)(variables, images)[0])
    features = []
    for seed in range(2):
        key = jax.random.key(seed)
        (got, _), _ = apply(variables, images, train=True, mutable=("batch_stats",), rngs={"dropout": key})
        features.append(got)
    assert not np.allclose(*features)


def test_a_dropped_block_is_its_shortcut():
    layer = block(drop_path=0.999, zero_init_residual=False)
    x = jnp.abs(jax.random.normal(jax.random.key(0), (4, 8, 8, 4)))
    variables = layer.init(jax.random.key(1), x, train=False)
    y, _ = layer.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(2)})
    np.testing.assert_array_equal(y, x)


def test_features_in_bfloat16_are_the_mean_of_the_map(random_variables):
    model = models.build("resnet", 10, variant=8, width=0.5, dtype=jnp.bfloat16)
    images = jax.random.normal(jax.random.key(0), (8, 32, 32, 3))
    variables = random_variables(model.init, images)
    features, out = model.apply(variables, images)
    alone = jax.jit(lambda v, x: model.apply(v, x)[0])(variables, images)  # the map is not asked for, so it is fused
    np.testing.assert_allclose(features, out["map"].astype(jnp.float32).mean(axis=(1, 2)), rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(alone, features, rtol=5e-2, atol=5e-2)
