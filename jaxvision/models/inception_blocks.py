"""Blocks of the Inception networks, as data: branches of convolutions and poolings whose maps are concatenated."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError, shown
from jaxvision.models.convolution import Padding
from jaxvision.models.heads import linear_head
from jaxvision.models.layers import BatchNorm, Conv, Dropout, avg_pool, global_mean, local_response_norm, max_pool
from jaxvision.models.order import Groups, stem_and_stages


class C(NamedTuple):
    """A convolution with ReLU; `padding` is that of `layers.Conv`, by default half the kernel."""

    channels: int
    size: int | tuple[int, int] = 1
    stride: int = 1
    padding: Padding = None


class Pool(NamedTuple):
    """A pooling, "max" or "avg". An average is over the pixels inside the map, unless it `counts_padding` as zeros."""

    kind: str
    size: int = 3
    stride: int = 1
    padding: Padding = None
    counts_padding: bool = False


class Lrn(NamedTuple):
    """Local response normalisation with the constants of AlexNet."""


# What a branch does, from its input on. A tuple in it is a fork: convolutions that see the same map.
Branch: TypeAlias = tuple["C | Pool | Lrn | tuple[C, ...]", ...]


class Block(NamedTuple):
    """An Inception module.

    Attributes:
      branches: Branches, whose maps are concatenated.
      residual: Factor of a residual branch, as in Inception-ResNet: a 1x1 convolution with bias of the concatenated
        maps, times this factor, is added to the input. None for no such sum.
      relu: True for ReLU after that sum.
    """

    branches: tuple[Branch, ...]
    residual: float | None = None
    relu: bool = True


class Stage(NamedTuple):
    """Blocks of one resolution, behind a pooling if there is one."""

    blocks: tuple[Block, ...]
    pool: Pool | None = None


def chain(*layers: C | Pool | Lrn) -> Block:
    """Makes a block of one branch: layers one after the other.

    Args:
      *layers: Layers.
    """
    return Block((layers,))


def first_blocks(kind: str, stages: tuple[Stage, ...], counts: tuple[int, ...] | None) -> tuple[Stage, ...]:
    """Returns the first stages of a network with their first blocks only.

    Args:
      kind: Name of the network, for the message.
      stages: Stages of a variant.
      counts: Number of blocks of each stage, for as many stages as are kept; None for all.

    Raises:
      UserError: A number below 1 or above the stage's, no stage, or too many.
    """
    if counts is None:
        return stages
    have = [len(stage.blocks) for stage in stages]
    if not 1 <= len(counts) <= len(have) or not all(1 <= n <= most for n, most in zip(counts, have)):
        raise UserError(f"blocks of {kind} has numbers from 1 to {tuple(have)}, stage by stage, not {shown(counts)}")
    return tuple(stage._replace(blocks=stage.blocks[:n]) for stage, n in zip(stages, counts))


class ConvUnit(nn.Module):
    """A convolution, BatchNorm (or a bias) and ReLU: [b, h, w, c] -> [b, h', w', channels].

    Attributes:
      spec: Convolution.
      width: Factor of its channels.
      epsilon: Number that is added to the variance in BatchNorm; None for a bias and no BatchNorm.
      dtype: Type of the computation, float32 or bfloat16.
    """

    spec: C
    width: float
    epsilon: float | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h', w', channels]."""
        channels, size, stride, padding = self.spec
        features, bias = max(round(channels * self.width), 1), self.epsilon is None
        x = Conv(features, size, stride, dtype=self.dtype, padding=padding, bias=bias, name="conv")(x)
        if self.epsilon is not None:
            x = BatchNorm(train, momentum=0.9, epsilon=self.epsilon, dtype=self.dtype, name="norm")(x)
        return nn.relu(x)


class InceptionBlock(nn.Module):
    """Module of a `Block`: [b, h, w, c] -> [b, h', w', c'].

    Convolutions are named by branch and place, both from 1: `branch2_3`, and in a fork `branch2_3a` and `branch2_3b`.

    Attributes:
      spec: Block.
      width, epsilon, dtype: See `ConvUnit`.
    """

    spec: Block
    width: float
    epsilon: float | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h', w', c']."""
        y = jnp.concatenate([self._branch(i, branch, x, train) for i, branch in enumerate(self.spec.branches, 1)], -1)
        if self.spec.residual is None:
            return y
        y = x + self.spec.residual * Conv(x.shape[-1], 1, dtype=self.dtype, bias=True, name="project")(y)
        return nn.relu(y) if self.spec.relu else y

    def _branch(self, number: int, branch: Branch, x: jax.Array, train: bool) -> jax.Array:
        place = 0
        for layer in branch:
            if isinstance(layer, Pool):
                x = pool(x, layer)
            elif isinstance(layer, Lrn):
                x = local_response_norm(x)
            else:
                place += 1
                units = {"": layer} if isinstance(layer, C) else dict(zip("ab", layer))
                maps = [
                    ConvUnit(unit, self.width, self.epsilon, self.dtype, name=f"branch{number}_{place}{fork}")(x, train)
                    for fork, unit in units.items()
                ]
                x = jnp.concatenate(maps, -1)
        return x


