"""Moves by parts of a pixel: rotation, translation, shear, scale and the distortion of lenses.

All operations act about the image's centre. They sample the input at the place that each output pixel shows, with
`method` "linear" or "nearest". Pixels that move into view get the value `fill`; 0 is black before `normalize` and the
mean colour after it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxvision.augment.affine import affine_matrices, centred_grid, sample, warp_move
from jaxvision.augment.moves import Move, move_if
from jaxvision.augment.operations import Operation, geometric
from jaxvision.augment.registry import check_interval, check_number, check_per_channel, ops
from jaxvision.errors import UserError, unknown

METHODS = ("nearest", "linear")


@ops.register(evaluation="")
def rotate(degrees: float, fill=0.0, method: str = "linear", p: float = 1.0) -> Operation:
    """Turns each image by an angle uniform in [-degrees, degrees].

    The size stays, so corners are cut off. For right angles, which need no interpolation, use `rotate90`.

    Args:
      degrees: Largest angle in degrees, from 0 to 180. Positive angles turn counter-clockwise.
      fill: Value of pixels that move into view, a number or three numbers in the range of the images.
      method: Interpolation, "linear" or "nearest".
      p: Probability that an image is changed.
    """
    check_number("rotate", "degrees", degrees, high=180)

    def draw(rng, h, w):
        angle = jax.random.uniform(rng, minval=-degrees, maxval=degrees)
        return affine_matrices(angle, h, w)["rotate"]

    return _affine("rotate", draw, fill, method, p)


@ops.register(evaluation="")
def translate(x: float = 0.1, y: float = 0.1, fill=0.0, method: str = "linear", p: float = 1.0) -> Operation:
    """Moves each image by a share of its width uniform in [-x, x], and of its height uniform in [-y, y].

    Moves are not rounded to whole pixels, except by the method "nearest".

    Args:
      x, y: Largest shares of width and height, in [0, 1].
      fill: Value of pixels that move into view, a number or three numbers in the range of the images.
      method: Interpolation, "linear" or "nearest".
      p: Probability that an image is changed.
    """
    check_number("translate", "x", x, high=1)
    check_number("translate", "y", y, high=1)

    def draw(rng, h, w):
        right, down = jax.random.uniform(rng, (2,), minval=-1) * jnp.array([x * w, y * h])
        return 1.0, 0.0, -right, 0.0, 1.0, -down

    return _affine("translate", draw, fill, method, p)


@ops.register(evaluation="")
def shear(x: float = 0.3, y: float = 0.0, fill=0.0, method: str = "linear", p: float = 1.0) -> Operation:
    """Slants each image: first each row by `a` pixels more than the row above, then each column by `b` pixels.

    `a` is uniform in [-x, x] and `b` in [-y, y]; 1 is a slant of 45 degrees.

    Args:
      x, y: Largest slants, at least 0.
      fill: Value of pixels that move into view, a number or three numbers in the range of the images.
      method: Interpolation, "linear" or "nearest".
      p: Probability that an image is changed.
    """
    check_number("shear", "x", x)
    check_number("shear", "y", y)

    def draw(rng, h, w):
        a, b = jax.random.uniform(rng, (2,), minval=-1) * jnp.array([x, y])
        return 1 + a * b, -a, 0.0, -b, 1.0, 0.0  # the inverse of (x, y) -> (x + a y, y), then (x, y) -> (x, y + b x)

    return _affine("shear", draw, fill, method, p)


@ops.register(evaluation="")
def scale(factor=(0.8, 1.25), fill=0.0, method: str = "linear", p: float = 1.0) -> Operation:
    """Enlarges each image (factor above 1) or shrinks it, without changing the size of the canvas.

    The logarithm of the factor is uniform over the interval. Shrinking takes single points of the input, so it aliases
    at factors below about 0.5, where `resize` is better.

    Args:
      factor: Smallest and largest factor, above 0.
      fill: Value of pixels that move into view, a number or three numbers in the range of the images.
      method: Interpolation, "linear" or "nearest".
      p: Probability that an image is changed.
    """
    low, high = check_interval("scale", "factor", factor, 0, float("inf"))

    def draw(rng, h, w):
        step = 1 / jnp.exp(jax.random.uniform(rng, minval=jnp.log(low), maxval=jnp.log(high)))
        return step, 0.0, 0.0, 0.0, step, 0.0

    return _affine("scale", draw, fill, method, p)


@ops.register(evaluation="")
def lens_distortion(k1=(-0.2, 0.2), k2=(0.0, 0.0), fill=0.0, method: str = "linear", p: float = 1.0) -> Operation:
    """Bends images as a lens does, by the radial part of the Brown-Conrady model.

    The output at radius r from the centre shows the input at `r (1 + k1 r^2 + k2 r^4)`, where r = 1 at the corners
    (Brown 1966, "Decentering distortion of lenses"; as augmentation in Wu et al. 2015, "Deep Image", sec. 3). Positive
    numbers bend lines outwards (barrel), so that `fill` is seen in the corners; negative ones bend them inwards
    (pincushion) and cut the border off.

    Args:
      k1, k2: Intervals (low, high) of the two coefficients, which are uniform in them. For their negative values
        `1 + 3 k1 + 5 k2` must be above 0, or the map folds the image over.
      fill: Value of pixels that move into view, a number or three numbers in the range of the images.
      method: Interpolation, "linear" or "nearest".
      p: Probability that an image is changed.

    Raises:
      UserError: If an argument is out of range, or the map folds the image over.
    """
    lowest = [check_interval("lens_distortion", name, k, -1, float("inf"))[0] for name, k in (("k1", k1), ("k2", k2))]
    if 1 + 3 * min(lowest[0], 0) + 5 * min(lowest[1], 0) <= 0:
        raise UserError(
            f"augmentation lens_distortion: k1={k1!r}, k2={k2!r} fold the image over; keep 1 + 3 k1 + 5 k2 above 0"
        )
    low, high = zip(k1, k2)
    fill, method = _checked("lens_distortion", fill, method, p)

    def draw_move(rng, size):
        k_key, p_key = jax.random.split(rng)
        k = jax.random.uniform(k_key, (2,), minval=jnp.array(low), maxval=jnp.array(high))
        move = Move(
            lambda image: bend(image, *k, jnp.array(fill), method),
            lambda values, new: bend(values, *k, new, "nearest"),
            lambda points: bend_points(points, *k, size),
        )
        return move_if(jax.random.bernoulli(p_key, p), move)

    return geometric(draw_move, keeps_size=True)


def bend(image: jax.Array, k1: ArrayLike, k2: ArrayLike, fill: ArrayLike, method: str = "linear") -> jax.Array:
    """Applies the map of `lens_distortion` to one image.

    Args:
      image: Image, float32 [h, w, c].
      k1, k2: Coefficients of the map, [].
      fill: Value of pixels that move into view, [] or [c].
      method: Interpolation, "linear" or "nearest".

    Returns:
      float32 [h, w, c].
    """
    h, w, _ = image.shape
    x, y = centred_grid(h, w)
    square = (x**2 + y**2) / ((h / 2) ** 2 + (w / 2) ** 2)
    factor = 1 + square * (k1 + square * k2)
    return sample(image, y * factor + h / 2, x * factor + w / 2, fill, method)


def bend_points(points: jax.Array, k1: ArrayLike, k2: ArrayLike, size: tuple[int, int]) -> jax.Array:
    """Computes where `bend` shows the points of an image.

    A point at radius R is shown at the radius r that solves r (1 + k1 r^2 + k2 r^4) = R, which is found by bisection.
    Beyond r = 1, outside the image, the map continues as a straight line, so that it never folds.

    Args:
      points: Points (x, y) in pixels from the top left corner, float32 [..., 2].
      k1, k2: Coefficients of the map, [].
      size: (height, width) of the image.

    Returns:
      Points in the result, float32 [..., 2].

    >>> bend_points(jnp.array([[2.0, 2.0]]), 0.1, 0.0, (4, 4)).tolist()  # the centre stays
    [[2.0, 2.0]]
    """
    middle = jnp.array([size[1] / 2, size[0] / 2])
    wanted = jnp.sqrt(jnp.sum((points - middle) ** 2, axis=-1) / jnp.sum(middle**2))  # R
    at_1, slope_at_1 = 1 + k1 + k2, 1 + 3 * k1 + 5 * k2

    def nearer(_, bounds):
        low, high = bounds
        r = (low + high) / 2
        reached = r * (1 + r**2 * (k1 + r**2 * k2)) >= wanted
        return jnp.where(reached, low, r), jnp.where(reached, r, high)

    low, high = jax.lax.fori_loop(0, 24, nearer, (jnp.zeros_like(wanted), jnp.ones_like(wanted)))
    r = jnp.where(wanted > at_1, 1 + (wanted - at_1) / slope_at_1, (low + high) / 2)
    factor = jnp.where(wanted > 0, r / jnp.where(wanted > 0, wanted, 1), 1)
    return middle + (points - middle) * factor[..., None]


def _affine(name: str, draw: Callable, fill, method: str, p: float) -> Operation:
    """The operation that warps each image by the matrix `draw(rng, h, w)`, with probability `p`."""
    fill, method = _checked(name, fill, method, p)

    def draw_move(rng, size):
        matrix_key, p_key = jax.random.split(rng)
        move = warp_move(draw(matrix_key, *size), size, jnp.array(fill), method)
        return move_if(jax.random.bernoulli(p_key, p), move)

    return geometric(draw_move, keeps_size=True)


def _checked(name: str, fill, method: str, p: float) -> tuple[tuple, str]:
    check_number(name, "p", p, high=1)
    if method not in METHODS:
        raise unknown(f"method of {name}", method, METHODS)
    return check_per_channel(name, "fill", fill), method
