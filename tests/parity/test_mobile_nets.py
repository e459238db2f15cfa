"""MobileNet v1 to v3, EfficientNet and ShuffleNet against timm and torchvision, by way of their weights.

Run with torch 2.13.0 for CPUs, torchvision and timm on the path. None of them is needed otherwise.
"""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity_bounds import bound

from jaxvision import models
from jaxvision.models import weights
from jaxvision.models.weights import preprocessing, properties

pytestmark = pytest.mark.parity
OF_MAPS = 1e-4  # of the largest number of the last map; rounding shows more than in its mean
SIDE = 72  # maps of 36, 18, 9, 5 and 3 pixels: strides of even and of odd sides, where paddings differ and are equal
CASES = {  # library, our model and options
    "mobilenetv1_100": ("timm", "mobilenet_v1", {}),
    "mobilenetv2_035": ("timm", "mobilenet_v2", {}),
    "mobilenetv3_large_075": ("timm", "mobilenet_v3", {}),
    "tf_mobilenetv3_small_075": ("timm", "mobilenet_v3", {"variant": "small"}),
    "efficientnet_b0": ("timm", "efficientnet", {}),
    "tf_efficientnet_b1": ("timm", "efficientnet", {"variant": "B1"}),
    "mobilenet_v2": ("torchvision", "mobilenet_v2", {}),
    "mobilenet_v3_large": ("torchvision", "mobilenet_v3", {}),
    "mobilenet_v3_small": ("torchvision", "mobilenet_v3", {"variant": "small"}),
    "efficientnet_b1": ("torchvision", "efficientnet", {"variant": "B1"}),
    "efficientnet_b5": ("torchvision", "efficientnet", {"variant": "B5"}),
    "shufflenet_v2_x0_5": ("torchvision", "shufflenet_v2", {"variant": "0.5"}),
}
SLOW = (  # ten seconds each and more; `pytest -m "parity and slow" tests/parity/test_mobile_nets.py`
    "mobilenetv3_large_075",
    "tf_efficientnet_b1",
    "mobilenet_v3_large",
    "efficientnet_b1",
    "efficientnet_b5",
)
WRONG = {  # properties that no array shows, each with another value
    "mobilenetv1_100": [{"padding": "SAME"}],
    "mobilenetv2_035": [{"norm_epsilon": 1e-3}],
    "tf_mobilenetv3_small_075": [{"norm_epsilon": 1e-5}, {"padding": "both sides"}],
}


def reference_of(library, name):
    """A network of a library for 10 classes."""
    import timm
    import torchvision

    make = timm.create_model if library == "timm" else torchvision.models.get_model
    return make(name, num_classes=10)


def lively(torch, reference, images):
    """The network in evaluation, with random weights and statistics with which its logits depend on the images.

    Statistics near those of the images keep the signal alive through fifty layers; variances are near 1e-2, where an
    epsilon shows.
    """
    with torch.no_grad():
        for module in reference.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.normal_(1, 0.2)
                module.bias.normal_(0.2, 0.3)
                module.momentum = None  # the statistics become those of the batch
                module.reset_running_stats()
            elif isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
                scale = 0.1 if module.bias is None else 1.0
                module.weight.normal_(0, scale / math.sqrt(module.weight[0].numel()))
                if module.bias is not None:
                    module.bias.normal_(0, 0.5)
        reference.train()(images)
        for name, value in reference.state_dict().items():
            if name.endswith("running_var"):
                value *= 0.9 + 0.2 * torch.rand_like(value)  # more would grow from layer to layer
            elif name.endswith("running_mean"):
                value += 0.003 * torch.randn_like(value)
    return reference.eval()


def arrays_of(reference):
    return {key: value.numpy().copy() for key, value in reference.state_dict().items()}


def pixels(images):
    return jnp.asarray(images.permute(0, 2, 3, 1).numpy())


def outputs_of(arrays, library, name, options, x, **rest):
    """Our features and `out`, and the variables."""
    model = models.build(name, 10, **options)
    variables = weights.import_weights(
        arrays, library, name, jax.eval_shape(model.init, jax.random.key(0), x)
    ).variables
    return jax.jit(lambda v, x: model.apply(v, x, **rest))(variables, x), variables