def pool(x: jax.Array, spec: Pool) -> jax.Array:
    """Applies a pooling.

    Args:
      x: Map, float [b, h, w, c].
      spec: Pooling.

    Returns:
      float [b, h', w', c].

    >>> (9 * pool(jnp.ones((1, 2, 2, 1)), Pool("avg", counts_padding=True))[0, 0, :, 0]).round().tolist()
    [4.0, 4.0]
    """
    if spec.kind == "max":
        return max_pool(x, size=spec.size, stride=spec.stride, padding=spec.padding)
    if spec.counts_padding:
        margin = (spec.size // 2,) * 2
        return avg_pool(jnp.pad(x, ((0, 0), margin, margin, (0, 0))), spec.size, spec.stride, 0)
    return avg_pool(x, spec.size, spec.stride, spec.padding)


class InceptionStage(nn.Module):
    """Module of a `Stage`: [b, h, w, c] -> the maps [b, h', w', c'] of all its blocks.

    Attributes:
      spec: Stage.
      width, epsilon, dtype: See `ConvUnit`.
    """

    spec: Stage
    width: float
    epsilon: float | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> list[jax.Array]:
        """Maps x [b, h, w, c] to the map of every block."""
        x = x if self.spec.pool is None else pool(x, self.spec.pool)
        maps = []
        for i, block in enumerate(self.spec.blocks, 1):
            x = InceptionBlock(block, self.width, self.epsilon, self.dtype, name=f"block{i}")(x, train)
            maps.append(x)
        return maps


class InceptionNet(nn.Module):
    """A network of a stem and stages of Inception blocks. The builders document and check the options.

    Attributes:
      num_classes: Number of classes, or None for no head.
      stem: Convolutions of the stem.
      stages: Stages.
      width: Factor of the channels of every convolution.
      epsilon: Number that is added to the variance in BatchNorm; None for no BatchNorm.
      dropout: Rate of dropout before the head.
      min_size: Least side of the images, in pixels.
      aux: Places of auxiliary classifiers, as pairs (stage, block) counted from 1.
      aux_head: Maker of an auxiliary classifier, `(network, name) -> module`, or None.
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class.
      dtype: Type of the computation, float32 or bfloat16.
    """

    num_classes: int | None
    stem: tuple[C, ...]
    stages: tuple[Stage, ...]
    width: float
    epsilon: float | None
    dropout: float
    min_size: int
    aux: tuple[tuple[int, int], ...] = ()
    aux_head: Callable[["InceptionNet", str], nn.Module] | None = None
    head_init: str = "normal"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return stem_and_stages(len(self.stages))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d], or to logits [b, k] if the model has classes."""
        if min(images.shape[1:3]) < self.min_size:
            least = f"{self.min_size}x{self.min_size}"
            raise UserError(f"this network needs images of at least {least} pixels, not {images.shape[1:3]}")
        x = images
        for i, unit in enumerate(self.stem, 1):
            x = ConvUnit(unit, self.width, self.epsilon, self.dtype, name=f"stem_conv{i}")(x, train)
        out: dict[str, Any] = {"stem": x}
        stages = []
        for i, stage in enumerate(self.stages, 1):
            stages.append(InceptionStage(stage, self.width, self.epsilon, self.dtype, name=f"stage{i}")(x, train))
            x = stages[-1][-1]
        out["stages"] = tuple(maps[-1] for maps in stages)
        out["blocks"] = tuple(x for maps in stages for x in maps)
        out["map"] = x
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        features = global_mean(x)
        if self.num_classes:
            kept = Dropout(self.dropout)(features, train)
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(kept)
            if self.aux_head is not None:
                heads = [self.aux_head(self, f"aux{i}") for i in range(1, len(self.aux) + 1)]
                seen = [stages[stage - 1][block - 1] for stage, block in self.aux]
                out["aux_logits"] = tuple(head(x, train) for head, x in zip(heads, seen))
        return features, out
