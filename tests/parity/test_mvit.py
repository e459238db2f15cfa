"""MViT v2 against timm, by way of its weights.

Run with torch 2.13.0 for CPUs and timm on the path. Neither is needed otherwise.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity_bounds import bound

from jaxvision import models
from jaxvision.models import weights
from jaxvision.models.weights import preprocessing, properties

pytestmark = pytest.mark.parity
TOLERANCE = bound("timm", "mvit_v2")
OPTIONS = {"blocks": (1, 1, 2), "channels": 16, "num_heads": 2}


def reference_of(torch, sensitive, size):
    """A network of timm with three stages: in the last one there are first fewer queries than keys."""
    from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg

    strides = ((1, 1), (2, 2), (2, 2))
    sizes = {"depths": OPTIONS["blocks"], "embed_dim": OPTIONS["channels"], "num_heads": OPTIONS["num_heads"]}
    reference = sensitive(MultiScaleVit(MultiScaleVitCfg(**sizes, stride_q=strides), img_size=size, num_classes=10))
    with torch.no_grad():
        for name, value in reference.named_parameters():
            if "rel_pos" in name:
                value.normal_(0, 0.5)
    return reference


def arrays_of(reference):
    return {key: value.numpy().copy() for key, value in reference.state_dict().items()}


def logits_of(arrays, options, images):
    x = jnp.asarray(images.permute(0, 2, 3, 1).numpy())
    model = models.build("mvit_v2", 10, **OPTIONS | options)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    variables = weights.import_weights(arrays, "timm", "mvit_v2", shapes).variables
    return np.asarray(jax.jit(lambda v, x: model.apply(v, x)[1]["logits"])(variables, x)), variables


def error(got, want):
    """The largest difference, as a part of the largest value."""
    return np.abs(got - want).max() / np.abs(want).max()


def test_weights_give_timms_logits_and_go_back_and_wrong_properties_are_seen(torch, sensitive):
    reference = reference_of(torch, sensitive, 64)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        want = reference(images).numpy()
    arrays = arrays_of(reference)
    stated = properties.stated(arrays, "timm", "mvit_v2", "mvitv2_tiny.fb_in1k")
    right = properties.options({"name": "mvit_v2"}, stated)
    assert right == {"norm_epsilon": 1e-6, "gelu": "exact", "key_stride": 4, "pretrained_size": 64}
    got, variables = logits_of(arrays, right, images)
    assert error(got, want) < TOLERANCE
    back = weights.export_weights(variables, "timm", "mvit_v2")
    assert back.keys() == arrays.keys()
    assert all(np.array_equal(back[key], x) for key, x in arrays.items())
    for wrong in ({"norm_epsilon": 1e-5}, {"gelu": "tanh"}, {"key_stride": 5}):
        computed = properties.computed(models.build("mvit_v2", 10, **OPTIONS | right | wrong))
        assert [d.name for d in properties.differences(computed, stated, right)] == list(wrong)
        assert error(logits_of(arrays, right | wrong, images)[0], want) > 5 * TOLERANCE, wrong


def test_positions_for_another_size_are_those_that_timm_interpolates(torch, sensitive):
    from timm.models.mvitv2 import checkpoint_filter_fn

    small, large = (reference_of(torch, sensitive, size) for size in (64, 96))
    arrays = arrays_of(small)
    large.load_state_dict(checkpoint_filter_fn(small.state_dict(), large))
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        want = large(images).numpy()
    got, _ = logits_of(arrays, {"pretrained_size": 64}, images)
    assert error(got, want) < TOLERANCE


def test_names_and_shapes_are_those_of_the_published_network(torch):
    import timm

    with torch.device("meta"):
        reference = timm.create_model("mvitv2_tiny")
    model = models.build("mvit_v2", 1000)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)
    ours = {key: x.shape for key, x in weights.export_weights(zeros, "timm", "mvit_v2").items()}
    assert ours == {key: tuple(x.shape) for key, x in reference.state_dict().items()}


def test_preprocessing_is_that_of_the_published_weights(torch):
    import timm
    from timm.models import get_pretrained_cfg

    names = timm.list_models("mvitv2_*", pretrained=True)
    assert "mvitv2_tiny.fb_in1k" in names
    for name in names:
        theirs = get_pretrained_cfg(name)
        ours = {key: x.value for key, x in preprocessing.stated((), "timm", "mvit_v2", name).items()}
        assert (ours["mean"], ours["std"]) == (theirs.mean, theirs.std), name
        assert (ours["size"], ours["crop"]) == (theirs.input_size[-1], theirs.crop_pct), name
        assert ours["interpolation"] == theirs.interpolation, name
