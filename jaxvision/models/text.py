"""The text transformer of CLIP (Radford et al. 2021, arXiv 2103.00020, sec. 2.4).

Options make it that of SigLIP (Zhai et al. 2023, arXiv 2303.15343).
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.heads import AttentionPool
from jaxvision.models.layers import Dropout
from jaxvision.models.options import one_of, positive, rate
from jaxvision.models.order import Groups, input_and_blocks
from jaxvision.models.sizes import Size, described, transformer_size
from jaxvision.models.transformer import ATTENTIONS, GELUS, REMATS, BlockOptions, Deviations, Encoder, TransformerBlock
from jaxvision.registry import part

POOLS = ("end", "last", "gap", "map")
INITS = ("clip", "xavier")


def end_positions(tokens: jax.Array, end_token: int | None) -> jax.Array:
    """Finds the end of each text.

    Args:
      tokens: Token ids, int [b, n].
      end_token: Id of the token that ends a text. Its first place counts, or the last place of a row without it. None
        for the place of the greatest id, which in CLIP's vocabulary is the end token's (the authors' code).

    Returns:
      Index of the end in each row, int32 [b] in [0, n).

    >>> end_positions(jnp.array([[7, 3, 9, 0], [7, 9, 9, 0]]), None).tolist()
    [2, 1]
    >>> end_positions(jnp.array([[7, 1, 2, 1], [7, 3, 4, 5]]), 1).tolist()
    [1, 3]
    """
    if end_token is None:
        return tokens.argmax(axis=1)
    is_end = tokens == end_token
    return jnp.where(is_end.any(axis=1), is_end.argmax(axis=1), tokens.shape[1] - 1)


class TextTransformer(nn.Module):
    """Module of `text_transformer`, which documents and checks the options."""

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
        """Groups of parameter paths from the input on; see `order`."""
        return input_and_blocks(self.depth, self.scan, ("embedding", "pos_embedding"))

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps tokens int [b, n] to features [b, d]."""
        n = tokens.shape[1]
        if n > self.length:
            raise UserError(f"a text of {n} tokens is longer than the {self.length} that the model has positions for")
        normal = nn.initializers.normal
        embed = nn.Embed(self.vocab_size, self.width, self.dtype, embedding_init=normal(0.02), name="embedding")
        x = embed(tokens)  # b n d
        out: dict[str, Any] = {"embedding": x}
        positions = self.param("pos_embedding", normal(0.01), (1, self.length, self.width))
        x = x + positions[:, :n].astype(self.dtype)
        x = Dropout(self.block.dropout)(x, train)
        block = functools.partial(TransformerBlock, self.block, self.dtype)
        encoder = Encoder(block, self.depth, self.scan, self.remat, self.dtype, self.block.norm_epsilon, name="encoder")
        x, out["stages"] = encoder(x, train)
        out["tokens"] = x
        if self.pool == "end":
            # Row by row: XLA would gather `x[arange(b), ends]` from a batch on several devices.
            features = jax.vmap(lambda row, end: row[end])(x, end_positions(tokens, self.end_token))
        elif self.pool == "last":
            features = x[:, -1]
        elif self.pool == "gap":
            features = x.mean(axis=1, dtype=jnp.float32)
        else:
            o = self.block
            pool = AttentionPool(o.num_heads, o.mlp_dim, o.gelu, o.attention, o.norm_epsilon, self.dtype, name="pool")
            features = pool(x, train)
        return features.astype(jnp.float32), out


@part(
    "text model",
    small={"width": 16, "depth": 1, "num_heads": 2, "vocab_size": 259, "length": 7},
    variants=described(),
)
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

    Applied to token ids, int32 [b, n], it returns float32 features [b, d] and `out`: "embedding"
    [b, n, d], "stages" (every block's output, [b, n, d]) and "tokens" [b, n, d] (after the last norm).

    Sizes in CLIP: M with RN50, RN101, ViT-B/32 and ViT-B/16; B with RN50x16 and ViT-L/14;
    `variant="M", width=640, num_heads=10` with RN50x4; `variant="B", width=1024, num_heads=16` with RN50x64. SigLIP is
    `variant="B", vocab_size=32_000, length=64, causal=False, pool="last", gelu="tanh", norm_epsilon=1e-6,
    init="xavier"`.

    Args:
      dtype: Type of the computation and the residual stream, float32 or bfloat16; parameters are float32.
      variant: Name of the size: mu, Ti, S, M, B, L, So400m, H, g or G, as in `vit`.
      width: Dimension d of tokens; None for the variant's. A width also sets `mlp_dim` to four times as much.
      depth: Number of blocks; None for the variant's.
      mlp_dim: Number of hidden units of the MLP; None for four times `width` if that is given, else the variant's.
      num_heads: Number of attention heads; None for the variant's.
      vocab_size: Number of token ids; ids are in [0, vocab_size). 49,408 is the size of CLIP's vocabulary.
      length: Greatest number n of tokens in a text; 77 in CLIP.
      causal: True if a token attends only to itself and the tokens before it, False if to all, padding included.
      pool: Kind of pooling. Features are the token at the end of the text ("end"), the last token of the row, padding
        or not ("last"), the mean over tokens ("gap"), or attention pooling ("map").
      end_token: Id of the token that ends a text, or None for the greatest id of each row; see `end_positions`.
      norm_epsilon: Number that is added to the variance in every LayerNorm; CLIP's is torch's.
      dropout: Rate of dropout after the position embedding, after attention and in the MLP, in [0, 1).
      drop_path: Rate of stochastic depth in the last block, in [0, 1); it grows linearly from 0 in the first.
      gelu: Form of the GELU: "quick" as in CLIP, "exact" as in most of open_clip, or "tanh" as in big_vision.
      attention: Implementation of attention: "xla", or "cudnn" for the fused kernel of NVIDIA GPUs (bfloat16 or float16
        only).
      init: Initialiser of the blocks' kernels: "clip", normal with standard deviations that fall with width and depth
        (the authors' code), or "xavier", uniform.
      scan: True to loop over blocks with stacked parameters, see `vit`.
      remat: Part of a block that the backward pass computes again to save memory, see `vit`.

    Raises:
      UserError: An unknown variant, an option value out of range, or sizes that do not fit together.
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
    """Computes the standard deviations with which CLIP's text transformer is initialised.

    Source: `initialize_parameters` of the authors' code, after Radford et al. 2019, sec. 2.3.

    Args:
      size: Size of the transformer.
    """
    qkv = size.width**-0.5
    return Deviations(qkv, residual=qkv * (2 * size.depth) ** -0.5, hidden=(2 * size.width) ** -0.5)
