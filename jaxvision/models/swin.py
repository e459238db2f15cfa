"""Swin Transformer: Liu et al. 2021, arXiv 2103.14030. Attention within windows that shift from block to block."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models import windows
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import DropPath, global_mean
from jaxvision.models.options import in_words, one_of, positive, rate
from jaxvision.models.order import Groups, stem_and_stages
from jaxvision.models.patches import PatchEmbedding
from jaxvision.models.transformer import GELUS, Attention, Deviations, Mlp
from jaxvision.registry import part

VARIANTS = {  # blocks of each stage, channels of the first; Liu et al. 2021, sec. 3.3
    "tiny": ((2, 2, 6, 2), 96),
    "small": ((2, 2, 18, 2), 96),
    "base": ((2, 2, 18, 2), 128),
    "large": ((2, 2, 18, 2), 192),
}
HEAD_WIDTH = 32
EPSILON = 1e-5  # of the LayerNorms in the authors' code
DEVIATIONS = Deviations(0.02, 0.02, 0.02)
NORMAL = nn.initializers.normal(0.02)


class SwinBlock(nn.Module):
    """Attention within windows, then an MLP, each after a LayerNorm: [b, h, w, c] -> the same.

    Source: Liu et al. 2021, eq. 3; the learned bias of each offset between two places: eq. 4.

    Attributes:
      num_heads: Number of heads.
      shifted: True to shift the windows by half of their side.
      window: Side of a window.
      drop_path: Rate of stochastic depth at strength 1.
      gelu: Form of the GELU, a key of `transformer.GELUS`.
      norm_epsilon: Number that is added to the variance in the LayerNorms.
      dtype: Type of the computation, float32 or bfloat16.
    """

    num_heads: int
    shifted: bool
    window: int
    drop_path: float
    gelu: str
    norm_epsilon: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, strength: float, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to the same shape."""
        drop_path = DropPath(self.drop_path)
        norm = functools.partial(nn.LayerNorm, self.norm_epsilon, dtype=self.dtype)
        cover = windows.cover(x.shape[1:3], self.window, self.shifted)
        y = windows.split(norm(name="attention_norm")(x), cover)  # b m n c
        attention = Attention(self.num_heads, deviations=DEVIATIONS, dtype=self.dtype, name="attention")
        y = windows.join(attention(y, y, bias=self._bias(cover)), cover)
        x = x + drop_path(y, strength, train)
        mlp = Mlp(4 * x.shape[-1], gelu=self.gelu, deviations=DEVIATIONS, dtype=self.dtype, name="mlp")
        return x + drop_path(mlp(norm(name="mlp_norm")(x), train), strength, train)

    def _bias(self, cover: windows.Windows) -> jax.Array:
        """Returns what is added to the products: float32 [heads, n, n], or [m, heads, n, n] for shifted windows."""
        table = self.param("position_bias", NORMAL, ((2 * self.window - 1) ** 2, self.num_heads))
        bias = table[windows.offsets(cover.size, (self.window, self.window))].transpose(2, 0, 1)  # heads n n
        hidden = windows.hidden(cover)
        return bias if hidden is None else bias + hidden


