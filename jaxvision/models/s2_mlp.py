"""S2-MLP: Yu et al. 2022, arXiv 2106.07477. Perceptrons over channels, with a shift of the channels between them."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import DropPath, global_mean
from jaxvision.models.options import one_of, positive, rate
from jaxvision.models.order import Groups, input_and_blocks
from jaxvision.models.patches import PatchEmbedding
from jaxvision.models.transformer import GELUS, NORM_EPSILON, REMATS, Encoder, Mlp
from jaxvision.models.transformer import gelu as apply_gelu
from jaxvision.registry import part


class Size(NamedTuple):
    """Size of an S2-MLP.

    Attributes:
      width: Dimension d of tokens, a multiple of 4.
      depth: Number of blocks.
    """

    width: int
    depth: int


SIZES = {"wide": Size(768, 12), "deep": Size(384, 36)}  # Yu et al. 2022, the wide and the deep setting
RATIO = 4  # hidden units of the perceptron over channels, as a multiple of the width
MOVES = ((2, 1), (2, -1), (1, 1), (1, -1))  # axis and step of each quarter of the channels: right, left, down, up


def spatial_shift(x: jax.Array) -> jax.Array:
    """Moves the four quarters of the channels by one place each: right, left, down, up. It has no parameters.

    The places at the border that nothing is moved to keep their values.

    Args:
      x: Map, float [b, h, w, c] with c a multiple of 4.

    Returns:
      Array [b, h, w, c] of the type of x.

    Source: Yu et al. 2022, sec. 3 (spatial-shift module).

    >>> spatial_shift(jnp.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1).repeat(4, axis=3))[0, 0].T.tolist()
    [[1.0, 1.0, 2.0], [2.0, 3.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    """
    quarters = jnp.split(x, len(MOVES), axis=-1)
    return jnp.concatenate([_moved(y, *move) for y, move in zip(quarters, MOVES)], axis=-1)


def _moved(x: jax.Array, axis: int, step: int) -> jax.Array:
    """Moves x by one place along an axis, up for a step of 1; what lies at the border stays there, too."""
    length = x.shape[axis]
    first, last = jax.lax.slice_in_dim(x, 0, 1, axis=axis), jax.lax.slice_in_dim(x, length - 1, length, axis=axis)
    if step > 0:
        return jnp.concatenate([first, jax.lax.slice_in_dim(x, 0, length - 1, axis=axis)], axis=axis)
    return jnp.concatenate([jax.lax.slice_in_dim(x, 1, length, axis=axis), last], axis=axis)


class S2Block(nn.Module):
    """Two linear layers with a shift between them, then a perceptron over channels: [b, h, w, d] -> the same.

    Each half is a residual branch and starts with a LayerNorm.

    Source: Yu et al. 2022, sec. 3 (spatial-shift block). The authors published no code; the norms stand where those of
    MLP-Mixer do.
    """

    drop_path: float
    gelu: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, strength: float | jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, d] to the same shape; `strength` is a scalar, the share of `drop_path` that applies."""
        drop_path, d = DropPath(self.drop_path), x.shape[-1]
        norm = functools.partial(nn.LayerNorm, NORM_EPSILON, dtype=self.dtype)
        dense = functools.partial(nn.Dense, d, kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype)
        y = apply_gelu(dense(name="shift_dense_0")(norm(name="shift_norm")(x)), self.gelu)
        y = dense(name="shift_dense_1")(spatial_shift(y))
        x = x + drop_path(y, strength, train)
        mlp = Mlp(RATIO * d, gelu=self.gelu, dtype=self.dtype, name="channel_mlp")
        return x + drop_path(mlp(norm(name="channel_norm")(x), train), strength, train)


class S2MLP(nn.Module):
    """Module of `s2_mlp`, which documents and checks the options."""

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
        return input_and_blocks(self.size.depth, self.scan, ("embedding", "embedding_norm"))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d] and the outputs by name."""
        x = PatchEmbedding(self.size.width, self.patch, self.dtype, name="embedding")(images)  # b h w d
        x = nn.LayerNorm(NORM_EPSILON, dtype=self.dtype, name="embedding_norm")(x)
        out: dict[str, Any] = {"embedding": x}
        block = functools.partial(S2Block, self.drop_path, self.gelu, self.dtype)
        encoder = Encoder(block, self.size.depth, self.scan, self.remat, self.dtype, final_norm=False, name="encoder")
        x, outputs = encoder(x, train)
        out["stages"] = tuple(outputs)
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        out["map"] = x
        features = global_mean(x)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


@part(
    "model",
    small={"patch": 4, "depth": 2, "width": 32},
    variants={name: f"{s.depth} blocks; {s.width} wide; patches of 16 pixels, or any" for name, s in SIZES.items()},
)
def s2_mlp(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "deep",
    width: int | None = None,
    depth: int | None = None,
    patch: int = 16,
    drop_path: float = 0.0,
    gelu: str = "exact",
    head_init: str = "zeros",
    head_bias: float = 0.0,
    scan: bool = False,
    remat: str = "none",
) -> S2MLP:
    """S2-MLP. The same weights take images of any size, in multiples of the patch.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] (the mean over places) and `out`:
    "embedding" [b, h, w, d], "stages" (every block's output, [b, h, w, d]), "tokens" [b, h * w, d] and "map"
    [b, h, w, d] (of the last block), and "logits" float32 [b, k].

    A block has 10 d^2 weights. With 1,000 classes, "wide" has 72.2 million parameters and "deep" 53.9 million. The
    paper is quoted with 71 and 51 million, which were not checked against its tables: the blocks of "wide" alone have
    71 million, but those of "deep" have 53 million.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation and the residual stream, float32 or bfloat16; parameters are float32.
      variant: Name of the size: "wide" or "deep".
      width: Dimension d of tokens, a multiple of 4; None for the variant's.
      depth: Number of blocks; None for the variant's.
      patch: Side of a patch in pixels.
      drop_path: Rate of stochastic depth in the last block, in [0, 1); it grows linearly from 0 in the first.
      gelu: Form of the GELU: "exact" (erf), "tanh" or "quick".
      head_init: Initialiser of the head, "zeros" or "normal".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.
      scan: True to loop over blocks with stacked parameters, see `vit`.
      remat: Part of a block that the backward pass computes again to save memory, see `vit`.

    Raises:
      UserError: An unknown variant, or an option value out of range.
    """
    size = SIZES[one_of("S2-MLP variant", variant, SIZES)]
    overrides = {"width": width, "depth": depth}
    size = size._replace(**{option: value for option, value in overrides.items() if value is not None})
    for option, value in size._asdict().items():
        positive(option, value)
    if size.width % len(MOVES):
        raise UserError(f"width must be a multiple of {len(MOVES)}, the directions of the shift, not {size.width}")
    return S2MLP(
        num_classes=num_classes,
        size=size,
        patch=positive("patch", patch),
        drop_path=rate("drop_path", drop_path),
        gelu=one_of("gelu", gelu, GELUS),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        scan=scan,
        remat=one_of("remat", remat, REMATS),
        dtype=dtype,
    )
