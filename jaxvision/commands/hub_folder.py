"""`jaxvision convert --to=hub-folder`: a folder that timm opens, as it opens one of the Hugging Face Hub."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxvision import calls, models
from jaxvision.augment.registry import ops
from jaxvision.data import host_ops
from jaxvision.models.patches import resize_patches
from jaxvision.models.weights import properties, timm_folder
from jaxvision.models.weights.presets import IMAGENET
from jaxvision.specs import Call, parse
from jaxvision.storage import Path

NAME = "hub-folder"
_PATCHES = "patch_embed.proj.weight"  # timm's name of the kernel of a ViT's patch embedding
# Our filter of a resize -> timm's; the first two are the same.
_FILTERS = {"bilinear": "bilinear", "bicubic": "bicubic", "opencv_linear": "bilinear", "opencv_area": "box"}


def write(out: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], architecture: str | None) -> list[str]:
    """Writes the folder.

    Args:
      out: New folder.
      arrays: Arrays of any shape by timm's names.
      meta: Metadata of the weights, as `transfer.open_own` returns them.
      architecture: timm's name of the network; None to find it.

    Returns:
      Notes, a line each, such as the one that says how to open the folder.

    Raises:
      UserError: timm has no network of this form.
    """
    section = dict(meta["model"])
    name = section.pop("name")
    size = _image_size(meta)
    module = models.build(name, None, **section)
    pool = getattr(module, "pool", None)
    if getattr(module, "base_patch", None):
        arrays = {**arrays, _PATCHES: _fitted(arrays[_PATCHES], module.patch)}
    if architecture:
        named = architecture.partition(".")[0]
        args: dict[str, Any] = {"img_size": size[0]} if name in ("vit", "mixer") and size != (224, 224) else {}
        if name == "vit" and named.startswith(("vit_", "deit")):
            args |= timm_folder.pooling(pool, arrays)
            args |= {} if "cls_token" in arrays else {"class_token": False}
        net = timm_folder.Network(named, args)
    else:
        usual = calls.parameters(models.NAMES.resolve(name)).get("variant")
        form = meta["model"] if usual is None else {"variant": usual.default, **meta["model"]}
        net = timm_folder.network(form, arrays, properties.computed(module), size, pool)
    prepared = meta["preprocessing"]
    images, notes = preprocessing_config(prepared["host"], prepared["augment"], size)
    classes = list(meta.get("classes") or ())
    number = meta.get("num_classes") or len(classes) or None
    timm_folder.save(out, arrays, net, model=name, num_classes=number, classes=classes, images=images)
    shown = ", ".join(f"{key}={value!r}" for key, value in net.args.items())
    return [
        *notes,
        f"network of timm: {net.name}({shown})",
        f'open it with timm.create_model("local-dir:{out}", pretrained=True)',
    ]


def _fitted(kernel: np.ndarray, patch: int) -> np.ndarray:
    """The kernel of a patch embedding, [d, c, p, p], as a model with `base_patch` applies it, [d, c, patch, patch]."""
    return np.asarray(resize_patches(jnp.asarray(kernel.transpose(2, 3, 1, 0)), patch)).transpose(3, 2, 0, 1)


def _image_size(meta: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of the images after the host operations."""
    stated = meta.get("image_size") or (512, 512)
    sides = (stated, stated) if isinstance(stated, int) else tuple(stated)
    host = host_ops.make_chain(meta["preprocessing"]["host"])
    pixels = host({"image": np.zeros((*sides, 3), np.uint8)}, np.random.default_rng(0))["image"]
    return pixels.shape[0], pixels.shape[1]


def preprocessing_config(host: str, augment: str, size: tuple[int, int]) -> tuple[dict[str, Any], list[str]]:
    """Returns how timm prepares images as two specs of ours do, as far as it can.

    Args:
      host: Host spec for new images.
      augment: Augmentation spec for new images.
      size: (height, width) of the images.

    Returns:
      Keys of timm's `pretrained_cfg`, and a note for everything that timm cannot do.

    Raises:
      UserError: A spec that cannot be read.

    >>> cfg, _ = preprocessing_config("decode|resize_short(256)|central_crop(224)", "normalize(0.5)", (224, 224))
    >>> cfg["crop_pct"], cfg["mean"]
    (0.875, [0.5, 0.5, 0.5])
    """
    geometry, notes = _geometry(host, size)
    mean, std = np.zeros(3), np.ones(3)
    for call in parse(augment):
        if (values := _normalisation(call)) is None:
            notes.append(f"NOTE: timm's preprocessing has no counterpart of {call}: prepare images for that yourself")
        else:  # after another one: ((x - mean) / std - mean2) / std2
            mean, std = mean + std * values[0], std * values[1]
    return {"input_size": [3, *size], **geometry, "mean": mean.tolist(), "std": std.tolist()}, notes


def _normalisation(call: Call) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and std [3] of an operation that subtracts and divides by constants, None for another one."""
    if call.name not in ("normalize", "normalize_imagenet"):
        return None
    stated = ops.named(call).kwargs or IMAGENET
    mean, std = (np.broadcast_to(np.asarray(stated[key], float), 3) for key in ("mean", "std"))
    return mean, std


def _geometry(host: str, size: tuple[int, int]) -> tuple[dict[str, Any], list[str]]:
    """timm's keys for resize and crop, and notes on what they do not say."""
    cfg: dict[str, Any] = {"crop_pct": 1.0, "crop_mode": "center", "interpolation": "bilinear"}
    notes = []
    steps = [host_ops.host_ops.named(call) for call in parse(host) if call.name != "decode"]
    exact = not steps  # images of the model's own size
    if steps and steps[0].name in ("resize", "resize_short"):
        resize, *rest = steps
        cropped = [call.name for call in rest] == ["central_crop"]
        squash = resize.name == "resize"
        side = resize.kwargs["size"]
        sides = (side, side) if isinstance(side, int) else tuple(side)
        cfg["crop_mode"] = "squash" if squash else "center"
        cfg["crop_pct"] = _crop_pct(min(size), min(sides))
        # timm derives the sides before the crop from `crop_pct`; the shorter side is one only for square crops.
        reached = tuple(math.floor(x / cfg["crop_pct"]) for x in size) == sides
        exact = reached and (cropped or (squash and not rest))
        method = resize.kwargs["method"]
        cfg["interpolation"] = _FILTERS[method]
        if method not in ("bilinear", "bicubic"):
            notes.append(
                f"NOTE: timm has no filter {method}: the folder says {_FILTERS[method]}, which differs a little"
            )
    if not exact:
        said = ", ".join(f"{key}={value!r}" for key, value in cfg.items())
        notes.append(f"NOTE: timm cannot prepare images by {host}: the folder says {said}, which differs")
    return cfg, notes


def _crop_pct(crop: int, resized: int) -> float:
    """The ratio of two sides from which timm gets the larger one back, floor(crop / ratio)."""
    ratio = crop / resized
    while math.floor(crop / ratio) < resized:
        ratio = math.nextafter(ratio, 0)
    return ratio
