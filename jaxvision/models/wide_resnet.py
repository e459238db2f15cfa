"""Wide ResNet: Zagoruyko and Komodakis 2016, arXiv 1605.07146. Its ImageNet variants are `resnet`'s "wide50_2"."""

import re

import jax.numpy as jnp

from jaxvision.errors import UserError, shown
from jaxvision.models.heads import HEAD_INITS
from jaxvision.models.options import one_of, rate
from jaxvision.models.resnet_v2 import ResNetV2
from jaxvision.registry import part

PAPER = ((40, 4), (16, 8), (28, 10))  # depth and width in the paper's tables; any other may be named, too


@part(
    "model",
    small={"variant": "10-2"},
    variants={f"{depth}-{width}": f"{depth} layers, {width} times as wide" for depth, width in PAPER},
)
def wide_resnet(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "28-10",
    dropout: float = 0.0,
    drop_path: float = 0.0,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> ResNetV2:
    """Wide ResNet for 32x32 images: pre-activation blocks of two 3x3 convolutions in three stages.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "stem", "stages"
    (the map of each stage), "map" [b, h, w, d] (the last of them after the last norm), "tokens"
    [b, h * w, d], and "logits" float32 [b, k]. In training apply it with `mutable=["batch_stats"]`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      variant: Depth and width, "DEPTH-WIDTH": 6 n + 4 layers (10, 16, 22, 28, 34, 40, ...) with 16, 32 and 64 times
        WIDTH channels; the stem keeps 16. The paper has 40-4, 16-8 and 28-10. DEPTH counts the projections of the
        stages, but not the head.
      dropout: Rate of dropout between the convolutions of a block, in [0, 1) (sec. 2.4); 0.3 for CIFAR and 0.4 for SVHN
        in the paper. `apply` then needs a "dropout" key. As in the authors' code it comes after the second norm and
        ReLU.
      drop_path: Rate of stochastic depth in the last block, in [0, 1); earlier blocks have less, in proportion to their
        depth (Huang et al. 2016, arXiv 1603.09382).
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: A malformed variant, or an option value out of range.
    """
    match = re.fullmatch(r"(\d{1,4})-([1-9]\d{0,3})", variant)
    if not match or int(match[1]) < 10 or (int(match[1]) - 4) % 6:
        raise UserError(f"a Wide ResNet variant is like '28-10', of 6 n + 4 layers, not {shown(variant)}")
    depth, width = map(int, match.groups())
    return ResNetV2(
        num_classes=num_classes,
        blocks=((depth - 4) // 6,) * 3,
        channels=16 * width,
        stem_channels=16,
        stem="cifar",
        bottleneck=False,
        dropout=rate("dropout", dropout),
        drop_path=rate("drop_path", drop_path),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
