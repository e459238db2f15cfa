"""The preprocessing of images for weights from other libraries, as specs of host operations and augmentation."""

import inspect
import math
import operator
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxvision import arguments
from jaxvision.errors import UserError, shown, unknown
from jaxvision.models.weights.table import Stated
from jaxvision.models.weights.torch_properties import CONVNEXT_PROPERTIES, VIT_PROPERTIES
from jaxvision.reading import read_json, reading

FILTERS = ("bilinear", "bicubic")
IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # [-1, 1]; "inception" in timm
CLIP: dict[str, Any] = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
BYTES: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}  # for networks that take 0 to 255
NORMALISATIONS = {"imagenet": IMAGENET, "inception": HALF, "clip": CLIP, "bytes": BYTES}


class Preprocessing(NamedTuple):
    """The preprocessing of images with which a network's accuracy was measured.

    Attributes:
      size: Side of the image that the network sees, in pixels.
      crop: Ratio of `size` to the shorter side of the resized image, from which the centre is cut, in (0, 1].
      interpolation: Filter of the resize, "bilinear" or "bicubic", antialiased.
      mean: Mean of each channel, for images in [0, 1].
      std: Standard deviation of each channel, for images in [0, 1].
      squash: True to resize the whole image to a square, without regard to its aspect ratio and to `crop`.
    """

    size: int = 224
    crop: float = 0.875
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET["mean"]
    std: tuple[float, ...] = IMAGENET["std"]
    squash: bool = False

    @property
    def host(self) -> str:
        """The spec of host operations.

        >>> Preprocessing(crop=0.9, interpolation="bicubic").host
        "decode|resize_short(248, method='bicubic')|central_crop(224)"
        """
        method = "" if self.interpolation == "bilinear" else f", method={self.interpolation!r}"
        if self.squash:
            return f"decode|resize({self.size}{method})"
        return f"decode|resize_short({math.floor(self.size / self.crop)}{method})|central_crop({self.size})"

    @property
    def augment(self) -> str:
        """The spec of augmentation.

        >>> Preprocessing(**HALF).augment
        'normalize(0.5, 0.5)'
        """
        mean, std = (values[0] if len(set(values)) == 1 else tuple(values) for values in (self.mean, self.std))
        return f"normalize({mean}, {std})"


