"""SENet-154, the network that won ILSVRC 2017: Hu et al. 2018, arXiv 1709.01507, sec. 6.4 and appendix."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.convolution import Padding
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import Conv, Dropout, batch_norm, global_mean, max_pool
from jaxvision.models.options import in_words, one_of, positive, rate
from jaxvision.models.order import Groups, stem_and_stages
from jaxvision.models.resnet_blocks import SqueezeExcite
from jaxvision.registry import part

BLOCKS = {"154": (3, 8, 36, 3)}
GROUPS = 64
REDUCTION = 16
POOL_PADDINGS: dict[str, Padding] = {"end": "CEIL", "both sides": None}


class SENetBlock(nn.Module):
    """Bottleneck of ResNeXt-152 (64x4d) with half its 1x1 channels, and squeeze and excitation.

    [b, h, w, c] -> [b, h / stride, w / stride, 4 * channels]. The first block of a stage projects its shortcut, by a
    3x3 convolution where it strides.
    """

    channels: int
    groups: int
    stride: int
    zero_init_residual: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h / stride, w / stride, 4 * channels]."""
        layers = ((2, 1, 1, 1), (4, 3, self.stride, self.groups), (4, 1, 1, 1))  # factor, size, stride, groups
        y = x
        for i, (factor, size, stride, groups) in enumerate(layers, 1):
            y = Conv(factor * self.channels, size, stride, groups, dtype=self.dtype, name=f"conv{i}")(y)
            y = batch_norm(f"norm{i}", train, self.dtype, zero=i == len(layers) and self.zero_init_residual)(y)
            y = y if i == len(layers) else nn.relu(y)
        y = SqueezeExcite(REDUCTION, self.dtype, name="se")(y)
        if x.shape != y.shape:
            size = 3 if self.stride > 1 else 1
            x = Conv(y.shape[-1], size, self.stride, dtype=self.dtype, name="shortcut_conv")(x)
            x = batch_norm("shortcut_norm", train, self.dtype)(x)
        return nn.relu(x + y)


class SENetStage(nn.Module):
    """Blocks of one resolution; the first one has the stride: [b, h, w, c] -> [b, h', w', 4 * channels]."""

    blocks: int
    channels: int
    groups: int
    stride: int
    zero_init_residual: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h', w', 4 * channels]."""
        for i in range(self.blocks):
            stride = self.stride if i == 0 else 1
            options = (self.channels, self.groups, stride, self.zero_init_residual, self.dtype)
            x = SENetBlock(*options, name=f"block{i + 1}")(x, train)
        return x


class SENet(nn.Module):
    """Module of `senet`, which documents and checks the options."""

    num_classes: int | None
    blocks: tuple[int, ...]
    width: float = 1.0
    dropout: float = 0.2
    zero_init_residual: bool = True
    pool_padding: str = "end"
    head_init: str = "normal"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return stem_and_stages(len(self.blocks))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d], or to logits [b, k] if the model has classes."""
        groups = max(round(GROUPS * self.width), 1)
        x = images
        for i, (channels, stride) in enumerate(((groups, 2), (groups, 1), (2 * groups, 1)), 1):
            x = Conv(channels, 3, stride, dtype=self.dtype, name=f"stem_conv{i}")(x)
            x = nn.relu(batch_norm(f"stem_norm{i}", train, self.dtype)(x))
        x = max_pool(x, padding=POOL_PADDINGS[self.pool_padding])
        out: dict[str, Any] = {"stem": x}
        stages = []
        for i, blocks in enumerate(self.blocks):
            options = (groups * 2**i, groups, 1 if i == 0 else 2, self.zero_init_residual, self.dtype)
            x = SENetStage(blocks, *options, name=f"stage{i + 1}")(x, train)
            stages.append(x)
        out["stages"] = tuple(stages)
        out["map"] = x
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        features = global_mean(x)
        if self.num_classes:
            kept = Dropout(self.dropout)(features, train)
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(kept)
        return features, out


@part(
    "model",
    small={"blocks": (1, 1), "width": 1 / 16, "dropout": 0.0},
    variants={name: in_words(blocks, f"{GROUPS} groups") for name, blocks in BLOCKS.items()},
)
def senet(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str | int = "154",
    blocks: tuple[int, ...] | None = None,
    width: float = 1.0,
    dropout: float = 0.2,
    zero_init_residual: bool = True,
    pool_padding: str = "end",
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> SENet:
    """SENet-154, a ResNeXt with squeeze and excitation. ResNets with it are variants of `resnet`, such as "se50".

    Against ResNeXt-152 (64x4d), the first 1x1 convolution of each block has half the channels, the stem is three 3x3
    convolutions, shortcuts that stride are 3x3, and there is dropout before the head.

    Applied to float images [b, height, width, 3] it returns float32 features [b, 2048] and `out`: "stem", "stages" (the
    map of each stage), "map" [b, h, w, 2048] (the last of them), "tokens" [b, h * w, 2048], and "logits" float32
    [b, k]. In training apply it with `mutable=["batch_stats"]`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      variant: Name of the size, "154".
      blocks: Number of blocks of each stage; None for the variant's.
      width: Factor of the channels and of the groups of every layer, above 0.
      dropout: Rate of dropout before the head, in [0, 1).
      zero_init_residual: True to start the last scale of each branch at 0 (Goyal et al. 2017, sec. 5.1).
      pool_padding: Padding of the stem's max pooling: "end", below and on the right, as in the authors' network and
        timm's legacy_senet154, or "both sides", as in timm's senet154.
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, or an option value out of range.
    """
    return SENet(
        num_classes=num_classes,
        blocks=tuple(blocks or BLOCKS[one_of("SENet variant", str(variant), BLOCKS)]),
        width=positive("width", width),
        dropout=rate("dropout", dropout),
        zero_init_residual=zero_init_residual,
        pool_padding=one_of("pool_padding", pool_padding, POOL_PADDINGS),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
