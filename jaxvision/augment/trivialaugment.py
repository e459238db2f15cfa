"""TrivialAugment: one operation of random strength (Müller and Hutter 2021, arXiv 2103.10158)."""

import jax
import jax.numpy as jnp

from jaxvision.augment import policy
from jaxvision.augment.operations import Operation, geometric
from jaxvision.augment.policy import no_strength
from jaxvision.augment.registry import check_number, ops
from jaxvision.errors import unknown

LEVELS = 31


def _space(degrees: float, shear: float, pixels: float, factors: tuple[float, float], bits: int) -> policy.Strengths:
    """The strengths of the 14 operations, from the mildest, m = 0, to the strongest, m = 1; translations in pixels."""

    def factor(m, sign):
        return factors[0] + (factors[1] - factors[0]) * m

    def shift(m, sign):
        return jnp.floor(pixels * m) * sign

    def sheared(m, sign):
        return shear * m * sign

    return {
        "identity": no_strength,
        "autocontrast": no_strength,
        "equalize": no_strength,
        "rotate": lambda m, sign: jnp.floor(degrees * m) * sign,
        "solarize": lambda m, sign: 256 - jnp.floor(256 * m),
        "posterize": lambda m, sign: 8 - jnp.floor((8 - bits) * m),
        "color": factor,
        "contrast": factor,
        "brightness": factor,
        "sharpness": factor,
        "shear_x": sheared,
        "shear_y": sheared,
        "translate_x": shift,
        "translate_y": shift,
    }


SPACES = {
    "ra": _space(degrees=30, shear=0.3, pixels=10, factors=(0.1, 1.9), bits=4),
    "wide": _space(degrees=135, shear=0.99, pixels=32, factors=(0.01, 2.0), bits=2),
}


@ops.register(evaluation="")
def trivialaugment(space: str = "wide", fill: int = 0) -> Operation:
    """Applies one operation to every image, with operation and strength drawn uniformly (alg. 1 and table 1).

    There is nothing to tune: the strength is one of 31 evenly spaced values over the operation's range.

    | operation | "ra" | "wide" |
    |---|---|---|
    | rotate | +-30 degrees | +-135 degrees |
    | shear_x, shear_y | +-0.3 | +-0.99 |
    | translate_x, translate_y | +-10 pixels | +-32 pixels |
    | color, contrast, brightness, sharpness | factor 0.1 to 1.9 | 0.01 to 2 |
    | posterize | 8 to 4 bits | 8 to 2 bits |
    | solarize | threshold 256 to 0 | 256 to 0 |
    | identity, autocontrast, equalize | | |

    Ranges, whole degrees and whole pixels follow the authors' code. Translations are in pixels for images of every
    size, as in that code and torchvision, so "wide" may move a 32-pixel image out of view. torchvision's
    `TrivialAugmentWide` has factors 1 +- 0.99 and rounds bits, which are rounded down here. Sampling is
    nearest-neighbour, and shears keep the top left corner in place.

    Args:
      space: Set of ranges, "wide" (TA (Wide), which the paper recommends) or "ra" (TA (RA), RandAugment's ranges).
      fill: Grey level, 0 to 255, of pixels that move into view; black in the authors' code.

    Raises:
      UserError: If `space` is unknown, or `fill` is out of range.
    """
    if space not in SPACES:
        raise unknown("space of trivialaugment", space, SPACES)
    check_number("trivialaugment", "fill", fill, high=255)
    strengths = SPACES[space]
    names = tuple(strengths)

    def draw(rng, size):
        op_key, sign_key, level_key, place_key = jax.random.split(rng, 4)
        index = jax.random.randint(op_key, (), 0, len(names))
        sign = jax.random.rademacher(sign_key, (), jnp.float32)
        level = jax.random.randint(level_key, (), 0, LEVELS)
        strength = policy.strength_of(strengths, index, level / (LEVELS - 1), sign)
        h, w = size
        side = jnp.array([{"translate_x": w, "translate_y": h}.get(name, 1) for name in names])[index]
        return policy.make_move(names, index, strength / side, place_key, size, fill / 255)

    return geometric(draw, keeps_size=True)
