"""What the class token of a Vision Transformer attends to, as maps over the image."""

from typing import Any

import flax.linen as nn
import jax

from jaxvision.models.heads import Projected
from jaxvision.models.vit import ViT


def class_attention(module: nn.Module, variables: Any, images: jax.Array) -> jax.Array:
    """Computes how much the class token attends to each patch in the last block (Caron et al. 2021, fig. 1).

    Args:
      module: Model that `why_no_maps` has nothing against.
      variables: Variables of the model; others beside them are ignored.
      images: Images, float [b, height, width, 3].

    Returns:
      Weights by head, float32 [b, heads, h, w]. Their sum over the patches is below 1: the rest goes to the class token
      itself and to registers.
    """
    vit = _trunk(module)
    (_, out), found = vit.apply(variables, images, train=False, mutable=["intermediates"])
    (weights,) = found["intermediates"]["encoder"][f"block_{vit.depth - 1:02}"]["attention"]["weights"]
    b, h, w, _ = out["map"].shape
    return weights[:, :, 0, -h * w :].reshape(b, -1, h, w)


def why_no_maps(module: nn.Module) -> str | None:
    """Returns why `class_attention` cannot be computed, as the end of a sentence on the model; None if it can.

    Args:
      module: Model from `models.build`.
    """
    vit = _trunk(module)
    if not isinstance(vit, ViT):
        return "it is not a Vision Transformer"
    if not vit.class_token:
        return "it has no class token"
    if vit.scan:
        return "its blocks are scanned, so no block can be looked into"
    return None


def _trunk(module: nn.Module) -> nn.Module:
    return module.backbone if isinstance(module, Projected) else module
