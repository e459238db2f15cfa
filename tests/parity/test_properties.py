"""What leaves no array in a file: the tables against the libraries, and a wrong value is seen in the logits.

Run with torch 2.13.0 for CPUs, torchvision, timm, open_clip and transformers. None of them is needed otherwise.
"""

import functools
import json
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity_bounds import bound

from jaxvision import models
from jaxvision.commands import convert
from jaxvision.errors import UserError
from jaxvision.models import weights
from jaxvision.models.sizes import SIZES
from jaxvision.models.weights import folder, preprocessing, properties

pytestmark = pytest.mark.parity
TOLERANCE = 5e-6  # of the largest logit; a wrong property makes more than five times as much
SMALL_VIT = {"embed_dim": 64, "depth": 3, "num_heads": 2, "num_classes": 10, "img_size": 32, "patch_size": 8}
VIT = {"variant": "mu/8", "width": 64, "depth": 3}
CONVNEXT = {"depths": (1, 1, 2, 1), "dims": (16, 32, 64, 128), "num_classes": 10}
OUR_CONVNEXT = {"blocks": (1, 1, 2, 1), "channels": 16}
CASES = {  # name in timm, its options, our model, its size, side of the images, properties that are wrong
    "vit": ("vit_tiny_patch16_224", SMALL_VIT, "vit", VIT, 32, [{"norm_epsilon": 1e-5}, {"gelu": "tanh"}]),
    "clip": (
        "vit_base_patch32_clip_224",
        SMALL_VIT,
        "vit",
        VIT,
        32,
        [{"norm_epsilon": 1e-6}, {"gelu": "quick"}, {"gelu": "tanh"}],
    ),
    "clip_quickgelu": (
        "vit_base_patch32_clip_quickgelu_224",
        SMALL_VIT,
        "vit",
        VIT,
        32,
        [{"norm_epsilon": 1e-6}, {"gelu": "exact"}],
    ),
    "siglip": ("vit_base_patch16_siglip_224", SMALL_VIT, "vit", VIT, 32, [{"gelu": "tanh"}, {"norm_epsilon": 1e-5}]),
    "siglip_tanh": ("vit_base_patch32_siglip_256", SMALL_VIT, "vit", VIT, 32, [{"gelu": "exact"}]),
    "mixer": (
        "mixer_s32_224",
        {"num_classes": 10, "img_size": 64},
        "mixer",
        {"variant": "S/32"},
        64,
        [{"gelu": "tanh"}],
    ),
    "convnext": ("convnext_tiny", CONVNEXT, "convnext", OUR_CONVNEXT, 64, [{"gelu": "tanh"}, {"norm_epsilon": 1e-5}]),
    "convnext_clip": ("convnext_xxlarge", CONVNEXT, "convnext", OUR_CONVNEXT, 64, [{"norm_epsilon": 1e-6}]),
    "resnet50": (
        "resnet50",
        {"num_classes": 10},
        "resnet",
        {"variant": 50},
        64,
        [{"stride_in": "1x1"}],
    ),
    "resnet18d": ("resnet18d", {"num_classes": 10}, "resnet", {"variant": "18d"}, 64, []),
    "bit": ("resnetv2_50x1_bit", {"num_classes": 10}, "bit", {}, 64, [{"standardize_epsilon": 1e-10}]),
}


def logits_of(arrays, source, name, options, images):
    """Our logits of the arrays of a file."""
    x = jnp.asarray(images.permute(0, 2, 3, 1).numpy())
    model = models.build(name, 10, **options)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    variables = weights.import_weights(arrays, source, name, shapes).variables
    return np.asarray(jax.jit(lambda v, x: model.apply(v, x)[1]["logits"])(variables, x))


def error(got, want):
    """The largest difference, as a part of the largest value."""
    return np.abs(got - want).max() / np.abs(want).max()


