"""DenseNet: Huang et al. 2017, "Densely connected convolutional networks", arXiv 1608.06993."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import Conv, Dropout, avg_pool, batch_norm, global_mean, max_pool
from jaxvision.models.options import in_words, one_of, positive, rate
from jaxvision.models.order import Groups, stem_and_stages
from jaxvision.registry import part

BOTTLENECK = 4  # sec. 3, bottleneck layers: the 1x1 convolution makes 4 times as many channels as the 3x3
VARIANTS = {  # stem, layers of each block, growth rate; Huang et al. 2017, table 1 and sec. 4.2 (DenseNet-BC)
    "121": ("imagenet", (6, 12, 24, 16), 32),
    "161": ("imagenet", (6, 12, 36, 24), 48),
    "169": ("imagenet", (6, 12, 32, 32), 32),
    "201": ("imagenet", (6, 12, 48, 32), 32),
    "bc100_12": ("cifar", (16, 16, 16), 12),
    "bc250_24": ("cifar", (41, 41, 41), 24),
    "bc190_40": ("cifar", (31, 31, 31), 40),
}
STEMS = ("imagenet", "cifar")


class DenseLayer(nn.Module):
    """BatchNorm, ReLU, 1x1 and BatchNorm, ReLU, 3x3: [b, h, w, c] -> the new channels [b, h, w, growth]."""

    growth: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h, w, growth]."""
        for i, (features, size) in enumerate(((BOTTLENECK * self.growth, 1), (self.growth, 3)), 1):
            x = nn.relu(batch_norm(f"norm{i}", train, self.dtype)(x))
            x = Conv(features, size, dtype=self.dtype, name=f"conv{i}")(x)
        return Dropout(self.dropout)(x, train)


class DenseStage(nn.Module):
    """A dense block: each layer sees the channels of all before it. Behind a transition, if `downsample`.

    The transition is BatchNorm, ReLU, a 1x1 convolution to half the channels, and 2x2 average pooling.
    """

    layers: int
    growth: int
    downsample: bool
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h', w', c' + layers * growth]."""
        if self.downsample:
            x = nn.relu(batch_norm("transition_norm", train, self.dtype)(x))
            x = Conv(x.shape[-1] // 2, 1, dtype=self.dtype, name="transition_conv")(x)
            x = avg_pool(x)
        for i in range(self.layers):
            new = DenseLayer(self.growth, self.dropout, self.dtype, name=f"layer{i + 1}")(x, train)
            x = jnp.concatenate([x, new], axis=-1)
        return x


class DenseNet(nn.Module):
    """Module of `densenet`, which documents and checks the options."""

    num_classes: int | None
    blocks: tuple[int, ...]
    growth: int
    stem: str
    dropout: float = 0.0
    head_init: str = "normal"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return stem_and_stages(len(self.blocks))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d], or to logits [b, k] if the model has classes."""
        size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = Conv(2 * self.growth, size, stride, dtype=self.dtype, name="stem_conv")(images)
        if self.stem == "imagenet":
            x = max_pool(nn.relu(batch_norm("stem_norm", train, self.dtype)(x)))
        out: dict[str, Any] = {"stem": x}
        stages = []
        for i, layers in enumerate(self.blocks):
            stage = DenseStage(layers, self.growth, i > 0, self.dropout, self.dtype, name=f"stage{i + 1}")
            x = stage(x, train)
            stages.append(x)
        out["stages"] = tuple(stages)
        x = nn.relu(batch_norm("norm", train, self.dtype)(x))
        out["map"] = x
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        features = global_mean(x)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


@part(
    "model",
    small={"variant": "bc100_12", "blocks": (1, 2), "growth": 8},
    variants={
        name: in_words(blocks, f"growth {growth}", f"{stem} stem") for name, (stem, blocks, growth) in VARIANTS.items()
    },
)
def densenet(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str | int = "121",
    blocks: tuple[int, ...] | None = None,
    growth: int | None = None,
    stem: str | None = None,
    dropout: float = 0.0,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> DenseNet:
    """DenseNet-BC: with bottleneck layers, and transitions that halve the channels.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "stem", "stages" (the
    map of each dense block, before BatchNorm), "map" [b, h, w, d] (the last of them after BatchNorm and ReLU), "tokens"
    [b, h * w, d], and "logits" float32 [b, k]. In training apply it with `mutable=["batch_stats"]`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      variant: Number of layers, for ImageNet: 121, 161 (growth 48), 169 or 201; or the number of layers and the growth
        for CIFAR: "bc100_12", "bc250_24" or "bc190_40".
      blocks: Number of layers of each dense block; None for the variant's.
      growth: Number k of channels that each layer adds; None for the variant's. The stem has twice as many.
      stem: First layers: "imagenet" (7x7 of stride 2, BatchNorm, max pooling) or "cifar" (3x3). None for the variant's.
      dropout: Rate of dropout behind each layer, in [0, 1); 0.2 in the paper where images are not augmented.
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, or an option value out of range.
    """
    variant_stem, variant_blocks, variant_growth = VARIANTS[one_of("DenseNet variant", str(variant), VARIANTS)]
    return DenseNet(
        num_classes=num_classes,
        blocks=tuple(blocks or variant_blocks),
        growth=positive("growth", variant_growth if growth is None else growth),
        stem=one_of("stem", stem or variant_stem, STEMS),
        dropout=rate("dropout", dropout),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
