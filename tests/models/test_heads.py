"""Projection heads, and models with one."""

from functools import partial

import jax
import numpy as np
import pytest

from jaxvision import models, paths
from jaxvision.errors import UserError
from jaxvision.models.heads import Projected, Projection
from jaxvision.models.probe import Probed

FEATURES = jax.random.normal(jax.random.key(1), (8, 6))
IMAGES = jax.random.normal(jax.random.key(2), (4, 16, 16, 3))


def small(num_classes=None, **options):
    return models.build("nin", num_classes, blocks=3, width=0.05, **options)


def shapes(module, x):
    return jax.eval_shape(partial(module.init_with_output, train=False), jax.random.key(0), x)


@pytest.mark.parametrize(("layers", "widths"), [(0, []), (1, [3]), (2, [5, 3]), (3, [5, 5, 3])])
def test_layers_and_widths(layers, widths):
    head = Projection(layers, out=3, hidden=5)
    outputs, variables = shapes(head, FEATURES)
    assert [x.shape for x in outputs] == [(8, width) for width in widths]
    assert len(variables.get("params", {})) == 2 * layers  # a dense layer and its norm


def test_the_v1_head_is_written_out(random_variables):
    head = Projection(2, out=3)
    variables = random_variables(partial(head.init, train=False), FEATURES)
    outputs, _ = jax.jit(partial(head.apply, train=True, mutable=["batch_stats"]))(variables, FEATURES)
    params, x = variables["params"], np.asarray(FEATURES)
    normal = lambda x: (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    hidden = normal(x @ params["dense_0"]["kernel"]) * params["norm_0"]["scale"] + params["norm_0"]["bias"]
    hidden = np.maximum(hidden, 0)
    last = normal(hidden @ params["dense_1"]["kernel"]) * params["norm_1"]["scale"]
    np.testing.assert_allclose(outputs[0], hidden, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs[1], last, rtol=1e-4, atol=1e-5)
    assert sorted(paths.names(params)) == [
        "dense_0/kernel", "dense_1/kernel", "norm_0/bias", "norm_0/scale", "norm_1/scale"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "last"),
    [
        ({}, {"dense_1": {"kernel"}, "norm_1": {"scale"}}),
        ({"last_scale": False}, {"dense_1": {"kernel"}}),
        ({"last_norm": False}, {"dense_1": {"kernel", "bias"}}),
        ({"last_norm": False, "last_bias": False}, {"dense_1": {"kernel"}}),
    ],
)
def test_the_end_of_a_head(options, last):
    """With `last_scale=False` the last BatchNorm still normalises: it has statistics, but no parameters."""
    variables = shapes(Projection(2, out=3, hidden=5, **options), FEATURES)[1]
    params = {name: set(x) for name, x in variables["params"].items()}
    assert params == {"dense_0": {"kernel"}, "norm_0": {"scale", "bias"}, **last}
    assert ("norm_1" in variables["batch_stats"]) == options.get("last_norm", True)


def test_without_norm_the_hidden_layers_have_a_bias():
    params = shapes(Projection(2, out=3, norm=False), FEATURES)[1]["params"]
    assert sorted(paths.names(params)) == ["dense_0/bias", "dense_0/kernel", "dense_1/kernel"]


def test_a_projected_model_has_the_paths_of_its_backbone():
    _, projected = shapes(Projected(small(), Projection(2, out=3)), IMAGES)
    _, alone = shapes(small(), IMAGES)
    beside = [name for name in paths.names(projected) if "/projection/" in name]
    assert sorted(set(paths.names(projected)) - set(beside)) == sorted(paths.names(alone))
    assert len(beside) == 5 + 4  # two kernels, two scales, an offset; two means and variances


def test_the_first_layers_of_a_pretraining_head_give_the_features_of_fine_tuning(random_variables):
    pretraining = Projected(small(), Projection(3, out=3))
    variables = random_variables(pretraining.init, IMAGES)
    h, out = jax.jit(pretraining.apply)(variables, IMAGES)
    np.testing.assert_allclose(h, jax.jit(small().apply)(variables, IMAGES)[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(out["projection"], out["projections"][-1])

    tuned = small(num_classes=5, projection_layers=1)
    head = random_variables(tuned.init, IMAGES)["params"]["head"]
    features, tuned_out = jax.jit(tuned.apply)({**variables, "params": {**variables["params"], "head": head}}, IMAGES)
    np.testing.assert_allclose(features, out["projections"][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(tuned_out["logits"], features @ head["kernel"] + head["bias"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(tuned_out["backbone"], h, rtol=1e-5, atol=1e-6)


def test_a_transformer_takes_a_head_too():
    vit = models.build("vit", 5, variant="mu/8", depth=2, width=16, projection_layers=2, projection_hidden=7)
    (features, out), variables = shapes(vit, IMAGES)
    assert features.shape == (4, 7)
    assert out["logits"].shape == (4, 5)
    assert variables["params"].keys() == {"embedding", "encoder", "projection", "head"}


def test_a_probe_reads_a_model_with_a_head():
    module = Probed(small(projection_layers=1), "features", "linear", 5, 0)
    _, variables = shapes(module, IMAGES)
    assert variables["params"].keys() == {"stage1", "stage2", "stage3", "projection", "head"}


def test_a_number_of_layers_below_0_is_refused():
    with pytest.raises(UserError, match="projection_layers must be a whole number of at least 0, not -1"):
        small(projection_layers=-1)


def test_images_of_several_sizes_are_passes_of_one_network(random_variables):
    """Features of every size are those of its own pass, the head sees all of them at once, statistics move twice."""
    network, crops = Projected(small(), Projection(2, out=3)), (IMAGES, IMAGES[:, 4:12, 4:12])
    variables = random_variables(network.init, IMAGES)
    train = partial(network.apply, train=True, mutable=["batch_stats"])
    (features, out), updates = jax.jit(train)(variables, crops)
    passes, statistics = [], variables["batch_stats"]
    for images in crops:
        mine = {"params": variables["params"], "batch_stats": statistics}
        (h, inner), moved = jax.jit(partial(small().apply, train=True, mutable=["batch_stats"]))(mine, images)
        passes.append((h, inner))
        statistics = {**statistics, **moved["batch_stats"]}
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    close(features, np.concatenate([h for h, _ in passes]))
    head = {name: collection["projection"] for name, collection in variables.items()}
    close(out["projection"], network.projection.apply(head, features, True, mutable=["batch_stats"])[0][-1])
    statistics = {name: x for name, x in statistics.items() if name != "projection"}
    jax.tree.map(close, {name: updates["batch_stats"][name] for name in statistics}, statistics)
    for mine, theirs in zip(out["stages"], passes[0][1]["stages"], strict=True):
        close(mine, theirs)


def test_a_transformer_fits_its_positions_to_small_crops():
    crops = (IMAGES, IMAGES[:, :8, :8])
    vit = partial(models.build, "vit", variant="mu/4", depth=1, pool="token", posemb="learned")
    apply = lambda model: (
        lambda images: Projected(model, Projection(1, out=3)).init_with_output(jax.random.key(0), images)
    )
    (features, _), variables = jax.eval_shape(apply(vit(None, base_grid=4)), crops)
    assert features.shape == (8, 32)
    assert variables["params"]["pos_embedding"].shape == (1, 17, 32)
    with pytest.raises(UserError, match=r"cannot take images of 16x16 and 8x8: .* set model.base_grid"):
        jax.eval_shape(apply(vit(None)), crops)
    with pytest.raises(UserError, match="posemb 'sincos2d' fits every image, leave base_grid out"):
        vit(None, posemb="sincos2d", base_grid=4)
