"""The preprocessing of images for weights from other libraries, as specs of host operations and augmentation."""

import inspect
import operator
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxvision import arguments
from jaxvision.errors import UserError, shown, unknown
from jaxvision.models.weights.presets import (
    BY_ARCHITECTURE,
    BY_NAMES,
    BYTES,
    CLIP,
    HALF,
    IMAGENET,
    PRESETS,
    Preprocessing,
)
from jaxvision.models.weights.table import Stated
from jaxvision.models.weights.torch_properties import CONVNEXT_PROPERTIES, VIT_PROPERTIES
from jaxvision.reading import read_json, reading

FILTERS = ("bilinear", "bicubic")
NORMALISATIONS = {"imagenet": IMAGENET, "inception": HALF, "clip": CLIP, "bytes": BYTES}


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
