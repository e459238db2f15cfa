"""Where pixels go, between pixels: rotation, translation, shear, scale and the distortion of lenses.

All act about the image's centre and sample the input at the place that each output pixel shows, with
`method` "linear" (the default) or "nearest". What moves into view is `fill`, a number or three numbers in
the range of the images: 0 is black before `normalize` and the mean colour after it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxvision.augment.affine import affine_matrices, centred_grid, sample, warp_move
from jaxvision.augment.moves import Move, move_if
from jaxvision.augment.operations import geometric
from jaxvision.augment.registry import check_interval, check_number, check_per_channel, ops
from jaxvision.errors import UserError, unknown

METHODS = ("nearest", "linear")


@ops.register(evaluation="")
def rotate(degrees: float, fill=0.0, method: str = "linear", p: float = 1.0):
    """Turns each image by an angle uniform in [-degrees, degrees], with probability `p`. Positive is counter-clockwise.

    The size stays, so corners are cut off. For right angles, which need no interpolation, see `rotate90`.
    """
    check_number("rotate", "degrees", degrees, high=180)

    def draw(rng, h, w):
        angle = jax.random.uniform(rng, minval=-degrees, maxval=degrees)
        return affine_matrices(angle, h, w)["rotate"]

    return _affine("rotate", draw, fill, method, p)


@ops.register(evaluation="")
def translate(x: float = 0.1, y: float = 0.1, fill=0.0, method: str = "linear", p: float = 1.0):
    """Moves each image by shares of its width uniform in [-x, x] and of its height in [-y, y], with probability `p`.

    Moves are by parts of a pixel too; "nearest" rounds them to whole ones.
    """
    check_number("translate", "x", x, high=1)
    check_number("translate", "y", y, high=1)

    def draw(rng, h, w):
        right, down = jax.random.uniform(rng, (2,), minval=-1) * jnp.array([x * w, y * h])
        return 1.0, 0.0, -right, 0.0, 1.0, -down

    return _affine("translate", draw, fill, method, p)


@ops.register(evaluation="")
def shear(x: float = 0.3, y: float = 0.0, fill=0.0, method: str = "linear", p: float = 1.0):
    """Slants each image, with probability `p`: rows move by `a` pixels a row, then columns by `b` pixels a column.

    `a` is uniform in [-x, x] and `b` in [-y, y]; 1 is a slant of 45 degrees.
    """
    check_number("shear", "x", x)
    check_number("shear", "y", y)

    def draw(rng, h, w):
        a, b = jax.random.uniform(rng, (2,), minval=-1) * jnp.array([x, y])
        return 1 + a * b, -a, 0.0, -b, 1.0, 0.0  # the inverse of (x, y) -> (x + a y, y), then (x, y) -> (x, y + b x)

    return _affine("shear", draw, fill, method, p)


@ops.register(evaluation="")
def scale(factor=(0.8, 1.25), fill=0.0, method: str = "linear", p: float = 1.0):
    """Enlarges each image (factor above 1) or shrinks it, the size of the canvas kept, with probability `p`.

    The logarithm of the factor is uniform over the interval. Shrinking takes single points of the
    input: below a factor of about 0.5 it aliases, and `resize` does better.

    Args:
      factor: smallest and largest, above 0.
      fill, method, p: as for the other warps.
    """
    low, high = check_interval("scale", "factor", factor, 0, float("inf"))

    def draw(rng, h, w):
        step = 1 / jnp.exp(jax.random.uniform(rng, minval=jnp.log(low), maxval=jnp.log(high)))
        return step, 0.0, 0.0, 0.0, step, 0.0

    return _affine("scale", draw, fill, method, p)


@ops.register(evaluation="")
def lens_distortion(k1=(-0.2, 0.2), k2=(0.0, 0.0), fill=0.0, method: str = "linear", p: float = 1.0):
    """Bends images as a lens does, by the radial part of the Brown-Conrady model, with probability `p`.

    The output at radius r from the centre shows the input at `r (1 + k1 r^2 + k2 r^4)`, where r = 1 at
    the corners (Brown 1966, "Decentering distortion of lenses"; as augmentation Wu et al. 2015, "Deep
    Image", sec. 3). Positive numbers bend lines outwards (barrel) and let `fill` into the corners;
    negative ones bend them inwards (pincushion) and cut the border off.

    Args:
      k1, k2: each uniform in such an interval (low, high), where `1 + 3 k1 + 5 k2` must stay above 0 for
        their negative values: beyond that the map folds the image over.
      fill, method, p: as for the other warps.
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


def bend(image, k1, k2, fill, method: str = "linear"):
    """The map of `lens_distortion` at given `k1` and `k2`, on one image, float32 [H, W, C]."""
    h, w, _ = image.shape
    x, y = centred_grid(h, w)
    square = (x**2 + y**2) / ((h / 2) ** 2 + (w / 2) ** 2)
    factor = 1 + square * (k1 + square * k2)
    return sample(image, y * factor + h / 2, x * factor + w / 2, fill, method)


def bend_points(points, k1, k2, size: tuple[int, int]):
    """Where `bend` shows points (x, y) of an image of `size` (height, width): float32 [..., 2].

    The radius r in the result of a point at radius R solves r (1 + k1 r^2 + k2 r^4) = R, by halving an interval. Beyond
    r = 1, which is outside the image, the map goes on as a straight line, so that it never folds.
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


def _affine(name: str, draw: Callable, fill, method: str, p: float) -> Callable:
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
