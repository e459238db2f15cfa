"""Export of weights and import again, of every model that a source has names for: equal to the bit."""

import jax
import numpy as np
import pytest
from weight_models import CLIP, EVERYTHING, MU, PAIR, RESNET_PAIR, SIGLIP, TEXT, TOKEN, abstract, build, drawn, equal

from jaxvision.models import weights
from jaxvision.models.weights import properties
from jaxvision.models.weights.mapping import tables_of
from jaxvision.models.weights.plan import dummies, slots_by_name
from jaxvision.models.weights.tables import TABLES

SMALL_SWIN = {"blocks": (1, 2), "channels": 8, "num_heads": 2, "window": 2, "patch": 2}
CASES = [  # source, model, its options, side of the images
    ("timm", "vit", MU | TOKEN, 8),
    ("timm", "vit", MU | TOKEN | EVERYTHING, 8),
    ("timm", "vit", MU | {"pool": "map", "posemb": "learned"}, 8),
    ("timm", "vit", MU | TOKEN | {"parallel": "pairs", "layer_scale": 1e-5}, 8),
    ("timm", "vit", {"variant": "mu/4", "depth": 11, **TOKEN, "scan": True}, 8),
    ("torchvision", "vit", MU | TOKEN, 8),
    ("openai_clip", "vit", MU | CLIP, 8),
    ("open_clip", "vit", MU | CLIP, 8),
    ("big_vision", "vit", MU | TOKEN, 8),
    ("big_vision", "vit", MU | {"pool": "map", "posemb": "learned", "scan": True}, 8),
    ("timm", "mixer", {"variant": "S/32"}, 32),
    ("big_vision", "mixer", {"variant": "S/32"}, 32),
    ("timm", "convnext", {"variant": "tiny"}, 32),
    ("torchvision", "convnext", {"variant": "tiny"}, 32),
    ("open_clip", "convnext", {"variant": "tiny", "blocks": (1, 1, 2, 1), "channels": 32, "layer_scale": None}, 32),
    ("timm", "clip_resnet", {}, 64),
    ("torchvision", "alexnet", {"width": 0.125, "hidden": 8}, 64),
    ("torchvision", "vgg", {"variant": "19", "width": 0.125, "hidden": 8}, 32),
    ("torchvision", "vgg", {"variant": "16_bn", "width": 0.125, "hidden": 8}, 32),
    ("timm", "vgg", {"variant": "11_bn", "width": 0.125, "hidden": 8}, 32),
    ("torchvision", "googlenet", {"variant": "v1_bn", "width": 0.125}, 32),
    ("torchvision", "googlenet", {"variant": "v1_bn", "width": 0.125, "aux": True}, 32),
    ("torchvision", "inception", {"width": 0.125}, 75),
    ("timm", "inception", {"variant": "v4", "width": 0.125}, 75),
    ("timm", "inception", {"variant": "resnet_v2", "width": 0.125}, 75),
    ("timm", "densenet", {"blocks": (2, 3), "growth": 8}, 32),
    ("torchvision", "densenet", {"blocks": (2, 3), "growth": 8}, 32),
    ("timm", "senet", {"blocks": (1, 2), "width": 0.125}, 32),
    ("timm", "nasnet", {"blocks": (2, 1, 1), "channels": 8, "stem": 8}, 32),
    ("timm", "darknet", {"blocks": (1, 2), "width": 0.25, "slope": 0.01}, 32),
    ("timm", "mobilenet_v1", {"blocks": (1, 2), "width": 0.25}, 32),
    ("timm", "mobilenet_v2", {"blocks": (1, 2), "width": 0.25, "last": 32}, 32),
    ("timm", "mobilenet_v3", {"variant": "small", "blocks": (1, 2, 1), "width": 0.5, "hidden": 24}, 32),
    ("timm", "efficientnet", {"blocks": (2, 2), "width": 0.25, "last": 32}, 32),
    ("torchvision", "mobilenet_v2", {"width": 0.1, "last": 32}, 32),
    ("torchvision", "mobilenet_v3", {"variant": "large", "width": 0.1}, 32),
    ("torchvision", "mobilenet_v3", {"variant": "small", "width": 0.1}, 32),
    ("torchvision", "efficientnet", {"blocks": (2, 2), "width": 0.25, "last": 32}, 32),
    ("torchvision", "shufflenet_v2", {"blocks": (2, 1), "channels": 16, "last": 32}, 32),
    ("timm", "swin", SMALL_SWIN, 16),
    ("timm", "swin_v2", SMALL_SWIN, 16),
    ("timm", "mvit_v2", {"blocks": (1, 2), "channels": 8, "num_heads": 2, "patch": 2}, 16),
    ("timm", "resmlp", {"width": 8, "depth": 2}, 32),
    ("timm", "gmlp", {"width": 8, "depth": 2, "hidden": 16}, 32),
    ("timm", "vit", MU | {"posemb": "learned", "class_token": True, "fc_norm": True}, 8),
    ("timm", "resnet", {"variant": 18}, 32),
    ("timm", "resnet", {"variant": "se50", "width": 0.25}, 32),
    ("timm", "resnet", {"variant": "50d", "width": 0.25}, 32),
    ("torchvision", "resnet", {"variant": "resnext50_32x4d"}, 32),
    ("dino", "vit", MU | TOKEN, 8),
    ("dino", "resnet", {"variant": 50, "width": 0.25}, 32),
    ("dinov2", "vit", MU | TOKEN | {"layer_scale": 1e-5, "registers": 4}, 8),
    ("timm", "resnet_v2", {"variant": 50, "width": 0.25}, 32),
    ("timm", "bit", {"blocks": (1, 2), "width": 0.5}, 32),
    ("bit", "bit", {"blocks": (1, 2), "width": 0.5}, 32),
    ("openai_clip", "clip_resnet", {}, 64),
    ("open_clip", "clip_resnet", {}, 64),
    ("moco", "vit", MU | TOKEN, 8),
    ("moco", "resnet", {"variant": 18}, 32),
    ("pytorch_resnet_cifar10", "resnet", {"variant": 20}, 32),
    ("keras", "mlperf_resnet8", {}, 32),
    ("lenet5", "lenet", {}, 32),
    ("openai_clip", "text_transformer", TEXT, 0),
    ("open_clip", "text_transformer", TEXT, 0),
    ("big_vision", "text_transformer", TEXT, 0),
    ("openai_clip", "two_towers", PAIR, 8),
    ("open_clip", "two_towers", RESNET_PAIR, 64),
    ("open_clip", "two_towers", SIGLIP, 8),
    ("open_clip", "two_towers", SIGLIP | {"image": {"name": "convnext"}, "embedding": 768, "bias": None}, 32),
    ("big_vision", "two_towers", SIGLIP, 8),
]


