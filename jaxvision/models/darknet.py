"""DarkNet-53, the backbone of YOLOv3: Redmon & Farhadi 2018, arXiv 1804.02767, sec. 2.4 and table 1."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import Conv, batch_norm, global_mean
from jaxvision.models.options import in_words, one_of, positive
from jaxvision.models.order import Groups, stem_and_stages
from jaxvision.registry import part

BLOCKS = {"53": (1, 2, 8, 8, 4)}
CHANNELS = 32


class DarkUnit(nn.Module):
    """A convolution, BatchNorm and leaky ReLU: [b, h, w, c] -> [b, h / stride, w / stride, features]."""

    features: int
    size: int
    stride: int
    slope: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h / stride, w / stride, features]."""
        x = Conv(self.features, self.size, self.stride, dtype=self.dtype, name="conv")(x)
        return nn.leaky_relu(batch_norm("norm", train, self.dtype)(x), self.slope)


class DarkStage(nn.Module):
    """A 3x3 convolution of stride 2, then residual blocks of 1x1 and 3x3: [b, h, w, c] -> [b, h / 2, w / 2, channels].

    The input of a block is added behind the activation, and nothing comes after the sum.
    """

    blocks: int
    channels: int
    slope: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h / 2, w / 2, channels]."""
        rest = self.slope, self.dtype
        x = DarkUnit(self.channels, 3, 2, *rest, name="downsample")(x, train)
        for i in range(1, self.blocks + 1):
            y = DarkUnit(self.channels // 2, 1, 1, *rest, name=f"unit{i}_1")(x, train)
            x = x + DarkUnit(self.channels, 3, 1, *rest, name=f"unit{i}_2")(y, train)
        return x


class DarkNet(nn.Module):
    """Module of `darknet`, which documents and checks the options."""

    num_classes: int | None
    blocks: tuple[int, ...]
    width: float = 1.0
    slope: float = 0.1
    head_init: str = "normal"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return stem_and_stages(len(self.blocks))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d], or to logits [b, k] if the model has classes."""
        channels = max(round(CHANNELS * self.width), 1)
        x = DarkUnit(channels, 3, 1, self.slope, self.dtype, name="stem_conv")(images, train)
        out: dict[str, Any] = {"stem": x}
        stages = []
        for i, blocks in enumerate(self.blocks, 1):
            x = DarkStage(blocks, channels * 2**i, self.slope, self.dtype, name=f"stage{i}")(x, train)
            stages.append(x)
        out["stages"] = tuple(stages)
        out["map"] = x
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        features = global_mean(x)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


@part(
    "model",
    small={"blocks": (1, 1), "width": 0.25},
    variants={name: in_words(blocks, f"{CHANNELS} channels in the stem") for name, blocks in BLOCKS.items()},
)
def darknet(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str | int = "53",
    blocks: tuple[int, ...] | None = None,
    width: float = 1.0,
    slope: float = 0.1,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> DarkNet:
    """DarkNet-53: 52 convolutions with leaky ReLU, in residual blocks of 1x1 and 3x3, and a linear head.

    Applied to float images [b, height, width, 3] it returns float32 features [b, 1024] and `out`: "stem" (at the size
    of the image), "stages" (the map of each stage, 1/2 to 1/32 of the image's sides), "map" [b, h, w, 1024] (the last
    of them), "tokens" [b, h * w, 1024], and "logits" float32 [b, k]. In training apply it with
    `mutable=["batch_stats"]`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      variant: Number of layers, 53.
      blocks: Number of residual blocks of each stage; None for the variant's.
      width: Factor of the channels of every layer, above 0.
      slope: Slope of the leaky ReLU below 0: 0.1 in the authors' code, 0.01 in timm.
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, or an option value out of range.
    """
    return DarkNet(
        num_classes=num_classes,
        blocks=tuple(blocks or BLOCKS[one_of("DarkNet variant", str(variant), BLOCKS)]),
        width=positive("width", width),
        slope=slope,
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
