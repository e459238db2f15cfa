"""Parameters and multiply-adds of every architecture against the paper's or the library's.

By default one of each model and set of options is counted; `pytest -m slow tests/models/test_counts.py` has the others.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import pytest

from jaxvision import models
from jaxvision.analysis.accounting import macs

REFERENCE = json.loads((pathlib.Path(__file__).parents[1] / "reference" / "param_counts.json").read_text())
PAPER = {"pool": "token", "posemb": "learned"}
GAP = {"pool": "gap", "posemb": "learned"}
COSTED = (
    "vit_small_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "resnet50",
    "resnet50d",
    "legacy_seresnet50",
    "resnext50_32x4d",
    "resnetv2_50",
    "resnetv2_50x1_bit",
)

COUNTED = (  # to the last digit
    "alexnet_torchvision",
    "alexnet_original_2012_grouped",
    "zfnet",
    "vgg16",
    "vgg16_C_1x1",
    "googlenet_paper_v1_noaux",
    "googlenet_torchvision_bn_noaux",
    "inception_v3",
    "inception_v4",
    "inception_resnet_v2",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "senet154",
    "wide_resnet50_2",
    "darknet53",
    "mixer_s16_224",
    "swinv2_tiny_window8_256",
    "nasnetalarge",
    "nasnetalarge_224",
    "mvitv2_tiny",
    "mvitv2_small",
    "mvitv2_base",
    "mobilenetv1_100",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "efficientnet_b1",
    "shufflenet_v1_g3_1x",
    "shufflenet_v2_x1_0",
)
# Those that take more than some seconds to trace.
DEEP = (
    "inception_resnet_v2",
    "inception_v4",
    "densenet161",
    "densenet169",
    "densenet201",
    "senet154",
    "nasnetalarge",
    "nasnetalarge_224",
)


def reference_models():
    """(row of the reference, model, number of classes, options)."""
    sizes = {"tiny": "Ti", "small": "S", "base": "B", "large": "L", "huge": "H"}
    for name, size in sizes.items():
        big = {"scan": name in ("large", "huge")}  # traced faster, and the count is the same
        for patch in (14, 16, 32):
            yield f"vit_{name}_patch{patch}_224", "vit", 1000, {"variant": f"{size}/{patch}", **PAPER, **big}
        patch = 14 if name == "huge" else 16
        yield f"vit_{name}_gap_nohead_patch{patch}", "vit", None, {"variant": f"{size}/{patch}", **PAPER, **big}
    for name, size in {"tiny": "Ti", "small": "S", "base": "B"}.items():
        yield f"deit_{name}_patch16_224", "vit", 1000, {"variant": f"{size}/16", **PAPER}
        distilled = {"variant": f"{size}/16", "distilled": True, **PAPER}
        yield f"deit_{name}_distilled_patch16_224", "vit", 1000, distilled
    for name, size in {"small": "S/16", "base": "B/16", "large": "L/16", "huge": "H/14"}.items():
        row = f"deit3_{name}_patch{size.split('/')[1]}_224"
        yield row, "vit", 1000, {"variant": size, "cls_position": False, "layer_scale": 1e-4, "scan": True, **PAPER}
    for size in ("S/16", "S/32", "B/16", "B/32", "L/16", "L/32"):
        yield f"mixer_{size.lower().replace('/', '')}_224", "mixer", 1000, {"variant": size, "scan": True}
    for depth in (12, 24, 36):
        yield f"resmlp_{depth}_224", "resmlp", 1000, {"variant": f"S{depth}", "scan": True}
    for size in ("Ti", "S", "B"):
        yield f"gmlp_{size.lower()}16_224", "gmlp", 1000, {"variant": f"{size}/16", "scan": True}
    for variant in ("b1", "b2", "b3", "b4", "b5"):
        yield f"cyclemlp_{variant}", "cycle_mlp", 1000, {"variant": variant.upper()}
    for variant in ("tiny", "small", "base", "large", "xlarge"):
        yield f"convnext_{variant}", "convnext", 1000, {"variant": variant}
    yield "alexnet_torchvision", "alexnet", 1000, {}
    yield "alexnet_original_2012_grouped", "alexnet", 1000, {"variant": "2012"}
    yield "zfnet", "zfnet", 1000, {}
    for variant in ("11", "13", "16", "19", "11_bn", "13_bn", "16_bn", "19_bn"):
        yield f"vgg{variant}", "vgg", 1000, {"variant": variant}
    yield "vgg16_C_1x1", "vgg", 1000, {"variant": "16c"}
    for variant in ("tiny", "small", "base"):
        yield f"swin_{variant}_patch4_window7_224", "swin", 1000, {"variant": variant}
        yield f"swinv2_{variant}_window8_256", "swin_v2", 1000, {"variant": variant}
        yield f"mvitv2_{variant}", "mvit_v2", 1000, {"variant": variant}
    yield "swinv2_tiny_window7_224", "swin_v2", 1000, {"window": 7}
    yield "googlenet_paper_v1_noaux", "googlenet", 1000, {}
    yield "googlenet_torchvision_bn_noaux", "googlenet", 1000, {"variant": "v1_bn"}
    yield "googlenet_torchvision_bn_aux", "googlenet", 1000, {"variant": "v1_bn", "aux": True}
    for variant in ("v3", "v4", "resnet_v2"):
        yield f"inception_{variant}", "inception", 1000, {"variant": variant}
    for layers in (121, 161, 169, 201):
        yield f"densenet{layers}", "densenet", 1000, {"variant": layers}
    yield "senet154", "senet", 1000, {}
    yield "nasnetalarge", "nasnet", 1000, {}
    yield "nasnetalarge_224", "nasnet", 1000, {}
    yield "nasnet_mobile", "nasnet", 1000, {"variant": "mobile"}
    yield "darknet53", "darknet", 1000, {}
    for row, variant in {"giant": "g/14", "gigantic": "G/14"}.items():
        yield f"vit_{row}_patch14_224", "vit", 1000, {"variant": variant, "scan": True, **PAPER}
    for row, variant in {"base_patch16": "B/16", "so400m_patch14": "So400m/14"}.items():
        options = {"variant": variant, "pool": "map", "posemb": "learned", "scan": True}
        yield f"vit_{row}_siglip_224", "vit", None, options
    yield "clip_resnet50_visual", "clip_resnet", None, {"variant": "RN50"}
    for variant in ("101", "50x4", "50x16", "50x64"):
        yield f"resnet{variant}_clip", "clip_resnet", None, {"variant": f"RN{variant}"}
    yield "vit_base_patch16_384", "vit", 1000, {"variant": "B/16", **PAPER}
    yield "vit_large_patch16_224_in21k_head", "vit", 21843, {"variant": "L/16", "scan": True, **PAPER}
    yield "vit_tiny_patch16_224_gap_simple", "vit", 1000, {"variant": "Ti/16", **GAP}
    yield "vit_small_patch16_224_gap_simple", "vit", 1000, {"variant": "S/16", **GAP}
    for name, options in {
        "tiny": {"variant": "Ti/4"},
        "small": {"variant": "S/4"},
        "small7": {"variant": "S/4", "depth": 7},
        "base": {"variant": "B/4"},
        "d6w256": {"variant": "Ti/4", "depth": 6, "width": 256, "num_heads": 4},
    }.items():
        yield f"vit_cifar_{name}_p4_cls10", "vit", 10, {**options, **PAPER}
        yield f"vit_cifar_{name}_p4_gap10", "vit", 10, {**options, **GAP}
    for layers in (18, 34, 50, 101, 152):
        yield f"resnet{layers}", "resnet", 1000, {"variant": layers}
    for layers in (20, 32, 44, 56, 110):
        yield f"cifar_resnet{layers}_A", "resnet", 10, {"variant": layers}
    yield "cifar_resnet20_B", "resnet", 10, {"variant": 20, "shortcut": "B"}
    yield "resnet18_cifar_stem_10", "resnet", 10, {"variant": 18, "stem": "cifar"}
    for layers in (18, 34, 50, 101, 152):
        yield f"resnet{layers}d", "resnet", 1000, {"variant": f"{layers}d"}
        row = "legacy_seresnet" if layers in (18, 34) else "seresnet"
        yield f"{row}{layers}", "resnet", 1000, {"variant": f"se{layers}"}
    yield "legacy_seresnet50", "resnet", 1000, {"variant": "se50", "stride_in": "1x1"}
    yield "wide_resnet50_2", "resnet", 1000, {"variant": "wide50_2"}
    yield "wide_resnet101_2", "resnet", 1000, {"variant": "wide101_2"}
    for variant in ("50_32x4d", "101_32x8d", "101_64x4d"):
        yield f"resnext{variant}", "resnet", 1000, {"variant": f"resnext{variant}"}
    for layers in (50, 101, 152):
        yield f"resnetv2_{layers}", "resnet_v2", 1000, {"variant": layers}
    yield "wrn_28_10_cifar10", "wide_resnet", 10, {"variant": "28-10"}
    yield "wrn_16_4_cifar10", "wide_resnet", 10, {"variant": "16-4"}
    for variant in ("50x1", "50x3", "101x1", "101x3", "152x2"):
        yield f"resnetv2_{variant}_bit", "bit", 1000, {"variant": f"R{variant}"}
    yield "bit_m_resnetv2_152x4", "bit", 1000, {"variant": "R152x4"}
    yield "mobilenetv1_100", "mobilenet_v1", 1000, {}
    yield "mobilenet_v2", "mobilenet_v2", 1000, {}
    for variant in ("large", "small"):
        yield f"mobilenet_v3_{variant}", "mobilenet_v3", 1000, {"variant": variant}
    for i in range(8):
        yield f"efficientnet_b{i}", "efficientnet", 1000, {"variant": f"B{i}"}
    yield "shufflenet_v1_g3_1x", "shufflenet", 1000, {}
    for variant in ("0.5", "1.0"):
        yield f"shufflenet_v2_x{variant.replace('.', '_')}", "shufflenet_v2", 1000, {"variant": variant}
    yield "tf_efficientnet_l2", "efficientnet", 1000, {"variant": "L2"}


def marked(rows, slow):
    """Parameters of a test, those of the rows `slow` marked so."""
    return [pytest.param(*row, marks=pytest.mark.slow if row[0] in slow else ()) for row in rows]


def repeated():
    """Rows of which an earlier one has the same model and options, but for the variant."""
    kinds = [(name, *sorted(set(options) - {"scan"})) for _, name, _, options in reference_models()]
    return {row for i, (row, *_) in enumerate(reference_models()) if kinds[i] in kinds[:i]}


def shapes(model, size):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))


def test_every_reference_count_is_checked():
    pairs_of_towers = {row for row, numbers in REFERENCE.items() if "visual" in numbers}  # see test_clip.py
    assert {row for row, *_ in reference_models()} == set(REFERENCE) - {"_about"} - pairs_of_towers


@pytest.mark.parametrize(
    ("row", "name", "num_classes", "options"),
    marked(reference_models(), slow=[*repeated(), *DEEP]),
    ids=lambda v: str(v)[:40],
)
def test_parameter_count(row, name, num_classes, options):
    variables = shapes(models.build(name, num_classes, **options), REFERENCE[row]["input"])
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == REFERENCE[row]["params"]


@pytest.mark.parametrize(
    ("row", "name", "num_classes", "options"),
    [model for model in reference_models() if model[0] in COSTED],
    ids=lambda v: str(v)[:40],
)
def test_cost_of_a_forward_pass(row, name, num_classes, options):
    model = models.build(name, num_classes, **options)
    x = jnp.zeros((1, 224, 224, 3))
    variables = shapes(model, 224)
    flops = jax.jit(lambda v, x: model.apply(v, x)[1]["logits"]).lower(variables, x).cost_analysis()["flops"]
    assert flops / 2e9 == pytest.approx(REFERENCE[row]["gmacs"], rel=0.05)  # XLA counts element-wise work too


@pytest.mark.parametrize(
    ("row", "name", "num_classes", "options"),
    marked([model for model in reference_models() if model[0] in COUNTED], slow=DEEP),
    ids=lambda v: str(v)[:40],
)
def test_multiply_adds(row, name, num_classes, options):
    """Of convolutions and products alone, as the reference counts them, so to all its digits."""
    model = models.build(name, num_classes, **options)
    size = REFERENCE[row]["input"]
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    counted = macs(lambda v, x: model.apply(v, x)[1]["logits"], shapes(model, size), x)
    assert counted / 1e9 == pytest.approx(REFERENCE[row]["gmacs"], abs=5.1e-5)