@pytest.mark.parametrize(
    ("source", "name", "options", "size"),
    CASES,
    ids=lambda v: str(v).replace(" ", "")[:40],
)
def test_round_trip_is_exact(source, name, options, size):
    shapes = abstract(name, options, size)
    variables = drawn(shapes)
    flat = dummies(shapes)
    for slots in slots_by_name(tables_of(source, name, flat)[0], flat).values():  # only these share an array
        kinds = [slot.path.split("/")[-2] for slot in slots]
        assert len(kinds) == 1 or kinds in (["query", "key", "value"], ["key", "value"])
    arrays = weights.export_weights(variables, source, name)
    assert sum(x.size for x in arrays.values()) == sum(x.size for x in jax.tree.leaves(variables))
    imported = weights.import_weights(arrays, source, name, shapes)
    assert equal(imported.variables, variables)
    assert not imported.notes
    again = weights.export_weights(imported.variables, source, name)
    assert list(again) == list(arrays)
    assert all(np.array_equal(again[key], arrays[key]) for key in arrays)


def test_every_table_has_a_round_trip():
    listed = {(source, name) for source, name, *_ in CASES}
    assert listed == {(source, name) for source, tables in TABLES.items() for name in tables}


@pytest.mark.parametrize(("source", "name", "options", "size"), CASES, ids=lambda v: str(v).replace(" ", "")[:40])
def test_every_property_that_no_array_tells_is_stated(source, name, options, size):
    """Of each model that a layout has names for, by names and shapes in its file."""
    model = build(name, options)
    arrays = weights.export_weights(drawn(abstract(name, options, size)), source, name)
    stated = properties.stated(arrays, source, name)
    missing = [d.name for d in properties.differences(properties.computed(model), stated) if d.theirs is None]
    assert missing == []
