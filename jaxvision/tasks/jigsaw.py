"""In which order were the tiles of an image put? Noroozi and Favaro 2016, arXiv 1603.09246."""

import functools
import itertools
import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.arguments import Range
from jaxvision.errors import UserError
from jaxvision.registry import part
from jaxvision.tasks import pretext
from jaxvision.tasks.task import ModelFn, Task
from jaxvision.tasks.tiles import check_share, check_trunk, cut_pieces, standardize

GRIDS = (2, 3)


@part("task", "jigsaw")
def make_jigsaw(
    *,
    model: ModelFn,
    permutations: int = 100,
    permutation_seed: Annotated[int, Range(0)] = 0,
    questions: int = 1,
    grid: int = 3,
    tile: float = 64 / 75,
    channel_jitter: float = 2 / 64,
    part_dim: int | None = 512,
    hidden: int | None = 4096,
) -> Task:
    """Makes the task that predicts which permutation, out of a fixed set, shuffled the tiles of an image.

    The network is context-free: each tile goes through the trunk and one layer alone, and only the layers after these
    see all tiles (the paper's fc6 and fc7, here with BatchNorm). Clues that make the answer trivial are removed as in
    the paper: gaps between tiles break lines that continue from one to the next, each tile is scaled to mean 0 and
    deviation 1 against brightness and contrast, and its channels are shifted against each other, against chromatic
    aberration. The paper also makes 30 % of the images grey: `grayscale(0.3)` in the augmentation.

    Labels are not read. The metric `jigsaw_top1` is the share of questions of a batch that are answered right. The
    outputs are those of the trunk for whole images.

    Args:
      model: Function of the number of classes, here None, that builds the trunk. It is trained on tiles and evaluated
        on whole images.
      permutations: Number of permutations in the set, at least 2.
      permutation_seed: Seed of the set, see `permutation_set`.
      questions: Number of permutations that are asked about for each image in a step. More cost little, since the
        tiles go through the trunk once.
      grid: Number of tiles along a side, 2 or 3.
      tile: Side of a tile, as a share of a cell of the grid. The tile lies anywhere in its cell. 64 of 75 pixels in
        the paper.
      channel_jitter: Largest shift of a colour channel of a tile in either direction, as a share of the tile's side;
        2 of 64 pixels in the paper.
      part_dim, hidden: Widths of the layers over each tile and over all; None for no such layer.

    Raises:
      UserError: If an option is out of range, or the trunk can only see images of one size.
    """
    check_share("task.tile", tile, low=0.01)
    check_share("task.channel_jitter", channel_jitter)
    if not isinstance(questions, int) or not 1 <= questions <= permutations:
        raise UserError(f"task.questions must be a whole number from 1 to {permutations}, not {questions!r}")
    if grid not in GRIDS:
        raise UserError(f"task.grid must be 2 or 3, not {grid!r}")
    orders = permutation_set(permutations, grid**2, permutation_seed)
    check_trunk("jigsaw", model(None))

    def ask(rng: jax.Array, images: jax.Array) -> pretext.Questions:
        place_rng, order_rng = jax.random.split(rng)
        b, h, w, _ = images.shape
        size = round(tile * (min(h, w) // grid))
        jitter = round(channel_jitter * size)
        corners = tile_corners(place_rng, b, (h, w), grid, size, channels=3, jitter=jitter)
        # The first of a random order of all, so that no permutation is asked about twice for an image.
        draw = lambda key: jax.random.permutation(key, permutations)[:questions]
        answers = jax.vmap(draw)(jax.random.split(order_rng, len(images)))  # b q
        return pretext.Questions(standardize(cut_pieces(images, corners, size)), jnp.asarray(orders)[answers], answers)

    described = pretext.Pretext("jigsaw", permutations, ask, look=standardize)
    return pretext.make_pretext(described, model, part_dim=part_dim, hidden=hidden)


def tile_corners(
    rng: jax.Array, batch: int, image: tuple[int, int], grid: int, size: int, channels: int, jitter: int
) -> jax.Array:
    """Draws the places of tiles, one anywhere in each cell of a grid over the image.

    Args:
      rng: Key.
      batch: Number of images, b.
      image: Size of an image, (height, width) in pixels.
      grid: Number of cells along a side. The side of a cell is the image's side divided by it, rounded down.
      size: Side of the tiles in pixels.
      channels: Number of colour channels, c.
      jitter: Largest shift of a channel from the tile's place, in pixels; it stays in the image.

    Returns:
      int32 [b, grid * grid, c, 2]: the (y, x) of the top left pixels, row by row.

    Raises:
      UserError: If a tile has no pixel.

    >>> tile_corners(jax.random.key(0), 1, (6, 6), grid=3, size=2, channels=1, jitter=0)[0, -1].tolist()
    [[4, 4]]
    """
    if size < 1:
        raise UserError(
            f"the task 'jigsaw' cuts images of {image[0]}x{image[1]} pixels into tiles without a pixel: use larger "
            "images, or set a larger task.tile"
        )
    place_rng, jitter_rng = jax.random.split(rng)
    cell = jnp.array(image) // grid
    cells = jnp.stack(jnp.meshgrid(jnp.arange(grid), jnp.arange(grid), indexing="ij"), axis=-1).reshape(-1, 1, 2)
    within = jax.random.randint(place_rng, (batch, grid**2, 1, 2), 0, cell - size + 1)
    off = jax.random.randint(jitter_rng, (batch, grid**2, channels, 2), -jitter, jitter + 1)
    return jnp.clip(cells * cell + within + off, 0, jnp.array(image) - size)


@functools.cache
def permutation_set(count: int, tiles: int = 9, seed: int = 0) -> np.ndarray:
    """Chooses permutations that differ from each other in as many places as possible.

    Noroozi and Favaro 2016, algorithm 1: the first is drawn at random; each further one has the largest sum of Hamming
    distances to those chosen before. The paper does not say how ties are broken. Here the permutation with the largest
    distance to its nearest chosen one is taken, and of these the first in lexicographic order.

    Args:
      count: Number of permutations, from 2 to the factorial of `tiles`.
      tiles: Number of tiles, n, at most 9.
      seed: Seed of the first permutation.

    Returns:
      uint8 [count, n], read-only. In row p, place i shows tile p[i].

    Raises:
      UserError: If `count` is too small or too large.

    >>> permutation_set(3, tiles=3).tolist()
    [[2, 1, 0], [0, 2, 1], [1, 0, 2]]
    """
    total = math.factorial(tiles)
    if not isinstance(count, int) or not 2 <= count <= total:
        raise UserError(f"task.permutations must be a whole number from 2 to {total}, not {count!r}")
    left = np.array(list(itertools.permutations(range(tiles))), np.uint8)
    sums, nearest = np.zeros(total, np.int64), np.full(total, tiles)
    chosen = [np.random.default_rng(seed).integers(total)]
    while len(chosen) < count:
        distances = (left != left[chosen[-1]]).sum(axis=1)
        sums += distances
        nearest = np.minimum(nearest, distances)
        rank = sums * (tiles + 1) + nearest
        rank[chosen] = -1
        chosen.append(rank.argmax())
    orders = left[chosen]
    orders.flags.writeable = False
    return orders
