"""Filters over neighbouring pixels: blur and sharpness."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxvision.augment import pixels
from jaxvision.augment.operations import Operation, photometric
from jaxvision.augment.registry import check_interval, check_number, ops
from jaxvision.errors import UserError


@ops.register(evaluation="")
def gaussian_blur(sigma=(0.1, 2.0), kernel: int | float = 0.1, p: float = 1.0) -> Operation:
    """Blurs images by a Gaussian of random width (Chen et al. 2020, SimCLR, app. A, with p=0.5).

    The deviation is uniform in `sigma`, drawn for every image. The kernel is cut off at a fixed size and sums to one.
    Beyond the border the image is mirrored about its outermost pixels, as in torchvision; SimCLR's code adds black,
    which darkens the border.

    Args:
      sigma: Smallest and largest deviation in pixels, above 0.
      kernel: Size of the kernel, as a share of the shorter side in (0, 1), 0.1 in SimCLR, or as a whole number of
        pixels. An even size is rounded up, and it is at least 3.
      p: Probability that an image is changed.

    Raises:
      UserError: If an argument is out of range. When called, if the kernel is too wide for the image.
    """
    sigma = check_interval("gaussian_blur", "sigma", sigma, 0, float("inf"))
    check_number("gaussian_blur", "p", p, high=1)
    if not ((isinstance(kernel, int) and kernel >= 1) or (isinstance(kernel, float) and 0 < kernel < 1)):
        raise UserError(
            "augmentation gaussian_blur: kernel must be a share of the side in (0, 1) or a whole number of pixels, "
            f"not {kernel!r}"
        )

    def change(rng, image):
        shorter = min(image.shape[:2])
        radius = max(1, (kernel if isinstance(kernel, int) else int(kernel * shorter)) // 2)
        if radius >= shorter:
            raise UserError(f"augmentation gaussian_blur: kernel {kernel!r} is too wide for {shorter} pixels")
        sigma_key, p_key = jax.random.split(rng)
        deviation = jax.random.uniform(sigma_key, minval=sigma[0], maxval=sigma[1])
        return jnp.where(jax.random.bernoulli(p_key, p), blur(image, deviation, radius), image)

    return photometric(change)


def blur(image: jax.Array, sigma: ArrayLike, radius: int) -> jax.Array:
    """Blurs one image by a Gaussian that is cut off `radius` pixels from its middle.

    Args:
      image: Image, float32 [h, w, c], with both sides longer than `radius`.
      sigma: Deviation in pixels, [], above 0; may be traced.
      radius: Radius of the kernel in pixels; its size is `2 radius + 1`.

    Returns:
      float32 [h, w, c].
    """
    weights = jnp.exp(-0.5 * (jnp.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    h, w, _ = image.shape
    # Shifted sums, one axis at a time: XLA's CPU backend runs them several times faster than a grouped convolution.
    image = jnp.pad(image, ((radius, radius), (0, 0), (0, 0)), "reflect")
    image = sum(weight * image[i : i + h] for i, weight in enumerate(weights))
    image = jnp.pad(image, ((0, 0), (radius, radius), (0, 0)), "reflect")
    return sum(weight * image[:, i : i + w] for i, weight in enumerate(weights))


@ops.register(evaluation="")
def sharpness(factor=(0.1, 1.9), p: float = 1.0) -> Operation:
    """Smooths or sharpens images by a factor uniform in the interval, as Pillow's `ImageEnhance.Sharpness`.

    Args:
      factor: Smallest and largest factor. 0 is the image smoothed by a 3x3 filter, 1 is the image, and more is sharper.
      p: Probability that an image is changed.
    """
    low, high = check_interval("sharpness", "factor", factor, 0, float("inf"), closed=True)
    check_number("sharpness", "p", p, high=1)

    def change(rng, image):
        factor_key, p_key = jax.random.split(rng)
        strength = jax.random.uniform(factor_key, minval=low, maxval=high)
        return jnp.where(jax.random.bernoulli(p_key, p), pixels.sharpness(image, strength), image)

    return photometric(change)
