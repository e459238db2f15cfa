"""Vision Transformer: Dosovitskiy et al. 2021, arXiv 2010.11929, and changes of later papers, as options.

The defaults are the plainer form of Beyer, Zhai, Kolesnikov 2022, arXiv 2205.01580: mean pooling and fixed sin-cos
positions. Other models are these options:

    ViT      pool="token", posemb="learned"
    DeiT     pool="token", posemb="learned", distilled=True, init="normal", gelu="exact"
    DeiT III pool="token", posemb="learned", cls_position=False, layer_scale=1e-4, init="normal", gelu="exact"
    CLIP     pool="token", posemb="learned", pre_norm=True, patch_bias=False, gelu="quick", norm_epsilon=1e-5
    SigLIP   pool="map", posemb="learned"
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.heads import HEAD_INITS, AttentionPool, linear_head
from jaxvision.models.layers import Dropout
from jaxvision.models.options import one_of, positive, rate
from jaxvision.models.order import Groups, input_and_blocks
from jaxvision.models.patches import PatchEmbedding
from jaxvision.models.positions import resize_positions, rope2d, sincos2d
from jaxvision.models.sizes import described, split_variant, transformer_size
from jaxvision.models.transformer import (
    ATTENTIONS,
    GELUS,
    PARALLELS,
    REMATS,
    BlockOptions,
    Deviations,
    Encoder,
    TransformerBlock,
)
from jaxvision.registry import part

POOLS = ("token", "gap", "map", "none")
POSEMBS = ("learned", "sincos2d", "rope", "none")
INITS = {"xavier": None, "normal": Deviations(0.02, 0.02, 0.02)}


class ViT(nn.Module):
    """Module of `vit`, which documents and checks the options."""

    num_classes: int | None
    width: int
    depth: int
    block: BlockOptions
    patch: int
    base_patch: int | None
    base_grid: int | None
    patch_bias: bool
    patch_dropout: float
    pool: str
    posemb: str
    class_token: bool
    fc_norm: bool
    cls_position: bool
    distilled: bool
    registers: int
    pre_norm: bool
    rep_size: int | None
    head_init: str
    head_bias: float
    scan: bool
    remat: str
    dtype: jnp.dtype

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        first = ("embedding", "mask_token", "pos_embedding", "cls", "distillation_token", "registers", "pre_norm")
        return input_and_blocks(self.depth, self.scan, first)

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        train: bool = False,
        *,
        kept: jax.Array | None = None,
        masked: jax.Array | None = None,
    ) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d], and logits [b, k] if the model has classes.

        Args:
          images: Images.
          train: True for training.
          kept: Patches that the blocks see, int32 [b, m] in [0, h * w); None for all, or for those that
            `patch_dropout` keeps.
          masked: Patches that are replaced by a learned token, "mask_token", before positions are added, bool
            [b, h * w]; None for no such token.
        """
        embed = PatchEmbedding(self.width, self.patch, self.dtype, self.patch_bias, self.base_patch, name="embedding")
        x = embed(images)  # b h w d
        out: dict[str, Any] = {"embedding": x}
        b, h, w, _ = x.shape
        if masked is not None:
            token = self.param("mask_token", nn.initializers.normal(0.02), (1, 1, self.width)).astype(self.dtype)
            x = jnp.where(masked.reshape(b, h, w, 1), token, x)
        x, prefix = self._add_positions(x)  # b n d, 1 p d
        angles = rope2d(h, w, self.width // self.block.num_heads) if self.posemb == "rope" else None
        if kept is None and train and self.patch_dropout:
            kept = keep_patches(self.make_rng("dropout"), b, h * w, self.patch_dropout)
        whole = kept is None
        if kept is not None:
            out["kept"] = kept
            x = jnp.take_along_axis(x, kept[..., None], axis=1)
            angles = None if angles is None else angles[kept]
        start = prefix.shape[1]
        x = jnp.concatenate([jnp.broadcast_to(prefix, (b, start, self.width)), x], axis=1)
        if angles is not None:
            angles = jnp.pad(angles, [(0, 0)] * (angles.ndim - 2) + [(start, 0), (0, 0)])  # angle 0 for the prefix
        x = Dropout(self.block.dropout)(x, train)
        if self.pre_norm:
            x = nn.LayerNorm(self.block.norm_epsilon, dtype=self.dtype, name="pre_norm")(x)

        block = functools.partial(TransformerBlock, self.block, self.dtype)
        encoder = Encoder(
            block,
            self.depth,
            self.scan,
            self.remat,
            self.dtype,
            self.block.norm_epsilon,
            not self.fc_norm,
            name="encoder",
        )
        x, outputs = encoder(x, train, angles)
        out["tokens"] = tokens = x[:, start:]
        if start:
            out["prefix"] = x[:, :start]
        shape = (b, h, w, self.width) if whole else tokens.shape
        out["stages"] = tuple(y[:, start:].reshape(shape) for y in outputs)
        if whole:
            out["map"] = tokens.reshape(shape)
        features = self._pool(x, tokens, train).astype(jnp.float32)
        if self.fc_norm:
            features = nn.LayerNorm(self.block.norm_epsilon, name="fc_norm")(features)
        return features, out | self._heads(x, features, train)

    def _add_positions(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[b, h, w, d] -> (patches with positions [b, h * w, d], tokens before them [1, p, d]).

        The tokens before them are class token, distillation token and registers.
        """
        b, h, w, d = x.shape
        x = x.reshape(b, h * w, d)
        normal = nn.initializers.normal(0.02)
        token_init = nn.initializers.zeros if self.block.deviations is None else normal
        names = ["cls"] * self.class_token + ["distillation_token"] * self.distilled
        prefix = jnp.concatenate([jnp.zeros((1, 0, d)), *(self.param(n, token_init, (1, 1, d)) for n in names)], axis=1)
        if self.posemb == "learned":
            placed = len(names) if self.cls_position else 0
            grid = (h, w) if self.base_grid is None else (self.base_grid, self.base_grid)
            positions = self.param("pos_embedding", normal, (1, placed + grid[0] * grid[1], d))
            if grid != (h, w):
                positions = resize_positions(positions, grid, (h, w), placed)
            # Concatenated, not scattered: converters to ONNX know no scatter into a part of an axis.
            prefix = jnp.concatenate([prefix[:, :placed] + positions[:, :placed], prefix[:, placed:]], axis=1)
            x = x + positions[:, placed:].astype(self.dtype)
        elif self.posemb == "sincos2d":
            x = x + sincos2d(h, w, d).astype(self.dtype)
        if self.registers:
            # Almost 0, as in DINOv2's code. From exactly 0 all registers would get the same gradient and stay equal.
            registers = self.param("registers", nn.initializers.normal(1e-6), (1, self.registers, d))
            prefix = jnp.concatenate([prefix, registers], axis=1)
        return x, prefix.astype(self.dtype)

    def _pool(self, x: jax.Array, tokens: jax.Array, train: bool) -> jax.Array:
        """Pools all tokens `x` [b, p + n, d], or those of the patches, `tokens` [b, n, d], to float32 features."""
        if self.pool == "token":
            return x[:, : 1 + self.distilled].mean(axis=1, dtype=jnp.float32)
        if self.pool == "gap":
            return tokens.mean(axis=1, dtype=jnp.float32)
        if self.pool == "map":
            block = self.block
            pool = AttentionPool(
                block.num_heads, block.mlp_dim, block.gelu, block.attention, block.norm_epsilon, self.dtype, name="pool"
            )
            tokens = pool(tokens, train)
        return tokens.astype(jnp.float32)

    def _heads(self, x: jax.Array, features: jax.Array, train: bool) -> dict[str, jax.Array]:
        out = {}
        if self.rep_size:
            representation = nn.Dense(self.rep_size, dtype=jnp.float32, name="pre_logits")
            out["pre_logits"] = features = nn.tanh(representation(features))
        if not self.num_classes:
            return out
        head = functools.partial(linear_head, self.num_classes, self.head_init, self.head_bias)
        if not self.distilled:
            return out | {"logits": head()(features)}
        logits = head()(x[:, 0].astype(jnp.float32))
        distillation = head(name="distillation_head")(x[:, 1].astype(jnp.float32))
        mean = (logits + distillation) / 2
        return out | {"logits": logits if train else mean, "distillation_logits": distillation}


def keep_patches(rng: jax.Array, b: int, n: int, rate: float) -> jax.Array:
    """Draws the patches that patch dropout keeps.

    Source: Li et al. 2023 (FLIP), sec. 3; rounded as in timm's `PatchDropout`.

    Args:
      rng: Random key.
      b: Number of images.
      n: Number of patches in an image.
      rate: Share of patches that are left out, in [0, 1).

    Returns:
      Indices of patches, int32 [b, k] in [0, n), with k = n * (1 - rate) rounded down, at least 1.

    >>> keep_patches(jax.random.key(0), 2, 16, 0.75).shape
    (2, 4)
    """
    kept = max(1, int(n * (1 - rate)))
    return jnp.argsort(jax.random.uniform(rng, (b, n)))[:, :kept]


@part("model", small={"variant": "mu/4", "depth": 2}, variants=described(16))
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
    class_token: bool | None = None,
    fc_norm: bool = False,
    cls_position: bool = True,
    distilled: bool = False,
    registers: int = 0,
    base_patch: int | None = None,
    base_grid: int | None = None,
    patch_bias: bool = True,
    patch_dropout: float = 0.0,
    pre_norm: bool = False,
    norm_epsilon: float = 1e-6,
    qk_norm: bool = False,
    layer_scale: float | None = None,
    parallel: str = "none",
    dropout: float = 0.0,
    drop_path: float = 0.0,
    gelu: str = "tanh",
    attention: str = "xla",
    init: str = "xavier",
    rep_size: int | None = None,
    head_init: str = "zeros",
    head_bias: float = 0.0,
    scan: bool = False,
    remat: str = "none",
) -> ViT:
    """Makes a Vision Transformer.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "embedding"
    [b, h, w, d], "stages" (every block's output, [b, h, w, d]), "tokens" [b, h * w, d] and "map"
    [b, h, w, d] (after the last norm, without the tokens before the patches), with such tokens "prefix" [b, p, d], with
    `rep_size` "pre_logits" float32 [b, rep_size], and "logits" float32 [b, k]. In training with `patch_dropout`, m of
    the h * w patches are kept: "kept" int32 [b, m] holds their indices, "stages" and "tokens" are [b, m, d], and there
    is no "map". A task may choose these patches, or replace patches by a learned token.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation and the residual stream, float32 or bfloat16; parameters are float32.
      variant: Size and patch, "SIZE/PATCH": mu, Ti, S, M, B, L, So400m, H, g or G, and the side of a patch in pixels.
      width: Dimension d of tokens; None for the variant's. A width also sets `mlp_dim` to four times as much.
      depth: Number of blocks; None for the variant's.
      mlp_dim: Number of hidden units of the MLP; None for four times `width` if that is given, else the variant's.
      num_heads: Number of attention heads; None for the variant's.
      pool: Kind of pooling. Features are the class token ("token"), the mean over tokens ("gap"), attention pooling
        ("map"), or every token ("none": features [b, n, d] and logits [b, n, k]).
      posemb: Kind of positions: "learned" (Dosovitskiy et al. 2021; the image size is then fixed unless `base_grid` is
        given), "sincos2d", "rope" (queries and keys are turned by row and column) or "none".
      class_token: True for a class token; None for one only if `pool` is "token". With another pooling, it only takes
        part in attention, as in MAE's fine-tuning (He et al. 2022, app. A.1) and timm's `global_pool="avg"`.
      fc_norm: True to apply the final LayerNorm to the pooled features instead of the tokens, as in BEiT, MAE's
        fine-tuning with average pooling and timm's `fc_norm`. Then "tokens" and "map" are not normalised.
      cls_position: True if "learned" has positions for class and distillation token, too.
      distilled: True for a second token, and a head that learns from a teacher, "distillation_logits" [b, k] (Touvron
        et al. 2021, sec. 4). In training "logits" are those of the class token. In evaluation they are the mean of both
        heads; the paper adds their softmax. Features are the mean of both tokens.
      registers: Number of registers, at least 0: tokens without position that the output leaves out (Darcet et al.
        2024).
      base_patch: Side of the patches that the embedding's kernel is stored for; None for the variant's. The kernel is
        fitted to the variant's patch by its pseudo-inverse, so that one set of weights serves many (Beyer et al. 2023,
        FlexiViT). Learned positions need `base_grid`, too.
      base_grid: Number of patches along each side of the square grid that learned positions are stored for; None for
        the grid of the images. They are resized for other images, so that images of several sizes can be
        mixed, as in multi-crop.
      patch_bias: True for a bias in the patch embedding; CLIP has none.
      patch_dropout: Share of patches that training leaves out, in [0, 1); the tokens before them always stay (Li et al.
        2023, FLIP).
      pre_norm: True for a LayerNorm before the first block, as in CLIP.
      norm_epsilon: Number that is added to the variance in every LayerNorm; 1e-5 in CLIP and torch.
      qk_norm: True for LayerNorm on the queries and keys of each head (Dehghani et al. 2023), with a bias as in timm.
      layer_scale: Initial factor of each residual branch, above 0 (Touvron et al. 2021b); None for no such factors.
      parallel: Layers of a block that are computed side by side: "mlp", the MLP and the attention (Dehghani et al.
        2023, who also remove the biases of norms and QKV; here they stay), "pairs", two of each (Touvron et al. 2022),
        or "none".
      dropout: Rate of dropout after the position embedding, after attention and in the MLP, in [0, 1).
      drop_path: Rate of stochastic depth in the last block, in [0, 1); it grows linearly from 0 in the first.
      gelu: Form of the GELU: "tanh", the approximation of the original JAX code, "exact" (erf), as in timm and torch,
        or "quick", as in CLIP.
      attention: Implementation of attention: "xla", or "cudnn" for the fused kernel of NVIDIA GPUs (bfloat16 or float16
        only).
      init: Initialiser of the blocks' kernels: "xavier", uniform, with class tokens of 0, as in the original code, or
        "normal" with standard deviation 0.02, for class tokens too (DeiT, timm). Positions have 0.02 in both; in CLIP's
        code, positions and class token have d ** -0.5.
      rep_size: Number of units of a tanh layer before the head, for pre-training (Dosovitskiy et al. 2021, sec. 3.1);
        None for no such layer.
      head_init: Initialiser of the head, "zeros" or "normal".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.
      scan: True to loop over blocks with stacked parameters, so that compile time does not grow with depth.
      remat: Part of a block that the backward pass computes again to save memory: "none", "dots" (all but the outputs
        of its linear layers) or "full". On a CPU it has an effect only together with `scan`.

    Raises:
      UserError: An unknown variant, an option value out of range, or sizes that do not fit together.
    """
    name, patch = split_variant("ViT", variant)
    size = transformer_size("ViT", name, width, depth, mlp_dim, num_heads)
    if one_of("posemb", posemb, POSEMBS) == "sincos2d" and size.width % 4:
        raise UserError(f"posemb 'sincos2d' needs a width that is a multiple of 4, not {size.width}")
    if posemb == "rope" and (size.width // size.num_heads) % 4:
        raise UserError(f"posemb 'rope' needs heads of a multiple of 4 channels, not {size.width // size.num_heads}")
    if distilled and pool != "token":
        raise UserError(f"a distilled ViT pools its class and distillation tokens: set pool='token', not {pool!r}")
    if distilled and rep_size is not None:
        raise UserError("a distilled ViT has its two heads on its two tokens: it takes no rep_size")
    if class_token is None:
        class_token = pool == "token"
    if pool == "token" and not class_token:
        raise UserError("pool='token' needs the class token: leave class_token out, or set pool to 'gap' or 'map'")
    if distilled and fc_norm:
        raise UserError("a distilled ViT has its heads on its two tokens: it takes no fc_norm")
    if registers < 0:
        raise UserError(f"registers must be at least 0, not {registers!r}")
    if base_grid is not None and posemb != "learned":
        raise UserError(f"base_grid is for posemb='learned': posemb {posemb!r} fits every image, leave base_grid out")
    options = {"layer_scale": layer_scale, "rep_size": rep_size, "base_patch": base_patch, "base_grid": base_grid}
    for option, value in options.items():
        if value is not None:
            positive(option, value)
    block = BlockOptions(
        num_heads=size.num_heads,
        mlp_dim=size.mlp_dim,
        dropout=rate("dropout", dropout),
        drop_path=rate("drop_path", drop_path),
        gelu=one_of("gelu", gelu, GELUS),
        attention=one_of("attention", attention, ATTENTIONS),
        qk_norm=qk_norm,
        layer_scale=layer_scale,
        parallel=one_of("parallel", parallel, PARALLELS),
        norm_epsilon=positive("norm_epsilon", norm_epsilon),
        deviations=INITS[one_of("init", init, INITS)],
    )
    return ViT(
        num_classes=num_classes,
        width=size.width,
        depth=size.depth,
        block=block,
        patch=patch,
        base_patch=base_patch,
        base_grid=base_grid,
        patch_bias=patch_bias,
        patch_dropout=rate("patch_dropout", patch_dropout),
        pool=one_of("pool", pool, POOLS),
        posemb=posemb,
        class_token=class_token,
        fc_norm=fc_norm,
        cls_position=cls_position,
        distilled=distilled,
        registers=registers,
        pre_norm=pre_norm,
        rep_size=rep_size,
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        scan=scan,
        remat=one_of("remat", remat, REMATS),
        dtype=dtype,
    )
