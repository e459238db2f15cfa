"""The operations that automatic policies choose from, and their application to one image.

RandAugment, TrivialAugment, AutoAugment and AugMix draw operations of these names at random. Each has a table of
its own, name -> strength(m, sign): the strength of an operation at magnitude m and a random sign.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxvision.augment import pixels
from jaxvision.augment.affine import affine_matrices, warp, warp_move
from jaxvision.augment.erase import box_mask
from jaxvision.augment.moves import Move, move_if

GREY = 128 / 255

GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")

Strengths = Mapping[str, Callable]


def no_strength(m, sign):
    """For an operation without strength."""
    return jnp.zeros(())


def signed_strength(extreme: float) -> Callable:
    """A strength from 0 to `extreme`, in either direction."""
    return lambda m, sign: extreme * m * sign


def strength_of(strengths: Strengths, index, m, sign):
    """The strength of the `index`th operation of a table at magnitude `m`; all but the table may be traced."""
    return jnp.stack([jnp.asarray(strength(m, sign), jnp.float32) for strength in strengths.values()])[index]


def apply_operation(names: tuple[str, ...], index, strength, rng, image, fill: float = GREY, method: str = "nearest"):
    """Applies operation `names[index]` to one image.

    Geometric operations differ in six numbers only, so they share one gather. Under vmap every other one of `names`
    is computed for every image and one kept, so name no more than are needed.

    Args:
      names: operations to choose from.
      index: int32 scalar, may be traced.
      strength: float32 scalar. Degrees counter-clockwise (rotate), pixels a pixel (shear_x, shear_y), a share of the
        side (translate_x, translate_y: positive to the left and up; cutout), a factor (color, contrast, brightness,
        sharpness), bits (posterize), grey levels (solarize, solarize_add).
      rng: key, for the place of cutout.
      image: float32 [H, W, 3] in [0, 1].
      fill: what moves into view, and cutout's colour, in [0, 1].
      method: how geometric operations sample, "nearest" or "linear".

    Returns:
      float32 [H, W, 3] in [0, 1]. Shears hold the top left corner, as in Pillow.
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
    # One branch for all that `warp` has dealt with.
    branches = [unchanged, *(functions[name] for name in names if name in functions)]
    position = {name: i for i, name in enumerate(filter(functions.__contains__, names), start=1)}
    branch = jnp.array([position.get(name, 0) for name in names])[index]
    return jax.lax.switch(branch, branches, image, strength)


def make_move(
    names: tuple[str, ...],
    index,
    strength,
    rng,
    size: tuple[int, int],
    fill: float = GREY,
    method: str = "nearest",
    applied=True,
) -> Move:
    """`apply_operation` as the move of an image of `size`, (height, width), where `applied`, bool []; see there.

    What lies in the image follows the geometric operations. Colours and cutout leave it as it is.
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
    """The six numbers of `affine_matrices` of operation `names[index]`: those of none where it is not geometric."""
    matrices = affine_matrices(strength, h, w)
    return jnp.stack([jnp.stack(matrices.get(name, matrices["identity"])) for name in names])[index]
