"""EfficientNet: Tan & Le 2019, arXiv 1905.11946; L2: Xie et al. 2020 (Noisy Student), arXiv 1911.04252."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxvision.models.heads import HEAD_INITS
from jaxvision.models.inverted_residual import PADDINGS, MobileNet, Style, resized, round_channels, row
from jaxvision.models.options import one_of, positive, rate
from jaxvision.registry import part

DEPTH, WIDTH, RESOLUTION = 1.2, 1.1, 1.15  # Tan & Le 2019, sec. 3.3: alpha, beta, gamma for phi = 1
SWISH: dict[str, Any] = {"activation": "silu", "squeeze": True}
STAGES = (  # table 1
    row(1, 16, **SWISH),
    row(2, 24, 2, expansion=6, **SWISH),
    row(2, 40, 2, expansion=6, size=5, **SWISH),
    row(3, 80, 2, expansion=6, **SWISH),
    row(3, 112, expansion=6, size=5, **SWISH),
    row(4, 192, 2, expansion=6, size=5, **SWISH),
    row(1, 320, expansion=6, **SWISH),
)


class Scale(NamedTuple):
    """Factors of a variant.

    Attributes:
      width: Factor of the channels.
      depth: Factor of the number of blocks.
      size: Side of the images in pixels.
      dropout: Rate of dropout in the authors' training.
    """

    width: float
    depth: float
    size: int
    dropout: float


VARIANTS = {  # `efficientnet_params` in the authors' code
    "B0": Scale(1.0, 1.0, 224, 0.2),
    "B1": Scale(1.0, 1.1, 240, 0.2),
    "B2": Scale(1.1, 1.2, 260, 0.3),
    "B3": Scale(1.2, 1.4, 300, 0.3),
    "B4": Scale(1.4, 1.8, 380, 0.4),
    "B5": Scale(1.6, 2.2, 456, 0.4),
    "B6": Scale(1.8, 2.6, 528, 0.5),
    "B7": Scale(2.0, 3.1, 600, 0.5),
    "L2": Scale(4.3, 5.3, 800, 0.5),
}


def compound(phi: float) -> tuple[float, float, float]:
    """Returns the factors of depth, width and resolution with about 2 ** phi times the multiply-adds.

    Multiply-adds grow with depth * width ** 2 * resolution ** 2, and for phi = 1 this is 1.92. The variants B1 to B7
    are near these factors; the authors' own, rounded ones are in `VARIANTS`.

    Args:
      phi: Compound coefficient; 0 gives B0.

    Source: Tan & Le 2019, eq. 3.

    >>> [round(factor, 3) for factor in compound(2)]
    [1.44, 1.21, 1.322]
    """
    return DEPTH**phi, WIDTH**phi, RESOLUTION**phi


@part(
    "model",
    small={"blocks": (1, 2), "width": 0.25, "last": 32},
    variants={
        name: f"width {s.width}, depth {s.depth}; images of {s.size} pixels, dropout {s.dropout} in training"
        for name, s in VARIANTS.items()
    },
)
def efficientnet(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "B0",
    width: float | None = None,
    depth: float | None = None,
    blocks: tuple[int, ...] | None = None,
    last: int | None = None,
    stem_stride: int = 2,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    padding: str = "both sides",
    norm_epsilon: float = 1e-3,
    norm_momentum: float = 0.99,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> MobileNet:
    """EfficientNet: inverted residuals with squeeze and excitation, scaled in depth, width and resolution together.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "stem", "stages" (the
    last map of each stride, 2 to 32), "map" [b, h, w, d] (the last of them), "tokens" [b, h * w, d], and "logits"
    float32 [b, k]. In training apply it with `mutable=["batch_stats"]`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      variant: Name of the size, "B0" to "B7" or "L2".
      width: Factor of the channels of every layer, above 0, see `compound`; None for the variant's. Numbers of channels
        are rounded to multiples of 8.
      depth: Factor of the number of blocks of every stage, above 0; None for the variant's. Numbers of blocks are
        rounded up.
      blocks: Number of blocks of each stage, of the seven or of the first ones, in place of `depth`; None for those
        that follow from it.
      last: Number d of channels of the last convolution; None for 1,280 times the width.
      stem_stride: Step of the first convolution; 2 in the paper, 1 suits small images.
      dropout: Rate of dropout before the head, in [0, 1); in the paper 0.2 for B0 up to 0.5 for B7.
      drop_path: Rate of stochastic depth at the end of the network, in [0, 1); it grows linearly from 0 in the first
        block. 0.2 in the paper.
      padding: Zeros around a strided convolution: "both sides" as in torch, or "SAME" as in TensorFlow, where an odd
        pixel is at the end.
      norm_epsilon: Number that is added to the variance in every BatchNorm; 1e-3 in the authors' code. Weights that
        torchvision (B0 to B4) and timm trained have 1e-5.
      norm_momentum: Share of the old running statistics in the new ones, in [0, 1).
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, or an option value out of range.
    """
    scale = VARIANTS[one_of("EfficientNet variant", variant, VARIANTS)]
    width = positive("width", scale.width if width is None else width)
    depth = positive("depth", scale.depth if depth is None else depth)
    if blocks is None:
        blocks = tuple(math.ceil(len(stage) * depth) for stage in STAGES)
    return MobileNet(
        num_classes=num_classes,
        stem=round_channels(32 * width),
        stem_stride=positive("stem_stride", stem_stride),
        stages=resized(STAGES, width, blocks),
        last=round_channels(1280 * width) if last is None else positive("last", last),
        style=Style(
            padding=one_of("padding", padding, PADDINGS),
            norm_epsilon=positive("norm_epsilon", norm_epsilon),
            norm_momentum=rate("norm_momentum", norm_momentum),
            drop_path=rate("drop_path", drop_path),
            dtype=dtype,
        ),
        activation="silu",
        dropout=rate("dropout", dropout),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
    )
