"""The views of an image, as the tasks that compare them read a batch."""

from collections.abc import Mapping

import jax

from jaxvision.errors import UserError
from jaxvision.fields import Field
from jaxvision.tasks.task import Batch


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


def as_examples(images: jax.Array) -> jax.Array:
    """Puts all views of all images into one batch: [b, v, h, w, 3] -> [b * v, h, w, 3], the views of an image together.

    Args:
      images: Views of images.
    """
    return images.reshape(-1, *images.shape[2:])
