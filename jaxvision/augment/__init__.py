"""Augmentation on the device: pure functions `(rng, batch) -> batch`, run inside the jitted step.

A chain is written as a spec, `"random_crop(32, 4)|flip_lr|mixup(0.2)|normalize(0.5, 0.5)"`:

  registry.py   the operations a spec may name, and the checks of their arguments
  geometry.py   flip_lr, flip_ud, rotate90, pad, resize, resize_short, central_crop, random_crop,
                random_resized_crop, random_short_side_crop
  affine.py     affine maps of one image, and its values between pixels
  warps.py      rotate, translate, shear, scale, lens_distortion
  pixels.py     the colour functions of Pillow, on one float image
  color.py      normalize, normalize_imagenet, color_jitter, grayscale, solarize, posterize, equalize,
                autocontrast, invert
  filters.py    gaussian_blur, sharpness
  erase.py      cutout, random_erasing
  mix.py        mixup, cutmix, mixup_or_cutmix
  policy.py     the operations that policies draw, applied by number
  randaugment.py, trivialaugment.py, autoaugment.py, augmix.py, three_augment.py
                the policies, each the operation of its name
  standardize.py
                standardize, standardize_image, subtract_mean_image, pca_lighting, whiten
  views.py      views, multi_crop, five_crop, ten_crop, flip_both
  captions.py   pick_caption, shuffle_captions
  gallery.py    examples of each

Operations change `image`, the mixing ones also `label`, those of captions `tokens`, and pass every other field
through: masks and boxes do not follow a geometric operation. `multi_crop` adds a field, `local_image`.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxvision import specs
from jaxvision.augment import (  # noqa: F401, each registers its operations
    augmix,
    autoaugment,
    captions,
    color,
    erase,
    filters,
    geometry,
    mix,
    randaugment,
    standardize,
    three_augment,
    trivialaugment,
    views,
    warps,
)
from jaxvision.augment.registry import chain, needs_statistics, ops
from jaxvision.errors import UserError

__all__ = ["evaluation", "make", "needs_statistics", "ops"]


def make(spec: str, num_classes: int | None = None, statistics: Mapping | None = None) -> Callable:
    """Builds the function that a spec describes.

    Args:
      spec: operations joined by `|`, applied from left to right. Empty: images become floats, no more.
      num_classes: K, needed where the spec mixes labels.
      statistics: arrays by name, at least those of `needs_statistics(spec)`. Operations find them in
        `batch["statistics"]`, which is not part of the result.

    Returns:
      `fn(rng, batch) -> batch`, to be traced by jit. `batch["image"]` is uint8 [B, H, W, 3], or
      float32 in [0, 1] already; it comes out as float32, in [0, 1] unless normalised. `batch["label"]`
      is int32 [B] and stays so, or becomes float32 [B, K] where the spec mixes labels; labels that
      are float32 [B, K] already are taken as they are. Position i of the chain draws from
      `fold_in(rng, i)`.

    Raises:
      UserError: an unknown operation, bad arguments, a mixing operation without `num_classes`, or
        one that needs statistics without them.

    >>> augment = make("flip_lr(1.0)|normalize(0.5, 0.5)")
    >>> batch = {"image": jnp.array([[[[0, 0, 0], [255, 255, 255]]]], jnp.uint8), "label": jnp.array([3])}
    >>> augment(jax.random.key(0), batch)["image"][0, 0, :, 0].tolist()
    [1.0, -1.0]
    """
    apply = chain(spec)
    mixes = any(call.name in mix.MIXING for call in specs.parse(spec))
    if mixes and num_classes is None:
        raise UserError(f"the augmentation {spec!r} mixes labels, so it needs the number of classes")
    given = statistics or {}
    missing = sorted(name for name in needs_statistics(spec) if given.get(name) is None)
    if missing:
        raise UserError(f"the augmentation {spec!r} needs statistics of the training images: {', '.join(missing)}")

    def augment(rng, batch):
        images = batch["image"]
        if images.dtype == jnp.uint8:
            batch = {**batch, "image": images.astype(jnp.float32) / 255}
        if mixes and "label" in batch and jnp.issubdtype(batch["label"].dtype, jnp.integer):
            batch = {**batch, "label": jax.nn.one_hot(batch["label"], num_classes)}
        batch = apply(rng, {**batch, "statistics": given})
        return {field: value for field, value in batch.items() if field != "statistics"}

    return augment


def evaluation(spec: str) -> str:
    """The spec with random operations dropped, or replaced by their deterministic counterparts.

    >>> evaluation("random_resized_crop(224)|flip_lr|randaugment(2, 10)|normalize(0.5, 0.5)")
    "resize(224, 'linear')|normalize(0.5, 0.5)"
    """
    return ops.evaluation(spec)
