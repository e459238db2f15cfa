"""Pictures of what the class token of a Vision Transformer attends to, head by head."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import matplotlib
import numpy as np

from jaxvision import models
from jaxvision.analysis.sheets import Cell, sheet
from jaxvision.data import host_ops
from jaxvision.data.subsets import subset
from jaxvision.evals.dataset import EvalSet
from jaxvision.models.attention_maps import class_attention, why_no_maps
from jaxvision.parallel.distributed import gather

SIDE = 112  # side of a picture in the sheet, in pixels
IMAGES, HEADS = 6, 16  # images in the sheet, and most heads
COLOURS = "viridis"


class Maps(NamedTuple):
    """The attention of some images.

    Attributes:
      images: Images as the host prepared them, uint8 [n, H, W, 3].
      weights: Weights of the patches by head, float32 [n, heads, h, w].
    """

    images: np.ndarray
    weights: np.ndarray


def compute(model: Mapping[str, Any], params: Mapping[str, jax.Array], images: EvalSet, seed: int) -> Maps | str:
    """Computes the attention maps of some images; every process must call it.

    Args:
      model: Section `model` of a config.
      params: Parameters of the model, by path.
      images: Images, each with a class.
      seed: Seed of the choice of images.

    Returns:
      The maps, or why there are none, as the end of a sentence on the model.
    """
    options = {key: value for key, value in model.items() if key != "name"}
    if models.is_pair(model["name"]):
        return "it is a model of images and texts"
    module = models.build(model["name"], None, **options)
    if reason := why_no_maps(module):
        return reason
    variables = {"params": flax.traverse_util.unflatten_dict(dict(params), sep="/")}
    few = images.take(subset(images.source.labels, min(IMAGES, len(images.source)), seed))
    seen = jax.jit(lambda variables, batch: class_attention(module, variables, few.preprocess(batch)["image"]))
    batch, weights = next(iter(few.each(partial(seen, variables))))
    mask, weights = gather((batch["mask"], weights))
    host = host_ops.make_chain(few.host)
    shown = [host(few.source[i], np.random.default_rng(0))["image"] for i in range(len(few.source))]
    return Maps(np.stack(shown), weights[mask])


def draw(maps: Maps | str, path: Path) -> list[str]:
    """Draws the attention maps.

    Args:
      maps: Result of `compute`.
      path: PNG file to write.

    Returns:
      The text about the picture, paragraphs in Markdown.
    """
    title = "## Attention of the class token"
    if isinstance(maps, str):
        return [title, f"Left out: this model has none to show, {maps}."]
    colours = matplotlib.colormaps[COLOURS]
    shown = min(maps.weights.shape[1], HEADS)
    rows = []
    for image, of_heads in zip(maps.images, maps.weights):
        cells = [Cell(image, "image")]
        for head, weights in enumerate(of_heads[:shown]):
            patches = colours(weights / weights.max())[..., :3]
            cells.append(Cell(patches, f"head {head}: {weights.sum():.0%}"))
        rows.append(("", cells))
    words = "an image, and the weights of its patches in each head"
    sheet(rows, side=SIDE, lines=1, title=words).save(path, optimize=True)
    some = f" (the first {shown} of {maps.weights.shape[1]})" if shown < maps.weights.shape[1] else ""
    return [
        title,
        f"How much the class token attends to each patch in the last block, in each head{some}. Each map is scaled by "
        "its own largest weight, which is yellow. The number under it is the sum over the patches; the rest goes to "
        "the class token itself and to registers.",
        f"![attention of the class token]({path.name})",
    ]
