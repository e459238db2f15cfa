"""Big Transfer: ResNet v2 with GroupNorm and weight standardisation. Kolesnikov et al. 2020, arXiv 1912.11370."""

import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.found import part
from jaxvision.models.heads import HEAD_INITS
from jaxvision.models.options import one_of, positive, rate
from jaxvision.models.resnet_v2 import GROUPS, ResNetV2

VARIANTS = {  # blocks of each stage, width factor
    "R50x1": ((3, 4, 6, 3), 1),
    "R50x3": ((3, 4, 6, 3), 3),
    "R101x1": ((3, 4, 23, 3), 1),
    "R101x3": ((3, 4, 23, 3), 3),
    "R152x2": ((3, 8, 36, 3), 2),
    "R152x4": ((3, 8, 36, 3), 4),
}


@part("model", small={"variant": "R50x1", "blocks": (1, 1), "width": 0.5})
def bit(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "R50x1",
    blocks: tuple[int, ...] | None = None,
    width: float | None = None,
    standardize_epsilon: float = 1e-10,
    drop_path: float = 0.0,
    head_init: str = "zeros",
    head_bias: float = 0.0,
) -> ResNetV2:
    """Big Transfer's ResNet v2. It has no BatchNorm, so nothing in it depends on the batch.

    Applied to float images [B, H, W, 3] it returns float32 features [B, D] and `out`: "stem", "stages"
    (the map of each stage), "map" [B, h, w, D] (the last of them after the last norm), "tokens"
    [B, h * w, D], and "logits" float32 [B, K].

    Args:
      num_classes: K, or None for no head.
      dtype: of the computation; parameters are float32.
      variant: depth and width factor: "R50x1", "R50x3", "R101x1", "R101x3", "R152x2" or "R152x4".
      blocks: of each stage, in place of the variant's.
      width: multiplies the 64 channels of the first layer, and all others, in place of the variant's factor.
      standardize_epsilon: added to the variance of each output channel's weights; 1e-10 in the authors' code, 1e-8 in
        timm.
      drop_path: stochastic depth rate of the last block, growing linearly (Huang et al. 2016, arXiv 1603.09382).
      head_init: "zeros" or "normal".
      head_bias: initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: an unknown variant or option value, or a width that GroupNorm cannot divide.
    """
    variant_blocks, factor = VARIANTS[one_of("BiT variant", variant, VARIANTS)]
    channels = 64 * (factor if width is None else width)
    if channels <= 0 or channels % GROUPS:
        raise UserError(f"width must make 64 * width a multiple of {GROUPS} channels, and {width!r} does not")
    return ResNetV2(
        num_classes=num_classes,
        blocks=tuple(blocks or variant_blocks),
        channels=int(channels),
        stem_channels=int(channels),
        pool_padding=0.0,  # -inf would be the usual one, but BiT's weights were trained so
        norm="group",
        standardize=True,
        standardize_epsilon=positive("standardize_epsilon", standardize_epsilon),
        drop_path=rate("drop_path", drop_path),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
