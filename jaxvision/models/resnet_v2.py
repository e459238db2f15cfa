"""ResNet v2: BatchNorm and ReLU come before each convolution, and nothing comes after the sum.

He et al. 2016b, "Identity mappings in deep residual networks", arXiv 1603.05027. Wide ResNet and Big Transfer are
built from the same blocks: `wide_resnet.py`, `bit.py`.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import Conv, Dropout, DropPath, batch_norm, global_mean, linear_decay, max_pool
from jaxvision.models.options import in_words, one_of, positive, rate
from jaxvision.models.order import Groups, stem_and_stages
from jaxvision.models.resnet_blocks import ResNetStage
from jaxvision.registry import part

IMAGENET_BLOCKS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3), "200": (3, 24, 36, 3)}
CIFAR_BLOCKS = {"110": (18, 18, 18), "164": (18, 18, 18), "1001": (111, 111, 111)}
STEMS = ("imagenet", "cifar")
STRIDES_IN = ("3x3", "1x1")
GROUPS = 32  # most groups of a GroupNorm
GROUP_NORM_EPSILON = 1e-5


def group_count(channels: int, group_size: int = 1) -> int:
    """Returns the number of groups of a GroupNorm: 32, or fewer where a group would have too few channels.

    Args:
      channels: Number of channels, a multiple of `group_size`.
      group_size: Least number of channels in a group, at least 1.

    >>> group_count(64), group_count(64, 4), group_count(256, 4)
    (32, 16, 32)
    """
    return min(GROUPS, channels // group_size)


def norm_relu(x: jax.Array, name: str, norm: str, train: bool, dtype: jnp.dtype, *, group_size: int = 1) -> jax.Array:
    """Applies a norm, then ReLU; call it inside a module's compact method.

    Args:
      x: Map, float [b, h, w, c].
      name: Name of the norm's parameters.
      norm: Kind of the norm, "batch" or "group".
      train: True to normalise with the statistics of the batch; GroupNorm has no statistics.
      dtype: Type of the result, float32 or bfloat16.
      group_size: Least number of channels in a group of GroupNorm, see `group_count`.

    Returns:
      [b, h, w, c] of type `dtype`.
    """
    if norm == "batch":
        return nn.relu(batch_norm(name, train, dtype)(x))
    groups = group_count(x.shape[-1], group_size)
    return nn.relu(nn.GroupNorm(groups, epsilon=GROUP_NORM_EPSILON, dtype=dtype, name=name)(x))


class PreActivationBlock(nn.Module):
    """Pre-activation block of two 3x3 convolutions or 1x1, 3x3, 1x1: [b, h, w, c] -> [b, h, w, d].

    d is `channels`, or four times as many after a bottleneck. He et al. 2016b, fig. 4e. `standardize` is weight
    standardisation; dropout comes before the second convolution. `resnet_v2` and `bit` document the other options.
    """

    channels: int
    stride: int
    bottleneck: bool = True
    stride_in: str = "3x3"
    norm: str = "group"
    group_size: int = 1
    standardize: bool = True
    standardize_epsilon: float = 1e-10
    zero_init_residual: bool = False
    dropout: float = 0.0
    drop_path: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, strength: float = 1.0) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h / stride, w / stride, c']."""
        standardize: dict[str, Any] = dict(standardize=self.standardize, standardize_epsilon=self.standardize_epsilon)
        conv: Callable[..., nn.Module] = functools.partial(Conv, **standardize, dtype=self.dtype)
        activate = functools.partial(
            norm_relu, norm=self.norm, train=train, dtype=self.dtype, group_size=self.group_size
        )
        layers = self._layers()
        features = layers[-1][0]
        y = activate(x, "norm1")
        if x.shape[-1] != features or self.stride > 1:
            x = conv(features, 1, self.stride, name="shortcut_conv")(y)
        for i, layer in enumerate(layers, 1):
            if i > 1:
                y = activate(y, f"norm{i}")
            if i == 2:
                y = Dropout(self.dropout)(y, train)
            zero: dict[str, Any] = (
                {"kernel_init": nn.initializers.zeros} if self.zero_init_residual and i == len(layers) else {}
            )
            y = conv(*layer, name=f"conv{i}", **zero)(y)
        return x + DropPath(self.drop_path)(y, strength, train)

    def _layers(self) -> list[tuple[int, int, int]]:
        """(features, kernel size, stride) of each convolution."""
        if not self.bottleneck:
            return [(self.channels, 3, self.stride), (self.channels, 3, 1)]
        first, second = (1, self.stride) if self.stride_in == "3x3" else (self.stride, 1)
        return [(self.channels, 1, first), (self.channels, 3, second), (4 * self.channels, 1, 1)]