# The usual preprocessing of a library's weights. Single ones differ; then a config next to them, or the user, says so.
PRESETS: dict[tuple[str, str], Preprocessing] = {
    ("timm", "vit"): Preprocessing(crop=0.9, interpolation="bicubic", **HALF),
    ("timm", "resnet"): Preprocessing(crop=0.95, interpolation="bicubic"),
    ("timm", "resnet_v2"): Preprocessing(crop=0.95, interpolation="bicubic", **HALF),
    ("timm", "bit"): Preprocessing(size=448, crop=1.0, **HALF),
    ("timm", "mixer"): Preprocessing(interpolation="bicubic", **HALF),
    ("timm", "resmlp"): Preprocessing(interpolation="bicubic"),
    ("timm", "gmlp"): Preprocessing(interpolation="bicubic", **HALF),
    ("timm", "swin"): Preprocessing(crop=0.9, interpolation="bicubic"),
    ("timm", "swin_v2"): Preprocessing(size=256, crop=0.9, interpolation="bicubic"),
    ("timm", "mvit_v2"): Preprocessing(crop=0.9, interpolation="bicubic"),
    ("timm", "convnext"): Preprocessing(interpolation="bicubic"),
    ("timm", "clip_resnet"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("timm", "vgg"): Preprocessing(),
    ("timm", "inception"): Preprocessing(size=299, interpolation="bicubic", **HALF),
    ("timm", "densenet"): Preprocessing(interpolation="bicubic"),
    ("timm", "senet"): Preprocessing(),
    ("timm", "darknet"): Preprocessing(size=256, crop=0.887, interpolation="bicubic"),
    ("torchvision", "alexnet"): Preprocessing(),
    ("torchvision", "vgg"): Preprocessing(),
    ("torchvision", "densenet"): Preprocessing(),
    # The published weights of these two are loaded with transform_input=True, which turns images normalised as
    # ImageNet's into images in [-1, 1]; the networks themselves see the latter.
    ("torchvision", "googlenet"): Preprocessing(**HALF),
    ("torchvision", "inception"): Preprocessing(size=299, crop=299 / 342, **HALF),
    ("torchvision", "vit"): Preprocessing(),
    ("torchvision", "convnext"): Preprocessing(),
    ("open_clip", "convnext"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("torchvision", "resnet"): Preprocessing(),
    ("dino", "vit"): Preprocessing(interpolation="bicubic"),  # eval_linear.py and eval_knn.py
    ("dino", "resnet"): Preprocessing(interpolation="bicubic"),
    ("dinov2", "vit"): Preprocessing(interpolation="bicubic"),  # data/transforms.py
    ("moco", "vit"): Preprocessing(),
    ("moco", "resnet"): Preprocessing(),
    ("big_vision", "vit"): Preprocessing(**HALF),
    ("big_vision", "mixer"): Preprocessing(**HALF),
    ("openai_clip", "vit"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("openai_clip", "clip_resnet"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("open_clip", "vit"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("open_clip", "clip_resnet"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("openai_clip", "two_towers"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("open_clip", "two_towers"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("big_vision", "two_towers"): Preprocessing(squash=True, **HALF),  # SigLIP: "resize(224)|value_range(-1, 1)"
    ("keras", "mlperf_resnet8"): Preprocessing(size=32, crop=1.0, **BYTES),
    ("lenet5", "lenet"): Preprocessing(size=32, crop=1.0, mean=(0.0,), std=(1.0,)),  # one grey channel
    ("bit", "bit"): Preprocessing(size=480, squash=True, **HALF),  # bit_hyperrule.py: the whole image, after tuning
    ("pytorch_resnet_cifar10", "resnet"): Preprocessing(size=32, crop=1.0, **IMAGENET),  # the authors' mean of ImageNet
}
ZERO_ONE = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
UNSTATED = {"mean": None, "std": None}
SIGLIP_384 = (r"^ViT-SO400M-14-SigLIP-384", {"size": 384})
# Exceptions by the library's own name of a network and its weights: (pattern, attributes); later ones win.
# tests/parity/test_properties.py compares mean and std with timm's registry, all with torchvision's.
BY_ARCHITECTURE: dict[tuple[str, str], tuple[tuple[str, dict[str, Any]], ...]] = {
    ("timm", "vit"): (
        (r"^vit_so400m_patch14_siglip_(?:gap_)?384", {"size": 384}),
        (r"_clip_|^aimv2|^eva_large|\.bamboo$|_radio_", CLIP),
        (r"^vit_large_patch14_clip_(?:224|336)\.laion2b(?:_ft|$)", HALF),
        (r"^beit3|^deit|dinov2|\.dino$|\.mae$|ijepa|_intern300m", IMAGENET),
        (r"tipsv2|_miil", ZERO_ONE),
    ),
    ("timm", "convnext"): ((r"\.clip_|_large_mlp|_xxlarge", CLIP), (r"_zepto|^test_", HALF)),
    ("timm", "resnet"): ((r"\.ra4_e3600|^test_", HALF),),
    ("timm", "inception"): (
        (r"^inception_resnet_v2", {"crop": 0.8975}),
        (r"^(?:gluon_inception_v3|inception_v3\.gluon)", IMAGENET),
    ),
    ("timm", "senet"): ((r"^senet154", {"interpolation": "bicubic"}),),
    ("torchvision", "vgg"): (
        (r"IMAGENET1K_FEATURES$", {"mean": (0.48235, 0.45882, 0.40784), "std": (1 / 255, 1 / 255, 1 / 255)}),
    ),
    ("timm", "mixer"): ((r"\.miil", ZERO_ONE), (r"^resmlp|^gmixer", IMAGENET)),
    ("open_clip", "vit"): (SIGLIP_384,),
    ("open_clip", "two_towers"): (SIGLIP_384,),
    ("torchvision", "resnet"): ((r"IMAGENET1K_V2$|^(?:ResNeXt101_64X4D|resnext101_64x4d)", {"crop": 0.965}),),
    ("torchvision", "vit"): (
        (r"(?i)^vit_l_16(?:_Weights)?\.IMAGENET1K_V1$", {"crop": 0.925}),
        (r"SWAG_", {"crop": 1.0, "interpolation": "bicubic"}),
    ),
}
# Exceptions by names in the file. Among open_clip's ViTs of timm, only SigLIP's pool by attention.
SIGLIP = (r"^visual\.trunk\.attn_pool\.", {**HALF, "squash": True})
BY_NAMES: dict[tuple[str, str], tuple[tuple[str, dict[str, Any]], ...]] = {
    ("open_clip", "vit"): (SIGLIP,),
    ("open_clip", "two_towers"): (SIGLIP,),
    ("timm", "vit"): ((r"^norm_pre\.", CLIP), (r"^dist_token$|^mask_token$", IMAGENET)),
    # With projections, other collections have the same names and prepare images in other ways.
    ("pytorch_resnet_cifar10", "resnet"): ((r"\.shortcut\.0\.", UNSTATED),),
}


def preset(source: str, model: str) -> Preprocessing:
    """Returns the usual preprocessing of a library's weights of a model.

    Args:
      source: Library of the weights.
      model: Name of our model.

    >>> preset("timm", "vit").mean
    (0.5, 0.5, 0.5)
    """
    return PRESETS.get((source, model), Preprocessing())


class Neighbour(NamedTuple):
    """The content of a config next to the weights.

    Attributes:
      file: Name of the config, or "" if there is none.
      architecture: Library's own name of the network, or None.
      options: Properties of the network, by the names of `properties.computed`.
      images: Attributes of `Preprocessing`.
    """

    file: str = ""
    architecture: str | None = None
    options: Mapping[str, Any] = MappingProxyType({})
    images: Mapping[str, Any] = MappingProxyType({})


def read_neighbour(path: str | Path, source: str, model: str) -> Neighbour:
    """Reads the config next to weights: timm's `config.json` or open_clip's `open_clip_config.json`.

    Args:
      path: Path of the weights.
      source: Library of the weights.
      model: Name of our model.

    Raises:
      UserError: A config that is not JSON, or not of the form that these libraries write.
    """
    config = Path(path).parent / {"timm": "config.json", "open_clip": "open_clip_config.json"}.get(source, "")
    if not config.is_file():
        return Neighbour()
    content = read_json(config)
    with reading(config):
        return _open_clip(config.name, content, model) if source == "open_clip" else _timm(config, content)


def _timm(config: Path, content: Mapping[str, Any]) -> Neighbour:
    tag = content.get("pretrained_cfg", {}).get("tag")
    name = content.get("architecture", content.get("pretrained_cfg", {}).get("architecture"))
    gelu = GELUS.get(content.get("model_args", {}).get("act_layer"))
    return Neighbour(
        config.name, f"{name}.{tag}" if name and tag else name, {"gelu": gelu} if gelu else {}, read_timm_config(config)
    )


GELUS = {"gelu": "exact", "gelu_tanh": "tanh", "gelu_pytorch_tanh": "tanh", "quick_gelu": "quick"}


def _open_clip(file: str, content: Mapping[str, Any], model: str) -> Neighbour:
    whole, images = content.get("model_cfg", {}), content.get("preprocess_cfg", {})
    options: dict[str, Any] = {}
    for part in ("image", "text"):
        tower = whole.get({"image": "vision_cfg", "text": "text_cfg"}[part], {})
        if network := tower.get("timm_model_name"):
            options |= {f"{part}.{key}": value for key, value in _timm_options(network).items()}
        elif not isinstance(tower.get("layers"), list):
            tanh = tower.get("act_kwargs", {}).get("approximate") == "tanh"
            options[f"{part}.gelu"] = "quick" if whole.get("quick_gelu") else "tanh" if tanh else "exact"
            epsilon = {**tower.get("norm_kwargs", {}), **(tower.get("ln_kwargs") or {})}.get("eps")
            options |= {f"{part}.norm_epsilon": float(epsilon)} if epsilon else {}
        options |= {f"{part}.causal": False} if tower.get("no_causal_mask") else {}
        if part == "text" and "heads" in tower:
            options["text.num_heads"] = operator.index(tower["heads"])
        if part == "image" and "head_width" in tower:
            options["image.head_width"] = operator.index(tower["head_width"])
        if tower.get("final_ln_after_pool"):
            options[f"{part}.norm"] = "behind the mean of the tokens"
    # A tower by itself has the names without "image." or "text."; a model of both keeps them.
    prefix = {"vit": "image.", "clip_resnet": "image.", "text_transformer": "text."}.get(model, "")
    options = {name.removeprefix(prefix): x for name, x in options.items() if name.startswith(prefix)}
    attributes: dict[str, Any] = {name: tuple(images[name]) for name in ("mean", "std") if name in images}
    attributes |= {"interpolation": images["interpolation"]} if "interpolation" in images else {}
    attributes |= {"squash": images["resize_mode"] == "squash"} if "resize_mode" in images else {}
    size = whole.get("vision_cfg", {}).get("image_size")
    return Neighbour(file, None, options, attributes | ({"size": size} if isinstance(size, int) else {}))


def _timm_options(network: str) -> dict[str, Any]:
    """Returns the GELU and the epsilon of a network of timm, by its name there.

    >>> _timm_options("vit_base_patch32_siglip_256")["gelu"], _timm_options("vit_base_patch16_siglip_256")["gelu"]
    ('tanh', 'exact')
    """
    if not (kind := re.match(r"vit|convnext", network)):
        return {}
    properties = {"vit": VIT_PROPERTIES, "convnext": CONVNEXT_PROPERTIES}[kind[0]]
    options: dict[str, Any] = {"gelu": "exact", "norm_epsilon": 1e-6}
    for pattern, values in properties["architectures"]:
        options |= {key: x for key, x in values.items() if key in options and re.search(pattern, network)}
    return options


def read_timm_config(path: str | Path) -> dict[str, Any]:
    """Reads the preprocessing from the `config.json` next to timm's weights.

    Args:
      path: Path of the `config.json`.

    Returns:
      The attributes of `Preprocessing` that it states, in its `pretrained_cfg` or at its top.

    Raises:
      UserError: A file that is not JSON.
    """
    content = read_json(path)
    config = content.get("pretrained_cfg", content)
    keys = {"crop": "crop_pct", "interpolation": "interpolation"}
    with reading(path):
        attributes = {name: config[key] for name, key in keys.items() if key in config}
        attributes |= {name: tuple(config[name]) for name in ("mean", "std") if name in config}
        return attributes | ({"size": config["input_size"][-1]} if "input_size" in config else {})


def stated(names: Iterable[str], source: str, model: str, architecture: str | None = None) -> dict[str, Stated]:
    """Returns the preprocessing of images, attribute by attribute, each with its source.

    Args:
      names: Names of the arrays in the file.
      source: Library of the weights.
      model: Name of our model.
      architecture: Library's own name of the network, with the tag of its weights after a dot; None if it is unknown.

    Returns:
      Values by the attributes of `Preprocessing`; the value None means that no source states it.

    >>> stated(["norm_pre.weight"], "timm", "vit")["mean"].by
    'names in the file'
    """
    names = list(names)
    attributes = {name: Stated(x, f"usual of {source}") for name, x in preset(source, model)._asdict().items()}
    for pattern, values in BY_NAMES.get((source, model), ()):
        if any(re.search(pattern, name) for name in names):
            attributes |= {name: Stated(value, "names in the file") for name, value in values.items()}
    for pattern, values in BY_ARCHITECTURE.get((source, model), ()):
        if architecture and re.search(pattern, architecture):
            attributes |= {name: Stated(value, f"architecture {architecture}") for name, value in values.items()}
    return attributes


def expand(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces the name `normalize` by the mean and std that it stands for.

    Args:
      attributes: Attributes of `Preprocessing`, and `normalize`, a key of `NORMALISATIONS`. An explicit mean or std
        replaces that of the name.

    Raises:
      UserError: An unknown name.

    >>> expand({"normalize": "inception", "size": 32})["mean"]
    (0.5, 0.5, 0.5)
    """
    explicit = dict(attributes)
    name = explicit.pop("normalize", None)
    if name is not None and name not in NORMALISATIONS:
        raise unknown("normalisation", name, NORMALISATIONS)
    return {**NORMALISATIONS.get(name, {}), **explicit}


def make_preprocessing(source: str, model: str, attributes: Mapping[str, Any]) -> Preprocessing:
    """Makes the usual preprocessing of a library's weights, with some attributes replaced.

    Args:
      source: Library of the weights.
      model: Name of our model.
      attributes: Attributes of `Preprocessing`, or `normalize`, a key of `NORMALISATIONS`, for mean and std.

    Raises:
      UserError: A filter that host operations lack, a value out of range, or a mean or std of None.

    >>> make_preprocessing("timm", "vit", {"size": 384, "crop": 1.0}).host
    "decode|resize_short(384, method='bicubic')|central_crop(384)"
    """
    result = preset(source, model)._replace(**expand(attributes))
    if result.mean is None or result.std is None:
        raise UserError(
            f"the normalisation of images for these weights is unknown: {source}'s usual mean and std are for another "
            "kind of network. Set --mean and --std, for images in [0, 1], as in the training code, or "
            f"--normalize={'|'.join(NORMALISATIONS)}"
        )
    for name, annotation in inspect.get_annotations(Preprocessing).items():
        arguments.check_value(f"{name} of the images", getattr(result, name), annotation)
    if result.interpolation not in FILTERS:
        raise unknown("interpolation", result.interpolation, FILTERS)
    if not 1 <= result.size <= arguments.MAX_SIDE:
        raise UserError(f"size is a number of pixels, at most {arguments.MAX_SIDE:,}, not {shown(result.size)}")
    if not 0 < result.crop <= 1:
        raise UserError(
            f"crop is the part of the shorter side that is kept, above 0 and at most 1, not {result.crop!r}"
        )
    if len(result.mean) != len(result.std) or min(result.std) <= 0:
        raise UserError(f"mean {result.mean} and std {result.std} must have one value per channel, and std above 0")
    return result
