"""AlexNet, VGG, Inception, DenseNet, SENet and DarkNet against torchvision and timm, by way of their weights.

Run with torch 2.13.0 for CPUs, torchvision and timm on the path. None of them is needed otherwise.
"""

import math
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity_bounds import bound

from jaxvision import models
from jaxvision.models import weights
from jaxvision.models.weights import preprocessing, properties

pytestmark = pytest.mark.parity
HIDDEN = 64  # units of the hidden layers instead of 4096: a hundredth of the parameters
CASES = {  # library, its network and options, our model and options, side of the images
    "alexnet": ("torchvision", "alexnet", {}, "alexnet", {"hidden": HIDDEN}, 80),
    "vgg11_bn": ("torchvision", "vgg11_bn", {}, "vgg", {"variant": "11_bn", "hidden": HIDDEN}, 64),
    "vgg16": ("timm", "vgg16", {}, "vgg", {"variant": 16, "hidden": HIDDEN}, 32),
    "googlenet": ("torchvision", "googlenet", {"aux_logits": False}, "googlenet", {"variant": "v1_bn"}, 64),
    "inception_v3": ("timm", "inception_v3", {}, "inception", {}, 75),
    "inception_v3_torchvision": ("torchvision", "inception_v3", {"aux_logits": False}, "inception", {}, 75),
    "inception_v4": ("timm", "inception_v4", {}, "inception", {"variant": "v4"}, 75),
    "inception_resnet_v2": ("timm", "inception_resnet_v2", {}, "inception", {"variant": "resnet_v2"}, 75),
    "densenet121": ("torchvision", "densenet121", {}, "densenet", {}, 64),
    "densenet161": ("timm", "densenet161", {}, "densenet", {"variant": 161}, 64),
    "legacy_senet154": ("timm", "legacy_senet154", {}, "senet", {}, 64),
    "senet154": ("timm", "senet154", {}, "senet", {}, 64),
    "darknet53": ("timm", "darknet53", {}, "darknet", {}, 64),
}
SLOW = (  # some ten seconds each; `pytest -m "parity and slow" tests/parity/test_convnets.py`
    "vgg16",
    "inception_v3_torchvision",
    "inception_v4",
    "inception_resnet_v2",
    "densenet161",
    "legacy_senet154",
    "senet154",
)
# In training on three images: statistics of the batch. True for those that are slow.
TRAINED = {"vgg11_bn": True, "googlenet": False, "inception_v3": True, "densenet121": True, "darknet53": False}


def marked(cases):
    """Names of cases, those that are slow marked so."""
    return [pytest.param(case, marks=pytest.mark.slow if slow else ()) for case, slow in cases.items()]


def reference_of(torch, library, name, options):
    """A network of a library for 10 classes, AlexNet and VGG with small hidden layers."""
    linear, conv = torch.nn.Linear, torch.nn.Conv2d
    if library == "timm":
        import timm

        with torch.device("meta" if name.startswith("vgg") else "cpu"):
            model = timm.create_model(name, num_classes=10, **options)
        if name.startswith("vgg"):
            model.pre_logits.fc1, model.pre_logits.fc2 = conv(512, HIDDEN, 7), conv(HIDDEN, HIDDEN, 1)
            model.head.fc = linear(HIDDEN, 10)
            model.features.to_empty(device="cpu")
            initialised(torch, model.features)
        return model
    import torchvision

    with warnings.catch_warnings(), torch.device("meta" if re.match("alexnet|vgg", name) else "cpu"):
        warnings.simplefilter("ignore", FutureWarning)  # of GoogLeNet's and Inception's initial weights
        free = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        model = getattr(torchvision.models, name)(num_classes=10, **free, **options)
    if re.match("alexnet|vgg", name):
        places, inputs = {"a": ((1, 4, 6), 256 * 6 * 6), "v": ((0, 3, 6), 512 * 7 * 7)}[name[0]]
        shapes = ((inputs, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 10))
        for place, shape in zip(places, shapes):
            model.classifier[place] = linear(*shape)
        model.features.to_empty(device="cpu")
        initialised(torch, model.features)
    return model


