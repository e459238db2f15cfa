"""3-Augment: grayscale, solarize or blur (Touvron et al. 2022, DeiT III, arXiv 2204.07118)."""

import jax
import jax.numpy as jnp

from jaxvision.augment import pixels
from jaxvision.augment.filters import blur
from jaxvision.augment.operations import Operation, photometric
from jaxvision.augment.registry import check_interval, ops

THRESHOLD = 128  # of solarize: Pillow's default


@ops.register(evaluation="")
def three_augment(sigma=(0.1, 2.0)) -> Operation:
    """Makes each image grey, solarizes it from grey level 128, or blurs it, each equally likely (sec. 3.2).

    The paper's flip and colour jitter are separate operations. Its whole recipe for ImageNet-1k is
    `random_resized_crop(224, method='cubic')|flip_lr|three_augment|color_jitter(0.3, 0.3, 0.3)|normalize_imagenet`.
    The blur is a Gaussian that is cut off at three deviations; Pillow, which the authors use, approximates it by box
    filters.

    Args:
      sigma: Smallest and largest deviation of the blur in pixels, above 0; the deviation is uniform in between.
    """
    low, high = check_interval("three_augment", "sigma", sigma, 0, float("inf"))

    def grey(image, deviation):
        return jnp.broadcast_to(pixels.gray(image), image.shape)

    def solarized(image, deviation):
        return pixels.solarize(image, THRESHOLD)

    def blurred(image, deviation):
        return blur(image, deviation, min(int(3 * high + 1), min(image.shape[:2]) - 1))

    def change(rng, image):
        choice_key, sigma_key = jax.random.split(rng)
        choice = jax.random.randint(choice_key, (), 0, 3)
        deviation = jax.random.uniform(sigma_key, minval=low, maxval=high)
        return jax.lax.switch(choice, (grey, solarized, blurred), image, deviation)

    return photometric(change)
