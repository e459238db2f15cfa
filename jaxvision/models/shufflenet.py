"""ShuffleNet v1: Zhang et al. 2018, arXiv 1707.01083; v2: Ma et al. 2018, arXiv 1807.11164."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.inverted_residual import ConvNorm, Style
from jaxvision.models.layers import Conv, avg_pool, batch_norm, global_mean, max_pool
from jaxvision.models.options import in_words, one_of, positive
from jaxvision.models.order import Groups, stem_and_stages
from jaxvision.registry import part

BLOCKS = (4, 8, 4)  # units of each stage, of both versions: Zhang et al. 2018, table 1; Ma et al. 2018, table 5
V1_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # of the first stage by number of groups: Zhang et al., table 1
V2_VARIANTS = {"0.5": (48, 1024), "1.0": (116, 1024), "1.5": (176, 1024), "2.0": (244, 2048)}  # Ma et al., table 5


def channel_shuffle(x: jax.Array, groups: int) -> jax.Array:
    """Deals out the channels of each group to all groups, so that the next grouped convolution sees all of them.

    Channel j of group i of `groups` becomes channel i of group j. So a shuffle with g groups and one with c / g
    are inverse.

    Args:
      x: Map, float [..., c].
      groups: Number of groups; it divides c.

    Returns:
      The same numbers in another order, [..., c].

    Source: Zhang et al. 2018, sec. 3.1.

    >>> channel_shuffle(jnp.arange(6), 2).tolist()
    [0, 3, 1, 4, 2, 5]
    """
    return x.reshape(*x.shape[:-1], groups, -1).swapaxes(-1, -2).reshape(x.shape)


class ShuffleUnit(nn.Module):
    """Unit of v1: grouped 1x1 convolution, shuffle, depthwise 3x3, grouped 1x1; Zhang et al. 2018, fig. 2b and c.

    Attributes:
      channels: Number of output channels.
      stride: Step in pixels; a unit of stride 2 appends its result to the averaged input.
      style: BatchNorm and type.
      groups: Number of groups of the 1x1 convolutions.
      first: True for a first convolution without groups, in the first unit of the network.
    """

    channels: int
    stride: int
    style: Style
    groups: int
    first: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h / stride, w / stride, channels]."""
        unit = functools.partial(ConvNorm, style=self.style)
        appended = x.shape[-1] if self.stride > 1 else 0
        first = 1 if self.first else self.groups
        y = unit(self.channels // 4, 1, 1, "relu", groups=first, name="reduce")(x, train)
        y = channel_shuffle(y, self.groups)
        y = unit(None, 3, self.stride, "identity", name="depthwise")(y, train)
        y = unit(self.channels - appended, 1, 1, "identity", groups=self.groups, name="expand")(y, train)
        if not appended:
            return nn.relu(x + y)
        return nn.relu(jnp.concatenate([avg_pool(x, 3, self.stride, padding=1), y], axis=-1))


class SplitUnit(nn.Module):
    """Unit of v2: half of the channels pass, and the others are convolved; Ma et al. 2018, fig. 3c and d.

    Attributes:
      channels: Number of output channels.
      stride: Step in pixels; in a unit of stride 2 both branches see all channels and are convolved.
      style: BatchNorm and type.
    """

    channels: int
    stride: int
    style: Style

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h / stride, w / stride, channels]."""
        unit = functools.partial(ConvNorm, style=self.style)
        half = self.channels // 2
        if self.stride == 1:
            kept, y = x[..., :half], x[..., half:]
        else:
            y = x
            kept = unit(None, 3, self.stride, "identity", name="shortcut_depthwise")(x, train)
            kept = unit(half, 1, 1, "relu", name="shortcut_project")(kept, train)
        y = unit(half, 1, 1, "relu", name="expand")(y, train)
        y = unit(None, 3, self.stride, "identity", name="depthwise")(y, train)
        y = unit(half, 1, 1, "relu", name="project")(y, train)
        return channel_shuffle(jnp.concatenate([kept, y], axis=-1), 2)


class ShuffleStage(nn.Module):
    """Units of one resolution, of which the first one has a stride of 2: [b, h, w, c] -> [b, h / 2, w / 2, c']."""

    blocks: int
    first: functools.partial
    unit: functools.partial

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h / 2, w / 2, c'] through its units."""
        for i in range(self.blocks):
            x = (self.first if i == 0 else self.unit)(stride=2 if i == 0 else 1, name=f"block{i + 1}")(x, train)
        return x


class ShuffleNet(nn.Module):
    """Module of `shufflenet` and `shufflenet_v2`, which document and check the options.

    Attributes:
      stem: Number of channels of the first convolution.
      channels: Number of channels of the first stage; each next stage has twice as many.
      groups: Number of groups of v1's convolutions; None for v2.
      last: Number of channels of the 1x1 convolution behind the stages; None for no such convolution.
    """

    num_classes: int | None
    blocks: tuple[int, ...]
    stem: int
    channels: int
    groups: int | None = None
    last: int | None = None
    head_init: str = "normal"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return stem_and_stages(len(self.blocks) + (self.last is not None))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d], or to logits [b, k] if the model has classes."""
        style = Style(dtype=self.dtype)
        x = Conv(self.stem, 3, 2, dtype=self.dtype, name="stem_conv")(images)
        x = max_pool(nn.relu(batch_norm("stem_norm", train, self.dtype)(x)))
        out: dict[str, Any] = {"stem": x}
        stages = []
        for i, blocks in enumerate(self.blocks):
            channels = self.channels * 2**i
            first: functools.partial
            unit: functools.partial
            if self.groups is None:
                first = unit = functools.partial(SplitUnit, channels, style=style)
            else:
                unit = functools.partial(ShuffleUnit, channels, style=style, groups=self.groups)
                first = functools.partial(unit, first=i == 0)
            x = ShuffleStage(blocks, first, unit, name=f"stage{i + 1}")(x, train)
            stages.append(x)
        if self.last:
            x = ConvNorm(self.last, 1, 1, "relu", style, name=f"stage{len(self.blocks) + 1}")(x, train)
            stages[-1] = x
        out["stages"] = tuple(stages)
        out["map"] = x
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        features = global_mean(x)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


@part("model", small={"blocks": (2,), "channels": 48})
def shufflenet(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    groups: int = 3,
    channels: int | None = None,
    stem: int = 24,
    blocks: tuple[int, ...] = BLOCKS,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> ShuffleNet:
    """ShuffleNet v1, of grouped 1x1 convolutions whose channels are shuffled. By default it is the paper's 1x with g=3.

    The averaged input of a unit of stride 2 counts pixels inside of the map only.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "stem", "stages" (the
    map of each stage, of strides 8, 16 and 32), "map" [b, h, w, d] (the last of them), "tokens" [b, h * w, d], and
    "logits" float32 [b, k]. In training apply it with `mutable=["batch_stats"]`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      groups: Number of groups g of the 1x1 convolutions.
      channels: Number of channels of the first stage, a multiple of 4 g; each next stage has twice as many. None for
        the paper's 144, 200, 240, 272 and 384 for 1, 2, 3, 4 and 8 groups.
      stem: Number of channels of the first convolution, a multiple of g below `channels`.
      blocks: Number of units of each stage.
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An option value out of range, or numbers of channels that the groups do not divide.
    """
    if channels is None:
        channels = V1_CHANNELS[one_of("groups (without channels=)", groups, V1_CHANNELS)]
    positive("groups", groups)
    for name, number, divisor in (("channels", channels, 4 * groups), ("stem", positive("stem", stem), groups)):
        if number % divisor:
            raise UserError(f"{name} of a ShuffleNet of {groups} groups is a multiple of {divisor}, not {number}")
    if stem >= channels:
        raise UserError(f"channels must be more than the {stem} of the stem, not {channels}")
    return ShuffleNet(
        num_classes=num_classes,
        blocks=tuple(positive("each number of blocks", n) for n in blocks),
        stem=stem,
        channels=channels,
        groups=groups,
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )


@part(
    "model",
    small={"blocks": (2,), "channels": 16, "last": 32},
    variants={
        name: in_words(BLOCKS, f"{channels} channels in the first, {last} at the end")
        for name, (channels, last) in V2_VARIANTS.items()
    },
)
def shufflenet_v2(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "1.0",
    channels: int | None = None,
    last: int | None = None,
    blocks: tuple[int, ...] = BLOCKS,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> ShuffleNet:
    """ShuffleNet v2, whose units convolve one half of the channels and pass on the other.

    Source: Ma et al. 2018, arXiv 1807.11164.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "stem", "stages" (the
    last map of each stride, 8, 16 and 32), "map" [b, h, w, d] (the last of them), "tokens" [b, h * w, d], and "logits"
    float32 [b, k]. In training apply it with `mutable=["batch_stats"]`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      variant: Name of the size, "0.5", "1.0", "1.5" or "2.0".
      channels: Number of channels of the first stage, even; each next stage has twice as many. None for the variant's.
      last: Number d of channels of the last convolution; None for the variant's.
      blocks: Number of units of each stage.
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, or an option value out of range.
    """
    usual = V2_VARIANTS[one_of("ShuffleNet v2 variant", str(variant), V2_VARIANTS)]
    channels = positive("channels", usual[0] if channels is None else channels)
    if channels % 2:
        raise UserError(f"channels must be even, for two halves, not {channels}")
    return ShuffleNet(
        num_classes=num_classes,
        blocks=tuple(positive("each number of blocks", n) for n in blocks),
        stem=24,
        channels=channels,
        last=positive("last", usual[1] if last is None else last),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
