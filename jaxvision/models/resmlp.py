"""ResMLP: Touvron et al. 2021, arXiv 2105.03404. A linear layer over patches, a perceptron over channels, no norms."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import DropPath, LayerScale
from jaxvision.models.options import one_of, positive, rate
from jaxvision.models.order import Groups, input_and_blocks
from jaxvision.models.patches import PatchEmbedding
from jaxvision.models.transformer import GELUS, REMATS, Deviations, Encoder, Mlp
from jaxvision.registry import part


class Size(NamedTuple):
    """Size of a ResMLP.

    Attributes:
      width: Dimension d of tokens.
      depth: Number of blocks.
      patch: Side of a patch in pixels.
      layer_scale: Initial factor of the residual branches.
    """

    width: int
    depth: int
    patch: int
    layer_scale: float


# Touvron et al. 2021, sec. 3; the initial factors are those of timm, by depth.
SIZES = {
    "S12": Size(384, 12, 16, 1e-4),
    "S24": Size(384, 24, 16, 1e-5),
    "S36": Size(384, 36, 16, 1e-6),
    "B24": Size(768, 24, 8, 1e-6),
}


class Affine(nn.Module):
    """Multiplies each channel by a learned number and adds another: [..., d] -> [..., d].

    It takes the place of a LayerNorm, and uses no statistics.

    Source: Touvron et al. 2021, eq. 1.

    Attributes:
      dtype: Type of the computation, float32 or bfloat16.
    """

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [..., d] to the same shape."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return x * scale.astype(self.dtype) + bias.astype(self.dtype)


class ResMLPBlock(nn.Module):
    """A linear layer over the tokens of each channel, then a perceptron over channels: [b, n, d] -> [b, n, d].

    Source: Touvron et al. 2021, eq. 2 and 3.
    """

    drop_path: float
    layer_scale: float
    gelu: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, strength: float | jax.Array, train: bool) -> jax.Array:
        """Maps x [b, n, d] to the same shape; `strength` is a scalar, the share of `drop_path` that applies."""
        drop_path, (_, n, d) = DropPath(self.drop_path), x.shape
        y = Affine(self.dtype, name="token_norm")(x).swapaxes(1, 2)  # b d n
        y = nn.Dense(n, dtype=self.dtype, name="token_dense")(y).swapaxes(1, 2)
        y = LayerScale(self.layer_scale, self.dtype, name="token_scale")(y)
        x = x + drop_path(y, strength, train)
        y = Affine(self.dtype, name="channel_norm")(x)
        deviations = Deviations(qkv=0, residual=(4 * d) ** -0.5, hidden=d**-0.5)
        y = Mlp(4 * d, gelu=self.gelu, deviations=deviations, dtype=self.dtype, name="channel_mlp")(y, train)
        y = LayerScale(self.layer_scale, self.dtype, name="channel_scale")(y)
        return x + drop_path(y, strength, train)


class ResMLP(nn.Module):
    """Module of `resmlp`, which documents and checks the options."""

    num_classes: int | None
    size: Size
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
        """Maps images [b, height, width, 3] to features [b, d] and the outputs by name."""
        x = PatchEmbedding(self.size.width, self.size.patch, self.dtype, name="embedding")(images)  # b h w d
        out: dict[str, Any] = {"embedding": x}
        grid = x.shape
        block = functools.partial(ResMLPBlock, self.drop_path, self.size.layer_scale, self.gelu, self.dtype)
        encoder = Encoder(block, self.size.depth, self.scan, self.remat, self.dtype, final_norm=False, name="encoder")
        x, outputs = encoder(x.reshape(grid[0], -1, grid[-1]), train)
        x = Affine(self.dtype, name="norm")(x)
        out["stages"] = tuple(y.reshape(grid) for y in outputs)
        out["tokens"] = x
        out["map"] = x.reshape(grid)
        features = x.mean(axis=1, dtype=jnp.float32)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


@part(
    "model",
    small={"patch": 4, "depth": 2, "width": 32, "layer_scale": 0.1},
    variants={
        name: f"{s.depth} blocks; {s.width} wide; patches of {s.patch} pixels, or any" for name, s in SIZES.items()
    },
)
def resmlp(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "S12",
    width: int | None = None,
    depth: int | None = None,
    patch: int | None = None,
    layer_scale: float | None = None,
    drop_path: float = 0.0,
    gelu: str = "exact",
    head_init: str = "zeros",
    head_bias: float = 0.0,
    scan: bool = False,
    remat: str = "none",
) -> ResMLP:
    """ResMLP. The linear layer over tokens fixes the image size.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "embedding"
    [b, h, w, d], "stages" (every block's output, [b, h, w, d]), "tokens" [b, h * w, d] and "map" [b, h, w, d] (after
    the last affine layer), and "logits" float32 [b, k].

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation and the residual stream, float32 or bfloat16; parameters are float32.
      variant: Name of the size: "S12", "S24", "S36" or "B24".
      width: Dimension d of tokens; None for the variant's.
      depth: Number of blocks; None for the variant's.
      patch: Side of a patch in pixels; None for the variant's.
      layer_scale: Initial factor of each residual branch, above 0; None for the variant's.
      drop_path: Rate of stochastic depth in the last block, in [0, 1); it grows linearly from 0 in the first.
      gelu: Form of the GELU: "exact" (erf), as in the authors' code and timm, "tanh" or "quick".
      head_init: Initialiser of the head, "zeros" or "normal".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.
      scan: True to loop over blocks with stacked parameters, see `vit`.
      remat: Part of a block that the backward pass computes again to save memory, see `vit`.

    Raises:
      UserError: An unknown variant, or an option value out of range.
    """
    size = SIZES[one_of("ResMLP variant", variant, SIZES)]
    overrides: dict[str, Any] = {"width": width, "depth": depth, "patch": patch, "layer_scale": layer_scale}
    size = size._replace(**{option: value for option, value in overrides.items() if value is not None})
    for option, value in size._asdict().items():
        positive(option, value)
    return ResMLP(
        num_classes=num_classes,
        size=size,
        drop_path=rate("drop_path", drop_path),
        gelu=one_of("gelu", gelu, GELUS),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        scan=scan,
        remat=one_of("remat", remat, REMATS),
        dtype=dtype,
    )
