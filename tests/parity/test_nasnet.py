"""NASNet-A against timm's nasnetalarge, by way of its weights.

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
TOLERANCE = bound("timm", "nasnet")  # of the largest number
SMALL = {"channels": 8, "stem": 8}


def reference_of(torch):
    """timm's network with 8 channels instead of 168, and statistics of images in its BatchNorms."""
    from timm.models.nasnet import NASNetALarge

    reference = NASNetALarge(num_classes=10, stem_size=SMALL["stem"], num_features=24 * SMALL["channels"])
    with torch.no_grad():
        for module in reference.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.normal_(1, 0.2)
                module.bias.normal_(0, 0.2)
                module.momentum = None  # the mean over the calls
        reference.train()(torch.randn(4, 3, 96, 96))
    return reference.eval()


def assert_close(got, want, tolerance=TOLERANCE):
    want = want.numpy().transpose(0, 2, 3, 1) if want.ndim == 4 else want.numpy()
    np.testing.assert_allclose(got, want, atol=tolerance * np.abs(want).max(), rtol=0)


def outputs_of(arrays, classes, options, images):
    x = jnp.asarray(images.permute(0, 2, 3, 1).numpy())
    stated = properties.stated(arrays, "timm", "nasnet", "nasnetalarge.tf_in1k")
    right = properties.options({"name": "nasnet"}, stated)
    assert right == {"counts_padding": True, "skip": True}
    model = models.build("nasnet", classes, **SMALL | right | options)
    if not options.keys() & right.keys():
        assert properties.differences(properties.computed(model), stated, right) == []
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    variables = weights.import_weights(arrays, "timm", "nasnet", shapes).variables
    return jax.jit(model.apply)(variables, x)[1], variables


def test_cells_of_every_kind_give_timms_maps(torch):
    """The stem, two cells at 1/8, the reduction and the cell behind it: in a short form of the network."""
    reference = reference_of(torch)
    images = torch.randn(2, 3, 61, 64)
    with torch.no_grad():
        stem = reference.conv0(images)
        first = reference.cell_stem_0(stem)
        second = reference.cell_stem_1(stem, first)
        a = reference.cell_0(second, first)
        b = reference.cell_1(a, second)
        third = reference.reduction_cell_0(b, a)
        c = reference.cell_6(third, a)
    kept = ("conv0.", "cell_stem_", "cell_0.", "cell_1.", "reduction_cell_0.", "cell_6.")
    arrays = {k: v.numpy() for k, v in reference.state_dict().items() if k.startswith(kept)}
    out, variables = outputs_of(arrays, None, {"blocks": (2, 1)}, images)
    assert_close(out["stem"], stem)
    for got, want in zip(out["blocks"], (first, second, a, b, third, c), strict=True):
        assert_close(got, want)
    back = weights.export_weights(variables, "timm", "nasnet")
    assert back.keys() == {key for key in arrays if not key.endswith("num_batches_tracked")}
    assert all(np.array_equal(x, arrays[key]) for key, x in back.items())
    for wrong in ({"counts_padding": False}, {"skip": False}):
        other, _ = outputs_of(arrays, None, {"blocks": (2, 1)} | wrong, images)
        difference = np.abs(other["blocks"][-1] - out["blocks"][-1]).max()
        assert difference > 5 * TOLERANCE * np.abs(out["blocks"][-1]).max(), wrong


@pytest.mark.slow  # a minute to compile 20 cells; `pytest -m "parity and slow" tests/parity/test_nasnet.py`
def test_the_whole_network_gives_timms_logits(torch):
    reference = reference_of(torch)
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        want = reference(images)
    out, _ = outputs_of({k: v.numpy() for k, v in reference.state_dict().items()}, 10, {}, images)
    assert_close(out["logits"], want, 5e-5)  # rounding errors of 20 cells: 2e-5


@pytest.mark.slow  # 88 million parameters
def test_names_and_shapes_are_those_of_the_published_network(torch):
    import timm

    with torch.device("meta"):
        reference = timm.create_model("nasnetalarge")
    model = models.build("nasnet", 1000)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 331, 331, 3)))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)
    ours = {key: x.shape for key, x in weights.export_weights(zeros, "timm", "nasnet").items()}
    theirs = {key: tuple(x.shape) for key, x in reference.state_dict().items()}
    assert ours == {key: shape for key, shape in theirs.items() if not key.endswith("num_batches_tracked")}


def test_preprocessing_is_that_of_the_published_weights(torch):
    from timm.models import get_pretrained_cfg

    theirs = get_pretrained_cfg("nasnetalarge.tf_in1k")
    ours = {k: x.value for k, x in preprocessing.stated((), "timm", "nasnet", "nasnetalarge.tf_in1k").items()}
    assert (ours["mean"], ours["std"]) == (theirs.mean, theirs.std)
    assert (ours["size"], ours["crop"]) == (theirs.input_size[-1], theirs.crop_pct)
    assert ours["interpolation"] == theirs.interpolation