@pytest.mark.parametrize("case", CASES)
def test_logits_are_timms_and_each_wrong_property_is_seen(torch, sensitive, case):
    import timm

    name_in_timm, their_options, name, size, side, wrong = CASES[case]
    reference = sensitive(timm.create_model(name_in_timm, **their_options))
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        want = reference(images).numpy()
    arrays = {key: value.numpy() for key, value in reference.state_dict().items()}
    stated = properties.stated(arrays, "timm", name, name_in_timm)
    right = properties.options({"name": name}, stated) | size
    model = models.build(name, 10, **right)
    assert properties.differences(properties.computed(model), stated, right) == []
    tolerance = bound("timm", name)
    assert error(logits_of(arrays, "timm", name, right, images), want) < tolerance
    for options in wrong:
        assert properties.differences(properties.computed(models.build(name, 10, **right | options)), stated, right)
        assert error(logits_of(arrays, "timm", name, right | options, images), want) > 5 * tolerance, options


@pytest.mark.parametrize("change", ["norm_epsilon", "padding", "antialias"])
def test_what_is_no_option_of_our_resnet_is_seen_too(torch, sensitive, change):
    """A network of the same arrays with another epsilon, padding or blur has other logits than ours."""
    import timm

    reference = sensitive(timm.create_model("resnetaa50" if change == "antialias" else "resnet18", num_classes=10))
    images = torch.randn(2, 3, 64, 64)
    for module in reference.modules():
        if change == "norm_epsilon" and isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-6
        strided = isinstance(module, torch.nn.Conv2d) and (module.stride, module.padding) == ((2, 2), (1, 1))
        if change == "padding" and strided:  # "SAME" of TensorFlow
            module.padding = (0, 0)
            module.register_forward_pre_hook(lambda _, x: torch.nn.functional.pad(x[0], (0, 1, 0, 1)))
    with torch.no_grad():
        want = reference(images).numpy()
    arrays = {key: value.numpy() for key, value in reference.state_dict().items()}
    variant = {"variant": 50 if change == "antialias" else 18}
    assert error(logits_of(arrays, "timm", "resnet", variant, images), want) > 5 * TOLERANCE


def test_blurred_strides_are_refused_by_name(torch, tmp_path):
    import timm
    from safetensors.torch import save_model

    save_model(timm.create_model("resnetaa50", num_classes=10), str(tmp_path / "in.safetensors"))
    run = functools.partial(
        convert.run_convert, tmp_path / "in.safetensors", tmp_path / "out", source="timm", model="resnet:50"
    )
    with pytest.raises(UserError, match=r"antialias: timm's resnetaa50 computes 'average' \(architecture resnetaa50\)"):
        run(architecture="resnetaa50")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnetaa50"}))
    with pytest.raises(UserError, match="antialias"):
        run()
    assert not (tmp_path / "out").exists()


# What a network of timm must have, and may have, for the table to read it.
READABLE = {
    "vit": (
        ("vision_transformer", "deit"),
        ("blocks.0.attn.qkv.bias", "norm1.bias"),
        r"(?:cls_token|pos_embed|dist_token|reg_token)$|(?:head|head_dist|patch_embed.proj|norm_pre|norm|fc_norm)\.|"
        r"attn_pool\.|blocks\.\d+\.(?:norm1|norm2|attn\.qkv|attn\.proj|attn\.[qk]_norm|mlp\.fc[12]|ls[12])\.",
    ),
    "mixer": (("mlp_mixer",), ("blocks.0.norm1.bias",), r"(?:stem\.proj|norm|head)\.|blocks\.\d+\.(?:norm|mlp_)"),
    "convnext": (
        ("convnext",),
        ("stages.0.blocks.0.mlp.fc1.weight", "stages.0.blocks.0.norm.bias"),
        r"(?:stem\.[01]|head\.norm|head\.fc|stages\.\d\.downsample\.[01])\.|"
        r"stages\.\d\.blocks\.\d+\.(?:conv_dw|norm|mlp\.fc[12])\.|stages\.\d\.blocks\.\d+\.gamma",
    ),
    "resnet": (
        ("resnet",),
        ("bn1.running_mean", "layer1.0.bn1.running_mean"),
        r"(?:conv1|bn1|fc)\.|layer\d\.\d+\.(?:conv\d|bn\d|se\.fc\d|downsample\.\d)\.",
    ),
    "resnet_v2": (
        ("resnetv2",),
        ("norm.running_mean",),
        r"(?:stem\.conv|norm|head\.fc)\.|stages\.\d\.blocks\.\d+\.(?:conv\d|norm\d|downsample\.conv)\.",
    ),
}
SHALLOW = {"vit": {"depth": 1}, "convnext": {"depths": (1, 1, 1, 1)}}
GELUS = {"QuickGELU": "quick", "GELUTanh": "tanh", "GELU": "exact"}


