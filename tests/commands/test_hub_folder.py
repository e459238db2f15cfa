"""What `convert --to=hub-folder` says about images and pooling; tests/parity/ opens such folders in timm."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.augment import make_augmentation
from jaxvision.commands import convert, hub_folder
from jaxvision.errors import UserError
from jaxvision.models import build, weights
from jaxvision.models.weights import files, folder

CROP = "decode|resize_short(256)|central_crop(224)"
VIT = {"variant": "mu/8", "depth": 1, "posemb": "learned", "gelu": "exact", "num_heads": 2}


@pytest.mark.parametrize(
    "augment",
    [
        "",
        "normalize_imagenet",
        "normalize",
        "normalize(0.5)",
        "normalize(std=0.25)",
        "normalize((0.1, 0.2, 0.3), 0.25)",
        "normalize(0.5, 0.5)|normalize((0.1, 0.2, 0.3), (2, 3, 4))",
    ],
)
def test_mean_and_std_are_those_of_the_operations(augment):
    cfg, notes = hub_folder.preprocessing_config(CROP, augment, (224, 224))
    assert not notes
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(1, 2, 2, 3)), jnp.float32)
    want = make_augmentation(augment)(jax.random.key(0), {"image": images})["image"]
    np.testing.assert_allclose((images - np.array(cfg["mean"])) / np.array(cfg["std"]), want, atol=1e-5)


def test_other_operations_are_noted():
    _, notes = hub_folder.preprocessing_config(CROP, "standardize_image|normalize_imagenet", (224, 224))
    assert len(notes) == 1
    assert "no counterpart of standardize_image" in notes[0]


@pytest.mark.parametrize(
    ("host", "mode", "resized"),
    [
        (CROP, "center", 256),
        ("decode|resize_short(size=249, method='bicubic')|central_crop(224)", "center", 249),
        ("decode|resize(256)|central_crop(224)", "squash", 256),
        ("decode|resize((224, 224))", "squash", 224),
        ("decode", "center", 224),
    ],
)
def test_timm_resizes_and_crops_alike(host, mode, resized):
    cfg, notes = hub_folder.preprocessing_config(host, "normalize", (224, 224))
    assert not notes
    assert cfg["crop_mode"] == mode
    assert math.floor(224 / cfg["crop_pct"]) == resized  # as timm computes it
    assert cfg["interpolation"] == ("bicubic" if "bicubic" in host else "bilinear")


@pytest.mark.parametrize(
    ("host", "size", "note"),
    [
        ("decode|central_crop(224)", (224, 224), "timm cannot prepare images by decode.central_crop"),
        ("decode|resize_short(224)", (224, 224), "timm cannot prepare images by"),
        ("decode|resize(384)|corner_crop(378)", (378, 378), "timm cannot prepare images by"),
        ("decode|resize((256, 300))|central_crop(224)", (224, 224), "timm cannot prepare images by"),
        ("decode|resize_short(256)|central_crop((224, 192))", (224, 192), "timm cannot prepare images by"),
        ("decode|resize(224, method='opencv_area')", (224, 224), "timm has no filter opencv_area"),
    ],
)
def test_what_timm_cannot_do_to_images_is_noted(host, size, note):
    (said,) = hub_folder.preprocessing_config(host, "normalize", size)[1]
    assert note.replace("decode.", "decode|") in said


def ours(path, **options):
    options = VIT | options
    model = build("vit", 3, **options)
    variables = jax.jit(lambda: model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False))()
    specs = {"host": "decode|resize(16)", "augment": "normalize_imagenet"}
    meta = {"model": {"name": "vit", **options}, "num_classes": 3, "preprocessing": specs, "notes": []}
    folder.save(path, weights.export_weights(variables, "jaxvision", "vit"), meta)
    return path


@pytest.mark.parametrize("architecture", [None, "vit_small_patch8_224"])
def test_pooling_is_that_of_the_model(tmp_path, architecture):
    path = ours(tmp_path / "ours", pool="gap", class_token=True)
    convert.run_convert(path, tmp_path / "theirs", target="hub-folder", architecture=architecture)
    config = json.loads((tmp_path / "theirs/config.json").read_text())
    assert config["model_args"]["global_pool"] == "avg"
    assert config["model_args"]["fc_norm"] is False
    assert config["pretrained_cfg"]["mean"] == [0.485, 0.456, 0.406]


def test_a_model_without_pooling_is_refused(tmp_path):
    path = ours(tmp_path / "ours", pool="none")
    with pytest.raises(UserError, match="timm has no ViT with pool='none'"):
        convert.run_convert(path, tmp_path / "theirs", target="hub-folder")
    assert not (tmp_path / "theirs").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"registers": 2, "pool": "token"}, "these weights have 5 positions.* has 4, .* or 7, .*cls_position=False"),
        ({"pre_norm": True}, "norm_epsilon: 1e-06 here, 1e-05 there"),
        ({"pre_norm": True, "norm_epsilon": 1e-5}, "epsilon of 1e-05, which timm's config cannot say"),
        ({"patch_bias": False}, "timm's plain ViT has a bias in the patch embedding"),
        ({"rep_size": 8}, "rep_size"),
        ({"parallel": "mlp"}, "parallel='mlp'"),
        ({"parallel": "pairs"}, "--architecture=NAME: it is not a plain ViT"),
        ({"norm_epsilon": 1e-5}, "norm_epsilon: 1e-05 here, 1e-06 there"),
        ({"pool": "token", "distilled": True}, "--architecture=NAME: it is not a plain ViT"),
        ({"posemb": "rope"}, "posemb: 'rope' here, 'learned' there"),
    ],
)
def test_a_form_that_timm_has_not_is_refused(tmp_path, options, message):
    path = ours(tmp_path / "ours", **options)
    with pytest.raises(UserError, match=message):
        convert.run_convert(path, tmp_path / "theirs", target="hub-folder")
    assert not (tmp_path / "theirs").exists()


def test_a_kernel_of_other_patches_is_written_as_it_is_applied(tmp_path):
    convert.run_convert(ours(tmp_path / "ours", base_patch=12), tmp_path / "theirs", target="hub-folder")
    config = json.loads((tmp_path / "theirs/config.json").read_text())
    assert config["model_args"]["patch_size"] == 8
    written = files.read(tmp_path / "theirs" / "model.safetensors")["patch_embed.proj.weight"]
    assert written.shape == (32, 3, 8, 8)


@pytest.mark.parametrize(
    ("section", "architecture", "args"),
    [
        ({"name": "mobilenet_v1", "width": 1.25}, "mobilenetv1_125", {}),
        ({"name": "mobilenet_v2", "width": 0.35, "padding": "SAME"}, "mobilenetv2_035", {"pad_type": "same"}),
        ({"name": "mobilenet_v3"}, "mobilenetv3_large_100", {"bn_eps": 1e-3}),
        ({"name": "mobilenet_v3", "padding": "SAME"}, "tf_mobilenetv3_large_100", {}),
        ({"name": "efficientnet", "norm_epsilon": 1e-5, "width": None}, "efficientnet_b0", {}),
        ({"name": "efficientnet", "variant": "L2", "padding": "SAME"}, "tf_efficientnet_l2", {}),
        ({"name": "vgg", "variant": 16}, "vgg16", {}),
        ({"name": "inception", "variant": "v4", "aux": False}, "inception_v4", {}),
        ({"name": "densenet", "variant": "169"}, "densenet169", {}),
        ({"name": "senet"}, "legacy_senet154", {}),
        ({"name": "darknet", "slope": 0.01}, "darknet53", {}),
        ({"name": "resnet"}, "resnet50", {}),
    ],
)
def test_convolutional_networks_have_timms_names(section, architecture, args, tmp_path):
    arrays = {"conv_head.weight": np.zeros((1280, 1, 1, 1), np.float32)}
    meta = {"model": section, "num_classes": 5, "preprocessing": {"host": CROP, "augment": "normalize"}}
    hub_folder.write(tmp_path / "out", arrays, meta, None)
    content = json.loads((tmp_path / "out/config.json").read_text())
    assert (content["architecture"], content["model_args"]) == (architecture, args)
    assert content["pretrained_cfg"]["classifier"]


@pytest.mark.parametrize(
    ("section", "changed"),
    [
        ({"name": "mobilenet_v1", "width": 0.3}, "with another width"),
        ({"name": "mobilenet_v2", "last": 64}, "with another last"),
        ({"name": "mobilenet_v2", "stem_stride": 1}, "with another stem_stride"),
        ({"name": "mobilenet_v3", "variant": "small"}, "mobilenet_v3:small with another hidden"),
        ({"name": "efficientnet", "variant": "B3", "width": 1.0}, "efficientnet:B3 with another width"),
        ({"name": "vgg", "variant": 16, "hidden": 64}, "vgg:16 with another hidden"),
        ({"name": "inception", "aux": True}, "inception:v3 with another aux"),
        ({"name": "alexnet"}, "timm has no network of the form alexnet"),
    ],
)
def test_networks_that_timm_has_not_are_refused(section, changed, tmp_path):
    arrays = {"conv_head.weight": np.zeros((1280, 1, 1, 1), np.float32)}
    meta = {"model": section, "num_classes": 5, "preprocessing": {"host": CROP, "augment": "normalize"}}
    with pytest.raises(UserError, match=changed):
        hub_folder.write(tmp_path / "out", arrays, meta, None)
    assert not (tmp_path / "out").exists()
