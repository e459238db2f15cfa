"""MAE: the network sees a quarter of the patches of an image, and a small decoder predicts the others."""

from typing import Annotated

import jax

from jaxvision.arguments import COUNT, Range
from jaxvision.errors import UserError
from jaxvision.models.masked import MaskedAutoencoder, plain_vit
from jaxvision.models.vit import keep_patches
from jaxvision.registry import part
from jaxvision.tasks.masked import Masking, make_masked
from jaxvision.tasks.task import ModelFn, Task


@part("task", "mae", small={"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2})
def make_mae(
    *,
    model: ModelFn,
    ratio: Annotated[float, Range(0, 1, above=True, below=True)] = 0.75,
    decoder_width: COUNT = 512,
    decoder_depth: COUNT = 8,
    decoder_heads: COUNT = 16,
    normalized: bool = True,
) -> Task:
    """Makes the task that predicts the pixels of masked patches from the visible ones.

    Masked autoencoders (He et al. 2022, arXiv 2111.06377, sec. 3). The encoder is a ViT that is applied to the visible
    patches only, so a step costs a fraction of one on whole images. The decoder gets its tokens, and a learned token
    for each masked patch. The loss is the mean squared error over the masked patches.

    Labels are not read. A run that starts from this one takes the ViT and leaves
    the decoder out.

    Args:
      model: Function of the number of classes, here None, that builds a ViT.
      ratio: Share of the patches that are masked, in (0, 1). Of n patches, n (1 - ratio) are kept, rounded down.
      decoder_width: Dimension of the decoder's tokens, a multiple of 4 and of `decoder_heads`.
      decoder_depth: Number of the decoder's blocks.
      decoder_heads: Number of attention heads of each.
      normalized: True to predict pixels that are scaled to mean 0 and variance 1 in each patch, which the paper found
        to give better features (table 1d).

    Raises:
      UserError: The model is not a ViT, or an option is out of range.
    """
    if decoder_width % 4 or decoder_width % decoder_heads:
        raise UserError(
            f"task.decoder_width must be a multiple of 4 and of task.decoder_heads, {decoder_heads}, "
            f"not {decoder_width}"
        )
    encoder = plain_vit("mae", model(None))

    def draw(rng: jax.Array, b: int, grid: tuple[int, int]) -> jax.Array:
        return keep_patches(rng, b, grid[0] * grid[1], ratio)

    network = MaskedAutoencoder(encoder, decoder_width, decoder_depth, decoder_heads)
    return make_masked(Masking("mae", draw, network, encoder, power=2, normalized=normalized))
