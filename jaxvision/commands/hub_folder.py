"""`jaxvision convert --to=hub-folder`: a folder that timm opens, as it opens one of the Hugging Face Hub."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxvision import models
from jaxvision.data import host_ops
from jaxvision.models.weights import properties, timm_folder
from jaxvision.storage import Path

NAME = "hub-folder"


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
    if architecture:
        sized = {"img_size": size[0]} if name in ("vit", "mixer") and size != (224, 224) else {}
        net = timm_folder.Network(architecture.partition(".")[0], sized)
    else:
        computed = properties.computed(models.build(name, None, **section))
        net = timm_folder.network(meta["model"], arrays, computed, size)
    prepared = meta["preprocessing"]
    images, notes = timm_folder.preprocessing_config(prepared["host"], prepared["augment"], size)
    classes = list(meta.get("classes") or ())
    number = meta.get("num_classes") or len(classes) or None
    timm_folder.save(out, arrays, net, model=name, num_classes=number, classes=classes, images=images)
    args = ", ".join(f"{key}={value!r}" for key, value in net.args.items())
    return [
        *notes,
        f"network of timm: {net.name}({args})",
        f'open it with timm.create_model("local-dir:{out}", pretrained=True)',
    ]


def _image_size(meta: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of the images after the host operations."""
    stated = meta.get("image_size") or (512, 512)
    sides = (stated, stated) if isinstance(stated, int) else tuple(stated)
    host = host_ops.make_chain(meta["preprocessing"]["host"])
    pixels = host({"image": np.zeros((*sides, 3), np.uint8)}, np.random.default_rng(0))["image"]
    return pixels.shape[0], pixels.shape[1]
