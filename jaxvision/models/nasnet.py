"""NASNet-A, whose two cells a search found: Zoph et al. 2018, arXiv 1707.07012, and the authors' code."""

import functools
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError, shown
from jaxvision.models.convolution import pad_widths
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.inverted_residual import DEPTHWISE_INIT
from jaxvision.models.layers import BatchNorm, Conv, Dropout, DropPath, avg_pool, global_mean, max_pool
from jaxvision.models.options import in_words, one_of, positive, rate
from jaxvision.models.order import Groups, stem_and_stages
from jaxvision.registry import part

EPSILON = 1e-3
# Pairs of (operation, number of its input), whose sums are the inputs from number 2 on. Input 0 is the map before the
# cell, input 1 the one before that. Zoph et al. 2018, fig. 4; the order is the authors' code's.
NORMAL = (
    (("separable5", 0), ("separable3", 1)),
    (("separable5", 1), ("separable3", 1)),
    (("average", 0), ("identity", 1)),
    (("average", 1), ("average", 1)),
    (("separable3", 0), ("identity", 0)),
)
REDUCTION = (
    (("separable5", 0), ("separable7", 1)),
    (("maximum", 0), ("separable7", 1)),
    (("average", 0), ("separable5", 1)),
    (("average", 2), ("identity", 3)),
    (("separable3", 2), ("maximum", 0)),
)
VARIANTS: dict[str, dict[str, Any]] = {  # N @ channels of the last cell: sec. 4, tables 2 and 3
    "large": {"blocks": (6, 6, 6), "channels": 168, "stem": 96, "skip": True},  # 6 @ 4032
    "mobile": {"blocks": (4, 4, 4), "channels": 44, "stem": 32, "skip": False},  # 4 @ 1056
}


def _norm(name: str, train: bool, dtype: jnp.dtype) -> BatchNorm:
    return BatchNorm(train, momentum=0.9, epsilon=EPSILON, dtype=dtype, name=name)


class ReluConvNorm(nn.Module):
    """ReLU, a 1x1 convolution and BatchNorm: [b, h, w, c] -> [b, h, w, channels]."""

    channels: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h, w, channels]."""
        x = Conv(self.channels, 1, dtype=self.dtype, name="conv")(nn.relu(x))
        return _norm("norm", train, self.dtype)(x)


class FactorizedReduction(nn.Module):
    """ReLU, every second pixel by two 1x1 convolutions, BatchNorm: [b, h, w, c] -> [b, h / 2, w / 2, channels].

    The second convolution sees the pixels one down and one to the right of those of the first. Sides are rounded up.
    """

    channels: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h', w', channels]."""
        x = nn.relu(x)
        moved = jnp.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)))
        half = self.channels // 2
        first = Conv(half, 1, 2, dtype=self.dtype, name="conv1")(x)
        second = Conv(self.channels - half, 1, 2, dtype=self.dtype, name="conv2")(moved)
        return _norm("norm", train, self.dtype)(jnp.concatenate([first, second], axis=-1))


