"""A folder of `convert --to=hub-folder` opens in timm and gives our logits and our preprocessing."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.commands import convert
from jaxvision.models import weights
from jaxvision.models.weights import folder, timm_folder

pytestmark = pytest.mark.parity
VIT = {"variant": "mu/8", "width": 64, "depth": 2, "posemb": "learned"}
CASES = {  # our model, its options, side of the images
    "vit": ("vit", VIT | {"pool": "token", "gelu": "exact"}, 32),
    "vit of 224 pixels": ("vit", {"variant": "Ti/16", "pool": "token", "posemb": "learned", "gelu": "exact"}, 224),
    "mean": ("vit", VIT | {"pool": "gap"}, 32),
    "mean, norm behind": ("vit", VIT | {"pool": "gap", "fc_norm": True, "registers": 2}, 32),
    "mean beside a class token": ("vit", VIT | {"pool": "gap", "class_token": True}, 32),
    "map": ("vit", VIT | {"pool": "map", "gelu": "exact"}, 32),
    "map beside other tokens": (
        "vit",
        VIT | {"pool": "map", "class_token": True, "registers": 2, "cls_position": False, "gelu": "exact"},
        32,
    ),
    "kernel of other patches": ("vit", VIT | {"pool": "gap", "base_patch": 12}, 32),
    "kernel of other patches, by name": (
        "vit",
        {"variant": "Ti/16", "base_patch": 32, "posemb": "learned", "gelu": "exact"},
        32,
    ),
    "layer scale": ("vit", VIT | {"pool": "token", "layer_scale": 0.1, "qk_norm": True, "gelu": "exact"}, 32),
    "resnet50d": ("resnet", {"variant": "50d"}, 64),
    "convnext": ("convnext", {"variant": "tiny", "gelu": "exact"}, 64),
    "mobilenet_v1": ("mobilenet_v1", {}, 64),
    "mobilenet_v2, TensorFlow's padding": ("mobilenet_v2", {"width": 0.35, "padding": "SAME"}, 64),
    "mobilenet_v3": ("mobilenet_v3", {"norm_epsilon": 1e-5}, 64),
    "mobilenet_v3 of TensorFlow": (
        "mobilenet_v3",
        {"variant": "small", "width": 0.75, "hidden": 1024, "padding": "SAME"},
        64,
    ),
    "efficientnet": ("efficientnet", {}, 64),
    "efficientnet of TensorFlow": ("efficientnet", {"variant": "B1", "padding": "SAME"}, 64),
    "vgg": ("vgg", {"variant": 11}, 32),
    "inception": ("inception", {}, 96),
    "densenet": ("densenet", {}, 64),
    "senet": ("senet", {}, 64),
    "darknet": ("darknet", {"slope": 0.01}, 64),
    "mixer": ("mixer", {"variant": "S/16", "gelu": "exact"}, 32),
}


def test_models_named_for_networks_of_timm_exist(torch):
    import timm

    named = {timm_folder.our_model(name) for name in timm.list_models()} - {None}
    assert {"swin:large", "swin_v2:base", "resmlp:B24", "gmlp:Ti/16", "efficientnet:L2", "mobilenet_v2"} <= named
    for name, _, variant in (one.partition(":") for one in named):
        models.build(name, 10, **({"variant": variant} if variant else {}))


QUICK = (
    "vit",
    "kernel of other patches",
    "mean, norm behind",
    "mean beside a class token",
    "mixer",
    "mobilenet_v3 of TensorFlow",
)


@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_timm_opens_the_folder_and_gives_our_logits(torch, case, tmp_path):
    import timm

    name, options, size = CASES[case]
    model = models.build(name, 5, **options)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, size, size, 3)), jnp.float32)
    variables = jax.jit(lambda: model.init(jax.random.key(0), x, train=False))()
    noise = np.random.default_rng(1)
    # Every array moves a little away from its start, so that one that is lost shows; variances stay positive.
    variables = jax.tree.map(lambda v: v + jnp.asarray(noise.uniform(0, 0.02, v.shape), v.dtype), variables)
    host = f"decode|resize_short({size * 8 // 7}, method='bicubic')|central_crop({size})"
    meta = {
        "model": {"name": name, **options},
        "classes": list("abcde"),
        "num_classes": 5,
        "preprocessing": {"host": host, "augment": "normalize((0.1, 0.2, 0.3), 0.25)"},
        "notes": [],
    }
    folder.save(tmp_path / "ours", weights.export_weights(variables, "jaxvision", name), meta)
    named = "vit_tiny_patch16_224" if case.endswith("by name") else None
    said = convert.run_convert(tmp_path / "ours", tmp_path / "theirs", target="hub-folder", architecture=named)
    assert "local-dir:" in said["notes"][-1]
    theirs = timm.create_model(f"local-dir:{tmp_path / 'theirs'}", pretrained=True).eval()
    with torch.no_grad():
        got = theirs(torch.from_numpy(np.array(x)).permute(0, 3, 1, 2)).numpy()
    want = jax.jit(lambda: model.apply(variables, x, train=False)[1]["logits"])()
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max(), rtol=0)
    images = timm.data.resolve_model_data_config(theirs)
    assert tuple(images["input_size"]) == (3, size, size)
    assert tuple(images["mean"]) == (0.1, 0.2, 0.3)
    assert images["interpolation"] == "bicubic"
    assert images["crop_pct"] == pytest.approx(size / (size * 8 // 7))
    assert theirs.pretrained_cfg["label_names"] == list("abcde")
    assert json.loads((tmp_path / "theirs/config.json").read_text())["num_classes"] == 5
