"""RandAugment: random operations of one common magnitude (Cubuk et al. 2020, arXiv 1909.13719)."""

import jax
import jax.numpy as jnp

from jaxvision.augment import policy
from jaxvision.augment.operations import Operation, geometric
from jaxvision.augment.policy import no_strength, signed_strength
from jaxvision.augment.registry import MAX_TIMES, check_number, ops
from jaxvision.errors import unknown


def _factor(m, sign):
    return 1 + 0.9 * m * sign


def _reference_factor(m, sign):
    return 0.1 + 1.8 * m


_GEOMETRIC = {
    "rotate": signed_strength(30.0),  # degrees
    "shear_x": signed_strength(0.3),
    "shear_y": signed_strength(0.3),
    "translate_x": signed_strength(0.45),  # of the image's width
    "translate_y": signed_strength(0.45),  # of its height
}

# For each variant its operations, and the strength of each at m = magnitude / 10 and a random sign.
VARIANTS = {
    "increasing": {
        "identity": no_strength,
        "autocontrast": no_strength,
        "equalize": no_strength,
        "solarize": lambda m, sign: 256 * (1 - m),
        "posterize": lambda m, sign: 8 - jnp.round(4 * m),
        "color": _factor,
        "contrast": _factor,
        "brightness": _factor,
        "sharpness": _factor,
        **_GEOMETRIC,
    },
    "reference": {
        "autocontrast": no_strength,
        "equalize": no_strength,
        "invert": no_strength,
        "solarize": lambda m, sign: jnp.floor(256 * m),
        "solarize_add": lambda m, sign: jnp.floor(110 * m),
        "posterize": lambda m, sign: jnp.minimum(jnp.floor(4 * m), 8),
        "color": _reference_factor,
        "contrast": _reference_factor,
        "brightness": _reference_factor,
        "sharpness": _reference_factor,
        "cutout": lambda m, sign: 80 / 224 * m,  # of the image's sides
        **_GEOMETRIC,
    },
}

HIGHEST_MAGNITUDE = {"increasing": 10, "reference": 30}


@ops.register(evaluation="")
def randaugment(
    num_ops: int = 2, magnitude: float = 10, std: float = 0.0, p: float = 1.0, variant: str = "increasing"
) -> Operation:
    """Applies `num_ops` operations one after the other, drawn for every image with replacement.

    Two published sets of operations and ranges have this name:

    - "increasing": the paper's 14 operations. Magnitude 0 changes nothing (but autocontrast and equalize have no
      magnitude), and 10 is the end of AutoAugment's ranges: 30 degrees, shear 0.3, 0.45 of the side, factors 1 +- 0.9,
      4 bits, threshold 0. torchvision's magnitude M (of 30) is M / 3 here. timm's `rand-m9-mstd0.5-inc1` is
      `randaugment(2, 9, std=0.5, p=0.5)`, except for invert, solarize_add and the rounding of bits.
    - "reference": the 16 operations and ranges of the paper's code, which big_vision's ViT recipes share. Here not
      every operation gets stronger with the magnitude: at 10, factors are 1.9 and solarize does nothing; at 5, factors
      are 1. Translation and cutout are shares of the side instead of pixels of 224. Contrast uses the true mean luma,
      which the paper's code miscounts.

    Pixels that move into view are grey (128), sampling is nearest-neighbour, and shears keep the top left corner in
    place, as in the paper's code. Under jit every operation is computed for every image, and one result is kept.

    Args:
      num_ops: Number of operations, at least 0; N in the paper.
      magnitude: Magnitude in [0, 10], or [0, 30] for "reference"; M in the paper.
      std: Deviation of the magnitude, which is drawn for each operation and clipped to the range.
      p: Probability that a drawn operation is applied.
      variant: Set of operations, "increasing" or "reference".

    Raises:
      UserError: If an argument is out of range, or `variant` is unknown.
    """
    if variant not in VARIANTS:
        raise unknown("variant of randaugment", variant, VARIANTS)
    highest = HIGHEST_MAGNITUDE[variant]
    check_number("randaugment", "num_ops", num_ops, high=MAX_TIMES, kind=int)
    check_number("randaugment", "magnitude", magnitude, high=highest)
    check_number("randaugment", "std", std)
    check_number("randaugment", "p", p, high=1)
    strengths = VARIANTS[variant]

    def draw(rng, size):
        moves = []
        for key in jax.random.split(rng, num_ops):
            op_key, sign_key, magnitude_key, p_key, place_key = jax.random.split(key, 5)
            index = jax.random.randint(op_key, (), 0, len(strengths))
            sign = jax.random.rademacher(sign_key, (), jnp.float32)
            m = jnp.clip(magnitude + std * jax.random.normal(magnitude_key), 0, highest) / 10
            strength = policy.strength_of(strengths, index, m, sign)
            applied = jax.random.bernoulli(p_key, p)
            moves.append(policy.make_move(tuple(strengths), index, strength, place_key, size, applied=applied))
        return moves

    return geometric(draw, keeps_size=True)
