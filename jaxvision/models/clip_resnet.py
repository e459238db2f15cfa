"""The modified ResNet of CLIP: Radford et al. 2021, arXiv 2103.00020, sec. 2.4.

Three convolutions in the stem, average pooling wherever it strides, and attention pooling at the end.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import Conv, avg_pool, batch_norm
from jaxvision.models.options import in_words, one_of, positive
from jaxvision.models.order import Groups, stem_and_stages
from jaxvision.models.transformer import ATTENTIONS, Attention, Deviations
from jaxvision.registry import part

REDUCTION = 32  # pixels a side of a position of the last map


class Variant(NamedTuple):
    """Size of a published network.

    Attributes:
      blocks: Number of blocks of each stage.
      channels: Number of channels of the first stage, before its expansion by 4.
      features: Dimension of the features.
    """

    blocks: tuple[int, ...]
    channels: int
    features: int


VARIANTS = {  # Radford et al. 2021, table 19; their images have 224, 224, 288, 384 and 448 pixels
    "RN50": Variant((3, 4, 6, 3), 64, 1024),
    "RN101": Variant((3, 4, 23, 3), 64, 512),
    "RN50x4": Variant((4, 6, 10, 6), 80, 640),
    "RN50x16": Variant((6, 8, 18, 8), 96, 768),
    "RN50x64": Variant((3, 15, 36, 10), 128, 1024),
}


class ClipBottleneck(nn.Module):
    """Bottleneck that strides by average pooling before its last convolution and its shortcut (Zhang 2019)."""

    channels: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h / stride, w / stride, 4 * channels]."""
        conv = functools.partial(Conv, dtype=self.dtype)
        norm = functools.partial(batch_norm, train=train, dtype=self.dtype)
        pool = avg_pool if self.stride == 2 else lambda x: x
        y = nn.relu(norm(name="norm1")(conv(self.channels, 1, name="conv1")(x)))
        y = nn.relu(norm(name="norm2")(conv(self.channels, 3, name="conv2")(y)))
        y = norm(name="norm3", zero=True)(conv(4 * self.channels, 1, name="conv3")(pool(y)))
        if x.shape != y.shape:
            x = norm(name="shortcut_norm")(conv(4 * self.channels, 1, name="shortcut_conv")(pool(x)))
        return nn.relu(x + y)


class AttentionPool2d(nn.Module):
    """The mean over positions attends to itself and to every position: [b, h, w, c] -> [b, features].

    Positions are learned, so h and w are fixed. Source: Radford et al. 2021, sec. 2.4, and their code.

    Attributes:
      num_heads: Number of attention heads.
      features: Dimension of the result.
      attention: Implementation of attention, "xla" or "cudnn".
      dtype: Type of the computation, float32 or bfloat16.
    """

    num_heads: int
    features: int
    attention: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [b, h, w, c] to [b, features]."""
        b, h, w, c = x.shape
        x = x.reshape(b, h * w, c)
        x = jnp.concatenate([x.mean(axis=1, keepdims=True), x], axis=1)  # b 1+n c
        deviation = c**-0.5
        positions = self.param("pos_embedding", nn.initializers.normal(deviation), (1, 1 + h * w, c))
        x = x + positions.astype(self.dtype)
        attention = Attention(
            self.num_heads,
            self.attention,
            features=self.features,
            deviations=Deviations(deviation, deviation, deviation),
            dtype=self.dtype,
            name="attention",
        )
        return attention(x[:, :1], x)[:, 0]


class ClipResNet(nn.Module):
    """Module of `clip_resnet`, which documents and checks the options."""

    num_classes: int | None
    blocks: tuple[int, ...]
    channels: int
    features: int
    attention: str
    head_init: str
    head_bias: float
    dtype: jnp.dtype

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return stem_and_stages(len(self.blocks))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d], or to logits [b, k] if the model has classes."""
        x = images
        half = self.channels // 2
        for i, (channels, stride) in enumerate([(half, 2), (half, 1), (self.channels, 1)], 1):
            x = Conv(channels, 3, stride, dtype=self.dtype, name=f"stem_conv{i}")(x)
            x = nn.relu(batch_norm(f"stem_norm{i}", train, self.dtype)(x))
        x = avg_pool(x)
        out: dict[str, Any] = {"stem": x}
        stages = []
        for i, num_blocks in enumerate(self.blocks):
            x = ClipStage(num_blocks, self.channels * 2**i, 1 if i == 0 else 2, self.dtype, name=f"stage{i + 1}")(
                x, train
            )
            stages.append(x)
        out["stages"] = tuple(stages)
        out["map"] = x
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        pool = AttentionPool2d(x.shape[-1] // 64, self.features, self.attention, self.dtype, name="pool")
        features = pool(x).astype(jnp.float32)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


class ClipStage(nn.Module):
    """Blocks of one resolution; the first one strides."""

    num_blocks: int
    channels: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h / stride, w / stride, 4 * channels] through its blocks."""
        for i in range(self.num_blocks):
            x = ClipBottleneck(self.channels, self.stride if i == 0 else 1, self.dtype, name=f"block{i + 1}")(x, train)
        return x


@part(
    "model",
    small={"blocks": (1, 1), "channels": 16, "features": 24},
    variants={
        name: in_words(v.blocks, f"{v.channels} channels in the first", f"{v.features:,} features")
        for name, v in VARIANTS.items()
    },
)
def clip_resnet(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "RN50",
    blocks: tuple[int, ...] | None = None,
    channels: int | None = None,
    features: int | None = None,
    attention: str = "xla",
    head_init: str = "zeros",
    head_bias: float = 0.0,
) -> ClipResNet:
    """CLIP's ResNet for images.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "stem", "stages" (the
    map of each stage), "map" [b, h, w, c] (the last of them), "tokens" [b, h * w, c], and "logits" float32 [b, k]. In
    CLIP the features are the embedding itself. In training apply it with `mutable=["batch_stats"]`; under jit the
    statistics are those of the global batch, even if it is sharded. Convolutions start as in He et al. 2015; the
    authors' code leaves them to torch's default.

    Args:
      num_classes: Number k of classes, or None for no head, as in CLIP.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      variant: Name of the size: "RN50", "RN101", "RN50x4", "RN50x16" or "RN50x64".
      blocks: Number of blocks of each stage; None for the variant's.
      channels: Number of channels of the first stage, before its expansion by 4; None for the variant's. The pooling
        has heads of 64 channels.
      features: Dimension d of the features; None for the variant's.
      attention: Implementation of the pooling's attention: "xla", or "cudnn" for the fused kernel of NVIDIA GPUs
        (bfloat16 or float16 only).
      head_init: Initialiser of the head, "zeros" or "normal".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, an option value out of range, or channels that do not make whole heads.
    """
    size = VARIANTS[one_of("CLIP ResNet variant", variant, VARIANTS)]
    blocks = tuple(blocks or size.blocks)
    channels = positive("channels", size.channels if channels is None else channels)
    last = 4 * channels * 2 ** (len(blocks) - 1)
    if channels % 2 or last % 64:
        raise UserError(f"channels must be even and make a last stage of a multiple of 64 channels, not {last}")
    return ClipResNet(
        num_classes=num_classes,
        blocks=blocks,
        channels=channels,
        features=positive("features", size.features if features is None else features),
        attention=one_of("attention", attention, ATTENTIONS),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
