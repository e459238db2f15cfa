"""The text transformer of CLIP, Radford et al. 2021, arXiv 2103.00020, sec. 2.4, and by options that of SigLIP,
Zhai et al. 2023, arXiv 2303.15343."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.found import part
from jaxvision.models.heads import AttentionPool
from jaxvision.models.layers import Dropout
from jaxvision.models.options import one_of, positive, rate
from jaxvision.models.order import Groups, input_and_blocks
from jaxvision.models.sizes import Size, transformer_size
from jaxvision.models.transformer import ATTENTIONS, GELUS, REMATS, Block, BlockOptions, Deviations, Encoder

POOLS = ("end", "last", "gap", "map")
INITS = ("clip", "xavier")


def end_positions(tokens: jax.Array, end_token: int | None) -> jax.Array:
    """Where each text ends: int32 [B], in [0, L).

    Args:
      tokens: int [B, L].
      end_token: its first place in each row, or the last place of a row without it. None takes the place of the
        greatest id, which in CLIP's vocabulary is the end token's (the authors' code).

    >>> end_positions(jnp.array([[7, 3, 9, 0], [7, 9, 9, 0]]), None).tolist()
    [2, 1]
    >>> end_positions(jnp.array([[7, 1, 2, 1], [7, 3, 4, 5]]), 1).tolist()
    [1, 3]
    """
    if end_token is None:
        return tokens.argmax(axis=1)
    found = tokens == end_token
    return jnp.where(found.any(axis=1), found.argmax(axis=1), tokens.shape[1] - 1)


class TextTransformer(nn.Module):
    """See `text_transformer` for the options, which are checked there."""

    vocab_size: int
    length: int
    width: int
    depth: int
    block: BlockOptions
    pool: str
    end_token: int | None
    scan: bool
    remat: str
    dtype: jnp.dtype

    def layer_order(self) -> Groups:
        """See `order`."""
        return input_and_blocks(self.depth, self.scan, ("embedding", "pos_embedding"))

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        b, n = tokens.shape
        if n > self.length:
            raise UserError(f"a text of {n} tokens is longer than the {self.length} that the model has positions for")
        normal = nn.initializers.normal
        embed = nn.Embed(self.vocab_size, self.width, self.dtype, embedding_init=normal(0.02), name="embedding")
        x = embed(tokens)  # b n d
        out = {"embedding": x}
        positions = self.param("pos_embedding", normal(0.01), (1, self.length, self.width))
        x = x + positions[:, :n].astype(self.dtype)
        x = Dropout(self.block.dropout)(x, train)
        block = functools.partial(Block, self.block, self.dtype)
        encoder = Encoder(block, self.depth, self.scan, self.remat, self.dtype, self.block.norm_epsilon, name="encoder")
        x, out["stages"] = encoder(x, train)
        out["tokens"] = x
        if self.pool == "end":
            features = x[jnp.arange(b), end_positions(tokens, self.end_token)]
        elif self.pool == "last":
            features = x[:, -1]
        elif self.pool == "gap":
            features = x.mean(axis=1, dtype=jnp.float32)
        else:
            o = self.block
            pool = AttentionPool(o.num_heads, o.mlp_dim, o.gelu, o.attention, o.norm_epsilon, self.dtype, name="pool")
            features = pool(x, train)
        return features.astype(jnp.float32), out


@part("text model", small={"width": 16, "depth": 1, "num_heads": 2, "vocab_size": 259, "length": 7})
def text_transformer(
    *,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "M",
    width: int | None = None,
    depth: int | None = None,
    mlp_dim: int | None = None,
    num_heads: int | None = None,
    vocab_size: int = 49_408,
    length: int = 77,
    causal: bool = True,
    pool: str = "end",
    end_token: int | None = None,
    norm_epsilon: float = 1e-5,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    gelu: str = "quick",
    attention: str = "xla",
    init: str = "clip",
    scan: bool = False,
    remat: str = "none",
) -> TextTransformer:
    """Text transformer. The defaults are CLIP's; its projection and temperature belong to the model of two towers.

    Applied to token ids, int32 [B, L], it returns float32 features [B, D] and `out`: "embedding"
    [B, L, D], "stages" (every block's output, [B, L, D]) and "tokens" [B, L, D] (after the last norm).

    Sizes of CLIP: M beside RN50, RN101, ViT-B/32 and ViT-B/16; B beside RN50x16 and ViT-L/14;
    `variant="M", width=640, num_heads=10` beside RN50x4; `width=1024, num_heads=16` beside RN50x64. SigLIP is
    `variant="B", vocab_size=32_000, length=64, causal=False, pool="last", gelu="tanh", norm_epsilon=1e-6,
    init="xavier"`.

    Args:
      dtype: of the computation, residual stream included; parameters are float32.
      variant: size: mu, Ti, S, M, B, L, So400m, H, g or G, as in `vit`.
      width: D, in place of the variant's; `mlp_dim` then is four times as much unless it is given.
      depth, mlp_dim, num_heads: in place of the variant's.
      vocab_size: ids are in [0, vocab_size).
      length: the greatest L.
      causal: whether a token attends to itself and those before it alone, or to all, padding included.
      pool: features are the token at the end of the text ("end"), the last of the row, padding or not ("last"), the
        mean over tokens ("gap") or attention pooling ("map").
      end_token: see `end_positions`.
      norm_epsilon: of every LayerNorm; CLIP's is torch's.
      dropout: rate after the position embedding, after attention and in the MLP.
      drop_path: stochastic depth rate of the last block; it grows linearly from 0 in the first.
      gelu: "quick" as in CLIP, "exact" as in most of open_clip, "tanh" as in big_vision.
      attention: "xla", or "cudnn" for the fused kernel of NVIDIA GPUs (bfloat16 or float16 only).
      init: "clip", normal with deviations that fall with width and depth (the authors' code), or "xavier".
      scan, remat: as in `vit`.

    Raises:
      UserError: an unknown variant or option value, or sizes that do not fit together.
    """
    size = transformer_size("text transformer", variant, width, depth, mlp_dim, num_heads)
    positive("vocab_size", vocab_size)
    positive("length", length)
    if end_token is not None and not 0 <= end_token < vocab_size:
        raise UserError(f"end_token must lie in [0, {vocab_size}), not {end_token!r}")
    block = BlockOptions(
        num_heads=size.num_heads,
        mlp_dim=size.mlp_dim,
        dropout=rate("dropout", dropout),
        drop_path=rate("drop_path", drop_path),
        gelu=one_of("gelu", gelu, GELUS),
        attention=one_of("attention", attention, ATTENTIONS),
        causal=causal,
        norm_epsilon=positive("norm_epsilon", norm_epsilon),
        deviations=clip_deviations(size) if one_of("init", init, INITS) == "clip" else None,
    )
    return TextTransformer(
        vocab_size=vocab_size,
        length=length,
        width=size.width,
        depth=size.depth,
        block=block,
        pool=one_of("pool", pool, POOLS),
        end_token=end_token,
        scan=scan,
        remat=one_of("remat", remat, REMATS),
        dtype=dtype,
    )


def clip_deviations(size: Size) -> Deviations:
    """Of CLIP's text transformer: `initialize_parameters` of the authors' code, after Radford et al. 2019, sec. 2.3."""
    qkv = size.width**-0.5
    return Deviations(qkv, residual=qkv * (2 * size.depth) ** -0.5, hidden=(2 * size.width) ** -0.5)
