"""Options of timm, torchvision and open_clip that our models have or have not: equal outputs, or a reason why not.

What leaves no array and no shape cannot be told from a file: timm's ResPostBlock (`rpn`, `srelpos`), blur and average
pools (`resnetblur50`, `resnetaa50`), and a pooling by maximum. They are not here; docs/weights.md says so.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.models import weights
from jaxvision.models.weights import mapping

pytestmark = pytest.mark.parity
SMALL_VIT = {"embed_dim": 64, "depth": 2, "num_heads": 2, "num_classes": 10, "img_size": 32, "patch_size": 8}
VIT = {"variant": "mu/8", "width": 64, "depth": 2}
GAP = {"global_pool": "avg", "class_token": False, "fc_norm": False}
BLOCKS = {"variant": "tiny", "blocks": (1, 1, 2, 1), "channels": 32}
SMALL_CONVNEXT = {"depths": (1, 1, 2, 1), "dims": (32, 64, 128, 256), "num_classes": 10}
VITS = {  # options of timm, ours beside those that the file tells, or the reason of the refusal
    "class token": ({}, {}),
    "average, norm behind it, class token": ({"global_pool": "avg"}, {}),
    "average, norm behind it": ({"global_pool": "avg", "class_token": False}, {}),
    "average": (GAP, {}),
    "average, class token": ({"global_pool": "avg", "fc_norm": False}, {"pool": "gap", "class_token": True}),
    "class token, norm behind it": ({"fc_norm": True}, {"pool": "token"}),
    "attention pooling, class token": ({"global_pool": "map"}, {}),
    "attention pooling": ({"global_pool": "map", "class_token": False}, {}),
    "attention pooling, norm behind it": ({"global_pool": "map", "class_token": False, "fc_norm": True}, {}),
    "no bias of q k v, layer scale": (GAP | {"qkv_bias": False, "init_values": 1e-6}, {}),
    "no bias of projections": ({"proj_bias": False}, {}),
    "registers": ({"reg_tokens": 3, "no_embed_class": True, "init_values": 1e-5}, {}),
    "registers, average": (GAP | {"reg_tokens": 3, "no_embed_class": True}, {}),
    "DeiT III": ({"no_embed_class": True, "init_values": 1e-6}, {}),
    "norms of q and k": ({"qk_norm": True}, {}),
    "pre-norm": ({"pre_norm": True}, {"norm_epsilon": 1e-6}),  # of timm's own, CLIP's alone have it, with 1e-5
    "half as wide an MLP": ({"mlp_ratio": 2}, {"mlp_dim": 128}),
    "registers with positions": ({"reg_tokens": 3}, "registers have none"),
    "no positions": ({"pos_embed": ""}, "Positions go with posemb='learned'"),
    "norm in the attention": ({"scale_attn_norm": True}, "A norm inside the attention"),
    "norm in the MLP": ({"scale_mlp_norm": True}, "Gated and normalised MLPs"),
    "no final norm": ({"final_norm": False}, "A final norm is needed"),
}
CONVNEXTS = {
    "plain": ({}, {}),
    "1x1 convolutions": ({"conv_mlp": True}, {}),
    "no layer scale": ({"ls_init_value": None}, {}),
    "no bias of convolutions": ({"conv_bias": False}, {}),
    "response norm": ({"use_grn": True}, "ConvNeXt V2"),
    "norm before the pooling": ({"head_norm_first": True}, "head_norm_first"),
    "hidden layer in the head": ({"head_hidden_size": 32}, "A hidden layer in the head"),
    "overlapping stem": ({"stem_type": "overlap"}, "A stem of another kind"),
    "stem of stride 2": ({"patch_size": 2}, "A stem of another kind"),
    "RMSNorm": ({"norm_layer": "rmsnorm2d", "conv_mlp": True}, "RMSNorm"),
    "5x5": ({"kernel_sizes": 5}, "Other kernels than 7x7"),
}
MODELS = {  # name in timm: our model, its options, and the reason where it is refused
    "resnet34": ("resnet", {"variant": 34}, None),
    "resnet18d": ("resnet", {"variant": "18d"}, None),
    "wide_resnet50_2": ("resnet", {"variant": "wide50_2"}, None),
    "seresnext50_32x4d": ("resnet", {"variant": "resnext50_32x4d", "squeeze_excite": 16}, None),
    "seresnet152d": ("resnet", {"variant": "152d", "squeeze_excite": 16}, None),
    "resnext50d_32x4d": ("resnet", {"variant": "50d", "groups": 32, "width_per_group": 4}, None),
    "resnetv2_101": ("resnet_v2", {"variant": 101}, None),
    "resnetv2_50x1_bit": ("bit", {"variant": "R50x1"}, None),
    "mixer_s32_224": ("mixer", {"variant": "S/32"}, None),
    "deit_tiny_distilled_patch16_224": ("vit", {"variant": "Ti/16"}, None),
    "mobilenetv1_125": ("mobilenet_v1", {}, None),
    "mobilenetv2_140": ("mobilenet_v2", {}, None),
    "tf_mobilenetv3_large_minimal_100": ("mobilenet_v3", {}, "Weights without squeeze and excitation"),
    "mobilenetv1_100h": ("mobilenet_v1", {}, "A convolution behind the last stage (mobilenetv1_100h)"),
    "mobilenetv3_rw": ("mobilenet_v3", {}, "A hidden layer without bias (mobilenetv3_rw)"),
    "efficientnet_lite0": ("efficientnet", {}, "Weights without squeeze and excitation"),
    "efficientnet_b0_gn": ("efficientnet", {}, "Norms without running statistics"),
    "resnet50c": ("resnet", {"variant": "50d"}, "Stem and shortcuts are read if both are plain or both are ResNet-D's"),
    "resnet50t": ("resnet", {"variant": "50d"}, "The only deep stem that is read is ResNet-D's"),
    "resnet50_gn": ("resnet", {"variant": 50}, "Norms without running statistics"),
    "ecaresnet50d": ("resnet", {"variant": "50d"}, "Attention other than squeeze and excitation"),
    "legacy_seresnet50": ("resnet", {"variant": "se50"}, "Cadene's legacy"),
    "seresnet18": ("resnet", {"variant": "se18"}, "Squeeze and excitation goes with"),
    "resnetv2_50d": ("resnet_v2", {"variant": 50}, "A deep stem"),
    "resnetv2_50d_gn": ("resnet_v2", {"variant": 50}, "A deep stem"),
    "gmixer_12_224": ("mixer", {"variant": "S/16"}, "Gated MLPs"),
    "resmlp_12_224": ("mixer", {"variant": "S/16"}, "ResMLP"),
    "vit_relpos_small_patch16_224": ("vit", {"variant": "S/16"}, "Relative positions"),
    "beit_base_patch16_224": ("vit", {"variant": "B/16"}, "BEiT"),
    "vit_tiny_r_s16_p8_224": ("vit", {"variant": "Ti/8"}, "A convolutional stem"),
}


def general(torch, model):
    """The model with no weight at a place where differences do not show."""
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                spread = value.std() if value.numel() > 1 else torch.tensor(0.0)
                value += 0.1 * spread.clamp(0.1) * torch.rand_like(value)
    return model.eval()


def saved(reference, path):
    from safetensors.torch import save_model

    save_model(reference, str(path))
    return weights.read(path)


def compare(torch, reference, path, source, name, ours, size, reason=None):
    """Our logits (or features) against the reference's; with `reason`, the error against it."""
    arrays = saved(general(torch, reference), path)
    images = torch.randn(2, 3, size, size)
    x = jnp.asarray(images.permute(0, 2, 3, 1).numpy())
    classes = None if name == "clip_resnet" else 10
    model = models.build(name, classes, **mapping.options(arrays, source, name) | ours)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    if reason is not None:
        with pytest.raises(UserError) as error:
            weights.import_weights(arrays, source, name, shapes)
        assert reason in str(error.value)
        return
    with torch.no_grad():
        want = reference(images).numpy()
    variables = weights.import_weights(arrays, source, name, shapes).variables
    features, out = jax.jit(model.apply)(variables, x)
    got = out["logits"] if classes else features
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max(), rtol=0)


