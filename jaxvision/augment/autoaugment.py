"""AutoAugment: searched pairs of operations (Cubuk et al. 2019, arXiv 1805.09501)."""

import jax
import jax.numpy as jnp

from jaxvision.augment import policy
from jaxvision.augment.operations import Operation, geometric
from jaxvision.augment.policy import no_strength
from jaxvision.augment.randaugment import VARIANTS
from jaxvision.augment.registry import check_number, ops
from jaxvision.errors import unknown

STRENGTHS = {**VARIANTS["increasing"], "invert": no_strength}

# The 25 sub-policies of the appendix (tables 7, 8 and 9), one a line: two times operation, probability in tenths, and
# magnitude from 0 to 9 where the operation has one.
POLICIES = {
    "cifar10": """
        invert 1        + contrast 2 6
        rotate 7 2      + translate_x 3 9
        sharpness 8 1   + sharpness 9 3
        shear_y 5 8     + translate_y 7 9
        autocontrast 5  + equalize 9
        shear_y 2 7     + posterize 3 7
        color 4 3       + brightness 6 7
        sharpness 3 9   + brightness 7 9
        equalize 6      + equalize 5
        contrast 6 7    + sharpness 6 5
        color 7 7       + translate_x 5 8
        equalize 3      + autocontrast 4
        translate_y 4 3 + sharpness 2 6
        brightness 9 6  + color 2 8
        solarize 5 2    + invert 0
        equalize 2      + autocontrast 6
        equalize 2      + equalize 6
        color 9 9       + equalize 6
        autocontrast 8  + solarize 2 8
        brightness 1 3  + color 7 0
        solarize 4 5    + autocontrast 9
        translate_y 9 9 + translate_y 7 9
        autocontrast 9  + solarize 8 3
        equalize 8      + invert 1
        translate_y 7 9 + autocontrast 9
    """,
    "svhn": """
        shear_x 9 4  + invert 2
        shear_y 9 8  + invert 7
        equalize 6   + solarize 6 6
        invert 9     + equalize 6
        equalize 6   + rotate 9 3
        shear_x 9 4  + autocontrast 8
        shear_y 9 8  + invert 4
        shear_y 9 5  + solarize 2 6
        invert 9     + autocontrast 8
        equalize 6   + rotate 9 3
        shear_x 9 4  + solarize 3 3
        shear_y 8 8  + invert 7
        equalize 9   + translate_y 6 6
        invert 9     + equalize 6
        contrast 3 3 + rotate 8 4
        invert 8     + translate_y 0 2
        shear_y 7 6  + solarize 4 8
        invert 6     + rotate 8 4
        shear_y 3 7  + translate_x 9 3
        shear_x 1 6  + invert 6
        solarize 7 2 + translate_y 6 7
        shear_y 8 4  + invert 8
        shear_x 7 9  + translate_y 8 3
        shear_y 8 5  + autocontrast 7
        shear_x 7 2  + invert 1
    """,
    "imagenet": """
        posterize 4 8 + rotate 6 9
        solarize 6 5  + autocontrast 6
        equalize 8    + equalize 6
        posterize 6 7 + posterize 6 6
        equalize 4    + solarize 2 4
        equalize 4    + rotate 8 8
        solarize 6 3  + equalize 6
        posterize 8 5 + equalize 10
        rotate 2 3    + solarize 6 8
        equalize 6    + posterize 4 6
        rotate 8 8    + color 4 0
        rotate 4 9    + equalize 6
        equalize 0    + equalize 8
        invert 6      + equalize 10
        color 6 4     + contrast 10 8
        rotate 8 8    + color 10 2
        color 8 8     + solarize 8 7
        sharpness 4 7 + invert 6
        shear_x 6 5   + equalize 10
        color 4 0     + equalize 6
        equalize 4    + solarize 2 4
        solarize 6 5  + autocontrast 6
        invert 6      + equalize 10
        color 6 4     + contrast 10 8
        equalize 8    + equalize 6
    """,
}


def sub_policies(name: str) -> list[tuple[tuple[str, float, int], ...]]:
    """Parses the sub-policies of a policy.

    Args:
      name: Name of the policy, one of `POLICIES`.

    Returns:
      25 pairs of (operation, probability, magnitude); the magnitude is 0 for operations without one.

    >>> sub_policies("cifar10")[0]
    (('invert', 0.1, 0), ('contrast', 0.2, 6))
    """

    def operation(text: str) -> tuple[str, float, int]:
        name, tenths, magnitude = (text.split() + ["0"])[:3]
        return name, int(tenths) / 10, int(magnitude)

    return [tuple(map(operation, line.split("+"))) for line in POLICIES[name].strip().splitlines()]


@ops.register(evaluation="")
def autoaugment(name: str = "imagenet", fill: int = 128) -> Operation:
    """Applies one of 25 pairs of operations, drawn uniformly for every image, each operation with its probability.

    Magnitudes 0 to 9 are nine equal steps from no change to the end of the range in table 6, with a random sign if the
    range has two sides, as torchvision reads the table: rotate 30 degrees, shear 0.3, translate 0.45 of the side,
    factors 1 +- 0.9, posterize 8 to 4 bits, solarize threshold 256 to 0 (255 in torchvision). The authors' code for
    CIFAR counts the magnitude in tenths and has factors from 0.1 to 1.9 without a sign. Sampling is nearest-neighbour,
    and shears keep the top left corner in place.

    The paper's CIFAR recipe is `random_crop(32, 4)|flip_lr|autoaugment('cifar10')|normalize|cutout(16)`.

    Args:
      name: Name of the policy, after the set that it was searched on: "imagenet", "cifar10" or "svhn".
      fill: Grey level, 0 to 255, of pixels that move into view; 128 as in the authors' code for ImageNet (torchvision:
        0).

    Raises:
      UserError: If there is no such policy, or `fill` is out of range.
    """
    if name not in POLICIES:
        raise unknown("policy of autoaugment", name, POLICIES)
    check_number("autoaugment", "fill", fill, high=255)
    steps = []  # for the first operation and the second: names in use, then index, probability and magnitude [25]
    for operations in zip(*sub_policies(name)):
        drawn, probabilities, magnitudes = zip(*operations)
        names = tuple(dict.fromkeys(drawn))
        steps.append((names, [names.index(name) for name in drawn], probabilities, magnitudes))

    def draw(rng, size):
        moves = []
        choice_key, rng = jax.random.split(rng)
        choice = jax.random.randint(choice_key, (), 0, 25)
        for key, (names, indices, probabilities, magnitudes) in zip(jax.random.split(rng, len(steps)), steps):
            sign_key, p_key, place_key = jax.random.split(key, 3)
            sign = jax.random.rademacher(sign_key, (), jnp.float32)
            index, m = jnp.array(indices)[choice], jnp.array(magnitudes)[choice] / 9
            strength = policy.strength_of({name: STRENGTHS[name] for name in names}, index, m, sign)
            applied = jax.random.bernoulli(p_key, jnp.array(probabilities)[choice])
            moves.append(policy.make_move(names, index, strength, place_key, size, fill / 255, applied=applied))
        return moves

    return geometric(draw, keeps_size=True)
