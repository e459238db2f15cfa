"""The views of an image, as the tasks that compare them read a batch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.fields import Field
from jaxvision.tasks.task import Batch, Variables, in_training

if TYPE_CHECKING:
    from flax import linen as nn


def views_of(task: str, batch: Batch, fields: Mapping[str, Field], exactly: int | None = None) -> jax.Array:
    """Returns the images [b, v, h, w, 3] of a batch.

    Args:
      task: Name of the task, for the message.
      batch: Batch as it comes from the augmentation.
      fields: Fields of the batch.
      exactly: Number of views that the task needs; None for two or more.

    Raises:
      UserError: If there are not as many views of each image.
    """
    images, views = batch["image"], fields["image"].views
    if images.ndim < 5 or min(views, images.shape[1]) < 2 or (exactly is not None and images.shape[1] != exactly):
        many = "several" if exactly is None else "two" if exactly == 2 else exactly
        raise UserError(
            f"the task {task!r} needs {many} views of each image, but the augmentation makes arrays of "
            f"{'x'.join(map(str, images.shape[1:]))}: set augment to \"views({exactly or 2}, '...')\""
        )
    return images


def single_view(task: str, batch: Batch) -> jax.Array:
    """Returns the images [b, h, w, 3] of a batch.

    Args:
      task: Name of the task, for the message.
      batch: Batch as it comes from the augmentation.

    Raises:
      UserError: If there are several views of each image.
    """
    images = batch["image"]
    if images.ndim != 4:
        raise UserError(
            f"the task {task!r} needs one view of each image, but the augmentation makes arrays of "
            f"{'x'.join(map(str, images.shape[1:]))}: take `views` out of augment"
        )
    return images


def as_examples(images: jax.Array) -> jax.Array:
    """Puts all views of all images into one batch: [b, v, h, w, 3] -> [b * v, h, w, 3], the views of an image together.

    Args:
      images: Views of images.
    """
    return images.reshape(-1, *images.shape[2:])


def crops_of(task: str, batch: Batch, fields: Mapping[str, Field]) -> tuple[jax.Array, ...]:
    """Returns the crops of a batch by size: large ones [b, v, h, w, 3] and, if there are any, small ones.

    The augmentation `multi_crop` makes both, `views` the large ones only. A network takes
    `tuple(map(as_examples, crops))` in one pass for each size (`models.heads.over_sizes`), and `by_image` puts its
    outputs in the order of the images.

    Args:
      task: Name of the task, for the message.
      batch: Batch as it comes from the augmentation.
      fields: Fields of the batch.

    Raises:
      UserError: If there are no two large crops of each image.
    """
    large = views_of(task, batch, fields)
    return (large, batch["local_image"]) if "local_image" in batch else (large,)


def by_image(rows: jax.Array, crops: tuple[jax.Array, ...]) -> jax.Array:
    """Puts the rows of all crops of an image together, the large crops first: [b * v + b * l, d] -> [b, v + l, d].

    Args:
      rows: Outputs for `tuple(map(as_examples, crops))`, one size after the other.
      crops: Crops by size, [b, v, h, w, 3] and [b, l, h', w', 3]; see `crops_of`.

    >>> by_image(jnp.arange(6.0)[:, None], (jnp.zeros((2, 1, 4, 4, 3)), jnp.zeros((2, 2, 2, 2, 3))))[..., 0].tolist()
    [[0.0, 2.0, 3.0], [1.0, 4.0, 5.0]]
    """
    parts, start = [], 0
    for b, v in (some.shape[:2] for some in crops):
        parts.append(rows[start : start + b * v].reshape(b, v, -1))
        start += b * v
    return jnp.concatenate(parts, axis=1)


def apart(module: "nn.Module", variables: Variables, batches: jax.Array, rng: jax.Array) -> tuple:
    """Applies a module to several batches as in training, each with the BatchNorm statistics of that batch alone.

    It is how the authors of a method see them who pass one view after the other through the network, or whose devices
    do not share their statistics. The running statistics are the mean of those after each batch.

    Args:
      module: Module, called as `module(images, train=True)`.
      variables: Variables of the module.
      batches: Images, float [m, b, h, w, 3].
      rng: Key of the dropout, which differs between the batches.

    Returns:
      The outputs of the module, arrays [m, b, ...], and its updated collections.
    """
    keys = jax.random.split(rng, len(batches))
    outputs, updates = jax.vmap(lambda images, key: in_training(module, variables, images, rng=key))(batches, keys)
    return outputs, jax.tree.map(lambda x: x.mean(0), updates)
