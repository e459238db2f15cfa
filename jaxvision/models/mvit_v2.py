"""MViT v2: Li et al. 2022, arXiv 2112.01526. Attention whose queries, keys and values are pooled to smaller maps."""

import functools
import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import Conv, DropPath, global_mean, max_pool
from jaxvision.models.options import in_words, one_of, positive, rate, whole
from jaxvision.models.order import Groups, stem_and_stages
from jaxvision.models.positions import linear_weights
from jaxvision.models.swin import DEVIATIONS, NORMAL, heads_of
from jaxvision.models.transformer import GELUS, NORM_EPSILON, Mlp, attend
from jaxvision.registry import part

VARIANTS = {"tiny": (1, 2, 5, 2), "small": (1, 2, 11, 2), "base": (2, 3, 16, 3)}  # Li et al. 2022, table 1
CHANNELS = 96  # of the first stage, one head
POOLS = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # torch's, which the authors' code leaves


def distances(queries: int, keys: int) -> np.ndarray:
    """Computes which row of a table of relative positions belongs to each query and key of one axis.

    A position on the coarser of the two maps counts as its place on the finer one.

    Args:
      queries: Number q of positions of the queries.
      keys: Number k of positions of the keys.

    Returns:
      int [q, k], in [0, 2 * max(q, k) - 2].

    Source: Li et al. 2022, eq. 3 and 4; the step of the coarser map is the authors' code's.

    >>> distances(4, 2).tolist()
    [[2, 0], [3, 1], [4, 2], [5, 3]]
    """
    finer = max(queries, keys)
    return np.add.outer(np.arange(queries) * finer // queries, np.arange(keys)[::-1] * finer // keys)


class PooledAttention(nn.Module):
    """Attention over pooled maps: [b, h, w, c] -> [b, h / stride, w / stride, features], rounded up.

    A 3x3 convolution of each channel, which the heads share, pools queries, keys and values; a LayerNorm follows. The
    product of a query with the learned vector of its distance down, and of that across, adds to the score of a key. The
    pooled queries add to the result.

    Source: Li et al. 2022, sec. 4.1, eq. 3 to 5. As in the authors' code, the products with the learned vectors are not
    divided by sqrt(d).

    Attributes:
      features: Number of channels of the result.
      num_heads: Number of heads.
      stride: Stride of the queries.
      key_stride: Stride of keys and values.
      norm_epsilon: Number that is added to the variance in the LayerNorms.
      dtype: Type of the computation, float32 or bfloat16; the softmax is float32.
    """

    features: int
    num_heads: int
    stride: int
    key_stride: int
    norm_epsilon: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, pretrained: tuple[int, int]) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h', w', features]; the tables are for maps of the sides `pretrained`."""
        query = self._pooled("query", x, self.stride)
        key, value = (self._pooled(name, x, self.key_stride) for name in ("key", "value"))
        b, (h, w) = len(x), query.shape[2:4]
        tokens = lambda y: y.reshape(b, self.num_heads, -1, y.shape[-1]).swapaxes(1, 2)  # b n heads d
        bias = self._bias(query, key.shape[2:4], pretrained)
        y = attend(tokens(query), tokens(key), tokens(value), bias=bias) + tokens(query)
        y = nn.DenseGeneral(self.features, axis=(-2, -1), kernel_init=NORMAL, dtype=self.dtype, name="out")(y)
        return y.reshape(b, h, w, self.features)

    def _pooled(self, name: str, x: jax.Array, stride: int) -> jax.Array:
        """Returns a pooled projection of the map, [b, heads, h', w', d]."""
        d = self.features // self.num_heads
        y = nn.DenseGeneral((self.num_heads, d), kernel_init=NORMAL, dtype=self.dtype, name=name)(x)  # b h w heads d
        y = jnp.moveaxis(y, 3, 1).reshape(-1, *x.shape[1:3], d)
        y = Conv(d, 3, stride, groups=d, kernel_init=POOLS, dtype=self.dtype, name=f"{name}_pool")(y)
        y = nn.LayerNorm(self.norm_epsilon, dtype=self.dtype, name=f"{name}_norm")(y)
        return y.reshape(len(x), self.num_heads, *y.shape[1:])

    def _bias(self, query: jax.Array, keys: tuple[int, ...], pretrained: tuple[int, int]) -> jax.Array:
        """Returns what is added to the scores, float32 [b, heads, q, k]."""
        (b, heads, h, w, d), (rows, columns) = query.shape, keys
        query = query.astype(jnp.float32)
        of_rows = self._vectors("row_positions", h, rows, pretrained[0], d)
        of_columns = self._vectors("column_positions", w, columns, pretrained[1], d)
        down = jnp.einsum("bnhwd,hkd->bnhwk", query, of_rows)[..., None]
        across = jnp.einsum("bnhwd,wkd->bnhwk", query, of_columns)[..., None, :]
        return (down + across).reshape(b, heads, h * w, rows * columns)

    def _vectors(self, name: str, queries: int, keys: int, pretrained: int, d: int) -> jax.Array:
        """Returns the vector of each query and key of one axis, [q, k, d]."""
        length = lambda queries, keys: 2 * max(queries, keys) - 1
        stored = length(-(-pretrained // self.stride), -(-pretrained // self.key_stride))
        table = self.param(name, NORMAL, (stored, d))
        wanted = length(queries, keys)
        if wanted != stored:
            weights = linear_weights((np.arange(wanted) + 0.5) * stored / wanted - 0.5, stored)
            table = jnp.matmul(weights, table, precision="highest")
        return table[distances(queries, keys)]


class MViTBlock(nn.Module):
    """Pooled attention, then an MLP, each after a LayerNorm: [b, h, w, c] -> [b, h / stride, w / stride, channels].

    Where the channels change, the shortcut has a linear layer, behind the LayerNorm; where the map shrinks, 3x3 max
    pooling of stride 2.

    Source: Li et al. 2022, sec. 4.1.

    Attributes:
      channels: Number of channels of the result.
      num_heads, key_stride, norm_epsilon: See `PooledAttention`.
      stride: Stride of the queries, 1 or 2.
      drop_path: Rate of stochastic depth at strength 1.
      gelu: Form of the GELU, a key of `transformer.GELUS`.
      dtype: Type of the computation, float32 or bfloat16.
    """

    channels: int
    num_heads: int
    stride: int
    key_stride: int
    norm_epsilon: float
    drop_path: float
    gelu: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, pretrained: tuple[int, int], strength: float, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h', w', channels]."""
        drop_path = DropPath(self.drop_path)
        norm = functools.partial(nn.LayerNorm, self.norm_epsilon, dtype=self.dtype)
        y = norm(name="attention_norm")(x)
        if x.shape[-1] != self.channels:
            x = nn.Dense(self.channels, kernel_init=NORMAL, dtype=self.dtype, name="shortcut")(y)
        if self.stride > 1:
            x = max_pool(x)
        sizes = (self.channels, self.num_heads, self.stride, self.key_stride)
        attention = PooledAttention(*sizes, self.norm_epsilon, self.dtype, name="attention")
        x = x + drop_path(attention(y, pretrained), strength, train)
        mlp = Mlp(4 * self.channels, gelu=self.gelu, deviations=DEVIATIONS, dtype=self.dtype, name="mlp")
        return x + drop_path(mlp(norm(name="mlp_norm")(x), train), strength, train)