def computes(model):
    """What a network of timm computes, read off its modules."""
    kinds = [type(m).__name__ for m in model.modules()]
    computed = {"norm_epsilon": {m.eps for m in model.modules() if "Norm" in type(m).__name__ and hasattr(m, "eps")}}
    computed |= {"gelu": {GELUS[kind] for kind in kinds if kind in GELUS}}
    computed["antialias"] = {"blur" if "BlurPool2d" in kinds else "none"}
    strides = [m for m in model.modules() if type(m).__name__ in ("BasicBlock", "Bottleneck")]
    if any(type(getattr(block, "aa", None)).__name__ == "AvgPool2d" for block in strides):
        computed["antialias"] = {"average"}
    blocks = getattr(model, "blocks", ())
    computed["norm"] = {"behind each branch"} if any(type(b).__name__ == "ResPostBlock" for b in blocks) else set()
    return {name: values for name, values in computed.items() if values}


@pytest.mark.parametrize("name", READABLE)
def test_tables_say_what_timms_networks_compute(torch, name):
    """Every architecture of timm that has the names which the table reads, by its name alone."""
    import timm

    modules, required, allowed = READABLE[name]
    compared = 0
    for architecture in (a for module in modules for a in timm.list_models(module=module)):
        if name.startswith("resnet") and re.search(r"101|152|200|269|270|350|420|pruned", architecture):
            continue
        with torch.device("meta"):
            reference = timm.create_model(architecture, **SHALLOW.get(name, {}))
        names = [key for key in reference.state_dict() if not key.endswith("num_batches_tracked")]
        if not all(any(key.endswith(end) for key in names) for end in required):
            continue
        if not all(re.match(allowed, key) for key in names) or "RmsNorm" in str(reference):
            continue
        in_table = properties.stated(names, "timm", name, architecture)
        for key, values in computes(reference).items():
            if key == "antialias" and name != "resnet":
                continue
            if key == "gelu" and name.startswith("resnet"):
                continue
            assert {in_table[key].value} == values, (architecture, key, in_table[key])
        if name == "vit":
            size = SIZES.values()
            ours = {s.num_heads for s in size if (s.width, s.mlp_dim) == widths(reference)}
            heads = {b.attn.num_heads for b in reference.blocks}
            stated = {in_table["num_heads"].value} if "num_heads" in in_table else ours or heads
            assert stated == heads, (architecture, stated, heads)
        compared += 1
    assert compared >= {"vit": 90, "mixer": 6, "convnext": 5, "resnet": 15, "resnet_v2": 3}[name]


def widths(vit):
    return vit.embed_dim, vit.blocks[0].mlp.fc1.weight.shape[0]


@pytest.mark.parametrize("name", READABLE)
def test_mean_and_std_are_those_of_timms_weights(torch, name):
    import timm
    from timm.models import get_pretrained_cfg

    modules, _, _ = READABLE[name]
    for architecture in (a for m in modules for a in timm.list_models(module=m, pretrained=True)):
        theirs = get_pretrained_cfg(architecture)
        if not theirs.has_weights or "gmlp" in architecture:
            continue
        ours = preprocessing.stated((), "timm", name, architecture)
        assert (ours["mean"].value, ours["std"].value) == (theirs.mean, theirs.std), architecture


