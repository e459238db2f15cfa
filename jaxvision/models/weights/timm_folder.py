"""A folder that timm opens, `timm.create_model("local-dir:FOLDER", pretrained=True)`: weights and their config.

The same folder can be pushed to the Hugging Face Hub. The names of networks are timm's; `our_model` reads them, and
`network` finds them for weights of ours.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxvision import storage
from jaxvision.errors import UserError
from jaxvision.models.weights import files
from jaxvision.storage import Path

WEIGHTS, CONFIG = "model.safetensors", "config.json"
# Our size of a transformer -> timm's word.
_SIZES = {"Ti": "tiny", "S": "small", "B": "base", "L": "large", "H": "huge", "g": "giant", "G": "gigantic"}
_VIT = re.compile(r"(?:vit|deit|deit3)_(tiny|small|base|large|huge|giant|gigantic)_patch(\d+)_")
_MIXER = re.compile(r"mixer_([sbl])(\d+)_")
_BIT = re.compile(r"resnetv2_(\d+)x(\d)_bit")
_RESNETS = {
    **{f"{layers}{d}": f"resnet{layers}{d}" for layers in (18, 34, 50, 101, 152) for d in ("", "d")},
    **{f"se{layers}": f"seresnet{layers}" for layers in (18, 34, 50, 101, 152)},
    **{f"wide{name}": f"wide_resnet{name}" for name in ("50_2", "101_2")},
    **{name: name for name in ("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d")},
}
_CONVNETS = {
    **{f"vgg{layers}{norm}": f"vgg:{layers}{norm}" for layers in (11, 13, 16, 19) for norm in ("", "_bn")},
    **{f"inception_{variant}": f"inception:{variant}" for variant in ("v3", "v4", "resnet_v2")},
    **{f"densenet{layers}": f"densenet:{layers}" for layers in (121, 161, 169, 201)},
    **{"legacy_senet154": "senet:154", "senet154": "senet:154", "darknet53": "darknet:53"},
    "nasnetalarge": "nasnet:large",
}
# Our model and variant -> timm's name by width. With "tf_" before it, norms and padding are TensorFlow's.
_MOBILE: dict[str, dict[float | None, str]] = {
    "mobilenet_v1": {1.0: "mobilenetv1_100", 1.25: "mobilenetv1_125"},
    "mobilenet_v2": {w: f"mobilenetv2_{100 * w:03.0f}" for w in (0.35, 0.5, 0.75, 1.0, 1.4)},
    **{f"mobilenet_v3:{v}": {w: f"mobilenetv3_{v}_{100 * w:03.0f}" for w in (0.75, 1.0)} for v in ("large", "small")},
    # A size of EfficientNet is a width of its own, so the option is None.
    **{f"efficientnet:{v}": {None: f"efficientnet_{v.lower()}"} for v in (*(f"B{i}" for i in range(8)), "L2")},
}
_OF_TENSORFLOW = ("mobilenetv3_", "efficientnet_")
_ACTIVATIONS = {"exact": "gelu", "tanh": "gelu_tanh", "quick": "quick_gelu"}
# First and last layer of a network, by our model or by timm's name, which timm replaces for other channels or classes.
_LAYERS = {
    "vit": ("patch_embed.proj", "head"),
    "mixer": ("stem.proj", "head"),
    "resnet": ("conv1", "fc"),
    "convnext": ("stem.0", "head.fc"),
    "resnet_v2": ("stem.conv", "head.fc"),
    "bit": ("stem.conv", "head.fc"),
    "mobilenet_v1": ("conv_stem", "classifier"),
    "mobilenet_v2": ("conv_stem", "classifier"),
    "mobilenet_v3": ("conv_stem", "classifier"),
    "efficientnet": ("conv_stem", "classifier"),
    "vgg": ("features.0", "head.fc"),
    "inception_v3": ("Conv2d_1a_3x3.conv", "fc"),
    "inception_v4": ("features.0.conv", "last_linear"),
    "inception_resnet_v2": ("conv2d_1a.conv", "classif"),
    "densenet": ("features.conv0", "classifier"),
    "senet": ("layer0.conv1", "last_linear"),
    "darknet": ("stem.conv1.conv", "head.fc"),
}
# Our pooling of a ViT -> timm's `global_pool`.
POOLS = {"token": "token", "gap": "avg", "map": "map"}


class Network(NamedTuple):
    """A network of timm.

    Attributes:
      name: Name of its constructor.
      args: Arguments that differ from those of the constructor.
    """

    name: str
    args: dict[str, Any]


def our_model(architecture: str) -> str | None:
    """Returns "NAME:VARIANT" of our model for a network of timm, or None for one that is not known by its name alone.

    Args:
      architecture: timm's name, with or without the tag of its weights.

    >>> our_model("vit_base_patch16_224.augreg_in21k"), our_model("resnet50d"), our_model("beit_base")
    ('vit:B/16', 'resnet:50d', None)
    >>> our_model("vgg16_bn.tv_in1k"), our_model("inception_v3.tv_in1k")
    ('vgg:16_bn', 'inception:v3')
    >>> our_model("mobilenetv2_140.ra_in1k"), our_model("tf_efficientnet_b3.ns_jft_in1k")
    ('mobilenet_v2', 'efficientnet:B3')
    >>> our_model("swinv2_tiny_window8_256.ms_in1k"), our_model("resmlp_big_24_224"), our_model("gmlp_ti16_224")
    ('swin_v2:tiny', 'resmlp:B24', 'gmlp:Ti/16')
    """
    name = architecture.partition(".")[0]
    if match := _VIT.match(name):
        return f"vit:{next(ours for ours, theirs in _SIZES.items() if theirs == match[1])}/{match[2]}"
    if match := _MIXER.match(name):
        return f"mixer:{match[1].upper()}/{match[2]}"
    if match := _BIT.match(name):
        return f"bit:R{match[1]}x{match[2]}"
    if match := re.fullmatch(r"convnext_(tiny|small|base|large|xlarge)", name):
        return f"convnext:{match[1]}"
    if match := re.fullmatch(r"resnetv2_(50|101|152)", name):
        return f"resnet_v2:{match[1]}"
    if match := re.fullmatch(r"swin_(tiny|small|base|large)_patch4_window\d+_\d+", name):
        return f"swin:{match[1]}"
    if match := re.fullmatch(r"swinv2_(tiny|small|base)_window\d+(?:to\d+)?_\d+", name):
        return f"swin_v2:{match[1]}"
    if match := re.fullmatch(r"resmlp_(big_)?(12|24|36)_224", name):
        return f"resmlp:{'B' if match[1] else 'S'}{match[2]}"
    if match := re.fullmatch(r"gmlp_(ti|s|b)16_224", name):
        return f"gmlp:{match[1].capitalize()}/16"
    if match := re.fullmatch(r"mvitv2_(tiny|small|base)", name):
        return f"mvit_v2:{match[1]}"
    if name in _CONVNETS:
        return _CONVNETS[name]
    plain = name.removeprefix("tf_") if name.startswith(tuple(f"tf_{kind}" for kind in _OF_TENSORFLOW)) else name
    if found := next((ours for ours, theirs in _MOBILE.items() if plain in theirs.values()), None):
        return found
    return next((f"resnet:{ours}" for ours, theirs in _RESNETS.items() if theirs == name), None)


def network(
    section: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    properties: Mapping[str, Any],
    size: tuple[int, int],
    pool: str | None = None,
) -> Network:
    """Returns the network of timm that takes some weights.

    Args:
      section: Section `model` of a config.
      arrays: Arrays of any shape by timm's names.
      properties: Properties of our model, from `properties.computed`.
      size: (height, width) of the images.
      pool: Kind of pooling of a ViT, an option of `vit`; None for other models.

    Raises:
      UserError: timm has no network of this form.
    """
    name, variant = section["name"], str(section.get("variant", ""))
    if name == "vit":
        return _vit(arrays, properties, size, pool)
    if name == "mixer" and variant.partition("/")[0] in ("S", "B", "L"):
        kind, _, patch = variant.partition("/")
        width, depth = arrays["stem.proj.weight"].shape[0], _count(arrays, r"blocks\.(\d+)\.")
        known = {"S": (512, 8), "B": (768, 12), "L": (1024, 24)}[kind] == (width, depth)
        base = f"mixer_{kind.lower()}{patch}_224" if patch in ("16", "32") else f"mixer_{kind.lower()}16_224"
        args = _image_size(size) | ({} if patch in ("16", "32") else {"patch_size": int(patch)})
        args |= {} if properties.get("gelu") == "exact" else {"act_layer": _ACTIVATIONS[properties["gelu"]]}
        if known and (kind != "L" or patch in ("16", "32")):
            return Network(base, args)
    if name in ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3", "efficientnet"):
        return _mobile(section, arrays, properties)
    simple = {
        "resnet": _RESNETS.get(variant),
        "convnext": f"convnext_{variant}" if variant else None,
        "resnet_v2": f"resnetv2_{variant}" if variant in ("50", "101", "152") else None,
        "bit": "resnetv2_{}x{}_bit".format(*variant[1:].split("x")) if re.fullmatch(r"R\d+x\d", variant) else None,
    }.get(name, next((theirs for theirs, ours in _CONVNETS.items() if ours == f"{name}:{variant}"), None))
    changed = {key for key in section.keys() & _SIZED if section[key] not in (None, False)}
    if simple is None or changed:
        raise _no_network(name, variant, changed)
    return Network(simple, {})


# Options that make a network another one than its variant says, unless they are None or False.
_SIZED = {"width", "blocks", "channels", "stem", "shortcut", "groups", "norm", "width_per_group"}
_SIZED |= {"hidden", "growth", "aux"}


def _no_network(name: str, variant: str, changed: Iterable[str]) -> UserError:
    return UserError(
        f"timm has no network of the form {name}:{variant}"
        + (f" with another {', '.join(sorted(changed))}" if changed else "")
        + ": give its name there, --architecture=NAME, if there is one"
    )


def _mobile(section: Mapping[str, Any], arrays: Mapping[str, np.ndarray], properties: Mapping[str, Any]) -> Network:
    """A MobileNet or EfficientNet of timm, with its epsilon and padding."""
    name, variant = section["name"], str(section.get("variant", ""))
    form = f"{name}:{variant}" if variant else name
    width = section.get("width", None if name == "efficientnet" else 1.0)
    network = _MOBILE.get(form, {}).get(width)
    changed = {key for key in ("blocks", "last", "depth") if section.get(key) is not None}
    changed |= {"width"} if network is None and form in _MOBILE else set()
    changed |= {"stem_stride"} if section.get("stem_stride", 2) != 2 else set()
    if name == "mobilenet_v3" and len(arrays["conv_head.weight"]) != {"large": 1280, "small": 1024}.get(variant):
        changed.add("hidden")
    if network is None or changed:
        raise _no_network(name, variant, changed)
    epsilon, padding = properties["norm_epsilon"], properties["padding"]
    if (epsilon, padding) == (1e-3, "SAME") and network.startswith(_OF_TENSORFLOW):
        return Network(f"tf_{network}", {})
    args = {"bn_eps": epsilon} if epsilon != 1e-5 else {}
    return Network(network, args | ({"pad_type": "same"} if padding == "SAME" else {}))


def pooling(pool: str | None, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns timm's arguments about the pooling of a ViT, which not all follow from the names of the arrays.

    Args:
      pool: Kind of pooling, an option of `vit`.
      arrays: Arrays of any shape by timm's names.

    Raises:
      UserError: timm has no such pooling.
    """
    if pool not in POOLS:
        raise UserError(f"timm has no ViT with pool={pool!r}: a folder can be written for pool={', '.join(POOLS)}")
    return {"global_pool": POOLS[pool], "fc_norm": "fc_norm.weight" in arrays}


