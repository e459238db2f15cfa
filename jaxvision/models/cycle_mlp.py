"""CycleMLP: Chen et al. 2022, arXiv 2107.10224. Linear layers whose channels look at neighbouring places in turn."""

import functools
import itertools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import Conv, DropPath, global_mean
from jaxvision.models.options import in_words, one_of, positive, rate
from jaxvision.models.order import Groups, stem_and_stages
from jaxvision.models.transformer import GELUS, Deviations, Mlp
from jaxvision.models.transformer import gelu as apply_gelu
from jaxvision.registry import part


class Size(NamedTuple):
    """Size of a CycleMLP, by stage.

    Attributes:
      blocks: Number of blocks.
      channels: Number of channels.
      ratios: Number of hidden units of the perceptron over channels, as a multiple of the channels.
    """

    blocks: tuple[int, ...]
    channels: tuple[int, ...]
    ratios: tuple[int, ...]


VARIANTS = {  # Chen et al. 2022, as in the authors' code, github.com/ShoufaChen/CycleMLP
    "B1": Size((2, 2, 4, 2), (64, 128, 320, 512), (4, 4, 4, 4)),
    "B2": Size((2, 3, 10, 3), (64, 128, 320, 512), (4, 4, 4, 4)),
    "B3": Size((3, 4, 18, 3), (64, 128, 320, 512), (8, 8, 4, 4)),
    "B4": Size((3, 8, 27, 3), (64, 128, 320, 512), (8, 8, 4, 4)),
    "B5": Size((3, 4, 24, 3), (96, 192, 384, 768), (4, 4, 4, 4)),
}
STEPS = 3  # number of places along an axis over which the channels of a layer are spread
EPSILON = 1e-5  # of the LayerNorms in the authors' code
NORMAL = nn.initializers.normal(0.02)
DEVIATIONS = Deviations(0.02, 0.02, 0.02)


def staircase(x: jax.Array, axis: int, steps: int = STEPS) -> jax.Array:
    """Replaces each channel by its value at a neighbouring place: channel i looks i places further, cyclically.

    With three steps the offsets of the channels are 0, 1, -1, 0, 1, -1, ... Outside of the map there are zeros.

    Args:
      x: Map, float [b, h, w, c].
      axis: Axis along which the channels look, 1 (down) or 2 (across).
      steps: Number of different offsets, odd.

    Returns:
      Array [b, h, w, c] of the type of x.

    Source: Chen et al. 2022, sec. 3 (Cycle FC).

    >>> staircase(jnp.arange(1.0, 10).reshape(1, 3, 1, 3), axis=1)[0, :, 0].tolist()
    [[1.0, 5.0, 0.0], [4.0, 8.0, 3.0], [7.0, 0.0, 6.0]]
    """
    half, length = steps // 2, x.shape[axis]
    offsets = (jnp.arange(x.shape[-1]) + half) % steps - half
    widths = [(half, half) if i == axis else (0, 0) for i in range(x.ndim)]
    padded = jnp.pad(x, widths)
    seen = [jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(steps)]
    return jnp.select([offsets == i - half for i in range(steps)], seen)


class CycleMixer(nn.Module):
    """Three linear layers, two of which look along an axis, mixed by learned weights: [b, h, w, c] -> the same.

    The weights of the three, which sum to 1 for each channel, are computed from the mean over all places.

    Source: Chen et al. 2022, sec. 3, with the reweighting of the authors' code.

    Attributes:
      gelu: Form of the GELU, a key of `transformer.GELUS`.
      dtype: Type of the computation, float32 or bfloat16; the softmax is float32.
    """

    gelu: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [b, h, w, c] to the same shape."""
        b, _, _, c = x.shape
        dense = functools.partial(nn.Dense, kernel_init=NORMAL, dtype=self.dtype)
        across = dense(c, name="across")(staircase(x, axis=2))
        down = dense(c, name="down")(staircase(x, axis=1))
        here = dense(c, use_bias=False, name="here")(x)
        mean = global_mean(across + down + here).astype(self.dtype)  # b c
        hidden = apply_gelu(dense(c // 4, name="reweight_0")(mean), self.gelu)
        scores = dense(3 * c, name="reweight_1")(hidden).reshape(b, c, 3)
        weights = jax.nn.softmax(scores.astype(jnp.float32)).astype(self.dtype)[:, None, None]  # b 1 1 c 3
        mixed = across * weights[..., 0] + down * weights[..., 1] + here * weights[..., 2]
        return dense(c, name="out")(mixed)


class CycleBlock(nn.Module):
    """A `CycleMixer`, then a perceptron over channels, each after a LayerNorm: [b, h, w, c] -> the same.

    Source: Chen et al. 2022, sec. 3 (CycleMLP block).
    """

    ratio: int
    drop_path: float
    gelu: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, strength: float, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to the same shape; `strength` is the share of `drop_path` that applies."""
        drop_path = DropPath(self.drop_path)
        norm = functools.partial(nn.LayerNorm, EPSILON, dtype=self.dtype)
        x = x + drop_path(CycleMixer(self.gelu, self.dtype, name="mixer")(norm(name="mixer_norm")(x)), strength, train)
        mlp = Mlp(self.ratio * x.shape[-1], gelu=self.gelu, deviations=DEVIATIONS, dtype=self.dtype, name="mlp")
        return x + drop_path(mlp(norm(name="mlp_norm")(x), train), strength, train)


