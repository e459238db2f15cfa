"""MLP-Mixer: Tolstikhin et al. 2021, arXiv 2105.01601. Perceptrons over tokens and over channels in turn."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import DropPath
from jaxvision.models.options import one_of, positive, rate
from jaxvision.models.order import Groups, input_and_blocks
from jaxvision.models.patches import PatchEmbedding
from jaxvision.models.sizes import split_variant
from jaxvision.models.transformer import GELUS, NORM_EPSILON, REMATS, Deviations, Encoder, Mlp
from jaxvision.registry import part


class Size(NamedTuple):
    """Size of a Mixer.

    Attributes:
      width: Dimension d of tokens.
      depth: Number of blocks.
      tokens_dim: Number of hidden units of the perceptron over tokens.
      channels_dim: Number of hidden units of the perceptron over channels.
    """

    width: int
    depth: int
    tokens_dim: int
    channels_dim: int


SIZES = {  # Tolstikhin et al. 2021, table 1
    "S": Size(512, 8, 256, 2048),
    "B": Size(768, 12, 384, 3072),
    "L": Size(1024, 24, 512, 4096),
    "H": Size(1280, 32, 640, 5120),
}


class MixerBlock(nn.Module):
    """A perceptron over the tokens of each channel, then one over the channels of each token: [b, n, d] -> [b, n, d].

    Source: Tolstikhin et al. 2021, eq. 1.
    """

    tokens_dim: int
    channels_dim: int
    drop_path: float
    gelu: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, strength: float | jax.Array, train: bool) -> jax.Array:
        """Maps x [b, n, d] to the same shape; `strength` is a scalar, the share of `drop_path` that applies."""
        drop_path = DropPath(self.drop_path)

        def mlp(name: str, y: jax.Array, width: int) -> jax.Array:
            # The deviations of LeCun's initialisation, as in the authors' code.
            deviations = Deviations(qkv=0, residual=width**-0.5, hidden=y.shape[-1] ** -0.5)
            return Mlp(width, gelu=self.gelu, deviations=deviations, dtype=self.dtype, name=name)(y, train)

        y = nn.LayerNorm(NORM_EPSILON, dtype=self.dtype, name="token_norm")(x)
        y = mlp("token_mlp", y.swapaxes(1, 2), self.tokens_dim).swapaxes(1, 2)  # b d n inside
        x = x + drop_path(y, strength, train)
        y = nn.LayerNorm(NORM_EPSILON, dtype=self.dtype, name="channel_norm")(x)
        return x + drop_path(mlp("channel_mlp", y, self.channels_dim), strength, train)


class Mixer(nn.Module):
    """Module of `mixer`, which documents and checks the options."""

    num_classes: int | None
    size: Size
    patch: int
    drop_path: float
    gelu: str
    head_init: str
    head_bias: float
    scan: bool
    remat: str
    dtype: jnp.dtype

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return input_and_blocks(self.size.depth, self.scan, ("embedding",))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d], or to logits [b, k] if the model has classes."""
        x = PatchEmbedding(self.size.width, self.patch, self.dtype, name="embedding")(images)  # b h w d
        out: dict[str, Any] = {"embedding": x}
        grid = x.shape
        block = functools.partial(
            MixerBlock, self.size.tokens_dim, self.size.channels_dim, self.drop_path, self.gelu, self.dtype
        )
        encoder = Encoder(block, self.size.depth, self.scan, self.remat, self.dtype, name="encoder")
        x, outputs = encoder(x.reshape(grid[0], -1, grid[-1]), train)
        out["stages"] = tuple(y.reshape(grid) for y in outputs)
        out["tokens"] = x
        out["map"] = x.reshape(grid)
        features = x.mean(axis=1, dtype=jnp.float32)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


@part(
    "model",
    small={"variant": "S/4", "depth": 2, "width": 32, "tokens_dim": 16, "channels_dim": 64},
    variants={
        f"{name}/16": f"{s.depth} blocks; {s.width:,} wide; "
        f"perceptrons of {s.tokens_dim} and {s.channels_dim:,} units; patches of 16 pixels, or any"
        for name, s in SIZES.items()
    },
)
def mixer(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "B/16",
    width: int | None = None,
    depth: int | None = None,
    tokens_dim: int | None = None,
    channels_dim: int | None = None,
    drop_path: float = 0.0,
    gelu: str = "tanh",
    head_init: str = "zeros",
    head_bias: float = 0.0,
    scan: bool = False,
    remat: str = "none",
) -> Mixer:
    """MLP-Mixer. The perceptron over tokens fixes the image size.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "embedding"
    [b, h, w, d], "stages" (every block's output, [b, h, w, d]), "tokens" [b, h * w, d] and "map"
    [b, h, w, d] (after the last norm), and "logits" float32 [b, k].

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation and the residual stream, float32 or bfloat16; parameters are float32.
      variant: Size and patch, "SIZE/PATCH": S, B, L or H, and the side of a patch in pixels.
      width: Dimension d of tokens; None for the variant's.
      depth: Number of blocks; None for the variant's.
      tokens_dim: Number of hidden units of the perceptron over tokens; None for the variant's.
      channels_dim: Number of hidden units of the perceptron over channels; None for the variant's.
      drop_path: Rate of stochastic depth in the last block, in [0, 1); it grows linearly from 0 in the first.
      gelu: Form of the GELU: "tanh", the approximation of the original JAX code, "exact" (erf), as in timm, or "quick",
        as in CLIP.
      head_init: Initialiser of the head, "zeros" or "normal".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.
      scan: True to loop over blocks with stacked parameters, see `vit`.
      remat: Part of a block that the backward pass computes again to save memory, see `vit`.

    Raises:
      UserError: An unknown variant, or an option value out of range.
    """
    name, patch = split_variant("Mixer", variant)
    size = SIZES[one_of("Mixer size", name, SIZES)]
    overrides = {"width": width, "depth": depth, "tokens_dim": tokens_dim, "channels_dim": channels_dim}
    size = size._replace(**{option: value for option, value in overrides.items() if value is not None})
    for option, value in size._asdict().items():
        positive(option, value)
    return Mixer(
        num_classes=num_classes,
        size=size,
        patch=patch,
        drop_path=rate("drop_path", drop_path),
        gelu=one_of("gelu", gelu, GELUS),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        scan=scan,
        remat=one_of("remat", remat, REMATS),
        dtype=dtype,
    )
