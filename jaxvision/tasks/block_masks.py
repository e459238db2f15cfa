"""Masks of patches in rectangles, as BEiT, iBOT and DINOv2 draw them."""

import math

import jax
import jax.numpy as jnp

SMALLEST = 4  # patches of the smallest rectangle that is proposed
ASPECT = (0.3, 1 / 0.3)  # height / width of a rectangle
PROPOSALS = 40  # of rectangles for each mask; the authors stop after ten in a row that do not fit


def block_masks(
    rng: jax.Array, b: int, grid: tuple[int, int], masked: float = 0.5, shares: tuple[float, float] = (0.1, 0.5)
) -> jax.Array:
    """Draws a mask of rectangles for some of the images of a batch.

    Bao et al. 2022 (BEiT), arXiv 2106.08254, alg. 1: rectangles of random area, shape and place are added until a share
    of the patches is masked. A rectangle that would mask too many is left out, so there may be fewer. The shares are
    spread as in DINOv2's code (data/collate.py): a given share of the images gets a mask, and their shares of patches
    are uniform in equal parts of `shares`, one image in each part.

    Args:
      rng: Random key.
      b: Number of images.
      grid: Grid (h, w) of the patches.
      masked: Share of the images that get a mask, in [0, 1], rounded down to whole images.
      shares: Smallest and largest share of the patches that is masked in such an image, in [0, 1].

    Returns:
      True where a patch is masked, bool [b, h * w]; at most `most_masked` in an image.

    >>> masks = block_masks(jax.random.key(0), 6, (8, 8))
    >>> masks.shape, int(masks.any(axis=1).sum())
    ((6, 64), 3)
    """
    to_order, to_share, to_place = jax.random.split(rng, 3)
    count = int(b * masked)
    rank = jax.random.permutation(to_order, b)  # images of a rank below `count` get a mask
    part = (rank + jax.random.uniform(to_share, (b,))) / max(count, 1)
    share = shares[0] + (shares[1] - shares[0]) * part
    wanted = jnp.where(rank < count, jnp.floor(share * math.prod(grid)), 0)
    wanted = jnp.minimum(wanted, most_masked(grid, shares))
    masks = jax.vmap(lambda key, n: _rectangles(key, grid, n))(jax.random.split(to_place, b), wanted)
    return masks.reshape(b, -1)


def most_masked(grid: tuple[int, int], shares: tuple[float, float]) -> int:
    """Returns the largest number of patches that `block_masks` masks in an image.

    Args:
      grid: Grid (h, w) of the patches.
      shares: Smallest and largest share of the patches.
    """
    return int(shares[1] * math.prod(grid))


def _rectangles(rng: jax.Array, grid: tuple[int, int], wanted: jax.Array) -> jax.Array:
    """A mask [h, w] of at most `wanted` patches, a scalar."""
    h, w = grid
    y, x = jnp.mgrid[:h, :w]
    logs = math.log(ASPECT[0]), math.log(ASPECT[1])

    def propose(mask: jax.Array, draws: jax.Array) -> tuple[jax.Array, None]:
        left = wanted - mask.sum()
        area = SMALLEST + (left - SMALLEST) * draws[0]
        aspect = jnp.exp(logs[0] + (logs[1] - logs[0]) * draws[1])
        height, width = jnp.round(jnp.sqrt(area * aspect)), jnp.round(jnp.sqrt(area / aspect))
        top, start = jnp.floor(draws[2] * (h - height + 1)), jnp.floor(draws[3] * (w - width + 1))
        inside = (y >= top) & (y < top + height) & (x >= start) & (x < start + width)
        added = (inside & ~mask).sum()
        fits = (height < h) & (width < w) & (added > 0) & (added <= left)
        return jnp.where(fits, mask | inside, mask), None

    mask, _ = jax.lax.scan(propose, jnp.zeros(grid, bool), jax.random.uniform(rng, (PROPOSALS, 4)))
    return mask