class CycleStage(nn.Module):
    """Blocks of one resolution; with `downsample`, after a 3x3 convolution of stride 2."""

    channels: int
    ratio: int
    strengths: tuple[float, ...]
    downsample: bool
    drop_path: float
    gelu: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h', w', c']: half the resolution, rounded up, where it downsamples."""
        if self.downsample:
            x = Conv(self.channels, 3, 2, bias=True, dtype=self.dtype, name="downsample")(x)
        for i, strength in enumerate(self.strengths):
            block = CycleBlock(self.ratio, self.drop_path, self.gelu, self.dtype, name=f"block{i + 1}")
            x = block(x, strength, train)
        return x


class CycleMLP(nn.Module):
    """Module of `cycle_mlp`, which documents and checks the options."""

    num_classes: int | None
    size: Size
    patch: int
    drop_path: float
    gelu: str
    head_init: str
    head_bias: float
    dtype: jnp.dtype

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return stem_and_stages(len(self.size.blocks))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d] and the outputs by name."""
        size = self.size
        x = Conv(size.channels[0], 7, self.patch, padding=2, bias=True, dtype=self.dtype, name="stem_conv")(images)
        out: dict[str, Any] = {"stem": x}
        stages = []
        depth = sum(size.blocks)
        strengths = (i / max(depth - 1, 1) for i in range(depth))  # from 0, as in the authors' code
        for i, (blocks, channels, ratio) in enumerate(zip(*size)):
            strengths_here = tuple(itertools.islice(strengths, blocks))
            options = (channels, ratio, strengths_here, i > 0, self.drop_path, self.gelu, self.dtype)
            x = CycleStage(*options, name=f"stage{i + 1}")(x, train)
            stages.append(x)
        x = nn.LayerNorm(EPSILON, dtype=self.dtype, name="norm")(x)
        out["stages"] = tuple(stages)
        out["map"] = x
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        features = global_mean(x)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


@part(
    "model",
    small={"blocks": (1, 1), "channels": (8, 12), "ratios": (2, 2), "patch": 2},
    variants={
        name: in_words(s.blocks, f"channels {', '.join(map(str, s.channels))}", f"MLP ratios {s.ratios[0]} to 4")
        for name, s in VARIANTS.items()
    },
)
def cycle_mlp(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "B2",
    blocks: tuple[int, ...] | None = None,
    channels: tuple[int, ...] | None = None,
    ratios: tuple[int, ...] | None = None,
    patch: int = 4,
    drop_path: float = 0.0,
    gelu: str = "exact",
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> CycleMLP:
    """CycleMLP. The same weights take images of any size of at least 3 pixels a side.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] (the mean over places) and `out`:
    "stem", "stages" (the map of each stage), "map" [b, h, w, d] (after the last norm), "tokens" [b, h * w, d], and
    "logits" float32 [b, k].

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters are float32.
      variant: Name of the size: "B1", "B2", "B3", "B4" or "B5".
      blocks: Number of blocks of each stage; None for the variant's.
      channels: Number of channels of each stage, each at least 4; None for the variant's.
      ratios: Hidden units of the perceptrons over channels of each stage, as a multiple of its channels; None for the
        variant's.
      patch: Step between patches, in pixels; the patches have 7x7 pixels and overlap. 4 in the paper, 1 or 2 suits
        small images.
      drop_path: Rate of stochastic depth in the last block, in [0, 1); it grows linearly from 0 in the first.
      gelu: Form of the GELU: "exact" (erf), as in the authors' code, "tanh" or "quick".
      head_init: Initialiser of the head: "normal" (standard deviation 0.01; 0.02 in the authors' code) or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, numbers of stages that differ, or an option value out of range.
    """
    size = VARIANTS[one_of("CycleMLP variant", variant, VARIANTS)]
    overrides = {"blocks": blocks, "channels": channels, "ratios": ratios}
    size = size._replace(**{option: tuple(value) for option, value in overrides.items() if value is not None})
    for option, value in size._asdict().items():
        positive(f"each of {option}", min(value, default=0))
    if len({len(value) for value in size}) > 1:
        raise UserError(
            f"blocks, channels and ratios have a number for each stage, not {', '.join(str(len(v)) for v in size)}"
        )
    if min(size.channels) < 4:
        raise UserError(
            f"each stage needs at least 4 channels, as a quarter of them is a layer's width: {size.channels}"
        )
    return CycleMLP(
        num_classes=num_classes,
        size=size,
        patch=positive("patch", patch),
        drop_path=rate("drop_path", drop_path),
        gelu=one_of("gelu", gelu, GELUS),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
