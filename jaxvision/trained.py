"""A trained model as a function of images: their classes, and the features of any layer."""

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import paths
from jaxvision.commands import classifying, image_files, photos
from jaxvision.data import any_image
from jaxvision.data.decoding import BadImage
from jaxvision.errors import UserError, some, unknown
from jaxvision.evals import views
from jaxvision.predictions import Prediction, Predictions
from jaxvision.tasks.task import Variables

Outputs = Callable[[Variables, Any], dict[str, jax.Array]]
_IMAGES = (
    "give a path, a folder, a pattern such as 'photos/*.jpg', the bytes of a file, a PIL image, an array "
    "[height, width, 3] or [n, height, width, 3], or a list of these"
)


class Trained:
    """A trained model. Call it with images of any size: `model("photo.jpg").label`.

    Images are prepared as `jaxvision predict` does it: decoded, turned upright, resized and cropped by the host
    operations of the run, then normalised by its augmentation spec.

    Attributes:
      outputs: Pure function of variables and images, uint8 [b, h, w, 3] or float in [0, 1], of one size. It normalises
        the images as training did and returns the outputs of the task: "features" [b, d], "logits" [b, k], and more.
      variables: Variables, on the devices.
      classes: Names of the classes; empty if there are none.
      image_size: (height, width) of the images that it was trained on.
      opened: The model as the commands open it: its name, step, host spec and augmentation spec, ...
    """

    def __init__(self, opened: photos.Model):
        self.opened = opened
        self.variables, self.classes, self.image_size = opened.variables, opened.classes, opened.shape
        self.outputs = make_outputs(opened.task.outputs, opened.transform, opened.image)
        self._prepare = photos.make_preparation(opened)
        self._compiled: dict[Any, Any] = {}

    def __repr__(self) -> str:
        at = "" if self.opened.step is None else f", step {self.opened.step}"
        size = "x".join(map(str, self.image_size))
        return f"<{self.opened.section['name']} of {self.opened.name}{at}: images {size}, {len(self.classes)} classes>"

    def __call__(
        self,
        images: Any,
        *,
        labels: Sequence[str] | None = None,
        prompts: str | None = None,
        tokenizer: str | None = None,
        skip: bool = False,
    ) -> Any:
        """Returns the classes of images with their probabilities.

        Args:
          images: Path of an image file, bytes of one, PIL image, array or tensor; or several: a list of these, of any
            sizes, an array [n, h, w, c], a folder, or a pattern of files. See `data.any_image.to_stored`.
          labels: Classes in words, such as ["a cat", "a dog"], for a model of image and text.
          prompts: Texts to put `labels` into: a named set, a file, or "a photo of a {}."
          tokenizer: Host spec such as "tokenize('clip', path='...')", for weights that do not name their tokenizer.
          skip: True to leave out images that cannot be read, see `Predictions.left_out`; else they are an error.

        Returns:
          A `Prediction` of one image, or the `Predictions` of several.

        Raises:
          UserError: An image cannot be read or is in no known form, or the model has no classes.
        """
        if labels is None and (prompts or tokenizer):
            raise UserError("prompts and tokenizer need labels, which are missing: add labels=['a cat', 'a dog']")
        if isinstance(labels, str):
            labels = photos.split_words(labels)
        if labels is None and "logits" not in self.layers:
            raise UserError(
                f"{self.opened.name} holds a model without classes: model.features(images) gives its features; one of "
                "image and text takes labels=['a cat', 'a dog']"
            )
        key = ("logits", tuple(labels or ()), prompts, tokenizer)
        if key not in self._compiled:
            self._compiled[key] = classifying.make_classifier(self.opened, labels, prompts, tokenizer)
        classes, logits = self._compiled[key]
        rows, names, left_out, single = self._apply(images, key, logits, skip)
        if single:
            return Prediction(rows[0], classes, names[0])
        return Predictions(rows, classes, names, left_out)

    @functools.cached_property
    def layers(self) -> dict[str, tuple[int, ...]]:
        """Names of the outputs that `features` takes, with the shapes that they have for one image."""
        like = jax.ShapeDtypeStruct((1, *self.image_size, 3), jnp.uint8)
        outputs = jax.eval_shape(self._averaged, self.variables, like)
        return {name: x.shape[1:] for name, x in outputs.items() if hasattr(x, "shape") and x.shape[:1] == (1,)}

    def features(self, images: Any, layer: str = "features") -> np.ndarray:
        """Returns an output of the model for images.

        Args:
          images: One image or several, as in a call of the model.
          layer: Name of the output, one of `layers`.

        Returns:
          float32 [...] of one image, or [n, ...] of several, in their order; [d] or [n, d] for "features".

        Raises:
          UserError: The layer is unknown, or an image cannot be read.
        """
        if layer not in (known := self.layers):
            raise unknown("layer", layer, known)
        rows, _, _, single = self._apply(images, ("layer", layer), lambda out: out[layer], skip=False)
        return rows[0] if single else rows

    def _apply(
        self, images: Any, key: tuple, of_outputs: Callable, skip: bool
    ) -> tuple[np.ndarray, list[str], dict[str, str], bool]:
        """The rows [n, ...] of the images, their names, those left out, and whether it was one image."""
        given, single = several(images)
        run = self._jitted(("run", *key), of_outputs)
        rows, names, left_out = [], [], dict[str, str]()
        for part in _batches(self._prepared(given, left_out, skip and not single), photos.BATCH):
            size = 1 << (len(part) - 1).bit_length()  # few shapes are compiled
            pixels = np.zeros((size, *self.image_size, 3), np.uint8)
            pixels[: len(part)] = [image for _, image in part]
            rows.append(np.asarray(run(self.variables, pixels))[: len(part)])
            names += [name for name, _ in part]
        if not rows:
            why = _unreadable(left_out, len(given)) if left_out else f"there are none: {_IMAGES}"
            raise UserError(f"no images: {why}")
        return np.concatenate(rows), names, left_out, single

    def _prepared(
        self, images: Sequence[tuple[str, Any]], left_out: dict[str, str], skip: bool
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yields the images that can be read; without `skip` it raises an error at the end if there are others."""
        for name, image in images:
            try:
                prepared = self._prepare(any_image.to_stored(image))
            except (BadImage, OSError) as error:
                left_out[name] = getattr(error, "strerror", None) or str(error)
                continue
            if skip or not left_out:
                yield name, prepared
        if left_out and not skip:
            advice = ". Leave them out, as model(images, skip=True) does" if len(images) > 1 else ""
            raise UserError(_unreadable(left_out, len(images)) + advice)

    def _jitted(self, key: tuple, of_outputs: Callable) -> Callable:
        if key not in self._compiled:
            run = lambda variables, pixels: of_outputs(self._averaged(variables, pixels)).astype(jnp.float32)
            self._compiled[key] = jax.jit(run)
        return self._compiled[key]

    def _averaged(self, variables: Variables, pixels: jax.Array) -> dict[str, jax.Array]:
        """The outputs as `predict` computes them: averaged, if the augmentation spec makes several views."""
        model = self.opened
        batch = model.transform(jax.random.key(0), {model.image: pixels})
        return paths.flatten(views.averaged_outputs(model.task, variables, batch, model.transform.fields))


def _unreadable(reasons: Mapping[str, str], count: int) -> str:
    """Says which of a number of images cannot be read, and why."""
    if count == 1:
        return "; ".join(f"the image {name} cannot be read: {reason}" for name, reason in reasons.items())
    named = some((f"{name} ({reason})" for name, reason in reasons.items()), mark=";")
    return f"{len(reasons):,} of {count:,} images cannot be read: {named}"


def make_outputs(outputs: Callable, transform: Callable, image: str = "image") -> Outputs:
    """Returns the pure function of variables and images that prepares the images on the device.

    Args:
      outputs: Function `outputs` of the task.
      transform: Augmentation without random operations.
      image: Name of the field of the images.
    """

    def run(variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        return outputs(variables, transform(jax.random.key(0), {image: jnp.asarray(images)}))

    return run


def several(images: Any) -> tuple[list[tuple[str, Any]], bool]:
    """Returns the images that a user means, with their names, and whether it is a single one.

    Args:
      images: One image or several, see `Trained.__call__`.

    Returns:
      Pairs of name and image, and True for a single image.

    Raises:
      UserError: It is in no known form, or a path names no image.
    """
    if isinstance(images, str | os.PathLike):
        if Path(images).expanduser().is_file():
            return [(str(images), images)], True
        return [(file, file) for file in image_files.find(os.fspath(images)).files], False
    if any_image.is_image(images):
        return [("0", images)], True
    if isinstance(images, Mapping) or not hasattr(images, "__iter__"):
        raise UserError(f"images are a {type(images).__name__}: {_IMAGES}")
    named = []
    for i, image in enumerate(images):
        if isinstance(image, str | os.PathLike):
            named += [(file, file) for file in image_files.find(os.fspath(image)).files]
        else:
            named.append((str(i), image))
    return named, False


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    part: list[Any] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