def test_preprocessing_is_that_of_torchvisions_weights(torch):
    import torchvision

    patterns = {"resnet": r"^(?:resnet|wide_resnet|resnext)\d+", "vit": r"^vit_"}
    for name, pattern in patterns.items():
        for model in (m for m in torchvision.models.list_models() if re.match(pattern, m)):
            for entry in torchvision.models.get_model_weights(model):
                theirs = entry.transforms()
                stated = preprocessing.stated((), "torchvision", name, f"{model}.{entry.name}")
                values = {key: x.value for key, x in stated.items()} | {"size": theirs.crop_size[0]}
                ours = preprocessing.make_preprocessing("torchvision", name, values)
                assert math.floor(ours.size / ours.crop) == theirs.resize_size[0], (model, entry.name)
                assert ours.interpolation == theirs.interpolation.value, (model, entry.name)
                assert (list(ours.mean), list(ours.std)) == (list(theirs.mean), list(theirs.std)), (model, entry.name)


def test_tables_know_the_quick_gelus_of_open_clip(torch):
    pytest.importorskip("open_clip", reason="parity with open_clip", exc_type=Exception)
    from open_clip.pretrained import _PRETRAINED

    for model in (m for m in _PRETRAINED if re.match(r"(?:RN|ViT-(?!.*SigLIP))", m)):
        for tag, config in _PRETRAINED[model].items():
            stated = properties.stated((), "open_clip", "text_transformer", f"{model}/{tag}")
            quick = config.get("quick_gelu", "quickgelu" in model)
            assert stated["gelu"].value == ("quick" if quick else "exact"), (model, tag)


@pytest.mark.parametrize(
    "name", ["B-32-SigLIP2-256", "L-16-SigLIP2-512", "L-16-SigLIP2-256", "B-16-SigLIP-i18n-256", "SO400M-14-SigLIP-384"]
)
def test_siglips_of_open_clip(torch, name):
    """GELUs of both towers and how images look, told by shapes, by the architecture and by the config beside them."""
    open_clip = pytest.importorskip("open_clip", reason="parity with open_clip", exc_type=Exception)
    from open_clip.pretrained import get_pretrained_cfg

    name = f"ViT-{name}"
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        reference = open_clip.CustomTextCLIP(**{key: x for key, x in config.items() if key != "custom_text"})
    arrays = {key: np.broadcast_to(np.float32(0), tuple(x.shape)) for key, x in reference.state_dict().items()}
    kinds = {"GELU(approximate='none')": "exact", "GELU(approximate='tanh')": "tanh", "GELUTanh()": "tanh"}
    mlps = {"image": reference.visual.trunk.blocks[0].mlp.act, "text": reference.text.transformer.resblocks[0].mlp.gelu}
    gelus = {f"{tower}.gelu": kinds[str(mlp)] for tower, mlp in mlps.items()}
    images = get_pretrained_cfg(name, "webli")
    for architecture in (None, f"{name}/webli"):
        stated = properties.stated(arrays, "open_clip", "two_towers", architecture)
        assert {key: stated[key].value for key in gelus} == gelus
        looks = preprocessing.stated(arrays, "open_clip", "two_towers", architecture)
        assert (looks["mean"].value, looks["std"].value) == (images["mean"], images["std"])
        assert (looks["interpolation"].value, looks["squash"].value) == (images["interpolation"], True)
        assert images["resize_mode"] == "squash"
    beside = preprocessing._open_clip("x.json", {"model_cfg": config}, "two_towers")
    assert {key: beside.options[key] for key in gelus} == gelus
    assert beside.images["size"] == config["vision_cfg"]["image_size"]