@pytest.mark.parametrize("case", VITS)
def test_options_of_timms_vit(torch, case, tmp_path):
    import timm

    theirs, ours = VITS[case]
    reference = timm.create_model("vit_tiny_patch16_224", **SMALL_VIT | theirs)
    ours, reason = ({}, ours) if isinstance(ours, str) else (ours, None)
    compare(torch, reference, tmp_path / "w.safetensors", "timm", "vit", VIT | ours, 32, reason)


@pytest.mark.parametrize("block", ["ParallelScalingBlock", "ParallelThingsBlock"])
def test_blocks_of_timms_vit(torch, block, tmp_path):
    import timm
    from timm.models import vision_transformer

    block_fn = getattr(vision_transformer, block)
    reference = timm.create_model("vit_tiny_patch16_224", **SMALL_VIT, block_fn=block_fn)
    if block == "ParallelThingsBlock":
        compare(torch, reference, tmp_path / "w.safetensors", "timm", "vit", VIT | {"parallel": "pairs"}, 32)
    arrays = saved(reference, tmp_path / "w.safetensors")
    model = models.build("vit", 10, **VIT | {"pool": "token", "posemb": "learned"})
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    with pytest.raises(UserError, match="timm's ParallelScalingBlock fuses|go with parallel='pairs'"):
        weights.import_weights(arrays, "timm", "vit", shapes)