def error(got, want):
    """The largest difference, as a part of the largest value."""
    return np.abs(np.asarray(got) - want).max() / np.abs(want).max()


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow if c in SLOW else ()) for c in CASES])
def test_weights_give_their_logits_and_go_back(torch, case):
    library, name, size = CASES[case]
    images = torch.randn(2, 3, SIDE, SIDE)
    reference = lively(torch, reference_of(library, case), images)
    with torch.no_grad():
        want = reference(images).numpy()
        maps = reference.forward_features(images).permute(0, 2, 3, 1).numpy() if library == "timm" else None
    assert np.abs(want[0] - want[1]).max() > 0.1 * np.abs(want).max()  # the logits depend on the images
    arrays = arrays_of(reference)
    stated = properties.stated(arrays, library, name, case)
    right = properties.options({"name": name}, stated) | size
    assert properties.differences(properties.computed(models.build(name, 10, **right)), stated, right) == []
    (_, out), variables = outputs_of(arrays, library, name, right, pixels(images))
    assert error(out["logits"], want) < bound(library, name)  # of the largest logit
    assert maps is None or error(out["map"], maps) < OF_MAPS
    back = weights.export_weights(variables, library, name)
    state = {key: value for key, value in arrays.items() if not key.endswith("num_batches_tracked")}
    assert back.keys() == state.keys()
    assert all(np.array_equal(back[key], state[key]) for key in state)
    for options in WRONG.get(case, ()):
        wrong = properties.computed(models.build(name, 10, **right | options))
        assert [d.name for d in properties.differences(wrong, stated, right)] == list(options)
        (_, out), _ = outputs_of(arrays, library, name, right | options, pixels(images))
        assert error(out["logits"], want) > 5 * bound(library, name), options


@pytest.mark.parametrize("case", ["mobilenetv2_035", "shufflenet_v2_x0_5"])
def test_batch_norm_in_training(torch, case):
    library, name, size = CASES[case]
    reference = reference_of(library, case)
    for module in reference.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    images = torch.randn(4, 3, 64, 64)
    arrays = arrays_of(reference)
    options = properties.options({"name": name}, properties.stated(arrays, library, name, case)) | size
    with torch.no_grad():
        want = reference.train()(images).numpy()
    ((_, out), _), _ = outputs_of(arrays, library, name, options, pixels(images), train=True, mutable=["batch_stats"])
    assert error(out["logits"], want) < 2e-3  # deviations of few numbers


def shufflenet_v1(torch, stem, channels, blocks, groups):
    """One stage of ShuffleNet, written from Zhang et al. 2018, sec. 3.2, fig. 2 and table 1."""
    nn = torch.nn

    class Unit(nn.Module):
        def __init__(self, inputs, outputs, stride, first):
            super().__init__()
            inside = outputs // 4
            self.stride = stride
            self.reduce = nn.Conv2d(inputs, inside, 1, groups=1 if first else groups, bias=False)
            self.norm1 = nn.BatchNorm2d(inside)
            self.depthwise = nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False)
            self.norm2 = nn.BatchNorm2d(inside)
            behind = outputs - inputs if stride == 2 else outputs
            self.expand = nn.Conv2d(inside, behind, 1, groups=groups, bias=False)
            self.norm3 = nn.BatchNorm2d(behind)

        def forward(self, x):
            y = torch.relu(self.norm1(self.reduce(x)))
            b, c, h, w = y.shape  # groups x channels, transposed and flattened: sec. 3.1
            y = y.reshape(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)
            y = self.norm3(self.expand(self.norm2(self.depthwise(y))))
            if self.stride == 1:
                return torch.relu(x + y)
            pooled = nn.functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
            return torch.relu(torch.cat([pooled, y], 1))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem_conv, self.stem_norm = nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem)
            units = [Unit(stem, channels, 2, True), *[Unit(channels, channels, 1, False) for _ in range(blocks - 1)]]
            self.stage = nn.Sequential(*units)
            self.head = nn.Linear(channels, 10)

        def forward(self, x):
            x = nn.functional.max_pool2d(torch.relu(self.stem_norm(self.stem_conv(x))), 3, 2, 1)
            return self.head(self.stage(x).mean((2, 3)))

    return Net()


@pytest.mark.parametrize("groups", [1, 3])
def test_shufflenet_v1_equals_the_papers(torch, compare, groups):
    """timm and torchvision have none."""
    reference = shufflenet_v1(torch, 24, 48, 3, groups)
    model = models.build("shufflenet", 10, groups=groups, stem=24, channels=48, blocks=(3,))
    rules = [
        (r"^stage1/block(\d)", lambda match: f"stage/{int(match[1]) - 1}"),
        (r"/(reduce|depthwise|expand)/conv/", r"/\1/"),
        *[(rf"/{layer}/norm/", f"/norm{i}/") for i, layer in enumerate(("reduce", "depthwise", "expand"), 1)],
        (r"mean$", "running_mean"),
        (r"var$", "running_var"),
    ]
    compare(reference, model, rules, 36, gradient=True)