def test_of_images_that_patches_do_not_fill_timm_sees_the_corner(torch):
    import timm

    small = {**SMALL_VIT, "patch_size": 14, "img_size": 30}
    reference = timm.create_model("vit_tiny_patch16_224", **small).eval()
    x = torch.randn(1, 3, 30, 30)
    grey = x.clone()
    grey[..., 28:, :] = grey[..., 28:] = 0
    with torch.no_grad():
        assert torch.equal(reference(x), reference(grey))
        grey[..., 27, 27] = 9
        assert not torch.equal(reference(x), reference(grey))


CLIP = {"context_length": 9, "vocab_size": 20, "width": 64, "heads": 1, "layers": 2}
CLIP_TEXT = dict(variant="mu", width=64, depth=2, num_heads=1, vocab_size=20, length=9)
CLIP_VIT = dict(name="vit", variant="mu/8", width=64, depth=2, num_heads=1)
CLIP_RESNET = dict(name="clip_resnet", blocks=(1, 1, 1, 1), channels=16, features=32)
CLIP_IMAGES = {
    "vit": ({"image_size": 32, "layers": 2, "width": 64, "patch_size": 8}, CLIP_VIT, "linear", 32),
    "resnet": ({"image_size": 96, "layers": [1, 1, 1, 1], "width": 16}, CLIP_RESNET, "none", 96),
}


