"""AugMix: a blend of several randomly distorted copies (Hendrycks et al. 2020, arXiv 1912.02781)."""

import jax
import jax.numpy as jnp

from jaxvision.augment import policy
from jaxvision.augment.operations import Operation, image_only
from jaxvision.augment.policy import no_strength, signed_strength
from jaxvision.augment.registry import MAX_TIMES, check_number, ops

MAX_DEPTH = 3

# Strengths at m = level / 10.
STRENGTHS = {
    "autocontrast": no_strength,
    "equalize": no_strength,
    "posterize": lambda m, sign: 4 - jnp.floor(4 * m),
    "rotate": lambda m, sign: jnp.floor(30 * m) * sign,
    "solarize": lambda m, sign: 256 - jnp.floor(256 * m),
    "shear_x": signed_strength(0.3),
    "shear_y": signed_strength(0.3),
    "translate_x": signed_strength(1 / 3),  # of the image's width
    "translate_y": signed_strength(1 / 3),  # of its height
}

# Left out by default, as they are among the corruptions of ImageNet-C and CIFAR-10-C.
COLOR_OPS = dict.fromkeys(("color", "contrast", "brightness", "sharpness"), lambda m, sign: 0.1 + 1.8 * m)


@ops.register(evaluation="")
def augmix(severity: float = 3, width: int = 3, depth: int = 0, alpha: float = 1.0, all_ops: bool = False) -> Operation:
    """Blends every image with a mixture of `width` distorted copies of it (alg. 1 of the paper).

    Each copy goes through a chain of `depth` operations, drawn with replacement, each at a level uniform in
    [0.1, severity]. The copies are mixed with weights from Dirichlet(alpha), and the mixture is blended with the image:
    `(1 - w) * image + w * mixture` with w ~ Beta(alpha, alpha). The paper's consistency loss between two such views is
    not part of this operation.

    At level L, with l = L / 10: rotate 30 l degrees, shear 0.3 l, translate l / 3 of the side, posterize 4 - 4 l bits,
    solarize from 256 - 256 l, and with `all_ops` factors of 0.1 + 1.8 l; autocontrast and equalize have no level.
    Ranges, rounding and linear sampling follow the authors' code, except that translations are not rounded to whole
    pixels. Pixels that move into view are black.

    Args:
      severity: Highest level, in [0.1, 10]; 3 for CIFAR and 1 for ImageNet in the authors' code.
      width: Number of copies, at least 1.
      depth: Number of operations in a chain; 0 draws 1, 2 or 3 for every copy.
      alpha: Parameter of the Dirichlet and Beta distributions, above 0.
      all_ops: True to add color, contrast, brightness and sharpness, which ImageNet-C and CIFAR-10-C test.
    """
    check_number("augmix", "severity", severity, low=0.1, high=10)
    check_number("augmix", "width", width, low=1, high=MAX_TIMES, kind=int)
    check_number("augmix", "depth", depth, high=MAX_TIMES, kind=int)
    check_number("augmix", "alpha", alpha, low=1e-3)
    strengths = {**STRENGTHS, **COLOR_OPS} if all_ops else STRENGTHS
    names = tuple(strengths)

    def chain(rng, image):
        depth_key, rng = jax.random.split(rng)
        length = depth or jax.random.randint(depth_key, (), 1, MAX_DEPTH + 1)

        def step(image, position_and_key):
            position, key = position_and_key
            op_key, sign_key, level_key, place_key = jax.random.split(key, 4)
            index = jax.random.randint(op_key, (), 0, len(names))
            sign = jax.random.rademacher(sign_key, (), jnp.float32)
            level = jax.random.uniform(level_key, minval=0.1, maxval=severity)
            strength = policy.strength_of(strengths, index, level / 10, sign)
            changed = policy.apply_operation(names, index, strength, place_key, image, 0.0, "linear")
            return jnp.where(position < length, changed, image), None

        steps = depth or MAX_DEPTH
        # A scan: unrolled, the operations would be compiled once for every step.
        return jax.lax.scan(step, image, (jnp.arange(steps), jax.random.split(rng, steps)))[0]

    def mixed(rng, image):
        chain_key, weights_key, blend_key = jax.random.split(rng, 3)
        copies = jax.vmap(chain, in_axes=(0, None))(jax.random.split(chain_key, width), image)
        weights = jax.random.dirichlet(weights_key, jnp.full(width, float(alpha)))
        blend = jax.random.beta(blend_key, alpha, alpha)
        return jnp.clip((1 - blend) * image + blend * jnp.tensordot(weights, copies, 1), 0, 1)

    return image_only(mixed, "it blends copies of an image that are moved differently")
