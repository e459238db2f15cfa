"""Mixing pairs of images and their labels: mixup and cutmix.

Each image is mixed with the one before it in the batch. Batches are shuffled, so this is as random as a new
permutation; an image never meets itself (in a batch of two or more), and only one image moves from each device to the
next (tests/augment/test_augment_sharded.py). Several views of an example are mixed with the same views of the example
before, with the same weights.

Labels become float32 [b, k], the share of each class. Fields that cannot be mixed are refused when the chain is built:
boxes, points and tokens. Segmentations are refused by mixup; cutmix pastes their pixels like those of the image.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.augment.erase import box_mask
from jaxvision.augment.moves import has_channel
from jaxvision.augment.operations import Batch, BatchOp, Operation, Scene
from jaxvision.augment.registry import check_number, ops
from jaxvision.errors import UserError
from jaxvision.fields import Field

UNMIXED = ("boxes", "points", "tokens", "text")  # kinds of fields that cannot be mixed


@ops.register(evaluation="")
def mixup(alpha: float, per_example: bool = False) -> Operation:
    """Blends pairs of images and of labels: `lam * x_i + (1 - lam) * x_j` with lam ~ Beta(alpha, alpha).

    Zhang et al. 2018, eq. 1.

    Args:
      alpha: Parameter of the Beta distribution, at least 0; 0 mixes nothing.
      per_example: True to draw `lam` for every image. The paper's code draws it once for the batch.
    """
    check_number("mixup", "alpha", alpha)
    return mixing_operation(lambda mixed_fields: _blend(mixed_fields, alpha, per_example))


@ops.register(evaluation="")
def cutmix(alpha: float, per_example: bool = False) -> Operation:
    """Pastes a box of one image into another and mixes labels by the share of pixels (Yun et al. 2019, alg. 1).

    With lam ~ Beta(alpha, alpha), the box has the image's shape and 1 - lam of its area. Its centre is uniform over the
    image, and it is clipped to the image.

    Args:
      alpha: Parameter of the Beta distribution, at least 0; 0 mixes nothing.
      per_example: True to draw a box for every image. The paper's code draws it once for the batch.
    """
    check_number("cutmix", "alpha", alpha)
    return mixing_operation(lambda mixed_fields: _paste(mixed_fields, alpha, per_example), cuts=True)


@ops.register(evaluation="")
def mixup_or_cutmix(mixup_alpha: float = 0.8, cutmix_alpha: float = 1.0, switch: float = 0.5) -> Operation:
    """Applies cutmix or mixup, drawn once for the whole batch.

    This is the recipe of DeiT (Touvron et al. 2021, table 9) and of timm's `Mixup(mode="batch")`, with its defaults.
    timm pairs images with the reversed batch instead of the image before.

    Args:
      mixup_alpha: Argument `alpha` of mixup, at least 0.
      cutmix_alpha: Argument `alpha` of cutmix, at least 0.
      switch: Probability of cutmix.
    """
    check_number("mixup_or_cutmix", "mixup_alpha", mixup_alpha)
    check_number("mixup_or_cutmix", "cutmix_alpha", cutmix_alpha)
    check_number("mixup_or_cutmix", "switch", switch, high=1)

    def either(mixed_fields):
        blend, paste = _blend(mixed_fields, mixup_alpha, False), _paste(mixed_fields, cutmix_alpha, False)

        def op(rng, batch):
            switch_key, op_key = jax.random.split(rng)
            return jax.lax.cond(jax.random.bernoulli(switch_key, switch), paste, blend, op_key, batch)

        return op

    return mixing_operation(either)


class Mixed(NamedTuple):
    """The names of the fields that an operation mixes, with the fields of segmentations."""

    images: tuple[str, ...]
    labels: tuple[str, ...]
    segmentations: dict[str, Field]


def mixing_operation(make: Callable[[Mixed], BatchOp], cuts: bool = False) -> Operation:
    """Makes an operation that mixes the examples of a batch.

    Args:
      make: Function from the fields to mix to `(rng, batch) -> batch`, for batches whose labels are float32 [b, k].
      cuts: True if each pixel of the result comes from one image, so that segmentations can be mixed too.
    """

    def bind(call: str, scene: Scene) -> tuple[BatchOp, Scene]:
        mixed_fields = _fields_to_mix(call, scene, cuts)
        classes = {name: scene.fields[name].classes for name in mixed_fields.labels}
        op = make(mixed_fields)

        def mix(rng, batch):
            hard = [name for name in mixed_fields.labels if jnp.issubdtype(batch[name].dtype, jnp.integer)]
            return op(rng, {**batch, **{name: jax.nn.one_hot(batch[name], classes[name]) for name in hard}})

        soft = {name: scene.fields[name]._replace(shape=(k,), dtype="float32") for name, k in classes.items()}
        return mix, scene.with_fields(soft)

    return Operation(bind, mixes=True)


def _fields_to_mix(call: str, scene: Scene, cuts: bool) -> Mixed:
    """The fields of a scene to mix; raises UserError if a field cannot be mixed, or a label is missing."""
    images, fields = scene.images(call), scene.fields
    advice = lambda name: f"take {call} out of augment, or {name!r} out of data.fields"
    for name, field in fields.items():
        is_local = field.kind == "image" and field.of is not None  # local views, which have no label of their own
        if field.kind in UNMIXED or is_local or (field.kind == "segmentation" and not cuts):
            instead = "; cutmix mixes segmentations" if field.kind == "segmentation" else ""
            raise UserError(
                f"augmentation {call} cannot mix the field {name!r} ({field.kind}): {advice(name)}{instead}"
            )
    labels = {name: field for name, field in fields.items() if field.kind == "label" and field.of in (None, *images)}
    segmentations = {name: field for name, field in fields.items() if field.kind == "segmentation"}
    if not labels and not segmentations:
        raise UserError(
            f"augmentation {call} mixes labels with their images, and the fields are {', '.join(fields)}, none of them "
            f"a label: add the label to data.fields, or take {call} out of augment"
        )
    for name, field in labels.items():
        if np.dtype(field.dtype).kind in "iu" and field.shape:
            raise UserError(f"augmentation {call} cannot mix {name!r}, several labels of an image: {advice(name)}")
        if field.classes is None and np.dtype(field.dtype).kind in "iu":
            raise UserError(f"the augmentation {call} mixes labels, so it needs the number of classes of {name!r}")
    return Mixed(images, tuple(labels), segmentations)


def _blend(mixed_fields: Mixed, alpha: float, per_example: bool) -> BatchOp:
    def op(rng, batch):
        lam = _beta(rng, alpha, len(batch[mixed_fields.images[0]]) if per_example else 1)
        return _mix(batch, mixed_fields, lam[:, None, None, None], lam)

    return op


def _paste(mixed_fields: Mixed, alpha: float, per_example: bool) -> BatchOp:
    def op(rng, batch):
        lam_key, box_key = jax.random.split(rng)
        images = batch[mixed_fields.images[0]]
        lam = _beta(lam_key, alpha, len(images) if per_example else 1)
        return _mix(batch, mixed_fields, *_cutmix_weights(box_key, lam, images.shape[-3:-1]))

    return op


def _beta(rng, alpha: float, n: int):
    """Draws n values of Beta(alpha, alpha), ones where alpha is 0."""
    if not alpha:
        return jnp.ones(n)
    parameter = jnp.asarray(alpha, jnp.float32)  # may be traced
    positive = jnp.where(parameter > 0, parameter, 1.0)
    return jnp.where(parameter > 0, jax.random.beta(rng, positive, positive, (n,)), 1.0)


def _cutmix_weights(rng, lam, sides: tuple[int, int]):
    cut = jnp.sqrt(1 - lam)
    height, width = (cut * sides[0]).astype(int), (cut * sides[1]).astype(int)
    keys = jax.random.split(rng, len(lam))
    keep = ~jax.vmap(box_mask, in_axes=(0, None, 0, 0))(keys, sides, height, width)  # n h w
    return keep[..., None], keep.mean(axis=(1, 2))


def _mix(batch: Batch, mixed_fields: Mixed, weight, share) -> Batch:
    """Mixes images by `weight` [b or 1, h or 1, w or 1, 1] and labels by `share` [b or 1], the share of the first."""

    def mix(first, weight):
        return weight * first + (1 - weight) * jnp.roll(first, 1, axis=0)

    def over(values, weight):  # adds axes for views and frames after the axis of the batch
        return weight.reshape(len(weight), *(1,) * (values.ndim - weight.ndim), *weight.shape[1:])

    mixed = {name: mix(batch[name], over(batch[name], weight)) for name in mixed_fields.images}
    mixed |= {name: mix(batch[name], share[:, None]) for name in mixed_fields.labels}
    for name, field in mixed_fields.segmentations.items():
        if name in batch:
            keep = over(batch[name], weight if has_channel(field) else weight[..., 0])
            mixed[name] = jnp.where(keep, batch[name], jnp.roll(batch[name], 1, axis=0))
    return {**batch, **mixed}
