"""Networks of depthwise convolutions: the blocks and the body that MobileNet v1 to v3 and EfficientNet share."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.activations import Activate
from jaxvision.models.convolution import Padding
from jaxvision.models.heads import linear_head
from jaxvision.models.layers import BatchNorm, Conv, Dropout, DropPath, global_mean
from jaxvision.models.options import whole
from jaxvision.models.order import Groups, stem_and_stages

GATES = {"sigmoid": nn.sigmoid, "hard_sigmoid": nn.hard_sigmoid}
PADDINGS = ("both sides", "SAME")  # of strided convolutions: torch's, TensorFlow's
# Each filter sees one channel, and makes one.
DEPTHWISE_INIT = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class Block(NamedTuple):
    """An inverted residual block, or a depthwise separable convolution.

    Attributes:
      channels: Number of output channels.
      expansion: Ratio of the channels between the 1x1 convolutions to the input channels; 1 for no first convolution.
      stride: Step of the depthwise convolution in pixels.
      size: Side of its kernel in pixels.
      squeeze: True for squeeze and excitation behind it.
      activation: Function behind the first two convolutions, a name of `activations.activation`.
      residual: True for a shortcut around a block that keeps its shape, and no activation at the end (Sandler et al.
        2018, fig. 3b); False for no shortcut and an activation (Howard et al. 2017, fig. 3).
    """

    channels: int
    expansion: float = 1
    stride: int = 1
    size: int = 3
    squeeze: bool = False
    activation: str = "relu6"
    residual: bool = True


class Style(NamedTuple):
    """Properties that all blocks of a network have in common.

    Attributes:
      padding: Zeros around a strided convolution, one of `PADDINGS`.
      norm_epsilon: Number that is added to the variance in every BatchNorm.
      norm_momentum: Share of the old running statistics in the new ones.
      squeeze_of: Channels whose quarter squeeze and excitation has inside: those of a block's "input", or the
        "expanded" ones, rounded to a multiple of 8.
      squeeze_activation: Function inside squeeze and excitation, a name of `activations.activation`.
      gate: Function of its result, a key of `GATES`.
      drop_path: Rate of stochastic depth at strength 1.
      dtype: Type of the computation, float32 or bfloat16.
    """

    padding: str = "both sides"
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.9
    squeeze_of: str = "input"
    squeeze_activation: str = "silu"
    gate: str = "sigmoid"
    drop_path: float = 0.0
    dtype: jnp.dtype = jnp.float32


def round_channels(channels: float, divisor: int = 8) -> int:
    """Rounds a number of channels to a multiple of `divisor`, to one that is at least 90 % of it.

    Args:
      channels: Number of channels times a factor.
      divisor: Divisor of the result, and its least value.

    Source: `_make_divisible` and `round_filters` in the authors' code of MobileNet v2 and EfficientNet.

    >>> round_channels(32 * 1.1), round_channels(33), round_channels(10), round_channels(11.9)
    (32, 32, 16, 16)
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def row(blocks: int, channels: int, stride: int = 1, **rest: Any) -> tuple[Block, ...]:
    """Makes the blocks of a row of a paper's table, of which the first one strides.

    Args:
      blocks: Number of blocks.
      channels: Number of output channels.
      stride: Stride of the first block.
      **rest: Further attributes of every `Block`.

    >>> [(block.channels, block.stride) for block in row(2, 24, 2, expansion=6)]
    [(24, 2), (24, 1)]
    """
    return tuple(Block(channels, stride=stride if i == 0 else 1, **rest) for i in range(blocks))