class ResNetV2(nn.Module):
    """Module of `resnet_v2`, `wide_resnet` and `bit`, which document and check the options."""

    num_classes: int | None
    blocks: tuple[int, ...]
    channels: int
    stem_channels: int
    stem: str = "imagenet"
    pool_padding: float = -jnp.inf
    bottleneck: bool = True
    stride_in: str = "3x3"
    norm: str = "batch"
    group_size: int = 1
    standardize: bool = False
    standardize_epsilon: float = 1e-10
    zero_init_residual: bool = False
    dropout: float = 0.0
    drop_path: float = 0.0
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
        standardize: dict[str, Any] = dict(standardize=self.standardize, standardize_epsilon=self.standardize_epsilon)
        conv: Callable[..., nn.Module] = functools.partial(Conv, **standardize, dtype=self.dtype)
        x = conv(self.stem_channels, size, stride, name="stem_conv")(images)
        if self.stem == "imagenet":
            x = max_pool(x, self.pool_padding)
        out: dict[str, Any] = {"stem": x}
        stages = []
        for i, strengths in enumerate(linear_decay(self.blocks)):
            block = functools.partial(
                PreActivationBlock,
                channels=self.channels * 2**i,
                bottleneck=self.bottleneck,
                stride_in=self.stride_in,
                norm=self.norm,
                group_size=self.group_size,
                **standardize,
                zero_init_residual=self.zero_init_residual,
                dropout=self.dropout,
                drop_path=self.drop_path,
                dtype=self.dtype,
            )
            x = ResNetStage(strengths, 1 if i == 0 else 2, block, name=f"stage{i + 1}")(x, train)
            stages.append(x)
        out["stages"] = tuple(stages)
        x = norm_relu(x, "norm", self.norm, train, self.dtype, group_size=self.group_size)
        out["map"] = x
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        features = global_mean(x)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


@part(
    "model",
    small={"variant": 164, "blocks": (1, 1)},
    variants={
        **{name: in_words(blocks, "ImageNet") for name, blocks in IMAGENET_BLOCKS.items()},
        **{name: in_words(blocks, "CIFAR") for name, blocks in CIFAR_BLOCKS.items()},
    },
)
def resnet_v2(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str | int = "50",
    blocks: tuple[int, ...] | None = None,
    width: float = 1.0,
    stem: str | None = None,
    stride_in: str = "3x3",
    drop_path: float = 0.0,
    zero_init_residual: bool = False,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> ResNetV2:
    """Pre-activation ResNet with BatchNorm: a block adds to its input and does nothing else to it.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "stem", "stages"
    (the map of each stage), "map" [b, h, w, d] (the last of them after the last norm), "tokens"
    [b, h * w, d], and "logits" float32 [b, k]. In training apply it with `mutable=["batch_stats"]`.

    If a block changes the shape, its shortcut projects the output of its first norm and ReLU, as in the authors' code
    and in timm. In the paper the very first block does so even if it keeps the shape (110 layers). In its ImageNet code
    the stem's norm comes before max pooling; here, as in timm, max pooling comes first.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      variant: Number of layers: 50, 101, 152, 200 (ImageNet), or for CIFAR 110, with two convolutions in a block, and
        164, 1001, with bottlenecks.
      blocks: Number of blocks of each stage; None for the variant's.
      width: Factor of the channels of every layer, above 0. The first layer has 64 channels, or 16 for CIFAR.
      stem: First layers: "imagenet" (7x7 of stride 2, max pooling) or "cifar" (3x3). None for the variant's.
      stride_in: Convolution of a bottleneck that strides: "3x3" as in timm, or "1x1" as in the paper's code.
      drop_path: Rate of stochastic depth in the last block, in [0, 1); earlier blocks have less, in proportion to their
        depth (Huang et al. 2016, arXiv 1603.09382).
      zero_init_residual: True to start the last kernel of each branch at 0, as in timm; False as in the paper.
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, or an option value out of range.
    """
    all_blocks: dict[str, tuple[int, ...]] = {**IMAGENET_BLOCKS, **CIFAR_BLOCKS}
    name = one_of("ResNet v2 variant", str(variant), all_blocks)
    cifar = name in CIFAR_BLOCKS
    channels = round((16 if cifar else 64) * positive("width", width))
    return ResNetV2(
        num_classes=num_classes,
        blocks=tuple(blocks or all_blocks[name]),
        channels=channels,
        stem_channels=channels,
        stem=one_of("stem", stem or ("cifar" if cifar else "imagenet"), STEMS),
        bottleneck=name != "110",
        stride_in=one_of("stride_in", stride_in, STRIDES_IN),
        zero_init_residual=zero_init_residual,
        drop_path=rate("drop_path", drop_path),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
