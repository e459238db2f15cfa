"""Vision Transformer: Dosovitskiy et al. 2021, arXiv 2010.11929, and its plainer form of Beyer, Zhai, Kolesnikov
2022, arXiv 2205.01580 (mean pooling, fixed sin-cos positions)."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.heads import HEAD_INITS, AttentionPool, linear_head
from jaxvision.models.options import one_of, positive, rate
from jaxvision.models.transformer import ATTENTIONS, GELUS, REMATS, Block, Encoder


class Size(NamedTuple):
    width: int
    depth: int
    mlp_dim: int
    num_heads: int


# Dosovitskiy et al. 2021, table 1; Ti and S: Touvron et al. 2021, table 1; g and G: Zhai et al. 2022, table 2;
# So400m: Alabdulmohsin et al. 2023; mu, for tests, and M: big_vision.
SIZES = {
    "mu": Size(32, 1, 128, 2),
    "Ti": Size(192, 12, 768, 3),
    "S": Size(384, 12, 1536, 6),
    "M": Size(512, 12, 2048, 8),
    "B": Size(768, 12, 3072, 12),
    "L": Size(1024, 24, 4096, 16),
    "So400m": Size(1152, 27, 4304, 16),
    "H": Size(1280, 32, 5120, 16),
    "g": Size(1408, 40, 6144, 16),
    "G": Size(1664, 48, 8192, 16),
}
POOLS = ("token", "gap", "map", "none")
POSEMBS = ("learned", "sincos2d", "none")


def parse_variant(variant: str) -> tuple[Size, int]:
    """Reads a variant, "SIZE/PATCH", into its size and the side of its patches in pixels.

    Raises:
      UserError: unknown size, or a patch that is not a positive integer.

    >>> parse_variant("S/16")
    (Size(width=384, depth=12, mlp_dim=1536, num_heads=6), 16)
    """
    size, _, patch = str(variant).partition("/")
    one_of("ViT size", size, SIZES)
    if not (patch.isdecimal() and int(patch) > 0):
        raise UserError(f"a ViT variant is a size and a patch side in pixels, like 'S/16', not {variant!r}")
    return SIZES[size], int(patch)


def patchify(images: jax.Array, patch: int) -> jax.Array:
    """Cuts images into a grid of patches.

    Args:
      images: [B, H, W, C], H and W multiples of `patch`.
      patch: side of a patch in pixels.

    Returns:
      [B, H / patch, W / patch, patch * patch * C]; the pixels of a patch in row-major order, as in a
      convolution kernel [patch, patch, C, D] reshaped to [patch * patch * C, D].

    Raises:
      UserError: the image is not a whole number of patches.

    >>> patchify(jnp.arange(16).reshape(1, 4, 4, 1), 2)[0, 0].tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    b, height, width, c = images.shape
    if height % patch or width % patch:
        raise UserError(f"images of {height}x{width} pixels cannot be cut into patches of {patch}x{patch}")
    x = images.reshape(b, height // patch, patch, width // patch, patch, c)
    return x.swapaxes(2, 3).reshape(b, height // patch, width // patch, patch * patch * c)


def sincos2d(h: int, w: int, width: int, temperature: float = 10_000.0) -> jax.Array:
    """Fixed position embedding of an h x w grid: float32 [h * w, width] in [-1, 1]; width a multiple of 4.

    Source: Chen, Xie, He 2021 (MoCo v3), as used by Beyer et al. 2022, sec. 3.

    >>> sincos2d(14, 14, 384).shape
    (196, 384)
    """
    y, x = jnp.mgrid[:h, :w]
    frequencies = temperature ** -jnp.linspace(0, 1, width // 4)
    y, x = y.reshape(-1, 1) * frequencies, x.reshape(-1, 1) * frequencies  # n d/4
    return jnp.concatenate([jnp.sin(x), jnp.cos(x), jnp.sin(y), jnp.cos(y)], axis=1)


class PatchEmbedding(nn.Module):
    """Linear embedding of patches: [B, H, W, C] -> [B, h, w, width].

    It is a convolution whose stride is its size, with a kernel of that shape, written as a matrix
    product: XLA's CPU backend cannot run a convolution's gradient fast inside a scan over steps.
    """

    width: int
    patch: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        shape = (self.patch, self.patch, images.shape[-1], self.width)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        x = patchify(images.astype(self.dtype), self.patch)
        return x @ kernel.reshape(-1, self.width).astype(self.dtype) + bias.astype(self.dtype)


class ViT(nn.Module):
    """See `vit` for the options, which are checked there."""

    num_classes: int | None
    size: Size
    patch: int
    pool: str = "gap"
    posemb: str = "sincos2d"
    dropout: float = 0.0
    drop_path: float = 0.0
    gelu: str = "tanh"
    attention: str = "xla"
    head_init: str = "zeros"
    head_bias: float = 0.0
    scan: bool = False
    remat: str = "none"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        width, depth, mlp_dim, num_heads = self.size
        x = PatchEmbedding(width, self.patch, self.dtype, name="embedding")(images)  # b h w d
        out = {"embedding": x}
        grid = x.shape[:3]
        x = x.reshape(grid[0], -1, width)  # b n d
        extra = int(self.pool == "token")
        if extra:
            cls = self.param("cls", nn.initializers.zeros, (1, 1, width)).astype(self.dtype)
            x = jnp.concatenate([jnp.broadcast_to(cls, (grid[0], 1, width)), x], axis=1)  # b 1+n d
        x = x + self._positions(*grid[1:], extra).astype(self.dtype)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)

        shared = {"num_heads": num_heads, "mlp_dim": mlp_dim, "gelu": self.gelu, "attention": self.attention}
        shared["dtype"] = self.dtype
        block = functools.partial(Block, dropout=self.dropout, drop_path=self.drop_path, **shared)
        x, outputs = Encoder(block, depth, self.scan, self.remat, self.dtype, name="encoder")(x, train)
        out["stages"] = tuple(y[:, extra:].reshape(*grid, width) for y in outputs)
        out["tokens"] = tokens = x[:, extra:]
        out["map"] = tokens.reshape(*grid, width)

        if self.pool == "token":
            features = x[:, 0]
        elif self.pool == "gap":
            features = tokens.mean(axis=1, dtype=jnp.float32)
        elif self.pool == "map":
            features = AttentionPool(**shared, name="pool")(tokens, train)
        else:
            features = tokens
        features = features.astype(jnp.float32)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out

    def _positions(self, h: int, w: int, extra: int) -> jax.Array:
        """[1 or 0 + h * w, width], or a zero; only a learned embedding gives the class token a position."""
        if self.posemb == "learned":
            return self.param("pos_embedding", nn.initializers.normal(0.02), (1, extra + h * w, self.size.width))
        if self.posemb == "sincos2d":
            return jnp.pad(sincos2d(h, w, self.size.width), ((extra, 0), (0, 0)))
        return jnp.zeros(())


def vit(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "B/16",
    width: int | None = None,
    depth: int | None = None,
    mlp_dim: int | None = None,
    num_heads: int | None = None,
    pool: str = "gap",
    posemb: str = "sincos2d",
    dropout: float = 0.0,
    drop_path: float = 0.0,
    gelu: str = "tanh",
    attention: str = "xla",
    head_init: str = "zeros",
    head_bias: float = 0.0,
    scan: bool = False,
    remat: str = "none",
) -> ViT:
    """Vision Transformer.

    Applied to float images [B, H, W, 3] it returns float32 features [B, D] and `out`: "embedding"
    [B, h, w, D], "stages" (every block's output, [B, h, w, D]), "tokens" [B, h * w, D] and "map"
    [B, h, w, D] (after the last norm, without the class token), and "logits" float32 [B, K].

    Args:
      num_classes: K, or None for no head.
      dtype: of the computation, residual stream included; parameters are float32.
      variant: "SIZE/PATCH": mu, Ti, S, M, B, L, So400m, H, g or G, and the side of a patch in pixels.
      width: D, in place of the variant's; `mlp_dim` then is four times as much unless it is given.
      depth, mlp_dim, num_heads: in place of the variant's.
      pool: features are the class token ("token"), the mean over tokens ("gap"), attention pooling
        ("map"), or every token ("none": features [B, N, D] and logits [B, N, K]).
      posemb: "learned" (Dosovitskiy et al. 2021; it fixes the image size), "sincos2d" or "none".
      dropout: rate after the position embedding, after attention and in the MLP.
      drop_path: stochastic depth rate of the last block; it grows linearly from 0 in the first.
      gelu: "tanh" is the approximation of the original JAX code, "exact" (erf) that of timm and torch.
      attention: "xla", or "cudnn" for the fused kernel of NVIDIA GPUs (bfloat16 or float16 only).
      head_init: "zeros" or "normal".
      head_bias: initial logit of every class; -10 suits a sigmoid loss over many classes.
      scan: loop over blocks with stacked parameters: compile time no longer grows with depth.
      remat: what the backward pass recomputes in a block to save memory: "none", "dots" (all but the
        outputs of its linear layers) or "full". On a CPU it has an effect together with `scan` alone.

    Raises:
      UserError: an unknown variant or option value, or sizes that do not fit together.
    """
    size, patch = parse_variant(variant)
    if width is not None:
        size = size._replace(width=width, mlp_dim=4 * width)
    overrides = {"depth": depth, "mlp_dim": mlp_dim, "num_heads": num_heads}
    size = size._replace(**{name: value for name, value in overrides.items() if value is not None})
    for name, value in size._asdict().items():
        positive(name, value)
    if size.width % size.num_heads:
        raise UserError(f"a ViT's width must be a multiple of num_heads: {size.width} is none of {size.num_heads}")
    if one_of("posemb", posemb, POSEMBS) == "sincos2d" and size.width % 4:
        raise UserError(f"posemb 'sincos2d' needs a width that is a multiple of 4, not {size.width}")
    return ViT(
        num_classes=num_classes,
        size=size,
        patch=patch,
        pool=one_of("pool", pool, POOLS),
        posemb=posemb,
        dropout=rate("dropout", dropout),
        drop_path=rate("drop_path", drop_path),
        gelu=one_of("gelu", gelu, GELUS),
        attention=one_of("attention", attention, ATTENTIONS),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        scan=scan,
        remat=one_of("remat", remat, REMATS),
        dtype=dtype,
    )
