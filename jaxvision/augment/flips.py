"""Mirrored images and right angles: every pixel moves as a whole, and the size stays or its sides change places."""

import jax
import jax.numpy as jnp

from jaxvision.arguments import is_whole
from jaxvision.augment.moves import exact_move
from jaxvision.augment.operations import Operation, geometric
from jaxvision.augment.registry import check_number, ops
from jaxvision.errors import UserError


@ops.register(evaluation="")
def flip_lr(p: float = 0.5) -> Operation:
    """Mirrors each image left to right.

    Args:
      p: Probability that an image is changed.
    """
    check_number("flip_lr", "p", p, high=1)

    def draw(rng, size):
        flipped = jax.random.bernoulli(rng, p)
        return exact_move(
            lambda image: jnp.where(flipped, image[:, ::-1], image),
            lambda points: jnp.where(flipped, mirror_points(points, 0, size[1]), points),
        )

    return geometric(draw, keeps_size=True)


@ops.register(evaluation="")
def flip_ud(p: float = 0.5) -> Operation:
    """Mirrors each image top to bottom.

    Args:
      p: Probability that an image is changed.
    """
    check_number("flip_ud", "p", p, high=1)

    def draw(rng, size):
        flipped = jax.random.bernoulli(rng, p)
        return exact_move(
            lambda image: jnp.where(flipped, image[::-1], image),
            lambda points: jnp.where(flipped, mirror_points(points, 1, size[0]), points),
        )

    return geometric(draw, keeps_size=True)


def mirror_points(points: jax.Array, axis: int, side: int) -> jax.Array:
    """Mirrors points by counting one coordinate from the other end of the side.

    Args:
      points: Points (x, y) in pixels, float32 [..., 2].
      axis: Coordinate to mirror, 0 for x or 1 for y.
      side: Length of the side in pixels.

    Returns:
      float32 [..., 2].

    >>> mirror_points(jnp.array([[1.0, 2.0]]), 0, 10).tolist()
    [[9.0, 2.0]]
    """
    return points.at[..., axis].set(side - points[..., axis])


@ops.register(evaluation="")
def rotate90(turns=(0, 1, 2, 3)) -> Operation:
    """Turns each image counter-clockwise by a number of right angles, each of `turns` equally likely.

    Args:
      turns: Numbers of right angles, from 0 to 3; only 0 and 2 for images that are not square.

    Raises:
      UserError: If `turns` is something else. When called, if images are not square and a turn is 1 or 3.
    """
    whole = isinstance(turns, (tuple, list)) and all(is_whole(turn, least=0) and turn < 4 for turn in turns)
    if not whole or not turns:
        raise UserError(f"augmentation rotate90: turns must be a tuple of whole numbers from 0 to 3, not {turns!r}")
    quarters = any(turn % 2 for turn in turns)

    def draw(rng, size):
        h, w = size
        if quarters and h != w:
            raise UserError(f"augmentation rotate90: images of {h}x{w} pixels are not square, so use rotate90((0, 2))")
        n = jax.random.choice(rng, jnp.array(turns))

        def pixels(image):
            image = jnp.where(n % 2 == 1, jnp.rot90(image), image) if quarters else image
            return jnp.where(n >= 2, image[::-1, ::-1], image)

        def places(points):
            quarter = mirror_points(points[..., ::-1], 1, w)  # (x, y) -> (y, w - x)
            points = jnp.where(n % 2 == 1, quarter, points) if quarters else points
            return jnp.where(n >= 2, jnp.array([w, h]) - points, points)

        return exact_move(pixels, places)

    return geometric(draw, keeps_size=True)
