"""MobileNet v1 to v3.

Howard et al. 2017, arXiv 1704.04861; Sandler et al. 2018, arXiv 1801.04381; Howard et al. 2019, arXiv 1905.02244.
"""

from typing import Any

import jax.numpy as jnp

from jaxvision.models.heads import HEAD_INITS
from jaxvision.models.inverted_residual import PADDINGS, MobileNet, Style, resized, round_channels, row
from jaxvision.models.options import one_of, positive, rate
from jaxvision.registry import part

V1: dict[str, Any] = {"residual": False}
V1_STAGES = (  # Howard et al. 2017, table 1
    row(1, 64, **V1),
    row(2, 128, 2, **V1),
    row(2, 256, 2, **V1),
    row(6, 512, 2, **V1),
    row(2, 1024, 2, **V1),
)
V2_STAGES = (  # Sandler et al. 2018, table 2
    row(1, 16),
    row(2, 24, 2, expansion=6),
    row(3, 32, 2, expansion=6),
    row(4, 64, 2, expansion=6),
    row(3, 96, expansion=6),
    row(3, 160, 2, expansion=6),
    row(1, 320, expansion=6),
)
RELU: dict[str, Any] = {"activation": "relu"}
RELU_SE: dict[str, Any] = {"activation": "relu", "squeeze": True}
SWISH: dict[str, Any] = {"activation": "hard_swish"}
SWISH_SE: dict[str, Any] = {"activation": "hard_swish", "squeeze": True}
V3_STAGES = {
    "large": (  # Howard et al. 2019, table 1; its numbers of expanded channels as ratios
        row(1, 16, **RELU),
        row(1, 24, 2, expansion=4, **RELU) + row(1, 24, expansion=3, **RELU),
        row(3, 40, 2, expansion=3, size=5, **RELU_SE),
        row(1, 80, 2, expansion=6, **SWISH) + row(1, 80, expansion=2.5, **SWISH) + row(2, 80, expansion=2.3, **SWISH),
        row(2, 112, expansion=6, **SWISH_SE),
        row(3, 160, 2, expansion=6, size=5, **SWISH_SE),
    ),
    "small": (  # table 2
        row(1, 16, 2, **RELU_SE),
        row(1, 24, 2, expansion=4.5, **RELU) + row(1, 24, expansion=3.67, **RELU),
        row(1, 40, 2, expansion=4, size=5, **SWISH_SE) + row(2, 40, expansion=6, size=5, **SWISH_SE),
        row(2, 48, expansion=3, size=5, **SWISH_SE),
        row(3, 96, 2, expansion=6, size=5, **SWISH_SE),
    ),
}
V3_LAST = {"large": (960, 1280), "small": (576, 1024)}  # channels of the last convolution, units of the hidden layer


