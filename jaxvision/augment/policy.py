"""The operations that automatic policies choose from, and their application to one image.

RandAugment, TrivialAugment, AutoAugment and AugMix draw operations by these names. Each policy has its own table, name
-> strength(m, sign): the strength of an operation at magnitude m with a random sign.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxvision.augment import pixels
from jaxvision.augment.affine import affine_matrices, warp, warp_move
from jaxvision.augment.erase import box_mask
from jaxvision.augment.moves import Move, move_if

GREY = 128 / 255

GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")

Strengths = Mapping[str, Callable]


def no_strength(m: ArrayLike, sign: ArrayLike) -> jax.Array:
    """Returns 0, as the strength of an operation without one.

    Args:
      m, sign: Magnitude and sign, []; not used.

    Returns:
      float32 [].
    """
    return jnp.zeros(())


def signed_strength(extreme: float) -> Callable:
    """Makes the function `(m, sign)` of a strength from 0 to `extreme` in either direction.

    Args:
      extreme: Strength at magnitude 1.

    >>> signed_strength(30.0)(0.5, -1)
    -15.0
    """
    return lambda m, sign: extreme * m * sign


def strength_of(strengths: Strengths, index: ArrayLike, m: ArrayLike, sign: ArrayLike) -> jax.Array:
    """Computes the strength of one operation of a table. All arguments but the table may be traced.

    Args:
      strengths: Table of the policy.
      index: Position of the operation in the table, int32 [].
      m: Magnitude, [], usually in [0, 1].
      sign: Sign, [], -1 or 1.

    Returns:
      float32 [].
    """
    return jnp.stack([jnp.asarray(strength(m, sign), jnp.float32) for strength in strengths.values()])[index]


def apply_operation(
    names: tuple[str, ...],
    index: ArrayLike,
    strength: ArrayLike,
    rng: jax.Array,
    image: jax.Array,
    fill: float = GREY,
    method: str = "nearest",
) -> jax.Array:
    """Applies operation `names[index]` to one image.

    Geometric operations differ in six numbers only, so they share one gather. Under vmap, all other operations in
    `names` are computed for every image and one result is kept, so pass only the names that are needed.

    Args:
      names: Names of the operations to choose from.
      index: Position of the operation in `names`, int32 []; may be traced.
      strength: Strength, float32 []: degrees counter-clockwise (rotate), shift in pixels from one row or column to the
        next (shear_x, shear_y), share of the side (translate_x, translate_y, positive to the left and up; cutout),
        factor (color, contrast, brightness, sharpness), bits (posterize), or grey levels (solarize, solarize_add).
      rng: Key for the place of cutout.
      image: Image, float32 [h, w, 3] in [0, 1].
      fill: Grey of pixels that move into view, and of cutout, in [0, 1].
      method: Interpolation of geometric operations, "nearest" or "linear".

    Returns:
      float32 [h, w, 3] in [0, 1]. Shears keep the top left corner in place, as in Pillow.
    """
    h, w, _ = image.shape
    if any(name in GEOMETRIC for name in names):
        image = warp(image, _matrix(names, index, strength, h, w), fill, method)

    def unchanged(image, strength):
        return image

    def cutout(image, strength):
        side = jnp.floor(strength * jnp.array([h, w])).astype(int)
        return jnp.where(box_mask(rng, (h, w), side[0], side[1])[..., None], fill, image)

    functions = {
        "autocontrast": lambda image, _: pixels.autocontrast(image),
        "equalize": lambda image, _: pixels.equalize(image),
        "invert": lambda image, _: pixels.invert(image),
        "solarize": pixels.solarize,
        "solarize_add": pixels.solarize_add,
        "posterize": pixels.posterize,
        "color": pixels.saturation,
        "contrast": pixels.contrast,
        "brightness": pixels.brightness,
        "sharpness": pixels.sharpness,
        "cutout": cutout,
    }
    # The first branch is for geometric operations, which `warp` has applied already.
    branches = [unchanged, *(functions[name] for name in names if name in functions)]
    position = {name: i for i, name in enumerate(filter(functions.__contains__, names), start=1)}
    branch = jnp.array([position.get(name, 0) for name in names])[index]
    return jax.lax.switch(branch, branches, image, strength)


def make_move(
    names: tuple[str, ...],
    index: ArrayLike,
    strength: ArrayLike,
    rng: jax.Array,
    size: tuple[int, int],
    fill: float = GREY,
    method: str = "nearest",
    applied: jax.Array | bool = True,
) -> Move:
    """Makes the move of `apply_operation`.

    Segmentations, boxes and points follow the geometric operations; changes of colour and cutout leave them as they
    are.

    Args:
      names, rng, fill, method: Arguments of `apply_operation`.
      index: Position of the operation in `names`, int32 [].
      strength: Strength of the operation, float32 [], see `apply_operation`.
      size: (height, width) of the image.
      applied: Condition of the move, bool []; without it nothing moves.
    """

    def stay(values, new=None):
        return values

    if any(name in GEOMETRIC for name in names):
        _, segmentation, points = warp_move(_matrix(names, index, strength, *size), size, fill, method)
    else:
        segmentation, points = stay, stay
    return move_if(
        applied,
        Move(lambda image: apply_operation(names, index, strength, rng, image, fill, method), segmentation, points),
    )


def _matrix(names: tuple[str, ...], index, strength, h: int, w: int):
    """The six numbers of `affine_matrices` for operation `names[index]`: the identity if it is not geometric."""
    matrices = affine_matrices(strength, h, w)
    return jnp.stack([jnp.stack(matrices.get(name, matrices["identity"])) for name in names])[index]
