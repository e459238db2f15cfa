"""In which order do the tiles of an image stand? Noroozi and Favaro 2016, arXiv 1603.09246."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.arguments import Range
from jaxvision.errors import UserError
from jaxvision.found import part
from jaxvision.tasks import pretext
from jaxvision.tasks.task import Task
from jaxvision.tasks.tiles import check_share, check_trunk, cut, standardize

GRIDS = (2, 3)


@part("task", "jigsaw")
def make_jigsaw(
    *,
    model: Callable[[int | None], Any],
    permutations: int = 100,
    permutation_seed: Annotated[int, Range(0)] = 0,
    questions: int = 1,
    grid: int = 3,
    tile: float = 64 / 75,
    channel_jitter: float = 2 / 64,
    part_dim: int | None = 512,
    hidden: int | None = 4096,
) -> Task:
    """A task that tells which permutation the tiles of an image were shuffled by, out of a fixed set.

    The network is context-free: each tile goes through the trunk and one layer by itself, and only then do they meet
    (the paper's fc6, fc7, here with BatchNorm). What would give the order away is hidden as in the paper: gaps
    between tiles (lines that go on), each tile scaled to mean 0 and deviation 1 (brightness and contrast), channels
    shifted against each other (chromatic aberration). The paper also makes 30 % of the images grey: `grayscale(0.3)`
    in the augmentation.

    Args:
      model: `model(None)` builds the trunk, which sees tiles, and whole images when it is judged.
      permutations: how many make up the set, at least 2.
      permutation_seed: of the set, see `permutation_set`.
      questions: permutations asked about for each image and step. More cost little: the tiles go through the trunk
        once.
      grid: tiles to a side, 2 or 3.
      tile: side of a tile, as a share of a cell of the grid, within which it lies anywhere. The paper's has 64 of 75
        pixels.
      channel_jitter: by how much a colour channel of a tile may lie off the others in either direction, as a share of
        the tile's side; the paper's is 2 of 64 pixels.
      part_dim, hidden: layers over each tile and over all, see `models.parts.SideBySide`.

    Batches, metrics (`jigsaw_top1`) and outputs: see `pretext.make_pretext`.
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
        cell = min(images.shape[1:3]) // grid
        size = round(tile * cell)
        corners = tile_corners(
            place_rng, len(images), images.shape[1:3], grid, size, channels=3, jitter=round(channel_jitter * size)
        )
        # The first of a random order of all: no permutation is asked about twice for an image.
        draw = lambda key: jax.random.permutation(key, permutations)[:questions]
        answers = jax.vmap(draw)(jax.random.split(order_rng, len(images)))  # b q
        return pretext.Questions(standardize(cut(images, corners, size)), jnp.asarray(orders)[answers], answers)

    asked = pretext.Pretext("jigsaw", permutations, ask, look=standardize)
    return pretext.make_pretext(asked, model, part_dim=part_dim, hidden=hidden)


def tile_corners(
    rng: jax.Array, batch: int, image: tuple[int, int], grid: int, size: int, channels: int, jitter: int
) -> jax.Array:
    """Places of tiles, one in each cell of a grid over the image, anywhere in the cell.

    Args:
      batch: B.
      image: its (height, width) in pixels.
      grid: cells to a side; a cell has the image's side divided by it, rounded down.
      size: side of the tiles in pixels.
      channels: C.
      jitter: pixels by which a channel may lie off the tile's place; within the image.

    Returns:
      int32 [B, grid * grid, C, 2], the (y, x) of the top left pixels, row by row.

    Raises:
      UserError: tiles of no pixel.

    >>> tile_corners(jax.random.key(0), 1, (6, 6), grid=3, size=2, channels=1, jitter=0)[0, -1].tolist()
    [[4, 4]]
    """
    if size < 1:
        raise UserError(f"the task 'jigsaw' cuts images of {image[0]}x{image[1]} pixels into tiles of none")
    place_rng, jitter_rng = jax.random.split(rng)
    cell = jnp.array(image) // grid
    cells = jnp.stack(jnp.meshgrid(jnp.arange(grid), jnp.arange(grid), indexing="ij"), axis=-1).reshape(-1, 1, 2)
    within = jax.random.randint(place_rng, (batch, grid**2, 1, 2), 0, cell - size + 1)
    off = jax.random.randint(jitter_rng, (batch, grid**2, channels, 2), -jitter, jitter + 1)
    return jnp.clip(cells * cell + within + off, 0, jnp.array(image) - size)


@functools.cache
def permutation_set(count: int, tiles: int = 9, seed: int = 0) -> np.ndarray:
    """Permutations that differ from one another in as many places as can be.

    Algorithm 1 of the paper: the first is drawn at random, and each further one is, of all that are left, that with
    the largest sum of Hamming distances to those chosen before. Among equal ones, of which the paper does not speak,
    the one farthest from its nearest is taken, and of these the first in lexicographic order.

    Args:
      count: how many, from 2 to tiles!.
      tiles: n, at most 9.
      seed: of the first one.

    Returns:
      uint8 [count, n], read-only; the row p shows tile p[i] at place i.

    Raises:
      UserError: a count that is too small or too large.

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