@part("model", small={"blocks": (1, 1), "width": 0.25})
def mobilenet_v1(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    width: float = 1.0,
    blocks: tuple[int, ...] | None = None,
    stem_stride: int = 2,
    dropout: float = 0.0,
    padding: str = "both sides",
    norm_epsilon: float = 1e-5,
    norm_momentum: float = 0.9,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> MobileNet:
    """MobileNet v1, of depthwise separable convolutions.

    A depthwise 3x3 and a 1x1 convolution take the place of a 3x3 one of N channels and need 1 / N + 1 / 9 of its
    multiply-adds (Howard et al. 2017, sec. 3.1).

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "stem", "stages" (the
    last map of each stride, 2 to 32), "map" [b, h, w, d] (the last of them), "tokens" [b, h * w, d], and "logits"
    float32 [b, k]. In training apply it with `mutable=["batch_stats"]`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      width: Factor of the channels of every layer, above 0; 1, 0.75, 0.5 and 0.25 in the paper, where it is alpha.
        Numbers of channels are rounded to multiples of 8.
      blocks: Number of blocks of each stage, of the five or of the first ones; None for 1, 2, 2, 6 and 2.
      stem_stride: Step of the first convolution; 2 in the paper, 1 suits small images.
      dropout: Rate of dropout before the head, in [0, 1).
      padding: Zeros around a strided convolution: "both sides" as in torch, or "SAME" as in TensorFlow, where an odd
        pixel is at the end.
      norm_epsilon: Number that is added to the variance in every BatchNorm; 1e-3 in TensorFlow's weights.
      norm_momentum: Share of the old running statistics in the new ones, in [0, 1).
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An option value out of range.
    """
    return MobileNet(
        num_classes=num_classes,
        stem=round_channels(32 * positive("width", width)),
        stem_stride=positive("stem_stride", stem_stride),
        stages=resized(V1_STAGES, width, blocks),
        style=_style(padding, norm_epsilon, norm_momentum, 0.0, dtype),
        activation="relu6",
        dropout=rate("dropout", dropout),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
    )


@part("model", small={"blocks": (1, 2), "width": 0.25, "last": 32})
def mobilenet_v2(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    width: float = 1.0,
    blocks: tuple[int, ...] | None = None,
    last: int | None = None,
    stem_stride: int = 2,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    padding: str = "both sides",
    norm_epsilon: float = 1e-5,
    norm_momentum: float = 0.9,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> MobileNet:
    """MobileNet v2, of inverted residual blocks with linear bottlenecks.

    Source: Sandler et al. 2018, arXiv 1801.04381.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "stem", "stages" (the
    last map of each stride, 2 to 32), "map" [b, h, w, d] (the last of them), "tokens" [b, h * w, d], and "logits"
    float32 [b, k]. In training apply it with `mutable=["batch_stats"]`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      width: Factor of the channels of every layer, above 0; those of the last convolution are never below 1,280.
        Numbers of channels are rounded to multiples of 8.
      blocks: Number of blocks of each stage, of the seven or of the first ones; None for the paper's.
      last: Number d of channels of the last convolution; None for the paper's.
      stem_stride: Step of the first convolution; 2 in the paper, 1 suits small images.
      dropout: Rate of dropout before the head, in [0, 1); 0.2 in torchvision.
      drop_path: Rate of stochastic depth at the end of the network, in [0, 1); it grows linearly from 0 in the first
        block.
      padding: Zeros around a strided convolution: "both sides" as in torch, or "SAME" as in TensorFlow, where an odd
        pixel is at the end.
      norm_epsilon: Number that is added to the variance in every BatchNorm; 1e-3 in TensorFlow's weights.
      norm_momentum: Share of the old running statistics in the new ones, in [0, 1).
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An option value out of range.
    """
    return MobileNet(
        num_classes=num_classes,
        stem=round_channels(32 * positive("width", width)),
        stem_stride=positive("stem_stride", stem_stride),
        stages=resized(V2_STAGES, width, blocks),
        last=round_channels(1280 * max(width, 1)) if last is None else positive("last", last),
        style=_style(padding, norm_epsilon, norm_momentum, drop_path, dtype),
        activation="relu6",
        dropout=rate("dropout", dropout),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
    )


@part(
    "model",
    small={"variant": "small", "blocks": (1, 1), "width": 0.5, "hidden": 24},
    variants={name: f"{sum(map(len, stages))} blocks" for name, stages in V3_STAGES.items()},
)
def mobilenet_v3(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "large",
    width: float = 1.0,
    blocks: tuple[int, ...] | None = None,
    hidden: int | None = None,
    stem_stride: int = 2,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    padding: str = "both sides",
    norm_epsilon: float = 1e-3,
    norm_momentum: float = 0.99,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> MobileNet:
    """MobileNet v3, found by architecture search: inverted residuals with squeeze and excitation and hard swish.

    Source: Howard et al. 2019, arXiv 1905.02244.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d], what the classifier sees: the mean
    over positions, then a hidden layer. `out` has "stem", "stages" (the last map of each stride, 2 to 32), "map"
    [b, h, w, c] (the last of them), "tokens" [b, h * w, c], and "logits" float32 [b, k]. In training apply it with
    `mutable=["batch_stats"]`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      variant: Name of the size, "large" or "small".
      width: Factor of the channels of every layer, above 0; numbers of channels are rounded to multiples of 8.
      blocks: Number of blocks of each stage, of all or of the first ones; None for the variant's.
      hidden: Number d of units of the hidden layer; None for 1,280 (large) or 1,024 (small), times the width.
      stem_stride: Step of the first convolution; 2 in the paper, 1 suits small images.
      dropout: Rate of dropout before the head, in [0, 1); 0.2 in the paper.
      drop_path: Rate of stochastic depth at the end of the network, in [0, 1); it grows linearly from 0 in the first
        block.
      padding: Zeros around a strided convolution: "both sides" as in torch, or "SAME" as in TensorFlow, where an odd
        pixel is at the end.
      norm_epsilon: Number that is added to the variance in every BatchNorm; 1e-3 in the authors' code and torchvision,
        1e-5 in weights that timm trained.
      norm_momentum: Share of the old running statistics in the new ones, in [0, 1).
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, or an option value out of range.
    """
    last, units = V3_LAST[one_of("MobileNet v3 variant", variant, V3_LAST)]
    return MobileNet(
        num_classes=num_classes,
        stem=round_channels(16 * positive("width", width)),
        stem_stride=positive("stem_stride", stem_stride),
        stages=resized(V3_STAGES[variant], width, blocks),
        last=round_channels(last * width),
        hidden=round_channels(units * width) if hidden is None else positive("hidden", hidden),
        style=_style(padding, norm_epsilon, norm_momentum, drop_path, dtype)._replace(
            squeeze_of="expanded", squeeze_activation="relu", gate="hard_sigmoid"
        ),
        activation="hard_swish",
        dropout=rate("dropout", dropout),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
    )


def _style(padding: str, epsilon: float, momentum: float, drop_path: float, dtype: jnp.dtype) -> Style:
    return Style(
        padding=one_of("padding", padding, PADDINGS),
        norm_epsilon=positive("norm_epsilon", epsilon),
        norm_momentum=rate("norm_momentum", momentum),
        drop_path=rate("drop_path", drop_path),
        dtype=dtype,
    )
