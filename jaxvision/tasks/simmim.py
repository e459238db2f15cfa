"""SimMIM: the network sees a learned token in place of each masked patch, and a linear layer predicts the pixels."""

from typing import Annotated

import jax
import jax.numpy as jnp

from jaxvision.arguments import COUNT, Range
from jaxvision.errors import UserError
from jaxvision.models.masked import MaskedPrediction, plain_vit
from jaxvision.models.vit import keep_patches
from jaxvision.registry import part
from jaxvision.tasks.masked import Masking, make_masked
from jaxvision.tasks.task import ModelFn, Task


@part("task", "simmim", small={"block": 8})
def make_simmim(
    *,
    model: ModelFn,
    ratio: Annotated[float, Range(0, 1, above=True, below=True)] = 0.6,
    block: COUNT = 32,
) -> Task:
    """Makes the task that predicts the pixels of masked blocks by a linear layer on the tokens.

    SimMIM (Xie et al. 2022, arXiv 2111.09886, sec. 3). The network sees all places: those of masked patches hold a
    learned token. The loss is the mean absolute error (L1) over the masked pixels, on the scale of the batch.

    Labels are not read. A run that starts from this one takes the ViT and leaves
    the linear layer and the learned token out.

    Args:
      model: Function of the number of classes, here None, that builds a ViT.
      ratio: Share of the blocks that are masked, in (0, 1). Of n blocks, n (1 - ratio) stay, rounded down.
      block: Side of the square blocks that are masked, in pixels: a multiple of the ViT's patch, and a divisor of the
        image's sides.

    Raises:
      UserError: The model is not a ViT, or an option is out of range.
    """
    encoder = plain_vit("simmim", model(None))
    if block % encoder.patch:
        raise UserError(f"task.block must be a multiple of the ViT's patch, {encoder.patch} pixels, not {block}")
    per_side = block // encoder.patch

    def draw(rng: jax.Array, b: int, grid: tuple[int, int]) -> jax.Array:
        h, w = grid
        if h % per_side or w % per_side:
            raise UserError(
                f"images of {h * encoder.patch}x{w * encoder.patch} pixels cannot be cut into blocks of "
                f"{block}x{block}: set task.block to a divisor of both sides"
            )
        if (h, w) == (per_side, per_side):
            raise UserError(
                f"an image of {block}x{block} pixels is one block, and a part of the blocks must stay visible: set "
                "task.block to less"
            )
        return kept_in_blocks(rng, b, grid, per_side, ratio)

    return make_masked(Masking("simmim", draw, MaskedPrediction(encoder), encoder, power=1, normalized=False))


def kept_in_blocks(rng: jax.Array, b: int, grid: tuple[int, int], per_side: int, ratio: float) -> jax.Array:
    """Draws the patches that stay visible if whole blocks of patches are masked.

    Args:
      rng: Random key.
      b: Number of images.
      grid: Grid (h, w) of the patches.
      per_side: Number of patches along a side of a block; it divides h and w.
      ratio: Share of the blocks that are masked, in (0, 1).

    Returns:
      Indices of patches, int32 [b, m] in [0, h * w).

    >>> sorted(kept_in_blocks(jax.random.key(0), 1, (2, 4), 2, 0.5)[0].tolist())
    [0, 1, 4, 5]
    """
    h, w = grid
    blocks = keep_patches(rng, b, h // per_side * (w // per_side), ratio)  # b m
    rows, columns = blocks // (w // per_side) * per_side, blocks % (w // per_side) * per_side
    first = rows * w + columns  # the patch in the corner of each block
    y, x = jnp.mgrid[:per_side, :per_side]
    return (first[..., None] + (y * w + x).ravel()).reshape(b, -1)