def test_a_blur_and_another_epsilon_are_refused_by_name():
    model = models.build("efficientnet", 10, norm_epsilon=1e-5)
    names = ["conv_stem.weight"]
    stated = properties.stated(names, "timm", "efficientnet", "efficientnet_blur_b0.untrained")
    assert [d.name for d in properties.differences(properties.computed(model), stated)] == ["antialias"]
    stated = properties.stated(names, "timm", "efficientnet", "tf_efficientnet_b0.in1k")
    unlike = properties.differences(properties.computed(model), stated)
    assert {d.name: d.theirs.value for d in unlike} == {"norm_epsilon": 1e-3, "padding": "SAME"}
    stated = properties.stated(names, "torchvision", "efficientnet", "efficientnet_b7.IMAGENET1K_V1")
    assert stated["norm_epsilon"].value == 1e-3


def test_tables_say_what_timms_networks_compute(torch):
    """Every network whose arrays have the names of a table: its epsilon, padding, blur and activation, by its name."""
    import timm

    modules = {"ReLU6": "relu6", "Hardswish": "hard_swish", "SiLU": "silu"}
    compared = 0
    for name, pattern in PATTERNS.items():
        for architecture in (a for a in timm.list_models() if re.match(pattern, a)):
            with torch.device("meta"):
                reference = timm.create_model(architecture)
            kinds = [type(m).__name__ for m in reference.modules()]
            names = list(reference.state_dict())
            if re.search(r"_(?:gn|evos|pruned|lite\d|minimal_\d+|rw|100h|\d+d)$", architecture):
                continue  # other arrays
            theirs = {
                "norm_epsilon": next(m.eps for m in reference.modules() if hasattr(m, "eps")),
                "padding": "SAME" if "Conv2dSame" in kinds else "both sides",
                "antialias": "blur" if "BlurPool2d" in kinds else "none",
                "activation": modules[type(reference.bn1.act).__name__],
            }
            ours = properties.stated(names, "timm", name, architecture)
            assert {key: ours[key].value for key in theirs} == theirs, architecture
            compared += 1
    assert compared >= 20


PATTERNS = {  # those of EfficientNet whose depth says nothing new are left out
    "mobilenet_v1": r"mobilenetv1_",
    "mobilenet_v2": r"mobilenetv2_",
    "mobilenet_v3": r"(?:tf_)?mobilenetv3_",
    "efficientnet": r"(?:tf_)?efficientnet_(?:b[015](?!\d)|blur)",
}


def test_preprocessing_is_that_of_the_published_weights(torch):
    import timm
    import torchvision
    from timm.models import get_pretrained_cfg

    compared = 0
    for architecture in timm.list_models(pretrained=True):
        name = next((n for n, p in WITH_WEIGHTS.items() if re.match(p, architecture)), None)
        if name is None or "pruned" in architecture:
            continue
        theirs = get_pretrained_cfg(architecture)
        ours = {key: x.value for key, x in preprocessing.stated((), "timm", name, architecture).items()}
        assert (ours["mean"], ours["std"]) == (theirs.mean, theirs.std), architecture
        assert (ours["size"], ours["crop"]) == (theirs.input_size[-1], theirs.crop_pct), architecture
        assert (ours["interpolation"], ours["squash"]) == (theirs.interpolation, theirs.crop_mode == "squash")
        compared += 1
    assert compared >= 60
    for name in ("mobilenet_v2", "mobilenet_v3", "efficientnet", "shufflenet_v2"):
        for network in (n for n in torchvision.models.list_models() if re.match(rf"{name}(?:_[bxls]|$)", n)):
            for entry in torchvision.models.get_model_weights(network):
                theirs = entry.transforms()
                stated = preprocessing.stated((), "torchvision", name, f"{network}.{entry.name}")
                ours = preprocessing.make_preprocessing("torchvision", name, {k: x.value for k, x in stated.items()})
                sides = (ours.size, math.floor(ours.size / ours.crop))
                assert sides == (theirs.crop_size[0], theirs.resize_size[0]), entry
                assert ours.interpolation == theirs.interpolation.value, entry
                assert (list(ours.mean), list(ours.std)) == (list(theirs.mean), list(theirs.std)), entry


WITH_WEIGHTS = {
    "mobilenet_v1": r"mobilenetv1_1\d\d\.",
    "mobilenet_v2": r"mobilenetv2_\d+\.",
    "mobilenet_v3": r"(?:tf_)?mobilenetv3_(?:large|small)_(?:\d+)\.",
    "efficientnet": r"(?:tf_)?efficientnet_(?:b\d|l2)",
}
