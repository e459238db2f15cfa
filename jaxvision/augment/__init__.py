"""Augmentation on the device: pure functions `(rng, batch) -> batch`, run inside the jitted step.

A chain is written as a spec, `"random_crop(32, 4)|flip_lr|mixup(0.2)|normalize(0.5, 0.5)"`. The files of this
folder are found by walking it; what is decorated with `@ops.register()` is an operation:

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

What lies in an image moves with it: segmentations by nearest neighbour, boxes and points by the same map. What an
operation does with the fields of a batch is declared by what its factory returns:

  operations.py the kinds of operations, chains of them, and how they are bound to the fields of a batch
  moves.py      the move of one image and of what lies in it: clipping, and boxes that are dropped
  placed.py     placed: the options of that
"""

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp

from jaxvision.augment.moves import Move, exact_move
from jaxvision.augment.operations import Operation, Scene, chain, fixed, geometric, image_only, mixing, photometric
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
    """What a spec describes: `augmentation(rng, batch) -> batch`, to be traced by jit.

    Attributes:
      fields: Fields of the batches that come out, by name.
    """

    def __init__(self, apply: Callable, images: Sequence[str], fields: Mapping[str, Field], statistics: Mapping):
        self.fields = fields
        self._apply, self._images, self._statistics = apply, images, statistics

    def __call__(self, rng, batch):
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
      spec: operations joined by `|`, applied from left to right. Empty: images become floats, no more.
      num_classes: K of the labels whose field does not say it, needed where the spec mixes labels.
      statistics: arrays by name, at least those of `needs_statistics(spec)`. Operations find them in
        `batch["statistics"]`, which is not part of the result.
      fields: Fields of the batches, by name. By default an image [H, W, 3] and a label. A batch may lack some, as that
        of photos without labels does; what is in a batch and not among them is handed through.

    Returns:
      `fn(rng, batch) -> batch`, to be traced by jit, with `fn.fields`, the fields that come out. Images are uint8
      [B, H, W, 3], or float32 in [0, 1] already; they come out as float32, in [0, 1] unless normalised. Labels are
      int32 [B] and stay so, or become float32 [B, K] where the spec mixes labels; labels that are float32 [B, K]
      already are taken as they are. Position i of the chain draws from `fold_in(rng, i)`.

    Raises:
      UserError: an unknown operation, bad arguments, a mixing operation without the number of classes, one
        that needs statistics without them, or one that does not go with a field.

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
    given = statistics or {}
    missing = sorted(name for name in needs_statistics(spec) if given.get(name) is None)
    if missing:
        raise UserError(f"the augmentation {spec!r} needs statistics of the training images: {', '.join(missing)}")
    fields = _complete(DEFAULT_FIELDS if fields is None else fields, num_classes)
    images = [name for name, field in fields.items() if field.kind == "image"]
    floats = {name: fields[name]._replace(dtype="float32") for name in images}
    apply, scene = operation.bind(spec, Scene({**fields, **floats}))
    return Augmentation(apply, images, scene.fields, given)


def _complete(fields: Mapping[str, Field], num_classes: int | None) -> dict[str, Field]:
    """The fields, each that lies in an image with the name of it, and labels with their number of classes."""
    images = [name for name, field in fields.items() if field.kind == "image" and field.of is None]
    found = {}
    for name, field in fields.items():
        if field.kind in PLACED and field.of is None and images:
            if len(images) > 1:
                raise UserError(
                    f"the field {name!r} ({field.kind}) does not say in which image it lies, {' or '.join(images)}: "
                    "its source has to say so (`of`)"
                )
            field = field._replace(of=images[0])
        if field.kind == "label" and field.of is None and field.classes is None:
            field = field._replace(classes=num_classes)
        found[name] = field
    return found


def evaluation(spec: str) -> str:
    """The spec with random operations dropped, or replaced by their deterministic counterparts.

    >>> evaluation("random_resized_crop(224)|flip_lr|randaugment(2, 10)|normalize(0.5, 0.5)")
    "resize(224, 'linear')|normalize(0.5, 0.5)"
    """
    return ops.evaluation(spec)