def _vit(
    arrays: Mapping[str, np.ndarray], properties: Mapping[str, Any], size: tuple[int, int], pool: str | None
) -> Network:
    projection = arrays["patch_embed.proj.weight"]
    width, patch = int(projection.shape[0]), int(projection.shape[-1])
    if "pos_embed" not in arrays:
        raise UserError("timm's ViT has learned positions: these weights have none, so no folder can be written for it")
    if any(re.match(r"blocks\.\d+\.(?:attns|ffns)\.|dist_token", name) for name in arrays):
        raise UserError("give timm's name of this network, --architecture=NAME: it is not a plain ViT")
    token, registers = "cls_token" in arrays, arrays.get("reg_token")
    if properties.get("norm_epsilon") != 1e-6:
        raise UserError(
            f"the norms have an epsilon of {properties.get('norm_epsilon')}, which timm's config cannot say: give a "
            "network of timm that has it, --architecture=NAME, such as vit_base_patch32_clip_224"
        )
    if "patch_embed.proj.bias" not in arrays and "norm_pre.weight" not in arrays:
        raise UserError(
            "timm's plain ViT has a bias in the patch embedding: no folder can be written for patch_bias=False without "
            "pre_norm=True"
        )
    mlp = int(arrays["blocks.0.mlp.fc1.weight"].shape[0])
    args: dict[str, Any] = {
        "patch_size": patch,
        "embed_dim": width,
        "depth": _count(arrays, r"blocks\.(\d+)\."),
        "num_heads": int(properties["num_heads"]),
        "mlp_ratio": mlp / width,
        "class_token": token,
        "act_layer": _ACTIVATIONS[properties["gelu"]],
        **pooling(pool, arrays),
        **_image_size(size),
    }
    args["final_norm"] = "norm.weight" in arrays or args["fc_norm"]
    if "norm_pre.weight" in arrays:
        args["pre_norm"] = True
    if "blocks.0.ls1.gamma" in arrays:
        args["init_values"] = 1e-5
    if "blocks.0.attn.q_norm.weight" in arrays:
        args["qk_norm"] = True
    if registers is not None:
        args["reg_tokens"] = int(registers.shape[-2])
    tokens = int(token) + args.get("reg_tokens", 0)
    grid = (size[0] // patch) * (size[1] // patch)
    positions = int(arrays["pos_embed"].shape[-2])
    if tokens and positions == grid:
        args["no_embed_class"] = True
    elif positions != grid + tokens:
        raise UserError(
            f"these weights have {positions} positions. timm's ViT of images of {size[0]}x{size[1]} pixels has {grid}, "
            f"one for each patch, or {grid + tokens}, one for each class token and register too: no folder can be "
            "written (registers go with cls_position=False or without a class token)"
        )
    return Network("vit_base_patch16_224", args)


def save(
    out: Path,
    arrays: Mapping[str, np.ndarray],
    net: Network,
    *,
    model: str,
    num_classes: int | None,
    classes: list[str],
    images: Mapping[str, Any],
) -> None:
    """Writes the folder: first the weights, then the config.

    Args:
      out: New folder.
      arrays: Arrays of any shape by timm's names.
      net: Network that takes them.
      model: Name of our model.
      num_classes: Number of classes; None for no classifier.
      classes: Names of the classes; may be empty.
      images: Keys of `pretrained_cfg` about images.
    """
    first, last = _LAYERS.get(net.name) or _LAYERS.get(model) or (None, None)
    fixed = model in ("vit", "mixer")
    stated = {**images, "fixed_input_size": fixed, "first_conv": first, "classifier": last, "custom_load": False}
    config = {
        "architecture": net.name,
        "num_classes": num_classes or 0,
        "model_args": net.args,
        "pretrained_cfg": {**stated, "num_classes": num_classes or 0},
        **({"label_names": classes} if classes else {}),
    }
    storage.make_folder(out)
    files.write(out / WEIGHTS, arrays)
    storage.write(out / CONFIG, json.dumps(config, indent=2) + "\n")


def _image_size(size: tuple[int, int]) -> dict[str, Any]:
    return {} if size == (224, 224) else {"img_size": size[0] if size[0] == size[1] else list(size)}


def _count(arrays: Mapping[str, np.ndarray], pattern: str) -> int:
    """One more than the largest number of a block among the names."""
    return 1 + max(int(match[1]) for name in arrays if (match := re.match(pattern, name)))