def initialised(torch, features):
    """Layers that were made without memory, with torch's initial values."""
    for module in features.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


def ours_of(arrays, library, name_there, name, options, images, num_classes=10):
    """Our model with the file's properties, and its variables."""
    stated = properties.stated(arrays, library, name, name_there)
    model = models.build(name, num_classes, **properties.options({"name": name}, stated) | options)
    assert properties.differences(properties.computed(model), stated, options) == []
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return model, weights.import_weights(arrays, library, name, shapes).variables


def arrays_of(reference):
    return {key: value.numpy().copy() for key, value in reference.state_dict().items()}


def assert_close(got, want, tolerance):
    np.testing.assert_allclose(got, want, atol=tolerance * np.abs(want).max(), rtol=0)


@pytest.mark.parametrize("case", marked({case: case in SLOW for case in CASES}))
def test_weights_give_their_logits_and_go_back(torch, sensitive, case):
    library, name_there, their_options, name, options, size = CASES[case]
    reference = sensitive(reference_of(torch, library, name_there, their_options))
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        want = reference(images).numpy()
    x = jnp.asarray(images.permute(0, 2, 3, 1).numpy())
    arrays = arrays_of(reference)
    model, variables = ours_of(arrays, library, name_there, name, options, x)
    got = jax.jit(lambda v, x: model.apply(v, x)[1]["logits"])(variables, x)
    assert_close(got, want, bound(library, name))
    back = weights.export_weights(variables, library, name)
    state = {key: value for key, value in arrays.items() if not key.endswith("num_batches_tracked")}
    if case != "senet154":  # it is written in the names of the legacy network
        assert back.keys() == state.keys()
        assert all(np.array_equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize("case", marked(TRAINED))
def test_batch_norm_in_training(torch, sensitive, case):
    library, name_there, their_options, name, options, size = CASES[case]
    reference = reference_of(torch, library, name_there, their_options)
    for module in reference.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    images = torch.randn(3, 3, 128 if name == "inception" else size, 128 if name == "inception" else size)
    x = jnp.asarray(images.permute(0, 2, 3, 1).numpy())
    options = options | ({} if name in ("densenet", "darknet") else {"dropout": 0.0})
    model, variables = ours_of(arrays_of(reference), library, name_there, name, options, x)
    with torch.no_grad():
        want = reference.train()(images).numpy()
    got = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"])[0][1]["logits"])(variables, x)
    assert_close(got, want, 2e-3)  # deviations of few numbers


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_transformed_inputs_are_our_preprocessing(torch, sensitive, name):
    """The published weights take ImageNet's mean and std by way of `transform_input`; ours take images in [-1, 1]."""
    reference = reference_of(torch, "torchvision", name, {"aux_logits": False, "transform_input": True})
    reference = sensitive(reference)
    ours, size = {"googlenet": ("googlenet", 64), "inception_v3": ("inception", 75)}[name]
    images = torch.rand(1, 3, size, size)
    mean, std = (torch.tensor(preprocessing.IMAGENET[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        want = reference((images - mean) / std).numpy()
    look = preprocessing.preset("torchvision", ours)
    x = (jnp.asarray(images.permute(0, 2, 3, 1).numpy()) - jnp.array(look.mean)) / jnp.array(look.std)
    options = {"variant": "v1_bn"} if ours == "googlenet" else {}
    model, variables = ours_of(arrays_of(reference), "torchvision", name, ours, options, x)
    got = jax.jit(lambda v, x: model.apply(v, x)[1]["logits"])(variables, x)
    assert_close(got, want, bound("torchvision", ours))


@pytest.mark.slow  # a network of its own at 299 pixels
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_classifiers_equal_torchvisions(torch, sensitive, name):
    reference = sensitive(reference_of(torch, "torchvision", name, {"aux_logits": True}))
    ours, size = {"googlenet": ("googlenet", 96), "inception_v3": ("inception", 299)}[name]
    images = torch.randn(1, 3, size, size)
    with torch.no_grad():
        want = [x.numpy() for x in reference._forward(images) if x is not None]
        seen = {}
        for part in ("aux1", "aux2", "AuxLogits"):
            if hasattr(reference, part):
                keep = lambda module, args, out, part=part: seen.update({part: out.numpy()})
                getattr(reference, part).register_forward_hook(keep)
        reference.training = True  # of the network alone: its auxiliary classifiers run, BatchNorm and dropout do not
        reference._forward(images)
    x = jnp.asarray(images.permute(0, 2, 3, 1).numpy())
    options = {"aux": True} | ({"variant": "v1_bn"} if ours == "googlenet" else {})
    model, variables = ours_of(arrays_of(reference), "torchvision", name, ours, options, x)
    out = jax.jit(model.apply)(variables, x)[1]
    assert_close(out["logits"], want[0], bound("torchvision", ours))
    assert len(out["aux_logits"]) == len(seen)
    for got, expected in zip(out["aux_logits"], seen.values()):
        assert_close(got, expected, bound("torchvision", ours))


def test_published_files_of_densenet_have_older_names(torch):
    """torchvision renames them when it loads them."""
    import torchvision

    reference = torchvision.models.densenet121(num_classes=10)
    arrays = arrays_of(reference)
    older = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): x for key, x in arrays.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in older
    x = jnp.zeros((1, 32, 32, 3))
    _, wanted = ours_of(arrays, "torchvision", "densenet121", "densenet", {}, x)
    _, got = ours_of(older, "torchvision", "densenet121", "densenet", {}, x)
    jax.tree.map(np.testing.assert_array_equal, got, wanted)


@pytest.mark.parametrize("change", ["norm_epsilon", "slope"])
def test_a_wrong_property_is_seen(torch, sensitive, change):
    reference = sensitive(reference_of(torch, "timm", "darknet53", {}))
    images = torch.randn(1, 3, 32, 32)
    for module in reference.modules():
        if change == "norm_epsilon" and isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-6
    with torch.no_grad():
        want = reference(images).numpy()
    x = jnp.asarray(images.permute(0, 2, 3, 1).numpy())
    model, variables = ours_of(arrays_of(reference), "timm", "darknet53", "darknet", {}, x)
    model = model.clone(slope=0.1) if change == "slope" else model
    got = jax.jit(lambda v, x: model.apply(v, x)[1]["logits"])(variables, x)
    assert np.abs(np.asarray(got) - want).max() > 5 * bound("timm", "darknet") * np.abs(want).max()


def test_preprocessing_is_that_of_the_published_weights(torch):
    import timm
    import torchvision
    from timm.models import get_pretrained_cfg

    pattern = {"vgg": "vgg*", "densenet": "densenet[12]??", "inception": "inception_[vr]*", "darknet": "darknet53"}
    networks = {name: timm.list_models(of, pretrained=True) for name, of in pattern.items()}
    networks["senet"] = timm.list_models("*senet154", pretrained=True)
    for name, architectures in networks.items():
        assert architectures
        for architecture in architectures:
            theirs = get_pretrained_cfg(architecture)
            ours = {key: x.value for key, x in preprocessing.stated((), "timm", name, architecture).items()}
            assert (ours["mean"], ours["std"]) == (theirs.mean, theirs.std), architecture
            assert (ours["size"], ours["crop"]) == (theirs.input_size[-1], theirs.crop_pct), architecture
            assert ours["interpolation"] == theirs.interpolation, architecture
    for name in ("alexnet", "vgg", "densenet", "googlenet", "inception"):
        for network in (n for n in torchvision.models.list_models() if re.match(rf"{name}(?:[\d_]|$)", n)):
            for entry in torchvision.models.get_model_weights(network):
                theirs = entry.transforms()
                stated = preprocessing.stated((), "torchvision", name, f"{network}.{entry.name}")
                ours = preprocessing.make_preprocessing("torchvision", name, {k: x.value for k, x in stated.items()})
                assert (ours.size, math.floor(ours.size / ours.crop)) == (theirs.crop_size[0], theirs.resize_size[0])
                assert ours.interpolation == theirs.interpolation.value
                if name not in ("googlenet", "inception"):  # see the test of transformed inputs
                    assert (list(ours.mean), list(ours.std)) == (list(theirs.mean), list(theirs.std)), entry
