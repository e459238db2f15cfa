"""What images must look like for weights that were trained elsewhere, as specs of host operations and augmentation."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxvision.errors import UserError, unknown

FILTERS = ("bilinear", "bicubic")
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # [-1, 1]; "inception" in timm
CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
BYTES = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}  # the network takes 0 to 255
NORMALISATIONS = {"imagenet": IMAGENET, "inception": HALF, "clip": CLIP, "bytes": BYTES}


class Preprocessing(NamedTuple):
    """How an image was brought to the network when its accuracy was measured.

    Attributes:
      size: side of the image that the network sees, in pixels.
      crop: `size` divided by the shorter side from which the middle is cut.
      interpolation: filter of the resize, antialiased.
      squash: the whole image is resized to a square, whatever its aspect ratio, and `crop` plays no part.
      mean, std: of each channel, for images in [0, 1].
    """

    size: int = 224
    crop: float = 0.875
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET["mean"]
    std: tuple[float, ...] = IMAGENET["std"]
    squash: bool = False

    @property
    def host(self) -> str:
        """As a spec of host operations.

        >>> Preprocessing(crop=0.9, interpolation="bicubic").host
        "decode|resize_short(248, method='bicubic')|central_crop(224)"
        """
        method = "" if self.interpolation == "bilinear" else f", method={self.interpolation!r}"
        if self.squash:
            return f"decode|resize({self.size}{method})"
        return f"decode|resize_short({math.floor(self.size / self.crop)}{method})|central_crop({self.size})"

    @property
    def augment(self) -> str:
        """As a spec of augmentation.

        >>> Preprocessing(**HALF).augment
        'normalize(0.5, 0.5)'
        """
        mean, std = (values[0] if len(set(values)) == 1 else tuple(values) for values in (self.mean, self.std))
        return f"normalize({mean}, {std})"


# What most weights of a library were judged with; single ones differ, and `read_timm_config` or the user knows better.
PRESETS: dict[tuple[str, str], Preprocessing] = {
    ("timm", "vit"): Preprocessing(crop=0.9, interpolation="bicubic", **HALF),
    ("timm", "resnet"): Preprocessing(crop=0.95, interpolation="bicubic"),
    ("timm", "resnet_v2"): Preprocessing(crop=0.95, interpolation="bicubic"),
    ("timm", "bit"): Preprocessing(size=448, crop=1.0, **HALF),
    ("timm", "mixer"): Preprocessing(interpolation="bicubic", **HALF),
    ("timm", "convnext"): Preprocessing(interpolation="bicubic"),
    ("timm", "clip_resnet"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("torchvision", "vit"): Preprocessing(),
    ("torchvision", "convnext"): Preprocessing(),
    ("open_clip", "convnext"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("torchvision", "resnet"): Preprocessing(),
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
    ("bit", "bit"): Preprocessing(size=480, crop=1.0, **HALF),
}


def preset(source: str, model: str) -> Preprocessing:
    """The usual preprocessing of a library's weights of a model.

    >>> preset("timm", "vit").mean
    (0.5, 0.5, 0.5)
    """
    return PRESETS.get((source, model), Preprocessing())


def read_timm_config(path: str | Path) -> dict[str, Any]:
    """Reads the preprocessing from the `config.json` that stands beside timm's weights.

    Returns:
      Those attributes of `Preprocessing` that it states, in its `pretrained_cfg` or at its top.

    Raises:
      UserError: it is no JSON.
    """
    try:
        content = json.loads(Path(path).read_text())
    except ValueError as error:
        raise UserError(f"cannot read {path}: {error}") from None
    config = content.get("pretrained_cfg", content)
    keys = {"crop": "crop_pct", "interpolation": "interpolation"}
    found = {name: config[key] for name, key in keys.items() if key in config}
    found |= {name: tuple(config[name]) for name in ("mean", "std") if name in config}
    return found | ({"size": config["input_size"][-1]} if "input_size" in config else {})


def make(source: str, model: str, given: Mapping[str, Any]) -> Preprocessing:
    """The preset of a library's weights with what is `given` in place of its values.

    Args:
      source: of the weights.
      model: name of our model.
      given: attributes of `Preprocessing`, or `normalize`, a key of `NORMALISATIONS`, for mean and std.

    Raises:
      UserError: a filter that host operations lack, or a value out of range.

    >>> make("timm", "vit", {"size": 384, "crop": 1.0}).host
    "decode|resize_short(384, method='bicubic')|central_crop(384)"
    """
    given = dict(given)
    name = given.pop("normalize", None)
    if name is not None and name not in NORMALISATIONS:
        raise unknown("normalisation", name, NORMALISATIONS)
    made = preset(source, model)._replace(**{**NORMALISATIONS.get(name, {}), **given})
    if made.interpolation not in FILTERS:
        raise unknown("interpolation", made.interpolation, FILTERS)
    if made.size < 1:
        raise UserError(f"size is a number of pixels, not {made.size!r}")
    if not 0 < made.crop <= 1:
        raise UserError(f"crop is the part of the shorter side that is kept, above 0 and at most 1, not {made.crop!r}")
    if len(made.mean) != len(made.std) or min(made.std) <= 0:
        raise UserError(f"mean {made.mean} and std {made.std} want one value a channel, std above 0")
    return made