def resized(
    stages: Iterable[tuple[Block, ...]],
    width: float,
    blocks: tuple[int, ...] | None,
    rounding: Callable[[float], int] = round_channels,
) -> tuple[tuple[Block, ...], ...]:
    """Multiplies the channels of every block, and sets the number of blocks of each stage.

    Args:
      stages: Blocks of each stage.
      width: Factor of the channels.
      blocks: Number of blocks of each stage, of all or of the first ones; None for as many as there are. A stage of
        more blocks than it had repeats the last one.
      rounding: Function that rounds a number of channels.

    Raises:
      UserError: More stages than there are, or a stage of no block.

    >>> [len(stage) for stage in resized([row(1, 16), row(2, 24, 2), row(3, 32, 2)], 0.5, (1, 3))]
    [1, 3]
    """
    stages = tuple(tuple(b._replace(channels=rounding(b.channels * width)) for b in stage) for stage in stages)
    if blocks is None:
        return stages
    if not 1 <= len(blocks) <= len(stages):
        raise UserError(f"blocks has a number for each of 1 to {len(stages)} stages, not {len(blocks)} numbers")
    for count in blocks:
        whole("each number of blocks", count)
    return tuple(
        stage[:count] + (stage[-1]._replace(stride=1),) * (count - len(stage)) for stage, count in zip(stages, blocks)
    )


class ConvNorm(nn.Module):
    """Convolution, BatchNorm, activation: [b, h, w, c] -> [b, h / stride, w / stride, features].

    Attributes:
      features: Number of output channels; None for a depthwise convolution.
      size: Side of the kernel in pixels.
      stride: Step in pixels.
      activation: Name of the function, see `activations.activation`.
      style: Padding, BatchNorm and type.
      groups: Number of groups of a convolution that is not depthwise.
    """

    features: int | None
    size: int
    stride: int
    activation: str
    style: Style
    groups: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h', w', features]."""
        depthwise = {"groups": x.shape[-1], "kernel_init": DEPTHWISE_INIT}
        rest: dict[str, Any] = depthwise if self.features is None else {"groups": self.groups}
        x = conv("conv", self.features or x.shape[-1], self.size, self.stride, self.style, **rest)(x)
        return Activate(self.activation)(norm("norm", train, self.style)(x))


def conv(name: str, features: int, size: int, stride: int, style: Style, **rest: Any) -> Conv:
    """Makes a convolution. Call it inside a module's compact method.

    Args:
      name: Name of the parameters.
      features: Number of output channels.
      size: Side of the kernel in pixels.
      stride: Step in pixels.
      style: Padding and type.
      **rest: Further attributes of `Conv`.
    """
    padding: Padding = "SAME" if style.padding == "SAME" and stride > 1 else None
    return Conv(features, size, stride, padding=padding, dtype=style.dtype, name=name, **rest)


def norm(name: str, train: bool, style: Style) -> BatchNorm:
    """Makes a BatchNorm. Call it inside a module's compact method.

    Args:
      name: Name of the parameters and statistics.
      train: True to normalise with the statistics of the batch, False with the running ones.
      style: Momentum, epsilon and type.
    """
    return BatchNorm(train, style.norm_momentum, style.norm_epsilon, dtype=style.dtype, name=name)


class SqueezeExcite(nn.Module):
    """Squeeze and excitation of a given inner width: [b, h, w, c] -> the same.

    Source: Hu et al. 2018, arXiv 1709.01507, sec. 3, with the functions of Howard et al. 2019 or Tan & Le 2019.

    Attributes:
      channels: Number of channels between the two layers.
      style: Functions and type.
    """

    channels: int
    style: Style

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [b, h, w, c] to the same shape."""
        dense = lambda units, name: nn.Dense(
            units, kernel_init=nn.initializers.he_normal(), dtype=self.style.dtype, name=name
        )
        squeezed = dense(self.channels, "reduce")(global_mean(x).astype(self.style.dtype))
        excited = dense(x.shape[-1], "expand")(Activate(self.style.squeeze_activation)(squeezed))
        return x * GATES[self.style.gate](excited)[:, None, None]


