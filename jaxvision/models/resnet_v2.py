"""ResNet v2 (the activation comes before the convolution) with GroupNorm and weight standardisation, as in Big
Transfer: Kolesnikov et al. 2020, arXiv 1912.11370; He et al. 2016b, arXiv 1603.05027."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import Conv, max_pool
from jaxvision.models.options import one_of

GROUPS = 32
VARIANTS = {  # blocks of each stage, width factor
    "R50x1": ((3, 4, 6, 3), 1),
    "R50x3": ((3, 4, 6, 3), 3),
    "R101x1": ((3, 4, 23, 3), 1),
    "R101x3": ((3, 4, 23, 3), 3),
    "R152x2": ((3, 8, 36, 3), 2),
    "R152x4": ((3, 8, 36, 3), 4),
}


def norm_relu(x: jax.Array, name: str, dtype: jnp.dtype) -> jax.Array:
    """GroupNorm and ReLU; call it inside a module's compact method."""
    return nn.relu(nn.GroupNorm(GROUPS, epsilon=1e-5, dtype=dtype, name=name)(x))


class Block(nn.Module):
    """Pre-activation bottleneck: [B, H, W, C] -> [B, h, w, 4 * channels]. He et al. 2016b, fig. 4e."""

    channels: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv = functools.partial(Conv, standardize=True, dtype=self.dtype)
        features = 4 * self.channels
        y = norm_relu(x, "norm1", self.dtype)
        if x.shape[-1] != features or self.stride > 1:
            x = conv(features, 1, self.stride, name="shortcut_conv")(y)
        y = conv(self.channels, 1, name="conv1")(y)
        y = conv(self.channels, 3, self.stride, name="conv2")(norm_relu(y, "norm2", self.dtype))
        y = conv(features, 1, name="conv3")(norm_relu(y, "norm3", self.dtype))
        return x + y


class Stage(nn.Module):
    """Blocks of one resolution; the first one strides."""

    num_blocks: int
    channels: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i in range(self.num_blocks):
            x = Block(self.channels, self.stride if i == 0 else 1, self.dtype, name=f"block{i + 1}")(x)
        return x


class ResNetV2(nn.Module):
    """See `bit` for the options, which are checked there."""

    num_classes: int | None
    blocks: tuple[int, ...]
    channels: int
    head_init: str = "zeros"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        del train  # no dropout, and GroupNorm does the same in training and in evaluation
        x = Conv(self.channels, 7, 2, standardize=True, dtype=self.dtype, name="stem_conv")(images)
        x = max_pool(x, padding_value=0.0)  # -inf would be the usual one, but BiT's weights were trained so
        out = {"stem": x}
        stages = []
        for i, num_blocks in enumerate(self.blocks):
            stride = 1 if i == 0 else 2
            x = Stage(num_blocks, self.channels * 2**i, stride, self.dtype, name=f"stage{i + 1}")(x)
            stages.append(x)
        out["stages"] = tuple(stages)
        x = norm_relu(x, "norm", self.dtype)
        out["map"] = x
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        features = x.mean(axis=(1, 2), dtype=jnp.float32)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


def bit(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "R50x1",
    blocks: tuple[int, ...] | None = None,
    width: float | None = None,
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
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
