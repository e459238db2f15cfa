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

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "stem", "stages"
    (the map of each stage), "map" [b, h, w, d] (the last of them after the last norm), "tokens"
    [b, h * w, d], and "logits" float32 [b, k].

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters are float32.
      variant: Name of depth and width: "R50x1", "R50x3", "R101x1", "R101x3", "R152x2" or "R152x4".
      blocks: Number of blocks of each stage; None for the variant's.
      width: Factor of the channels of every layer, 64 in the first one; None for the variant's.
      standardize_epsilon: Number above 0 that is added to the variance of each output channel's weights; 1e-10 in the
        authors' code, 1e-8 in timm.
      drop_path: Rate of stochastic depth in the last block, in [0, 1); earlier blocks have less, in proportion to their
        depth (Huang et al. 2016, arXiv 1603.09382).
      head_init: Initialiser of the head, "zeros" or "normal"; see `heads.linear_head`.
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, an option value out of range, or a width that does not fit GroupNorm's 32 groups.
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
        pool_padding=0.0,  # instead of the usual -inf: BiT's weights were trained with 0
        norm="group",
        standardize=True,
        standardize_epsilon=positive("standardize_epsilon", standardize_epsilon),
        drop_path=rate("drop_path", drop_path),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