class MViTStage(nn.Module):
    """Blocks of one resolution; the first one has the stride. `MViTBlock` describes the attributes."""

    channels: int
    num_heads: int
    stride: int
    key_stride: int
    norm_epsilon: float
    drop_path: float
    gelu: str
    strengths: tuple[float, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, pretrained: tuple[int, int], train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h', w', channels]; the sides `pretrained` are those of the map that comes in."""
        for i, strength in enumerate(self.strengths):
            stride = self.stride if i == 0 else 1
            sizes = (self.channels, self.num_heads, stride, self.key_stride)
            block = MViTBlock(*sizes, self.norm_epsilon, self.drop_path, self.gelu, self.dtype, name=f"block{i + 1}")
            x = block(x, pretrained, strength, train)
            pretrained = _shrunk(pretrained, stride)
        return x


def _shrunk(sides: tuple[int, ...], stride: int) -> tuple[int, int]:
    return -(-sides[0] // stride), -(-sides[1] // stride)


class MViTV2(nn.Module):
    """Module of `mvit_v2`, which documents and checks the options."""

    num_classes: int | None
    blocks: tuple[int, ...]
    channels: int
    num_heads: int
    patch: int
    key_stride: int
    pretrained_size: int | None
    drop_path: float
    gelu: str
    norm_epsilon: float
    head_init: str
    head_bias: float
    dtype: jnp.dtype

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return stem_and_stages(len(self.blocks))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d] and the outputs by name."""
        stem = functools.partial(Conv, kernel_init=POOLS, bias=True, dtype=self.dtype, name="stem_conv")
        x = stem(self.channels, 2 * self.patch - 1, self.patch)(images)
        out: dict[str, Any] = {"stem": x}
        sides = (self.pretrained_size,) * 2 if self.pretrained_size else images.shape[1:3]
        pretrained = _shrunk(sides, self.patch)
        stages = []
        depth = sum(self.blocks)
        strengths = (i / max(depth - 1, 1) for i in range(depth))  # from 0, as in the authors' code
        for i, num_blocks in enumerate(self.blocks):
            stride = 1 if i == 0 else 2
            x = MViTStage(
                channels=self.channels * 2**i,
                num_heads=self.num_heads * 2**i,
                stride=stride,
                key_stride=max(self.key_stride // 2**i, 1),
                norm_epsilon=self.norm_epsilon,
                drop_path=self.drop_path,
                gelu=self.gelu,
                strengths=tuple(itertools.islice(strengths, num_blocks)),
                dtype=self.dtype,
                name=f"stage{i + 1}",
            )(x, pretrained, train)
            pretrained = _shrunk(pretrained, stride)
            stages.append(x)
        x = nn.LayerNorm(self.norm_epsilon, dtype=self.dtype, name="norm")(x)
        out["stages"] = tuple(stages)
        out["map"] = x
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        features = global_mean(x)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


@part(
    "model",
    small={"blocks": (1, 2), "channels": 8, "num_heads": 2, "patch": 2, "key_stride": 2},
    variants={name: in_words(blocks, f"{CHANNELS} channels in the first") for name, blocks in VARIANTS.items()},
)
def mvit_v2(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "tiny",
    blocks: tuple[int, ...] | None = None,
    channels: int = CHANNELS,
    num_heads: int = 1,
    patch: int = 4,
    key_stride: int = 4,
    pretrained_size: int | None = None,
    drop_path: float = 0.0,
    gelu: str = "exact",
    norm_epsilon: float = NORM_EPSILON,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> MViTV2:
    """MViT v2, the improved Multiscale Vision Transformer, without class token.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] (the mean over places) and `out`:
    "stem", "stages" (the map of each stage, at 1/4, 1/8, 1/16 and 1/32 of the image's sides), "map" [b, h, w, d] (after
    the last norm), "tokens" [b, h * w, d], and "logits" float32 [b, k]. The arrays of relative positions are as large
    as the images of `init` need; `pretrained_size` makes weights serve images of other sizes.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters are float32.
      variant: Name of the size: "tiny", "small" or "base".
      blocks: Number of blocks of each stage; None for the variant's.
      channels: Number of channels of the first stage. Each next stage has twice as many, and half the sides.
      num_heads: Number of heads in the first stage. Each next stage has twice as many.
      patch: Stride of the first convolution, whose kernel has 2 * patch - 1 pixels; 4 in the paper, 2 suits small
        images.
      key_stride: Stride of keys and values in the first stage. It halves from stage to stage, rounded down, until it is
        1, so that they stay a map of one size; 4 in the paper.
      pretrained_size: Side of the images that the arrays of relative positions are for. For other images they are
        interpolated linearly, as in the authors' code. None for the images at hand.
      drop_path: Rate of stochastic depth in the last block, in [0, 1); it grows linearly from 0 in the first. In the
        paper it is 0.1, 0.1 and 0.3 for tiny, small and base.
      gelu: Form of the GELU: "exact" (erf) as in the authors' code and timm, "tanh" or "quick".
      norm_epsilon: Number that is added to the variance in every LayerNorm.
      head_init: Initialiser of the head: "normal" (standard deviation 0.01; 0.02 in the authors' code) or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, or an option value out of range.
    """
    return MViTV2(
        num_classes=num_classes,
        blocks=tuple(blocks or VARIANTS[one_of("MViT v2 variant", variant, VARIANTS)]),
        channels=positive("channels", channels),
        num_heads=heads_of(channels, num_heads),
        patch=positive("patch", patch),
        key_stride=positive("key_stride", key_stride),
        pretrained_size=whole("pretrained_size", pretrained_size, optional=True),
        drop_path=rate("drop_path", drop_path),
        gelu=one_of("gelu", gelu, GELUS),
        norm_epsilon=positive("norm_epsilon", norm_epsilon),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
