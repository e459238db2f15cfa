"""Class activation maps, and the gradient with respect to a layer inside of a model."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.explain import activation_maps, cut
from jaxvision.explain.base import Subject

IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 16, 16, 3)), jnp.float32)
TARGETS = jnp.array([1, 2])
# Each backbone with the submodule whose output is the layer, and how its output becomes the map.
BACKBONES = {
    "resnet": (dict(variant="8", width=0.25, head_init="normal"), "stages/1", "stage2"),
    "convnext": (dict(blocks=(1, 1), channels=16, patch=2), "stages/0", "stage1"),
    "vit": (dict(variant="mu/4", depth=2, pool="token", posemb="learned", head_init="normal"), "stages/0", "block_00"),
    "mixer": (
        dict(variant="S/4", depth=2, width=16, tokens_dim=8, channels_dim=16, head_init="normal"),
        "stages/0",
        "block_00",
    ),
}


def model_of(name, **more):
    options = {**BACKBONES[name][0], **more}
    known = models.NAMES.options(name) or {}
    module = models.build(name, 3, **{k: v for k, v in options.items() if k in known or k == "projection_layers"})
    variables = jax.jit(lambda: module.init(jax.random.key(0), IMAGES, train=False))()

    def outputs(variables, images):
        features, out = module.apply(variables, 2 * images - 1, train=False)
        return {"features": features, **out}

    return outputs, variables


def by_offset(outputs, variables, name, shape):
    """The gradient with respect to zeros that are added to the output of a submodule, by Linen's interceptors."""

    def shifted(offset):
        def interceptor(next_fun, args, kwargs, context):
            y = next_fun(*args, **kwargs)
            return y + offset if context.module.name == name and context.method_name == "__call__" else y

        with nn.intercept_methods(interceptor):
            out = outputs(variables, IMAGES)
        return jnp.take_along_axis(out["logits"], TARGETS[:, None], 1).sum()

    return jax.grad(shifted)(jnp.zeros(shape))


@pytest.mark.parametrize("name", BACKBONES)
def test_the_gradient_with_respect_to_a_stage_is_that_of_an_offset(name):
    outputs, variables = model_of(name)
    _, layer, submodule = BACKBONES[name]
    values, found = cut.layer_gradient(outputs, variables, IMAGES, TARGETS, layer)
    assert found.shape == values.shape
    b, h, w, d = found.shape
    assert np.abs(found).max() > 0
    tokens = {"vit": (b, 1 + h * w, d), "mixer": (b, h * w, d)}.get(name, found.shape)
    expected = by_offset(outputs, variables, submodule, tokens)
    if name in ("vit", "mixer"):
        expected = expected[:, -h * w :].reshape(found.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(values, outputs(variables, IMAGES)["stages"][int(layer[-1])], rtol=1e-4, atol=1e-5)


def test_a_mean_and_a_linear_classifier():
    outputs, variables = model_of("resnet")
    out = outputs(variables, IMAGES)
    head = variables["params"]["head"]
    maps = activation_maps.cam(outputs, variables, IMAGES, TARGETS)
    kernel = head["kernel"][:, TARGETS]  # d b
    np.testing.assert_allclose(maps, jnp.einsum("bhwd,db->bhw", out["map"], kernel), rtol=1e-4, atol=1e-6)
    logits = out["logits"][jnp.arange(2), TARGETS] - head["bias"][TARGETS]
    np.testing.assert_allclose(maps.mean((1, 2)), logits, rtol=1e-4, atol=1e-6)
    found = activation_maps.gradcam(outputs, variables, IMAGES, TARGETS)
    np.testing.assert_allclose(found, jax.nn.relu(maps) / maps[0].size, rtol=1e-4, atol=1e-7)


def test_a_projected_model_and_one_with_scanned_blocks():
    outputs, variables = model_of("resnet", projection_layers=1)
    assert activation_maps.gradcam(outputs, variables, IMAGES, TARGETS, "stages/2").shape == (2, 4, 4)
    outputs, variables = model_of("vit", scan=True, pool="gap")
    assert np.abs(cut.layer_gradient(outputs, variables, IMAGES, TARGETS, "map")[1]).max() > 0
    with pytest.raises(UserError, match="'stages/0'.*model.scan"):
        cut.layer_gradient(outputs, variables, IMAGES, TARGETS, "stages/0")


def test_what_is_refused():
    outputs, variables = model_of("vit")
    subject = Subject(outputs, variables, np.asarray(IMAGES), np.asarray(TARGETS))
    # Only the class token is read after the last block, so its patches change nothing.
    assert activation_maps.find_map(subject) == "stages/0"
    assert activation_maps.why_no_gradcam(subject) is None
    assert "'map': take 'stages/0'" in activation_maps.why_no_gradcam(subject, "map")
    assert "'map'" in activation_maps.why_no_cam(subject)
    with pytest.raises(UserError, match="unknown layer 'stages/7'"):
        activation_maps.why_no_gradcam(subject, "stages/7")
    with pytest.raises(UserError, match="'features' is no map"):
        activation_maps.why_no_gradcam(subject, "features")


def test_the_parts():
    outputs, variables = model_of("resnet")
    subject = Subject(outputs, variables, np.asarray(IMAGES), np.asarray(TARGETS), ("a", "b", "c"), batch=1)
    assert activation_maps.why_no_cam(subject) is None
    shown = activation_maps.explain_cam(subject)
    assert [row.name for row in shown.rows] == ["b", "c"]
    assert shown.summary.shape == (2, 4, 4)
    assert activation_maps.explain_gradcam(subject, layer="stages/1").summary.shape == (2, 8, 8)


def test_a_model_without_a_map_has_no_cam():
    module = models.build("mlp", 3, **models.NAMES.small("mlp"))
    images = np.zeros((1, 8, 8, 3), np.float32)
    variables = module.init(jax.random.key(0), images)
    subject = Subject(lambda v, x: module.apply(v, x)[1], variables, images, np.zeros(1, np.int32))
    assert activation_maps.why_no_cam(subject) == "this model returns no map"