class InvertedResidual(nn.Module):
    """1x1, depthwise and 1x1 convolution, optionally with squeeze and excitation: [b, h, w, c] -> [b, h', w', c'].

    Source: Sandler et al. 2018, arXiv 1801.04381, sec. 3.3; Howard et al. 2019, arXiv 1905.02244, fig. 4.

    Attributes:
      block: Sizes and functions of this block.
      style: Properties that all blocks have in common.
    """

    block: Block
    style: Style

    @nn.compact
    def __call__(self, x: jax.Array, strength: float, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h / stride, w / stride, channels]."""
        block, style, inputs = self.block, self.style, x.shape[-1]
        y = x
        if block.expansion != 1:
            expanded = round_channels(inputs * block.expansion)
            y = ConvNorm(expanded, 1, 1, block.activation, style, name="expand")(y, train)
        y = ConvNorm(None, block.size, block.stride, block.activation, style, name="depthwise")(y, train)
        if block.squeeze:
            squeezed = max(inputs // 4, 1) if style.squeeze_of == "input" else round_channels(y.shape[-1] // 4)
            y = SqueezeExcite(squeezed, style, name="se")(y)
        last = "identity" if block.residual else block.activation
        y = ConvNorm(block.channels, 1, 1, last, style, name="project")(y, train)
        if not block.residual or x.shape != y.shape:
            return y
        return x + DropPath(style.drop_path)(y, strength, train)


class MobileStage(nn.Module):
    """Blocks of one row of a paper's table; with their strengths of stochastic depth, in [0, 1]."""

    blocks: tuple[Block, ...]
    strengths: tuple[float, ...]
    style: Style

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h', w', c'] through its blocks."""
        for i, (block, strength) in enumerate(zip(self.blocks, self.strengths, strict=True), start=1):
            x = InvertedResidual(block, self.style, name=f"block{i}")(x, strength, train)
        return x


class MobileNet(nn.Module):
    """Module of `mobilenet_v1`, `mobilenet_v2`, `mobilenet_v3` and `efficientnet`, which document the options.

    Attributes:
      stem: Number of channels of the first convolution.
      stem_stride: Step of the first convolution in pixels.
      activation: Function outside the blocks, a name of `activations.activation`.
      stages: Blocks of each stage, of which those of the same stride make one entry of "stages" in the result.
      last: Number of channels of the 1x1 convolution behind the stages; None for no such convolution.
      hidden: Number of units of the layer between pooling and classifier; None for no such layer.
    """

    num_classes: int | None
    stem: int
    stages: tuple[tuple[Block, ...], ...]
    style: Style
    activation: str
    last: int | None = None
    hidden: int | None = None
    stem_stride: int = 2
    dropout: float = 0.0
    head_init: str = "normal"
    head_bias: float = 0.0

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        groups = stem_and_stages(len(self.stages) + (self.last is not None))
        return (*groups, ("pre_logits",)) if self.hidden else groups

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d], or to logits [b, k] if the model has classes."""
        style, function = self.style, Activate(self.activation)
        x = conv("stem_conv", self.stem, 3, self.stem_stride, style)(images)
        x = function(norm("stem_norm", train, style)(x))
        out: dict[str, Any] = {"stem": x}
        maps: dict[int, jax.Array] = {}  # by stride; the last one of each counts
        depth, stride = sum(map(len, self.stages)), self.stem_stride
        strengths = (i / depth for i in range(depth))  # from 0 on, as in the authors' code
        for i, blocks in enumerate(self.stages, start=1):
            here = tuple(itertools.islice(strengths, len(blocks)))
            x = MobileStage(blocks, here, style, name=f"stage{i}")(x, train)
            stride *= blocks[0].stride
            maps[stride] = x
        if self.last:
            x = ConvNorm(self.last, 1, 1, self.activation, style, name=f"stage{len(self.stages) + 1}")(x, train)
            maps[stride] = x
        out["stages"] = tuple(maps.values())
        out["map"] = x
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        features = global_mean(x)
        if self.hidden:
            init = nn.initializers.normal(0.01)
            hidden = nn.Dense(self.hidden, kernel_init=init, dtype=style.dtype, name="pre_logits")(features)
            features = function(hidden).astype(jnp.float32)
        if self.num_classes:
            dropped = Dropout(self.dropout)(features, train)
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(dropped)
        return features, out