@pytest.mark.parametrize("case", CONVNEXTS)
def test_options_of_timms_convnext(torch, case, tmp_path):
    import timm

    theirs, ours = CONVNEXTS[case]
    reference = timm.create_model("convnext_tiny", **SMALL_CONVNEXT | theirs)
    ours, reason = ({}, ours) if isinstance(ours, str) else (ours, None)
    compare(torch, reference, tmp_path / "w.safetensors", "timm", "convnext", BLOCKS | ours, 64, reason)


def test_torchvisions_convnext(torch, tmp_path):
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    stages = [(32, 64, 1), (64, 128, 1), (128, 256, 2), (256, None, 1)]
    reference = ConvNeXt([CNBlockConfig(*stage) for stage in stages], num_classes=10)
    compare(torch, reference, tmp_path / "w.safetensors", "torchvision", "convnext", BLOCKS, 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_models_of_timm(torch, name, tmp_path):
    import timm

    model, ours, reason = MODELS[name]
    size = {"img_size": 64} if model in ("vit", "mixer") else {}
    reference = timm.create_model(name, num_classes=10, **size)
    compare(torch, reference, tmp_path / "w.safetensors", "timm", model, ours, 64, reason)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50_clip", "resnet50x4_clip"])
def test_clip_resnets_of_timm(torch, name, tmp_path):
    import timm

    reference = timm.create_model(name, img_size=64)
    variant = {"variant": "RN50x4" if "x4" in name else "RN50"}
    compare(torch, reference, tmp_path / "w.safetensors", "timm", "clip_resnet", variant, 64)


TEXT = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
SIGLIP_TEXT = TEXT | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
OUR_TEXT = {"name": "text_transformer", "variant": "mu", "vocab_size": 50, "length": 8}
OUR_SIGLIP = {"text": OUR_TEXT | {"causal": False, "pool": "last", "norm_epsilon": 1e-6}, "bias": -10.0}
OUR_SIGLIP |= {"text_projection": "affine", "image_projection": "none", "embedding": 32}
OUR_VIT, OUR_CONVNEXT = {"name": "vit", "variant": "mu/8"}, {"name": "convnext", "blocks": (1, 1, 1, 1), "channels": 16}
TOWERS = {  # model of timm, its pooling and projection; whether the text tower is a part of its own; text; ours
    "SigLIP": ("vit_base_patch16_siglip_224", "map", "none", True, SIGLIP_TEXT, OUR_VIT, OUR_SIGLIP),
    "average": ("vit_medium_patch16_gap_256", "avg", None, True, TEXT, OUR_VIT, {"image_projection": "affine"}),
    "class token": ("vit_tiny_patch16_224", "token", "linear", False, TEXT, OUR_VIT, {}),
    "ConvNeXt": ("convnext_tiny", "", "linear", False, TEXT, OUR_CONVNEXT, {}),
    "two layers": ("convnext_tiny", "", "mlp", False, TEXT, OUR_CONVNEXT, "A projection of two layers"),
}


@contextlib.contextmanager
def small_models(open_clip):
    """Models that open_clip makes with timm are small."""
    import timm

    sizes = {"vit": {**SMALL_VIT, "embed_dim": 32, "depth": 1}, "con": {"depths": (1,) * 4, "dims": (16, 32, 64, 128)}}
    sizes["vit"].pop("num_classes")
    create = timm.create_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", lambda name, **options: create(name, **options | sizes[name[:3]]))
        yield


@pytest.mark.parametrize("case", TOWERS)
def test_towers_of_timm_in_open_clip(torch, case, tmp_path):
    open_clip = pytest.importorskip("open_clip", reason="needs open_clip_torch", exc_type=Exception)
    from open_clip.model import CLIP, CustomTextCLIP

    name, pool, projection, custom, text, image, ours = TOWERS[case]
    vision = {"timm_model_name": name, "timm_pool": pool, "timm_proj": projection, "image_size": 32}
    with small_models(open_clip):
        bias = {"init_logit_bias": -10} if case == "SigLIP" else {}
        reference = general(torch, (CustomTextCLIP if custom else CLIP)(32, vision, text, **bias))
    arrays = saved(reference, tmp_path / "w.safetensors")
    options = {"image": image, "text": OUR_TEXT, "embedding": 32} | ({} if isinstance(ours, str) else ours)
    inferred = mapping.options(arrays, "open_clip", "two_towers")
    options |= {tower: inferred.get(tower, {}) | options[tower] for tower in ("image", "text")}
    model = models.build("two_towers", None, **options)
    images, tokens = torch.randn(2, 3, 32, 32), torch.randint(1, 49, (2, 8))
    tokens[:, 5] = 49  # the end of the text is its greatest number
    inputs = jnp.asarray(images.permute(0, 2, 3, 1).numpy()), jnp.asarray(tokens.numpy(), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    if isinstance(ours, str):
        with pytest.raises(UserError, match=ours):
            weights.import_weights(arrays, "open_clip", "two_towers", shapes)
        return
    variables = weights.import_weights(arrays, "open_clip", "two_towers", shapes).variables
    out = jax.jit(model.apply)(variables, *inputs)
    with torch.no_grad():
        for tower, want in (("image", reference.encode_image(images)), ("text", reference.encode_text(tokens))):
            want = want.numpy()
            np.testing.assert_allclose(out[f"{tower}_projection"], want, atol=1e-4 * np.abs(want).max(), rtol=0)
    assert float(out["logit_scale"]) == reference.logit_scale.item()
    if case == "SigLIP":
        assert float(out["logit_bias"]) == reference.logit_bias.item()
        back = weights.export_weights(variables, "open_clip", "two_towers")
        assert back.keys() == arrays.keys()
        assert all(np.array_equal(back[key], arrays[key]) for key in arrays)
    tower, alone = "convnext" if case == "ConvNeXt" else "vit", None
    if projection == "none":  # the image tower by itself
        alone = models.build(tower, None, **mapping.options(arrays, "open_clip", tower) | {"variant": "mu/8"})
        shapes = jax.eval_shape(alone.init, jax.random.key(0), inputs[0])
        imported = weights.import_weights(arrays, "open_clip", tower, shapes)
        np.testing.assert_allclose(alone.apply(imported.variables, inputs[0])[0], out["image_features"], atol=1e-5)


@pytest.mark.parametrize("name", ["m.th", "m.pt", "m.bin", "m.ckpt", "m"])
@pytest.mark.parametrize("form", ["zip", "legacy", "script"])
def test_files_of_torch_are_converted_by_the_command_of_the_error(torch, name, form, tmp_path, monkeypatch):
    import argparse
    import shlex

    path = tmp_path / name
    if form == "script":
        torch.jit.trace(torch.nn.Linear(3, 2), torch.zeros(1, 3)).save(path)
    else:
        state = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}
        content = {"model": state, "model_ema": state, "args": argparse.Namespace(lr=1), "epoch": 3}
        content["optimizer"] = {"state": {0: {"exp_avg": torch.zeros(2)}}}
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(UserError, match="is a pickle") as error:
        weights.read(path)
    words = shlex.split(str(error.value).splitlines()[1])
    monkeypatch.setattr("sys.argv", ["-c", *words[3:]])
    exec(compile(words[2], "command", "exec"), {})
    names = {"weight", "bias"}
    expected = names if form == "script" else {f"{s}.{n}" for s in ("model", "model_ema") for n in names}
    assert weights.read(tmp_path / "m.safetensors").keys() == expected
