"""Big Transfer: ResNet v2 with GroupNorm and weight standardisation. Kolesnikov et al. 2020, arXiv 1912.11370."""

import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.heads import HEAD_INITS
from jaxvision.models.options import in_words, one_of, positive, rate
from jaxvision.models.resnet import CIFAR_BLOCKS
from jaxvision.models.resnet_v2 import GROUPS, ResNetV2
from jaxvision.registry import part

IMAGENET_VARIANTS = {  # blocks of each stage, width factor
    "R50x1": ((3, 4, 6, 3), 1),
    "R50x3": ((3, 4, 6, 3), 3),
    "R101x1": ((3, 4, 23, 3), 1),
    "R101x3": ((3, 4, 23, 3), 3),
    "R152x2": ((3, 8, 36, 3), 2),
    "R152x4": ((3, 8, 36, 3), 4),
}
# Not in the paper: its form at the depths, widths and stem that ResNets have for CIFAR (He et al. 2016, sec. 4.2).
CIFAR_VARIANTS = {f"R{layers}x1": (blocks, 1) for layers, blocks in CIFAR_BLOCKS.items()}
VARIANTS = {
    name: in_words(blocks, f"channels times {width}", "CIFAR" if name in CIFAR_VARIANTS else "ImageNet")
    for name, (blocks, width) in (IMAGENET_VARIANTS | CIFAR_VARIANTS).items()
}
CIFAR_GROUP_SIZE = 4  # least channels of a group: 32 groups of 16 channels would leave none, and 16 only one each


@part("model", small={"variant": "R50x1", "blocks": (1, 1), "width": 0.5}, variants=VARIANTS)
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

    The variants for CIFAR keep the paper's form (pre-activation, GroupNorm, weight standardisation) at the size that
    ResNets have there: a 3x3 stem of stride 1, three stages of 16, 32 and 64 channels times `width`, blocks of two 3x3
    convolutions. GroupNorm has 32 groups in the paper; there it has as many, up to 32, as leave each at least 4
    channels: 4, 8 and 16 groups in the three stages at width 1.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "stem", "stages"
    (the map of each stage), "map" [b, h, w, d] (the last of them after the last norm), "tokens"
    [b, h * w, d], and "logits" float32 [b, k].

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters are float32.
      variant: Name of depth and width: "R50x1", "R50x3", "R101x1", "R101x3", "R152x2" or "R152x4"; for CIFAR "R8x1",
        "R20x1", "R32x1", "R44x1", "R56x1", "R110x1" or "R1202x1".
      blocks: Number of blocks of each stage; None for the variant's.
      width: Factor of the channels of every layer, 64 in the first one, 16 for CIFAR; None for the variant's.
      standardize_epsilon: Number above 0 that is added to the variance of each output channel's weights; 1e-10 in the
        authors' code, 1e-8 in timm.
      drop_path: Rate of stochastic depth in the last block, in [0, 1); earlier blocks have less, in proportion to their
        depth (Huang et al. 2016, arXiv 1603.09382).
      head_init: Initialiser of the head, "zeros" or "normal".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, an option value out of range, or a width that does not fit the groups of GroupNorm.
    """
    variants = IMAGENET_VARIANTS | CIFAR_VARIANTS
    variant_blocks, factor = variants[one_of("BiT variant", variant, variants)]
    cifar = variant in CIFAR_VARIANTS
    base, group_size = (16, CIFAR_GROUP_SIZE) if cifar else (64, 1)
    channels = base * (factor if width is None else width)
    for i in range(len(blocks or variant_blocks)):
        stage = channels * 2**i
        multiple = group_size if cifar and stage < GROUPS * group_size else GROUPS
        if stage <= 0 or stage % multiple:
            raise UserError(
                f"width {width!r} gives stage {i + 1} {stage:g} channels: set a width that makes them a multiple of "
                f"{multiple}, for the groups of GroupNorm"
            )
    return ResNetV2(
        num_classes=num_classes,
        blocks=tuple(blocks or variant_blocks),
        channels=int(channels),
        stem_channels=int(channels),
        stem="cifar" if cifar else "imagenet",
        pool_padding=0.0,  # instead of the usual -inf: BiT's weights were trained with 0
        bottleneck=not cifar,
        norm="group",
        group_size=group_size,
        standardize=True,
        standardize_epsilon=positive("standardize_epsilon", standardize_epsilon),
        drop_path=rate("drop_path", drop_path),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
