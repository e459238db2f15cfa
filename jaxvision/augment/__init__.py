"""Augmentation on the device: pure functions `(rng, batch) -> batch`, run inside the jitted step.

A chain of operations is written as a spec, `"random_crop(32, 4)|flip_lr|mixup(0.2)|normalize(0.5, 0.5)"`. Every
function in a file of this folder with the decorator `@ops.register()` is the factory of an operation:

  registry.py   the operations a spec may name, and the checks of their arguments
  flips.py      flip_lr, flip_ud, rotate90
  geometry.py   pad, resize, resize_short, central_crop, random_crop, random_resized_crop, random_short_side_crop
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

Segmentations, boxes and points move with their image: segmentations by nearest neighbour, boxes and points by the same
map. The object that a factory returns says what its operation does with the fields of a batch:

  operations.py the kinds of operations, chains of them, and how they are bound to the fields of a batch
  moves.py      the move of one image with its segmentations, boxes and points: clipping, and boxes that are dropped
  placed.py     placed: the options of these moves
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxvision.augment.moves import Move, exact_move
from jaxvision.augment.operations import (
    Batch,
    Operation,
    Scene,
    chain,
    fixed,
    geometric,
    image_only,
    mixing,
    photometric,
)
from jaxvision.augment.registry import needs_statistics, ops
from jaxvision.errors import UserError
from jaxvision.fields import PLACED, Field

__all__ = [
    "Augmentation",
    "Move",
    "Operation",
    "Scene",
    "evaluation",
    "exact_move",
    "fixed",
    "geometric",
    "image_only",
    "make",
    "mixing",
    "needs_statistics",
    "ops",
    "photometric",
]

DEFAULT_FIELDS = {"image": Field("image", (None, None, 3), "uint8"), "label": Field("label", (), "int32")}


class Augmentation:
    """The function that a spec describes, `augmentation(rng, batch) -> batch`, to be traced by jit.

    Args:
      apply: Function `(rng, batch) -> batch` for batches with float images and an entry "statistics".
      images: Names of the fields that are images.
      fields: Fields of the resulting batches, by name.
      statistics: Statistics of the training images, by name.

    Attributes:
      fields: Fields of the resulting batches, by name.
    """

    def __init__(self, apply: Callable, images: Sequence[str], fields: Mapping[str, Field], statistics: Mapping):
        self.fields = fields
        self._apply, self._images, self._statistics = apply, images, statistics

    def __call__(self, rng: jax.Array, batch: Batch) -> Batch:
        """Applies the operations.

        Args:
          rng: Key of the step.
          batch: Batch, with images uint8 [b, h, w, 3] or float32 [b, h, w, 3] in [0, 1].
        """
        bytes_ = [name for name in self._images if name in batch and batch[name].dtype == jnp.uint8]
        floats = {name: batch[name].astype(jnp.float32) / 255 for name in bytes_}
        batch = self._apply(rng, {**batch, **floats, "statistics": self._statistics})
        return {field: value for field, value in batch.items() if field != "statistics"}


def make_augmentation(
    spec: str,
    num_classes: int | None = None,
    statistics: Mapping | None = None,
    fields: Mapping[str, Field] | None = None,
) -> Augmentation:
    """Builds the function that a spec describes.

    Args:
      spec: Operations joined by `|`, applied from left to right. An empty spec only makes images float.
      num_classes: Number of classes, k, of labels whose field does not say it; needed if the spec mixes labels.
      statistics: Statistics of the training images by name, at least those in `needs_statistics(spec)`. Operations read
        them from `batch["statistics"]`, which is not part of the result.
      fields: Fields of the batches by name; None for an image [h, w, 3] and a label. A batch may have less, such as
        photos without labels. Entries of a batch that are not among the fields pass through.

    Returns:
      Function `(rng, batch) -> batch`, to be traced by jit, with an attribute `fields`: the fields of the result.
      Images are uint8 [b, h, w, 3], or float32 in [0, 1]; they come out as float32, in [0, 1] unless normalised. Labels
      int32 [b] stay as they are, or become float32 [b, k] if the spec mixes labels, which may be float32 [b, k] from
      the start. Position i of the chain draws from `fold_in(rng, i)`.

    Raises:
      UserError: If an operation is unknown, has wrong arguments, or does not fit a field, or if the number of classes
        or statistics that it needs are missing.

    >>> import jax
    >>> augment = make_augmentation("flip_lr(1.0)|normalize(0.5, 0.5)")
    >>> batch = {"image": jnp.array([[[[0, 0, 0], [255, 255, 255]]]], jnp.uint8), "label": jnp.array([3])}
    >>> augment(jax.random.key(0), batch)["image"][0, 0, :, 0].tolist()
    [1.0, -1.0]
    >>> fields = DEFAULT_FIELDS | {"mask": Field("segmentation", (None, None), "uint8", of="image")}
    >>> make_augmentation("views(2, 'flip_lr')", fields=fields).fields["mask"].views
    2
    """
    operation = chain(spec)
    provided = statistics or {}
    missing = sorted(name for name in needs_statistics(spec) if provided.get(name) is None)
    if missing:
        raise UserError(f"the augmentation {spec!r} needs statistics of the training images: {', '.join(missing)}")
    fields = _complete(DEFAULT_FIELDS if fields is None else fields, num_classes)
    images = [name for name, field in fields.items() if field.kind == "image"]
    floats = {name: fields[name]._replace(dtype="float32") for name in images}
    apply, scene = operation.bind(spec, Scene({**fields, **floats}))
    return Augmentation(apply, images, scene.fields, provided)


def _complete(fields: Mapping[str, Field], num_classes: int | None) -> dict[str, Field]:
    """The fields, completed by the names of the images that they lie in, and the number of classes of labels."""
    images = [name for name, field in fields.items() if field.kind == "image" and field.of is None]
    completed = {}
    for name, field in fields.items():
        if field.kind in PLACED and field.of is None and images:
            if len(images) > 1:
                raise UserError(
                    f"the field {name!r} ({field.kind}) does not say in which image it lies, {' or '.join(images)}: "
                    "set `of` in the field of its source"
                )
            field = field._replace(of=images[0])
        if field.kind == "label" and field.of is None and field.classes is None:
            field = field._replace(classes=num_classes)
        completed[name] = field
    return completed


def evaluation(spec: str) -> str:
    """Drops the random operations of a spec, or replaces them by their deterministic counterparts.

    Args:
      spec: Spec of training.

    Returns:
      The spec for evaluation.

    >>> evaluation("random_resized_crop(224)|flip_lr|randaugment(2, 10)|normalize(0.5, 0.5)")
    "resize(224, 'linear')|normalize(0.5, 0.5)"
    """
    return ops.evaluation(spec)
