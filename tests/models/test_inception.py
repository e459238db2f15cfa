"""Inception: the stem's cost as published, blocks written out, auxiliary classifiers, sizes of maps."""

from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.models.inception import AuxiliaryHead
from jaxvision.models.inception_blocks import Block, C, InceptionBlock, Lrn, Pool, chain, pool


def traced(name, size, num_classes=1000, **options):
    """Shapes of the parameters and of the intermediates, for one image."""
    model = models.build(name, num_classes, **options)
    images = jnp.zeros((1, size, size, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return variables["params"], jax.eval_shape(model.apply, variables, images)[1]


def leaves(params, name):
    return [x for path, x in jax.tree.leaves_with_path(params) if path[-1].key == name]


def test_the_stem_of_googlenet_costs_what_its_table_says():
    """Szegedy et al. 2015, table 1: 124,096 weights, 477.7 million multiply-adds, maps of 3136 and 2352 KiB."""
    params, out = traced("googlenet", 224, blocks=(1, 1, 1, 1))
    kernels = [x.shape for x in leaves({name: params[name] for name in ("stem_conv1", "stage1")}, "kernel")]
    assert sorted(map(prod, kernels)) == [4_096, 9_408, 110_592]
    assert sum(map(prod, kernels)) == 124_096
    assert (4 * out["stem"].size, 4 * out["stages"][0].size) == (3136 * 1024, 2352 * 1024)
    sides = {9_408: 112, 4_096: 56, 110_592: 56}
    assert sum(prod(k) * sides[prod(k)] ** 2 for k in kernels) / 1e6 == pytest.approx(477.7, abs=0.05)


def test_a_mean_over_the_map_stands_before_the_head(random_variables):
    """Lin et al. 2014, sec. 3.2: no weights between the map and the head, which has 1,025,000 for 1,000 classes."""
    model = models.build("googlenet", 3, blocks=(1,), width=1 / 16, dropout=0.0)
    images = jax.random.normal(jax.random.key(0), (2, 32, 40, 3))
    variables = random_variables(model.init, images)
    features, out = jax.jit(model.apply)(variables, images)
    np.testing.assert_allclose(features, np.mean(out["map"], axis=(1, 2)), rtol=1e-4, atol=1e-6)
    head = variables["params"]["head"]
    np.testing.assert_allclose(out["logits"], features @ head["kernel"] + head["bias"], rtol=1e-4, atol=1e-5)
    params, out = traced("googlenet", 224)
    assert out["map"].shape == (1, 7, 7, 1024)
    assert sum(x.size for x in params["head"].values()) == 1_025_000


def test_batch_normalised_inception_has_the_parameters_of_its_port():
    """11,295,240 with a bias under every BatchNorm, as in github.com/Cadene/pretrained-models.pytorch."""
    params, _ = traced("googlenet", 224, variant="v2")
    biases = sum(x.shape[-1] for x in leaves(params, "kernel") if x.ndim == 4)
    assert sum(x.size for x in jax.tree.leaves(params)) + biases == 11_295_240


@pytest.mark.parametrize(
    ("name", "variant", "size", "want"),
    [
        ("googlenet", "v2", 224, [(56, 192), (28, 320), (14, 608), (7, 1024)]),
        ("inception", "v3", 299, [(71, 192), (35, 288), (17, 768), (8, 2048)]),
    ],
)
def test_maps_of_the_papers(name, variant, size, want):
    _, out = traced(name, size, variant=variant)
    assert [(x.shape[1], x.shape[3]) for x in out["stages"]] == want
    assert out["blocks"][-1].shape == out["map"].shape


def write_out(p, stats, x):
    """A 1x1 unit in evaluation."""
    y = x @ p["conv"]["kernel"][0, 0]
    y = (y - stats["norm"]["mean"]) / np.sqrt(stats["norm"]["var"] + 1e-3)
    return np.maximum(y * p["norm"]["scale"] + p["norm"]["bias"], 0)


def test_block_equals_its_formula(random_variables):
    """Two branches, the second with a fork, and the residual sum of Inception-ResNet."""
    spec = Block(((C(3),), (C(4), (C(2), C(5)))), residual=0.17, relu=False)
    block = InceptionBlock(spec, width=1.0, epsilon=1e-3, dtype=jnp.float32)
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 4, 4, 6)))
    variables = random_variables(partial(block.init, train=False), x)
    p, stats = variables["params"], variables["batch_stats"]
    unit = lambda name, x: write_out(p[name], stats[name], x)
    inner = unit("branch2_1", x)
    y = np.concatenate([unit("branch1_1", x), unit("branch2_2a", inner), unit("branch2_2b", inner)], -1)
    y = x + 0.17 * (y @ p["project"]["kernel"][0, 0] + p["project"]["bias"])
    np.testing.assert_allclose(block.apply(variables, x, train=False), y, rtol=1e-4, atol=1e-5)
    with_relu = InceptionBlock(spec._replace(relu=True), width=1.0, epsilon=1e-3, dtype=jnp.float32)
    np.testing.assert_allclose(with_relu.apply(variables, x, train=False), np.maximum(y, 0), rtol=1e-4, atol=1e-5)


def test_without_batch_norm_there_are_biases():
    block = InceptionBlock(chain(Lrn(), C(4)), width=0.5, epsilon=None, dtype=jnp.float32)
    params = jax.eval_shape(partial(block.init, train=False), jax.random.key(0), jnp.zeros((1, 4, 4, 6)))["params"]
    assert jax.tree.map(lambda x: x.shape, params) == {"branch1_1": {"conv": {"kernel": (1, 1, 6, 2), "bias": (2,)}}}


def test_averages_count_the_padding_if_asked():
    x = jnp.ones((1, 3, 3, 1))
    assert pool(x, Pool("avg", padding=1)).ravel().tolist() == [1.0] * 9
    counted = pool(x, Pool("avg", counts_padding=True))[0, :, :, 0]
    np.testing.assert_allclose(counted, np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]]) / 9, rtol=1e-6)


def test_auxiliary_classifiers():
    _, out = traced("googlenet", 224, 10, aux=True)
    assert [x.shape for x in out["aux_logits"]] == [(1, 10), (1, 10)]
    params, out = traced("inception", 299, 10, aux=True)
    assert [x.shape for x in out["aux_logits"]] == [(1, 10)]
    assert params["aux1"]["unit2"]["conv"]["kernel"].shape == (5, 5, 128, 768)
    head = AuxiliaryHead(10, width=1.0, epsilon=1e-3, dtype=jnp.float32)
    with pytest.raises(UserError, match="at least 299x299"):
        jax.eval_shape(partial(head.init, train=False), jax.random.key(0), jnp.zeros((1, 16, 17, 4)))


@pytest.mark.parametrize(("name", "least"), [("googlenet", 32), ("inception", 75)])
def test_small_images_are_refused(name, least):
    blocks = (1, 1, 1, 1)
    with pytest.raises(UserError, match=f"at least {least}x{least} pixels"):
        traced(name, least - 1, 10, blocks=blocks)
    traced(name, least, 10, blocks=blocks)