@pytest.mark.parametrize("source", ["config", "architecture"])
@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("image", CLIP_IMAGES)
def test_both_towers_of_open_clip(torch, sensitive, image, quick, source, tmp_path):
    """From their file to a folder, as on the command line, and to embeddings; another GELU would be seen."""
    open_clip = pytest.importorskip("open_clip", reason="parity with open_clip", exc_type=Exception)
    from safetensors.torch import save_model

    theirs, section, projection, side = CLIP_IMAGES[image]
    reference = sensitive(open_clip.CLIP(32, theirs, CLIP, quick_gelu=quick))
    images, tokens = torch.randn(2, 3, side, side), torch.randint(1, 19, (2, 9))
    with torch.no_grad():
        want = [reference.encode_image(images).numpy(), reference.encode_text(tokens).numpy()]
    save_model(reference, str(tmp_path / "in.safetensors"))
    if source == "config":
        config = {"model_cfg": {"vision_cfg": theirs, "text_cfg": CLIP, "quick_gelu": quick}}
        (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    text = {"name": "text_transformer", **CLIP_TEXT}
    options = [f"image={section}", f"text={text}", "embedding=32", f"image_projection={projection}"]
    name = None if source == "config" else "ViT-B-32-quickgelu" if quick else "ViT-B-32"
    run = functools.partial(convert.run_convert, tmp_path / "in.safetensors", source="open_clip", model="two_towers")
    meta = run(tmp_path / "out", options=options, architecture=name)
    assert meta["properties"]["text.gelu"] == ("quick" if quick else "exact")
    assert meta["preprocessing"]["size"] == side
    got = embeddings(tmp_path / "out", images, tokens)
    assert max(map(error, got, want)) < bound("open_clip", "two_towers")
    changed = options[:1] + [f"text={text | {'gelu': 'exact' if quick else 'quick'}}"] + options[2:]
    assert any(
        "NOTE: text.gelu" in note for note in run(tmp_path / "other", options=changed, architecture=name)["notes"]
    )
    assert error(embeddings(tmp_path / "other", images, tokens)[1], want[1]) > 5 * TOLERANCE


def embeddings(path, images, tokens):
    arrays, meta = folder.load(path)
    model = models.build(num_classes=None, **meta["model"])
    x, tokens = jnp.asarray(images.permute(0, 2, 3, 1).numpy()), jnp.asarray(tokens.numpy())
    shapes = jax.eval_shape(model.init, jax.random.key(0), x, tokens)
    variables = weights.import_weights(arrays, "jaxvision", "two_towers", shapes).variables
    out = jax.jit(lambda v: model.apply(v, x, tokens))(variables)
    return np.asarray(out["image_projection"]), np.asarray(out["text_projection"])


def cifar_resnet(torch, blocks, shortcut="zeros_centred"):
    """He et al. 2016, sec. 4.2, in torch, with the names and the shortcuts of akamaster's pytorch_resnet_cifar10."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.stride = stride

        def forward(self, x):
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            if self.stride > 1:
                b, c, h, w = x.shape
                wide = torch.zeros(b, 2 * c, h // 2, w // 2)
                start = c // 2 if shortcut == "zeros_centred" else 0
                wide[:, start : start + c] = x[:, :, ::2, ::2]
                x = wide
            return torch.relu(x + y)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
            for i, (inputs, outputs) in enumerate([(16, 16), (16, 32), (32, 64)], 1):
                first = Block(inputs, outputs, 1 if i == 1 else 2)
                layers = [first, *(Block(outputs, outputs, 1) for _ in range(blocks - 1))]
                setattr(self, f"layer{i}", nn.Sequential(*layers))
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            x = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))
            return self.linear(x.mean((2, 3)))

    return Net()


@pytest.mark.parametrize(("layers", "prefix"), [(20, "module."), (32, "")])
def test_published_resnets_of_cifar(torch, sensitive, layers, prefix, tmp_path):
    """As their file lies there, converted as on the command line; with the other shortcut it is another network."""
    reference = sensitive(cifar_resnet(torch, (layers - 2) // 6))
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        want = reference(images).numpy()
    arrays = {prefix + key: value.numpy() for key, value in reference.state_dict().items()}
    weights.write(tmp_path / "in.safetensors", arrays)
    run = functools.partial(convert.run_convert, tmp_path / "in.safetensors", model=f"resnet:{layers}")
    meta = run(tmp_path / "out", source="pytorch_resnet_cifar10")
    assert meta["model"]["shortcut"] == meta["properties"]["shortcut"] == "zeros_centred"
    assert meta["preprocessing"]["host"] == "decode|resize_short(32)|central_crop(32)"
    assert meta["preprocessing"]["mean"] == (0.485, 0.456, 0.406)
    filled = folder.load(tmp_path / "out")[0]

    def logits(**options):
        model = models.build(num_classes=10, **meta["model"] | options)
        x = jnp.asarray(images.permute(0, 2, 3, 1).numpy())
        shapes = jax.eval_shape(model.init, jax.random.key(0), x)
        variables = weights.import_weights(filled, "jaxvision", "resnet", shapes).variables
        return np.asarray(jax.jit(lambda v: model.apply(v, x)[1]["logits"])(variables))

    assert error(logits(), want) < bound("pytorch_resnet_cifar10", "resnet")
    assert error(logits(shortcut="A"), want) > 0.01
    converted = run(tmp_path / "told", source="pytorch_resnet_cifar10", options=["shortcut=A"])
    assert any("NOTE: shortcut='A' as you set it, but" in note for note in converted["notes"])


def test_an_unknown_shortcut_must_be_told(torch, sensitive, tmp_path):
    """The same network under torchvision's names: nothing tells where its zero channels lie, nor its mean."""
    reference = sensitive(cifar_resnet(torch, 3, "A"))
    arrays = {key.replace("linear.", "fc."): value.numpy() for key, value in reference.state_dict().items()}
    weights.write(tmp_path / "in.safetensors", arrays)
    run = functools.partial(convert.run_convert, tmp_path / "in.safetensors", source="torchvision", model="resnet:20")
    with pytest.raises(
        UserError, match=r"shortcut: neither the file .* --option=shortcut=..., 'A' .* or 'zeros_centred'"
    ):
        run(tmp_path / "out")
    with pytest.raises(UserError, match="--mean and --std"):
        run(tmp_path / "out", options=["shortcut=A"])
    meta = run(tmp_path / "out", options=["shortcut=A"], mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
    assert meta["preprocessing"]["size"] == 32
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        want = reference(images).numpy()
    assert error(logits_of(arrays, "torchvision", "resnet", {"variant": 20}, images), want) < TOLERANCE