class Separable(nn.Module):
    """Twice ReLU, a depthwise and a 1x1 convolution, BatchNorm: [b, h, w, c] -> [b, h / stride, w / stride, channels].

    The paper applies each separable convolution twice.
    """

    channels: int
    size: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h', w', channels]."""
        for i, stride in enumerate((self.stride, 1), 1):
            c = x.shape[-1]
            depthwise = functools.partial(Conv, c, self.size, stride, c, kernel_init=DEPTHWISE_INIT, dtype=self.dtype)
            x = depthwise(padding=None if stride == 1 else "SAME", name=f"depthwise{i}")(nn.relu(x))
            x = Conv(self.channels, 1, dtype=self.dtype, name=f"pointwise{i}")(x)
            x = _norm(f"norm{i}", train, self.dtype)(x)
        return x


class Cell(nn.Module):
    """A normal cell, [b, h, w, c] -> [b, h, w, 6 * channels], or one that reduces, -> [b, h / 2, w / 2, 4 * channels].

    Attributes:
      channels: Number of channels of each operation.
      reduces: True for the reduction cell.
      previous: Layer that gives the map before the last one these channels: "conv" for a 1x1 convolution, "halved" for
        a factorized reduction, since it has twice the sides, or "none" if there is no such map; the last one then takes
        its place.
      counts_padding: True for strided averages that count the padding as zeros.
      drop_path: Rate of stochastic depth at strength 1.
      dtype: Type of the computation, float32 or bfloat16.
    """

    channels: int
    reduces: bool
    previous: str
    counts_padding: bool
    drop_path: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, before: jax.Array | None, strength: float, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] and before [b, h, w, d], which may have twice the sides, to [b, h', w', c'']."""
        previous = x
        if before is not None:
            adjust = FactorizedReduction if self.previous == "halved" else ReluConvNorm
            previous = adjust(self.channels, self.dtype, name=f"previous_{self.previous}")(before, train)
        maps = [ReluConvNorm(self.channels, self.dtype, name="current")(x, train), previous]
        drop_path = DropPath(self.drop_path)
        for i, pair in enumerate(REDUCTION if self.reduces else NORMAL, 1):
            terms = []
            for side, (operation, number) in zip(("left", "right"), pair):
                stride = 2 if self.reduces and number < 2 else 1
                y = self._apply(operation, maps[number], stride, f"pair{i}_{side}", train)
                terms.append(y if operation == "identity" else drop_path(y, strength, train))
            maps.append(terms[0] + terms[1])
        return jnp.concatenate(maps[3:] if self.reduces else maps[1:], axis=-1)

    def _apply(self, operation: str, x: jax.Array, stride: int, name: str, train: bool) -> jax.Array:
        if operation == "identity":
            return x
        if operation == "maximum":
            return max_pool(x, stride=stride, padding="SAME")
        if operation == "average":
            if stride == 1 or not self.counts_padding:
                return avg_pool(x, 3, stride, "SAME")
            pads = pad_widths("SAME", (3, 3), x.shape[1:3], stride)
            return avg_pool(jnp.pad(x, ((0, 0), *pads, (0, 0))), 3, stride, 0)
        return Separable(self.channels, int(operation[-1]), stride, self.dtype, name=name)(x, train)


class NASNetStage(nn.Module):
    """A reduction cell, then normal cells of that resolution: [b, h, w, c] -> the maps [b, h / 2, w / 2, c'] of all.

    Attributes:
      blocks: Number of normal cells.
      channels: Number of channels of each operation of the normal cells.
      reduced_channels: The same for the reduction cell.
      first: Kind of the map before the last one for the reduction cell, `Cell.previous`.
      skip: True if the first normal cell sees the map before the last one that the reduction cell saw; False if it sees
        the last one.
      strengths: Strength of stochastic depth in each cell.
      counts_padding, drop_path, dtype: See `Cell`.
    """

    blocks: int
    channels: int
    reduced_channels: int
    first: str
    skip: bool
    strengths: tuple[float, ...]
    counts_padding: bool
    drop_path: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, before: jax.Array | None, train: bool) -> list[jax.Array]:
        """Maps x [b, h, w, c] and before [b, h, w, d], which may have twice the sides, to the map of every cell."""
        options = (self.counts_padding, self.drop_path, self.dtype)
        reduction = Cell(self.reduced_channels, True, self.first, *options, name="reduction")
        maps = [reduction(x, before, self.strengths[0], train)]
        before = before if self.skip else x
        for i in range(1, self.blocks + 1):
            cell = Cell(self.channels, False, "halved" if i == 1 else "conv", *options, name=f"block{i}")
            maps.append(cell(maps[-1], before, self.strengths[i], train))
            before = maps[-2]
        return maps


