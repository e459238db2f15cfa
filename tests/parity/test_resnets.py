"""The ResNet family against torchvision and timm: the same weights give the same logits and gradients.

Run with torch 2.13.0 for CPUs, torchvision and timm on the path. None of them is needed otherwise.
"""

import pytest

from jaxvision import models

pytestmark = pytest.mark.parity

STATISTICS = ((r"mean$", "running_mean"), (r"var$", "running_var"))
RESNET = (
    (r"^stem_conv/", "conv1/"),
    (r"^stem_norm/", "bn1/"),
    (r"^stage(\d)/block(\d+)", lambda m: f"layer{m[1]}/{int(m[2]) - 1}"),
    (r"/norm(\d)", r"/bn\1"),
    (r"shortcut_conv", "downsample/0"),
    (r"shortcut_norm", "downsample/1"),
    (r"^head", "fc"),
    *STATISTICS,
)
RESNET_D = (  # timm keeps the place of the shortcut's pooling where there is none to do
    (r"^stem_conv(\d)", lambda m: f"conv1/{3 * int(m[1]) - 3}"),
    (r"^stem_norm([12])", lambda m: f"conv1/{3 * int(m[1]) - 2}"),
    (r"^stem_norm3", "bn1"),
    (r"shortcut_conv", "downsample/1"),
    (r"shortcut_norm", "downsample/2"),
    *RESNET,
)
V2 = (
    (r"^stem_conv", "stem/conv"),
    (r"^stage(\d)/block(\d+)", lambda m: f"stages/{int(m[1]) - 1}/blocks/{int(m[2]) - 1}"),
    (r"shortcut_conv", "downsample/conv"),
    (r"^head", "head/fc"),
    *STATISTICS,
)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("layers", [18, 50])
def test_resnet_equals_torchvision(torch, compare, layers, train):
    import torchvision

    reference = getattr(torchvision.models, f"resnet{layers}")()
    model = models.build("resnet", 1000, variant=layers)
    gradient = layers == 50 and not train
    # Of small images: among the many ReLUs of large ones some are so near to 0 that rounding decides their gradient.
    compare(reference, model, RESNET, 64 if gradient else 96, train, gradient)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        pytest.param("resnet101", "101", marks=pytest.mark.slow),  # the 50 with more blocks
        pytest.param("wide_resnet50_2", "wide50_2", marks=pytest.mark.slow),  # test_weights_survey.py has it too
        ("resnext50_32x4d", "resnext50_32x4d"),
        ("seresnet50", "se50"),
        ("resnet50d", "50d"),
    ],
)
def test_resnet_variant_equals_timm(torch, compare, name, variant):
    import timm

    reference = timm.create_model(name, num_classes=10)
    rules = RESNET_D if variant == "50d" else RESNET
    compare(reference, models.build("resnet", 10, variant=variant), rules, 96)


@pytest.mark.parametrize("train", [False, True])
def test_resnet_v2_equals_timm(torch, compare, train):
    import timm

    reference = timm.create_model("resnetv2_50", num_classes=10)
    compare(reference, models.build("resnet_v2", 10, variant=50), V2, 96, train)


@pytest.mark.slow  # test_weights_survey.py has it too
def test_bit_equals_timm(torch, compare):
    import timm

    reference = timm.create_model("resnetv2_50x1_bit", num_classes=10)
    compare(reference, models.build("bit", 10, variant="R50x1"), V2, 96)