class SwinStage(nn.Module):
    """Blocks of one resolution; with `downsample`, after merging 2x2 places into one.

    Attributes:
      channels: Number of channels.
      num_heads: Number of heads.
      strengths: Strength of stochastic depth in each block.
      downsample: True to merge places first.
      norm_last: True for the LayerNorm of the merging after its linear layer (version 2), False for before it.
      norm_epsilon: Number that is added to the variance in that LayerNorm.
      block: Factory of a block.
      dtype: Type of the computation, float32 or bfloat16.
    """

    channels: int
    num_heads: int
    strengths: tuple[float, ...]
    downsample: bool
    norm_last: bool
    norm_epsilon: float
    block: Callable[..., nn.Module]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h', w', c']: half the resolution, rounded up, where it downsamples."""
        if self.downsample:
            x = self._merge(x)
        for i, strength in enumerate(self.strengths):
            x = self.block(self.num_heads, i % 2 == 1, name=f"block{i + 1}")(x, strength, train)
        return x

    def _merge(self, x: jax.Array) -> jax.Array:
        b, h, w, c = x.shape
        x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
        x = x.reshape(b, (h + 1) // 2, 2, (w + 1) // 2, 2, c).transpose(0, 1, 3, 4, 2, 5)  # the authors' order
        x = x.reshape(*x.shape[:3], 4 * c)
        norm = nn.LayerNorm(self.norm_epsilon, dtype=self.dtype, name="downsample_norm")
        dense = nn.Dense(self.channels, use_bias=False, kernel_init=NORMAL, dtype=self.dtype, name="downsample")
        return norm(dense(x)) if self.norm_last else dense(norm(x))


class Swin(nn.Module):
    """Module of `swin`, which documents and checks the options."""

    num_classes: int | None
    blocks: tuple[int, ...]
    channels: int
    num_heads: int
    window: int
    patch: int
    drop_path: float
    gelu: str
    norm_epsilon: float
    head_init: str
    head_bias: float
    dtype: jnp.dtype

    norm_last = False

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return stem_and_stages(len(self.blocks))

    def block(self) -> Callable[..., nn.Module]:
        """Returns the factory of a block, `(num_heads, shifted, name) -> module`."""
        return functools.partial(
            SwinBlock,
            window=self.window,
            drop_path=self.drop_path,
            gelu=self.gelu,
            norm_epsilon=self.norm_epsilon,
            dtype=self.dtype,
        )

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d] and the outputs by name."""
        norm = functools.partial(nn.LayerNorm, self.norm_epsilon, dtype=self.dtype)
        x = PatchEmbedding(self.channels, self.patch, self.dtype, name="stem_conv")(images)
        x = norm(name="stem_norm")(x)
        out: dict[str, Any] = {"stem": x}
        stages = []
        depth = sum(self.blocks)
        strengths = (i / max(depth - 1, 1) for i in range(depth))  # from 0, as in the authors' code
        for i, num_blocks in enumerate(self.blocks):
            x = SwinStage(
                channels=self.channels * 2**i,
                num_heads=self.num_heads * 2**i,
                strengths=tuple(itertools.islice(strengths, num_blocks)),
                downsample=i > 0,
                norm_last=self.norm_last,
                norm_epsilon=self.norm_epsilon,
                block=self.block(),
                dtype=self.dtype,
                name=f"stage{i + 1}",
            )(x, train)
            stages.append(x)
        x = norm(name="norm")(x)
        out["stages"] = tuple(stages)
        out["map"] = x
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        features = global_mean(x)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


def heads_of(channels: int, num_heads: int | None) -> int:
    """Returns the number of heads of the first stage, of 32 channels each if it is not given.

    Args:
      channels: Number of channels of the first stage.
      num_heads: Number of heads, or None.

    Raises:
      UserError: Heads that do not divide the channels.

    >>> heads_of(96, None)
    3
    """
    heads = positive("num_heads", max(channels // HEAD_WIDTH, 1) if num_heads is None else num_heads)
    if channels % heads:
        raise UserError(f"channels must be a multiple of num_heads, and {channels} is not of {heads}: set num_heads")
    return heads


@part(
    "model",
    small={"blocks": (1, 2), "channels": 8, "num_heads": 2, "window": 2, "patch": 2},
    variants={
        name: in_words(blocks, f"{channels} channels in the first") for name, (blocks, channels) in VARIANTS.items()
    },
)
def swin(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "tiny",
    blocks: tuple[int, ...] | None = None,
    channels: int | None = None,
    num_heads: int | None = None,
    window: int = 7,
    patch: int = 4,
    drop_path: float = 0.0,
    gelu: str = "exact",
    norm_epsilon: float = EPSILON,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> Swin:
    """Swin Transformer.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] (the mean over places) and `out`:
    "stem", "stages" (the map of each stage), "map" [b, h, w, d] (after the last norm), "tokens" [b, h * w, d], and
    "logits" float32 [b, k]. Height and width are any multiples of `patch`, with the same weights: maps are padded to
    whole windows, and to an even size before places are merged, as in the authors' code for detection.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters are float32.
      variant: Name of the size: "tiny", "small", "base" or "large".
      blocks: Number of blocks of each stage; None for the variant's. The windows of every second one are shifted.
      channels: Number of channels of the first stage; None for the variant's. Each next stage has twice as many.
      num_heads: Number of heads in the first stage; None for heads of 32 channels. Each next stage has twice as many.
      window: Side of a window in places of the map; 7 for images of 224 pixels, 12 for 384 in the paper.
      patch: Side of a patch in pixels; 4 in the paper, 1 or 2 suits small images.
      drop_path: Rate of stochastic depth in the last block, in [0, 1); it grows linearly from 0 in the first. In the
        paper it is 0.2, 0.3 and 0.5 for tiny, small and base.
      gelu: Form of the GELU: "exact" (erf) as in the authors' code and timm, "tanh" or "quick".
      norm_epsilon: Number that is added to the variance in every LayerNorm.
      head_init: Initialiser of the head: "normal" (standard deviation 0.01; 0.02 in the authors' code) or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, or an option value out of range.
    """
    variant_blocks, variant_channels = VARIANTS[one_of("Swin variant", variant, VARIANTS)]
    channels = positive("channels", variant_channels if channels is None else channels)
    return Swin(
        num_classes=num_classes,
        blocks=tuple(blocks or variant_blocks),
        channels=channels,
        num_heads=heads_of(channels, num_heads),
        window=positive("window", window),
        patch=positive("patch", patch),
        drop_path=rate("drop_path", drop_path),
        gelu=one_of("gelu", gelu, GELUS),
        norm_epsilon=positive("norm_epsilon", norm_epsilon),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
