"""Augmentation on the device: pure functions `(rng, batch) -> batch`, run inside the jitted step.

A chain is written as a spec, `"random_crop(32, 4)|flip_lr|mixup(0.2)|normalize(0.5, 0.5)"`:

  registry.py   the operations a spec may name, and the checks of their arguments
  geometry.py   flip_lr, resize, central_crop, random_crop, random_resized_crop
  pixels.py     the colour functions of Pillow, on one float image
  color.py      normalize, normalize_imagenet, color_jitter
  mix.py        mixup, cutmix, mixup_or_cutmix, cutout
  affine.py     affine maps of one image
  policy.py     randaugment

Operations change `image`, the mixing ones also `label`, and pass every other field through: masks
and boxes do not follow a geometric operation.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxvision import specs
from jaxvision.augment import color, geometry, mix, policy  # noqa: F401, each registers its operations
from jaxvision.augment.registry import ops
from jaxvision.errors import UserError

__all__ = ["evaluation", "make", "ops"]


def make(spec: str, num_classes: int | None = None) -> Callable:
    """Builds the function that a spec describes.

    Args:
      spec: operations joined by `|`, applied from left to right. Empty: images become floats, no more.
      num_classes: K, needed where the spec mixes labels.

    Returns:
      `fn(rng, batch) -> batch`, to be traced by jit. `batch["image"]` is uint8 [B, H, W, 3], or
      float32 in [0, 1] already; it comes out as float32, in [0, 1] unless normalised. `batch["label"]`
      is int32 [B] and stays so, or becomes float32 [B, K] where the spec mixes labels; labels that
      are float32 [B, K] already are taken as they are. Position i of the chain draws from
      `fold_in(rng, i)`.

    Raises:
      UserError: an unknown operation, bad arguments, or a mixing operation without `num_classes`.

    >>> augment = make("flip_lr(1.0)|normalize(0.5, 0.5)")
    >>> batch = {"image": jnp.array([[[[0, 0, 0], [255, 255, 255]]]], jnp.uint8), "label": jnp.array([3])}
    >>> augment(jax.random.key(0), batch)["image"][0, 0, :, 0].tolist()
    [1.0, -1.0]
    """
    chain = ops.build(spec)
    mixes = any(call.name in mix.MIXING for call in specs.parse(spec))
    if mixes and num_classes is None:
        raise UserError(f"the augmentation {spec!r} mixes labels, so it needs the number of classes")

    def augment(rng, batch):
        images = batch["image"]
        if images.dtype == jnp.uint8:
            batch = {**batch, "image": images.astype(jnp.float32) / 255}
        if mixes and jnp.issubdtype(batch["label"].dtype, jnp.integer):
            batch = {**batch, "label": jax.nn.one_hot(batch["label"], num_classes)}
        for position, op in enumerate(chain):
            batch = op(jax.random.fold_in(rng, position), batch)
        return batch

    return augment


def evaluation(spec: str) -> str:
    """The spec with random operations dropped, or replaced by their deterministic counterparts.

    >>> evaluation("random_resized_crop(224)|flip_lr|randaugment(2, 10)|normalize(0.5, 0.5)")
    "resize(224, 'linear')|normalize(0.5, 0.5)"
    """
    return ops.evaluation(spec)
