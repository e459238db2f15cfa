"""ConvNeXt: Liu et al. 2022, "A ConvNet for the 2020s", arXiv 2201.03545."""

import functools
import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.depthwise import depthwise_conv
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import DropPath, LayerScale, global_mean
from jaxvision.models.options import in_words, one_of, positive, rate
from jaxvision.models.order import Groups, stem_and_stages
from jaxvision.models.patches import PatchEmbedding
from jaxvision.models.transformer import GELUS, NORM_EPSILON, Deviations, Mlp
from jaxvision.registry import part

VARIANTS = {  # blocks of each stage, channels of the first; Liu et al. 2022, sec. 3
    "tiny": ((3, 3, 9, 3), 96),
    "small": ((3, 3, 27, 3), 96),
    "base": ((3, 3, 27, 3), 128),
    "large": ((3, 3, 27, 3), 192),
    "xlarge": ((3, 3, 27, 3), 256),
}
NORMAL = nn.initializers.normal(0.02)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7 convolution, LayerNorm, inverted bottleneck: [b, h, w, c] -> the same. Liu et al. 2022, fig. 4."""

    drop_path: float
    layer_scale: float | None
    gelu: str
    dtype: jnp.dtype
    norm_epsilon: float = NORM_EPSILON

    @nn.compact
    def __call__(self, x: jax.Array, strength: float, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to the same shape."""
        c = x.shape[-1]
        conv = functools.partial(nn.Conv, feature_group_count=c, padding=3, kernel_init=NORMAL, dtype=self.dtype)
        y = conv(c, (7, 7), conv_general_dilated=_depthwise, name="depthwise")(x)
        y = nn.LayerNorm(self.norm_epsilon, dtype=self.dtype, name="norm")(y)
        deviations = Deviations(0.02, 0.02, 0.02)
        y = Mlp(4 * c, gelu=self.gelu, deviations=deviations, dtype=self.dtype, name="mlp")(y, train)
        if self.layer_scale is not None:
            y = LayerScale(self.layer_scale, self.dtype, name="scale")(y)
        return x + DropPath(self.drop_path)(y, strength, train)


def _depthwise(x: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
    return depthwise_conv(x, kernel)


class ConvNeXtStage(nn.Module):
    """Blocks of one resolution; with `downsample`, after a LayerNorm and a 2x2 convolution of stride 2."""

    channels: int
    strengths: tuple[float, ...]
    downsample: bool
    block: functools.partial
    norm_epsilon: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h', w', c']: half the resolution where it downsamples."""
        if self.downsample:
            x = nn.LayerNorm(self.norm_epsilon, dtype=self.dtype, name="downsample_norm")(x)
            x = PatchEmbedding(self.channels, 2, self.dtype, kernel_init=NORMAL, name="downsample")(x)
        for i, strength in enumerate(self.strengths):
            x = self.block(name=f"block{i + 1}")(x, strength, train)
        return x


class ConvNeXt(nn.Module):
    """Module of `convnext`, which documents and checks the options."""

    num_classes: int | None
    blocks: tuple[int, ...]
    channels: int
    patch: int
    drop_path: float
    layer_scale: float | None
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
        """Maps images [b, height, width, 3] to features [b, d], or to logits [b, k] if the model has classes."""
        x = PatchEmbedding(self.channels, self.patch, self.dtype, kernel_init=NORMAL, name="stem_conv")(images)
        x = nn.LayerNorm(self.norm_epsilon, dtype=self.dtype, name="stem_norm")(x)
        out: dict[str, Any] = {"stem": x}
        block = functools.partial(
            ConvNeXtBlock, self.drop_path, self.layer_scale, self.gelu, self.dtype, self.norm_epsilon
        )
        stages = []
        depth = sum(self.blocks)
        strengths = (i / max(depth - 1, 1) for i in range(depth))  # from 0, as in the authors' code
        for i, num_blocks in enumerate(self.blocks):
            strengths_here = tuple(itertools.islice(strengths, num_blocks))
            options = (self.channels * 2**i, strengths_here, i > 0, block, self.norm_epsilon, self.dtype)
            x = ConvNeXtStage(*options, name=f"stage{i + 1}")(x, train)
            stages.append(x)
        out["stages"] = tuple(stages)
        out["map"] = x
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        features = nn.LayerNorm(self.norm_epsilon, name="norm")(global_mean(x))
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


@part(
    "model",
    small={"blocks": (1, 1), "channels": 16, "patch": 2},
    variants={
        name: in_words(blocks, f"{channels} channels in the first") for name, (blocks, channels) in VARIANTS.items()
    },
)
def convnext(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "tiny",
    blocks: tuple[int, ...] | None = None,
    channels: int | None = None,
    patch: int = 4,
    drop_path: float = 0.0,
    layer_scale: float | None = 1e-6,
    gelu: str = "exact",
    norm_epsilon: float = NORM_EPSILON,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> ConvNeXt:
    """ConvNeXt.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] (the mean over positions, then a
    LayerNorm) and `out`: "stem", "stages" (the map of each stage), "map" [b, h, w, d] (the last of them), "tokens"
    [b, h * w, d], and "logits" float32 [b, k]. With four stages, height and width are multiples of `patch * 8`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters are float32.
      variant: Name of the size: "tiny", "small", "base", "large" or "xlarge".
      blocks: Number of blocks of each stage; None for the variant's.
      channels: Number of channels of the first stage; None for the variant's. Each next stage has twice as many.
      patch: Side and stride of the stem's convolution; 4 in the paper, 1 or 2 suits small images.
      drop_path: Rate of stochastic depth in the last block, in [0, 1); it grows linearly from 0 in the first. In the
        paper it is 0.1, 0.4, 0.5 and 0.5 from tiny to large.
      layer_scale: Initial factor of each residual branch, above 0; None for no such factors.
      gelu: Form of the GELU: "exact" (erf) as in the authors' code and timm, "tanh" or "quick".
      norm_epsilon: Number that is added to the variance in every LayerNorm; 1e-6 in the authors' code, 1e-5 in the
        largest of open_clip.
      head_init: Initialiser of the head: "normal" (standard deviation 0.01; 0.02 in the authors' code) or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, or an option value out of range.
    """
    variant_blocks, variant_channels = VARIANTS[one_of("ConvNeXt variant", variant, VARIANTS)]
    if layer_scale is not None:
        positive("layer_scale", layer_scale)
    return ConvNeXt(
        num_classes=num_classes,
        blocks=tuple(blocks or variant_blocks),
        channels=positive("channels", variant_channels if channels is None else channels),
        patch=positive("patch", patch),
        drop_path=rate("drop_path", drop_path),
        layer_scale=layer_scale,
        gelu=one_of("gelu", gelu, GELUS),
        norm_epsilon=positive("norm_epsilon", norm_epsilon),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