class NASNet(nn.Module):
    """Module of `nasnet`, which documents and checks the options."""

    num_classes: int | None
    blocks: tuple[int, ...]
    channels: int
    stem: int
    skip: bool
    counts_padding: bool
    dropout: float
    drop_path: float
    head_init: str
    head_bias: float
    dtype: jnp.dtype

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return stem_and_stages(len(self.blocks) + 1)

    def _stages(self) -> Iterator[NASNetStage]:
        """Yields the stages. The first is a reduction cell alone."""
        cells = [1, *(n + 1 for n in self.blocks)]
        strengths = iter((i + 1) / sum(cells) for i in range(sum(cells)))  # as in the authors' code
        for i, count in enumerate(cells):
            channels = self.channels * 2 ** max(i - 1, 0)
            yield NASNetStage(
                blocks=count - 1,
                channels=channels,
                reduced_channels=channels // (4, 2, 1)[min(i, 2)],
                first=("none", "halved", "conv")[min(i, 2)],
                skip=self.skip and i > 1,
                strengths=tuple(next(strengths) for _ in range(count)),
                counts_padding=self.counts_padding,
                drop_path=self.drop_path,
                dtype=self.dtype,
                name=f"stage{i + 1}",
            )

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d] and the outputs by name."""
        x = Conv(self.stem, 3, 2, padding=0, dtype=self.dtype, name="stem_conv")(images)
        x = _norm("stem_norm", train, self.dtype)(x)
        out: dict[str, Any] = {"stem": x}
        before: jax.Array | None = None
        stages = []
        for stage in self._stages():
            maps = stage(x, before, train)
            before, x = maps[-2] if len(maps) > 1 else x, maps[-1]
            stages.append(maps)
        out["stages"] = tuple(maps[-1] for maps in stages)
        out["blocks"] = tuple(x for maps in stages for x in maps)
        out["map"] = x = nn.relu(x)
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        features = global_mean(x)
        if self.num_classes:
            kept = Dropout(self.dropout)(features, train)
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(kept)
        return features, out


@part(
    "model",
    small={"blocks": (1, 1), "channels": 8, "stem": 8, "dropout": 0.0},
    variants={name: in_words(v["blocks"], f"{v['channels']} channels in the first") for name, v in VARIANTS.items()},
)
def nasnet(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "large",
    blocks: tuple[int, ...] | None = None,
    channels: int | None = None,
    stem: int | None = None,
    skip: bool | None = None,
    counts_padding: bool = False,
    dropout: float = 0.5,
    drop_path: float = 0.0,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> NASNet:
    """NASNet-A, without auxiliary classifier.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "stem" (the first
    convolution, at 1/2 of the image's sides), "stages" (the last map of each resolution, at about 1/4, 1/8, 1/16 and
    1/32, before the ReLU), "blocks" (the map of every cell), "map" [b, h, w, d] (the last of them, after ReLU),
    "tokens" [b, h * w, d], and "logits" float32 [b, k]. In training apply it with `mutable=["batch_stats"]`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      variant: Name of the size: "large" (6 @ 4032, for images of 331 pixels) or "mobile" (4 @ 1056, for 224).
      blocks: Number of normal cells of each resolution from 1/8 on; None for the variant's.
      channels: Number of channels of each operation at 1/8, a multiple of 4; None for the variant's. Each next
        resolution has twice as many; the last cell has 6 times as many as its operations.
      stem: Number of channels of the first convolution; None for the variant's.
      skip: True if the first cell behind a reduction cell sees the last map but one ahead of that, False if it sees the
        last one; None for the variant's. The authors' large network has True, their mobile one False.
      counts_padding: True for averages of stride 2 that count the padding as zeros, as in timm; False for averages over
        the pixels inside the map, as in the authors' code.
      dropout: Rate of dropout before the head, in [0, 1).
      drop_path: Rate at which the operations of the last cell are dropped, in [0, 1); it grows linearly from cell to
        cell. In the paper it also grows linearly over the steps of training ("ScheduledDropPath"), up to 0.3 for large.
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, or an option value out of range.
    """
    given = {"blocks": blocks, "channels": channels, "stem": stem, "skip": skip}
    sizes = VARIANTS[one_of("NASNet variant", variant, VARIANTS)] | {k: v for k, v in given.items() if v is not None}
    if sizes["channels"] % 4:
        raise UserError(f"channels of nasnet must be a multiple of 4, not {shown(sizes['channels'])}")
    return NASNet(
        num_classes=num_classes,
        blocks=tuple(positive("blocks", n) for n in sizes["blocks"]),
        channels=positive("channels", sizes["channels"]),
        stem=positive("stem", sizes["stem"]),
        skip=sizes["skip"],
        counts_padding=counts_padding,
        dropout=rate("dropout", dropout),
        drop_path=rate("drop_path", drop_path),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
