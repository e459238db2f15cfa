"""Networks that predict the pixels of patches which their encoder, a Vision Transformer, did not see.

MAE: He et al. 2022, arXiv 2111.06377. SimMIM: Xie et al. 2022, arXiv 2111.09886.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.heads import bare_backbone
from jaxvision.models.positions import sincos2d
from jaxvision.models.transformer import BlockOptions, Encoder, TransformerBlock
from jaxvision.models.vit import ViT

DECODER = "decoder"  # name of the parameters of what predicts pixels


def plain_vit(task: str, model: nn.Module) -> ViT:
    """Returns the model, if it is a Vision Transformer of which the reconstruction of patches trains all layers.

    Args:
      task: Name of the task, for the message.
      model: Model of the config, without a head.

    Raises:
      UserError: Another model, or one whose features come from layers above its tokens.
    """
    model = bare_backbone(task, model)
    if not isinstance(model, ViT):
        raise UserError(
            f"the task {task!r} hides patches from a Vision Transformer, and config.model is a "
            f"{type(model).__name__}: set config.model.name to 'vit'"
        )
    above = {"pool='map'": model.pool == "map", "fc_norm": model.fc_norm, "rep_size": model.rep_size is not None}
    for option in (option for option, given in above.items() if given):
        raise UserError(
            f"the task {task!r} predicts patches from the tokens, so it does not train what config.model has above "
            f"them: leave {option} out, and set it in the run that starts from this one"
        )
    if model.patch_dropout:
        raise UserError(f"the task {task!r} hides patches itself: leave patch_dropout out of config.model")
    return model


def masked_patches(kept: jax.Array, n: int) -> jax.Array:
    """Marks the patches that are not kept.

    Args:
      kept: Indices of the patches that are kept, int32 [b, m] in [0, n).
      n: Number of patches in an image.

    Returns:
      bool [b, n].

    >>> masked_patches(jnp.array([[2, 0]]), 4).tolist()
    [[False, True, False, True]]
    """
    return jax.vmap(lambda row: jnp.ones(n, bool).at[row].set(False))(kept)


class Decoder(nn.Module):
    """The decoder of MAE: a small transformer over the encoder's tokens and a mask token for each masked patch.

    Positions are added to the tokens of patches only: fixed sines and cosines, with the frequencies of the authors'
    code.

    Source: He et al. 2022, sec. 3, "MAE decoder", and app. A.1.

    Attributes:
      width: Dimension of a token, a multiple of 4.
      depth: Number of blocks.
      block: Options of a block.
      out: Number of values that are predicted for a patch.
      scan, remat: Options of the stack of blocks, see `vit`.
      dtype: Type of the computation, float32 or bfloat16; the last layer is float32.
    """

    width: int
    depth: int
    block: BlockOptions
    out: int
    scan: bool
    remat: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, prefix: jax.Array, tokens: jax.Array, kept: jax.Array, grid: tuple[int, int], train: bool
    ) -> jax.Array:
        """Predicts all patches, float32 [b, h * w, out].

        Args:
          prefix: Tokens before the patches, float [b, p, d].
          tokens: Tokens of the kept patches, float [b, m, d].
          kept: Indices of these patches, int32 [b, m] in [0, h * w).
          grid: Grid (h, w) of the patches.
          train: True for training.
        """
        kernel_init, start, n = nn.initializers.xavier_uniform(), prefix.shape[1], grid[0] * grid[1]
        x = jnp.concatenate([prefix, tokens], axis=1)
        x = nn.Dense(self.width, kernel_init=kernel_init, dtype=self.dtype, name="embedding")(x)
        token = self.param("mask_token", nn.initializers.normal(0.02), (1, 1, self.width)).astype(self.dtype)
        place = jax.vmap(lambda row, seen: jnp.tile(token[0], (n, 1)).at[row].set(seen, unique_indices=True))
        patches = place(kept, x[:, start:])  # b n d
        patches += sincos2d(*grid, self.width, 10_000.0 ** (1 - 4 / self.width)).astype(self.dtype)
        x = jnp.concatenate([x[:, :start], patches], axis=1)
        block = functools.partial(TransformerBlock, self.block, self.dtype)
        blocks = Encoder(block, self.depth, self.scan, self.remat, self.dtype, self.block.norm_epsilon, name="encoder")
        x, _ = blocks(x, train)
        return nn.Dense(self.out, kernel_init=kernel_init, dtype=jnp.float32, name="prediction")(x[:, start:])


class MaskedAutoencoder(nn.Module):
    """A ViT that encodes the kept patches of an image, and a decoder that predicts all of them.

    The variables are the ViT's own and, next to them, `decoder`.

    Attributes:
      vit: Vision Transformer, without a head. The field is not called `encoder`: a ViT has a child of that name in the
        scope they share.
      width, depth, num_heads: Size of the decoder; its MLPs have four times as many units as it is wide.
    """

    vit: ViT
    width: int
    depth: int
    num_heads: int

    def setup(self) -> None:
        nn.share_scope(self, self.vit)

    @nn.compact
    def __call__(self, images: jax.Array, kept: jax.Array, train: bool = False) -> jax.Array:
        """Predicts all patches, float32 [b, h * w, patch * patch * c].

        Args:
          images: Images, float [b, height, width, c].
          kept: Indices of the patches that are seen, int32 [b, m] in [0, h * w).
          train: True for training.
        """
        vit = self.vit
        _, out = vit(images, train, kept=kept)
        tokens = out["tokens"]
        options = vit.block._replace(
            num_heads=self.num_heads, mlp_dim=4 * self.width, dropout=0.0, drop_path=0.0, layer_scale=None
        )
        values = vit.patch**2 * images.shape[-1]
        decoder = Decoder(self.width, self.depth, options, values, vit.scan, vit.remat, vit.dtype, name=DECODER)
        prefix = out.get("prefix", tokens[:, :0])
        return decoder(prefix, tokens, kept, out["embedding"].shape[1:3], train)


class MaskedPrediction(nn.Module):
    """A ViT that sees a learned token in place of each masked patch, and a linear layer that predicts all patches.

    The variables are the ViT's own, with its `mask_token`, and `decoder`.

    Source: Xie et al. 2022, sec. 3.2 to 3.4.

    Attributes:
      vit: Vision Transformer, without a head.
    """

    vit: ViT

    def setup(self) -> None:
        nn.share_scope(self, self.vit)

    @nn.compact
    def __call__(self, images: jax.Array, kept: jax.Array, train: bool = False) -> jax.Array:
        """Predicts all patches, float32 [b, h * w, patch * patch * c].

        Args:
          images: Images, float [b, height, width, c].
          kept: Indices of the patches that are seen, int32 [b, m] in [0, h * w).
          train: True for training.
        """
        vit = self.vit
        n = images.shape[1] // vit.patch * (images.shape[2] // vit.patch)
        _, out = vit(images, train, masked=masked_patches(kept, n))
        layer = nn.Dense(vit.patch**2 * images.shape[-1], dtype=jnp.float32, name=DECODER)
        return layer(out["tokens"].astype(jnp.float32))
