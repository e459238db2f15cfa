"""gMLP: Liu et al. 2021, "Pay Attention to MLPs", arXiv 2105.08050. Perceptrons with a gate across tokens."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import DropPath
from jaxvision.models.options import one_of, positive, rate
from jaxvision.models.order import Groups, input_and_blocks
from jaxvision.models.patches import PatchEmbedding
from jaxvision.models.sizes import split_variant
from jaxvision.models.transformer import GELUS, NORM_EPSILON, REMATS, Encoder
from jaxvision.models.transformer import gelu as apply_gelu
from jaxvision.registry import part

GATE_EPSILON = 1e-5  # of the norm in the gate, in timm


class Size(NamedTuple):
    """Size of a gMLP.

    Attributes:
      width: Dimension d of tokens.
      depth: Number of blocks.
      hidden: Number of hidden units of a block, half of which gate the other half.
    """

    width: int
    depth: int
    hidden: int


SIZES = {  # Liu et al. 2021, table 1
    "Ti": Size(128, 30, 768),
    "S": Size(256, 30, 1536),
    "B": Size(512, 30, 3072),
}


class GMLPBlock(nn.Module):
    """A perceptron with a spatial gate: [b, n, d] -> [b, n, d].

    The gate multiplies half of the hidden units by a linear function, over tokens, of the other half. It starts with
    weights near 0 and an offset of 1, so that it changes nothing.

    Source: Liu et al. 2021, sec. 2, eq. 1, 2 and 5.
    """

    hidden: int
    drop_path: float
    gelu: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, strength: float | jax.Array, train: bool) -> jax.Array:
        """Maps x [b, n, d] to the same shape; `strength` is a scalar, the share of `drop_path` that applies."""
        n, d = x.shape[1:]
        y = nn.LayerNorm(NORM_EPSILON, dtype=self.dtype, name="norm")(x)
        y = apply_gelu(nn.Dense(self.hidden, dtype=self.dtype, name="dense_0")(y), self.gelu)
        u, v = jnp.split(y, 2, axis=-1)  # b n hidden/2
        v = nn.LayerNorm(GATE_EPSILON, dtype=self.dtype, name="gate_norm")(v).swapaxes(1, 2)
        near_0, ones = nn.initializers.normal(1e-6), nn.initializers.ones
        gate = nn.Dense(n, kernel_init=near_0, bias_init=ones, dtype=self.dtype, name="gate_dense")(v)
        y = nn.Dense(d, dtype=self.dtype, name="dense_1")(u * gate.swapaxes(1, 2))
        return x + DropPath(self.drop_path)(y, strength, train)


class GMLP(nn.Module):
    """Module of `gmlp`, which documents and checks the options."""

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
        """Maps images [b, height, width, 3] to features [b, d] and the outputs by name."""
        x = PatchEmbedding(self.size.width, self.patch, self.dtype, name="embedding")(images)  # b h w d
        out: dict[str, Any] = {"embedding": x}
        grid = x.shape
        block = functools.partial(GMLPBlock, self.size.hidden, self.drop_path, self.gelu, self.dtype)
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
    small={"variant": "Ti/4", "depth": 2, "width": 32, "hidden": 64},
    variants={
        f"{name}/16": f"{s.depth} blocks; {s.width} wide; {s.hidden:,} hidden units; patches of 16 pixels, or any"
        for name, s in SIZES.items()
    },
)
def gmlp(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "S/16",
    width: int | None = None,
    depth: int | None = None,
    hidden: int | None = None,
    drop_path: float = 0.0,
    gelu: str = "exact",
    head_init: str = "zeros",
    head_bias: float = 0.0,
    scan: bool = False,
    remat: str = "none",
) -> GMLP:
    """gMLP. The gate over tokens fixes the image size, and starts as the identity.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "embedding"
    [b, h, w, d], "stages" (every block's output, [b, h, w, d]), "tokens" [b, h * w, d] and "map"
    [b, h, w, d] (after the last norm), and "logits" float32 [b, k].

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation and the residual stream, float32 or bfloat16; parameters are float32.
      variant: Size and patch, "SIZE/PATCH": Ti, S or B, and the side of a patch in pixels.
      width: Dimension d of tokens; None for the variant's.
      depth: Number of blocks; None for the variant's.
      hidden: Number of hidden units of a block, even; None for the variant's.
      drop_path: Rate of stochastic depth in the last block, in [0, 1); it grows linearly from 0 in the first. In the
        paper 0, 0.05 and 0.2 from Ti to B.
      gelu: Form of the GELU: "exact" (erf), as in timm, "tanh" or "quick".
      head_init: Initialiser of the head, "zeros" or "normal".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.
      scan: True to loop over blocks with stacked parameters, see `vit`.
      remat: Part of a block that the backward pass computes again to save memory, see `vit`.

    Raises:
      UserError: An unknown variant, or an option value out of range.
    """
    name, patch = split_variant("gMLP", variant)
    size = SIZES[one_of("gMLP size", name, SIZES)]
    overrides = {"width": width, "depth": depth, "hidden": hidden}
    size = size._replace(**{option: value for option, value in overrides.items() if value is not None})
    for option, value in size._asdict().items():
        positive(option, value)
    if size.hidden % 2:
        raise UserError(f"hidden must be even, as half of it gates the other half, not {size.hidden}")
    return GMLP(
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
