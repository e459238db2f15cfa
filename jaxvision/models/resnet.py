"""ResNet with BatchNorm: He et al. 2016, "Deep residual learning for image recognition", arXiv 1512.03385."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import Conv, max_pool
from jaxvision.models.options import one_of, positive

IMAGENET_BLOCKS = {  # He et al. 2016, table 1
    "18": (2, 2, 2, 2),
    "34": (3, 4, 6, 3),
    "50": (3, 4, 6, 3),
    "101": (3, 4, 23, 3),
    "152": (3, 8, 36, 3),
}
# He et al. 2016, sec. 4.2: 6n + 2 layers in three stages. "8" is not in the paper: the smallest one, for quick runs.
CIFAR_BLOCKS = {str(6 * n + 2): (n, n, n) for n in (1, 3, 5, 7, 9, 18)}
BOTTLENECK = ("50", "101", "152")
STEMS = ("imagenet", "cifar")
SHORTCUTS = ("A", "B")
STRIDES_IN = ("3x3", "1x1")


class Block(nn.Module):
    """Residual block with two 3x3 convolutions, or the bottleneck 1x1, 3x3, 1x1: [B, H, W, C] -> [B, h, w, D]."""

    channels: int
    stride: int
    bottleneck: bool
    shortcut: str
    stride_in: str
    zero_init_residual: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = functools.partial(Conv, dtype=self.dtype)
        norm = functools.partial(batch_norm, train=train, dtype=self.dtype)
        layers = self._layers()
        y = x
        for i, (features, size, stride) in enumerate(layers, 1):
            last = i == len(layers)
            y = conv(features, size, stride, name=f"conv{i}")(y)
            y = norm(name=f"norm{i}", zero=last and self.zero_init_residual)(y)
            y = y if last else nn.relu(y)
        if x.shape != y.shape and self.shortcut == "A":
            x = x[:, :: self.stride, :: self.stride]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])))
        elif x.shape != y.shape:
            x = conv(y.shape[-1], 1, self.stride, name="shortcut_conv")(x)
            x = norm(name="shortcut_norm")(x)
        return nn.relu(x + y)

    def _layers(self) -> list[tuple[int, int, int]]:
        """(features, kernel size, stride) of each convolution."""
        if not self.bottleneck:
            return [(self.channels, 3, self.stride), (self.channels, 3, 1)]
        first, second = (1, self.stride) if self.stride_in == "3x3" else (self.stride, 1)
        return [(self.channels, 1, first), (self.channels, 3, second), (4 * self.channels, 1, 1)]


def batch_norm(name: str, train: bool, dtype: jnp.dtype, zero: bool = False) -> nn.BatchNorm:
    """BatchNorm with torch's momentum (0.1 there is 0.9 here) and epsilon; its statistics are float32.

    The running variance is the biased one, where torch keeps the unbiased one.
    """
    scale_init = nn.initializers.zeros if zero else nn.initializers.ones
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, scale_init=scale_init, name=name
    )


class Stage(nn.Module):
    """Blocks of one resolution; the first one strides."""

    num_blocks: int
    stride: int
    block: functools.partial

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for i in range(self.num_blocks):
            x = self.block(stride=self.stride if i == 0 else 1, name=f"block{i + 1}")(x, train)
        return x


class ResNet(nn.Module):
    """See `resnet` for the options, which are checked there."""

    num_classes: int | None
    blocks: tuple[int, ...]
    channels: int
    bottleneck: bool = False
    stem: str = "imagenet"
    shortcut: str = "B"
    stride_in: str = "3x3"
    zero_init_residual: bool = True
    head_init: str = "normal"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = Conv(self.channels, size, stride, dtype=self.dtype, name="stem_conv")(images)
        x = nn.relu(batch_norm("stem_norm", train, self.dtype)(x))
        if self.stem == "imagenet":
            x = max_pool(x)
        out = {"stem": x}
        stages = []
        for i, num_blocks in enumerate(self.blocks):
            block = functools.partial(
                Block,
                channels=self.channels * 2**i,
                bottleneck=self.bottleneck,
                shortcut=self.shortcut,
                stride_in=self.stride_in,
                zero_init_residual=self.zero_init_residual,
                dtype=self.dtype,
            )
            x = Stage(num_blocks, 1 if i == 0 else 2, block, name=f"stage{i + 1}")(x, train)
            stages.append(x)
        out["stages"] = tuple(stages)
        out["map"] = x
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        features = x.mean(axis=(1, 2), dtype=jnp.float32)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


def resnet(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str | int = "50",
    width: float = 1.0,
    stem: str | None = None,
    shortcut: str | None = None,
    stride_in: str = "3x3",
    zero_init_residual: bool = True,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> ResNet:
    """ResNet with BatchNorm, after the first paper (the activation comes after the sum).

    Applied to float images [B, H, W, 3] it returns float32 features [B, D] and `out`: "stem", "stages"
    (the map of each stage), "map" [B, h, w, D] (the last of them), "tokens" [B, h * w, D], and "logits"
    float32 [B, K]. In training apply it with `mutable=["batch_stats"]`; under jit the statistics are
    those of the global batch, however it is sharded.

    Args:
      num_classes: K, or None for no head.
      dtype: of the computation; parameters and statistics are float32.
      variant: layers: 18, 34, 50, 101, 152 (ImageNet), or 8, 20, 32, 44, 56, 110 (CIFAR).
      width: multiplies the channels of every layer, 64 or (CIFAR) 16 in the first one.
      stem: "imagenet" (7x7 of stride 2, max pooling) or "cifar" (3x3); default by variant.
      shortcut: where the shape changes, "A" pads with zero channels, "B" projects; default B, A for CIFAR.
      stride_in: the convolution of a bottleneck that strides: "3x3" as in torchvision (ResNet v1.5), or
        "1x1" as in the paper, which is some 0.5 % less accurate on ImageNet.
      zero_init_residual: start with the last scale of each branch at 0 (Goyal et al. 2017, sec. 5.1).
      head_init: "normal" or "zeros".
      head_bias: initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: an unknown variant or option value.
    """
    variant = one_of("ResNet variant", str(variant), IMAGENET_BLOCKS | CIFAR_BLOCKS)
    cifar = variant in CIFAR_BLOCKS
    return ResNet(
        num_classes=num_classes,
        blocks=(IMAGENET_BLOCKS | CIFAR_BLOCKS)[variant],
        channels=round((16 if cifar else 64) * positive("width", width)),
        bottleneck=variant in BOTTLENECK,
        stem=one_of("stem", stem or ("cifar" if cifar else "imagenet"), STEMS),
        shortcut=one_of("shortcut", shortcut or ("A" if cifar else "B"), SHORTCUTS),
        stride_in=one_of("stride_in", stride_in, STRIDES_IN),
        zero_init_residual=zero_init_residual,
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
