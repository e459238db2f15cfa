"""Applies a trained model to a user's image files and words."""

import csv
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision import augment, components, specs, storage
from jaxvision.commands import image_files
from jaxvision.commands.restore import image_shape, open_weights, restore
from jaxvision.data import host_ops, text
from jaxvision.data.sources.base import BadExample
from jaxvision.errors import UserError, some
from jaxvision.evals import texts as texts_of
from jaxvision.evals import views, zeroshot
from jaxvision.evaluations import Judged
from jaxvision.experiment import Experiment
from jaxvision.fields import Field
from jaxvision.models.weights import folder
from jaxvision.progress import Progress
from jaxvision.sections import DataSection
from jaxvision.tasks.task import Task

BATCH = 64
NAMED = 20  # number of unreadable files that get a line of their own


class Model(NamedTuple):
    """A trained model, and the preprocessing of its images.

    Attributes:
      name: Path of its folder.
      task: Task; only its `outputs` is used.
      variables: Variables of the task.
      step: Step of the checkpoint; None for converted weights.
      classes: Names of the classes; empty if it has none.
      host: Host spec for new images.
      augment: Augmentation spec for new images.
      reads: Host specs; the first one with `tokenize` gives the tokenizer of its texts.
      section: Section `model` of its config.
      shape: (height, width) of the images after the host operations.
      image: Name of the field of the images.
      transform: Function of the spec `augment`, `(rng, batch) -> batch`.
      mesh: Mesh of the devices.
      data: Section `data` of its config; None for converted weights, which name no data set.
    """

    name: str
    task: Task
    variables: Any
    step: int | str | None
    classes: tuple[str, ...]
    host: str
    augment: str
    reads: tuple[str, ...]
    section: Mapping[str, Any]
    shape: tuple[int, int]
    image: str
    transform: Any  # a function with the attribute `fields`
    mesh: Mesh
    data: DataSection | None = None


def open_model(workdir: str | Path, step: int | str | None = None) -> Model:
    """Opens a trained model.

    Args:
      workdir: Folder of a run, or of converted weights.
      step: Step of the checkpoint, or "best", see `train.best.step_of`; None for the latest.

    Raises:
      UserError: The folder holds no model, or one that reads no images.
    """
    path = storage.path(workdir, "--workdir")
    opened: Judged | Experiment
    if folder.is_folder(path):
        opened, state, meta = open_weights(path)
        shape, at, section, image = image_shape(opened, meta), None, meta["model"], "image"
    else:
        opened, state, meta = restore(path, step)
        at, section = int(state.step), opened.config.model.to_dict()
        if opened.image is None:
            fields = ", ".join(opened.data.fields)
            raise UserError(f"{path} holds a model that reads no images, only {fields}: give another --workdir")
        image = opened.image
        shape = opened.batch[image].shape[1:3]
    numbered = [str(k) for k in range(opened.info.num_classes or 0)]
    return Model(
        str(path),
        opened.task,
        state.best_variables,
        at,
        tuple(meta["classes"] or numbered),
        text.images_only(meta["preprocessing"]["host"]),
        meta["preprocessing"]["augment"],
        (meta["preprocessing"]["host"], opened.data.host),
        section,
        shape,
        image,
        augment.make_augmentation(
            meta["preprocessing"]["augment"],
            statistics=opened.statistics,
            fields={image: Field("image", (*shape, 3), "uint8")},
        ),
        opened.mesh,
        None if folder.is_folder(path) else opened.data,
    )


def matching_files(images: str | Sequence[str]) -> list[str]:
    """Finds the files that paths and patterns mean, and prints which files of folders it ignores.

    Args:
      images: Folder, file or pattern, or several of these, see `image_files.find`.

    Raises:
      UserError: One of them means no file.
    """
    for one in [images] if isinstance(images, str) else images:
        storage.local(one, "--images")
    matches = image_files.find(images)
    if matches.others:
        named = some(map(image_files.printable, matches.others), most=3)
        print_note(f"ignored {len(matches.others):,} files whose names are not those of pictures: {named}")
    return matches.files


def print_note(message: str) -> None:
    """Prints a message on stderr, because standard output is for results.

    Args:
      message: Line to print.
    """
    print(message, file=sys.stderr, flush=True)


def split_words(words: str) -> list[str]:
    """Splits a line at its commas, outside of double quotes.

    Args:
      words: Words separated by commas, such as `a cat,"a cat, or a dog"`.

    Raises:
      UserError: A word is empty or occurs twice.

    >>> split_words('a cat, "a cat, or a dog"')
    ['a cat', 'a cat, or a dog']
    """
    split = [word.strip() for word in next(csv.reader([words], skipinitialspace=True), [])]
    if not split or not all(split) or len(set(split)) < len(split):
        raise UserError(f"labels must be different words separated by commas, not {words!r}")
    return split


def apply_model(
    model: Model,
    files: Sequence[str],
    fn: Callable[[dict], jax.Array],
    left_out: dict[str, str] | None = None,
    what: str = "reading images",
) -> dict[str, np.ndarray]:
    """Applies a model to image files. Files that cannot be decoded are named on stderr and left out.

    Args:
      model: Model, from `open_model`.
      files: Image files.
      fn: Function from the outputs of the task to an array [b, ...], whose rows are the results; runs inside jit.
      left_out: Dictionary to which the files that cannot be read are added, with the reasons.
      what: Description of the work, for the display of progress.

    Returns:
      The result of each file, [...].
    """

    @jax.jit
    def call(variables, pixels):
        batch = model.transform(jax.random.key(0), {model.image: pixels})
        return fn(views.averaged_outputs(model.task, variables, batch, model.transform.fields))

    rows: dict[str, np.ndarray] = {}
    left_out = {} if left_out is None else left_out
    with Progress(what, len(files), "images") as progress:
        for names, pixels in _batches(model, files, left_out):
            rows |= dict(zip(names, np.asarray(call(model.variables, pixels))))
            progress.advance(min(BATCH, len(files)))
    if len(left_out) > NAMED:
        print_note(f"left out {len(left_out):,} of {len(files):,} files, which are not images or cannot be read")
    return rows


def embed_texts(model: Model, tokenizer: str | None = None) -> Callable[[Sequence[str]], np.ndarray]:
    """Returns the text tower of a model as a function from texts to unit vectors, float32 [n, d].

    Args:
      model: Model of image and text.
      tokenizer: Host spec such as "tokenize('clip', path='...')", for a model that does not name its tokenizer.

    Raises:
      UserError: The model has no text tower, or its tokenizer is not known or does not fit the tower.
    """
    _check_pair(model)
    texts = texts_of.find_texts(*(model.reads if tokenizer is None else (tokenizer,)))
    if texts is None:
        why = f"{model.name} names no tokenizer" if tokenizer is None else f"{tokenizer!r} names no tokenizer"
        raise UserError(
            f"{why}: give --tokenizer=\"tokenize('clip', path='...')\" with the tokenizer that it was trained with"
        )
    components.check_tokenizer(model.section, texts.tokenizer)
    run = texts_of.make_embedder(task=model.task, texts=texts, mesh=model.mesh)
    return lambda words: np.asarray(run(model.variables, words))


def embed_images(model: Model, files: Sequence[str], left_out: dict[str, str] | None = None) -> dict[str, np.ndarray]:
    """Embeds image files with a model of image and text.

    Args:
      model: Model of image and text.
      files: Image files.
      left_out: Dictionary to which the files that cannot be read are added, with the reasons.

    Returns:
      The embedding of each file, a unit vector float32 [d].
    """
    _check_pair(model)
    return apply_model(model, files, lambda out: out[zeroshot.LAYER], left_out, "embedding images")


def _check_pair(model: Model) -> None:
    if "logit_scale" not in model.variables["params"]:
        raise UserError(f"{model.name} holds no model of image and text: give the --workdir of one")


def _batches(
    model: Model, files: Sequence[str], left_out: dict[str, str]
) -> Iterator[tuple[Mapping[str, np.ndarray], np.ndarray]]:
    size = min(BATCH, len(files))
    for start in range(0, len(files), size):
        pixels = _read(files[start : start + size], model, left_out)
        batch = np.zeros((size, *model.shape, 3), np.uint8)  # one shape for all batches: the model compiles once
        batch[: len(pixels)] = list(pixels.values()) or 0
        yield pixels, batch


def _read(files: Sequence[str], model: Model, left_out: dict[str, str]) -> dict[str, np.ndarray]:
    """Decoded and processed images [h, w, 3] by file, without those that cannot be read."""
    prepare, images = make_preparation(model), {}
    for file in files:
        try:
            images[file] = prepare(Path(file).read_bytes())
        except (host_ops.BadImage, OSError) as error:
            left_out[file] = getattr(error, "strerror", None) or str(error)
            if len(left_out) <= NAMED:
                print_note(f"left out {image_files.printable(file)}: {left_out[file]}")
    return images


def make_preparation(model: Model) -> Callable[[bytes | np.ndarray], np.ndarray]:
    """Returns the function that prepares one image for a model, as the host did in training.

    An image that is of another size than the model's after the host operations is resized and cropped.

    Args:
      model: Model, from `open_model`.

    Returns:
      Function of the bytes of an image file, or of pixels uint8 [h, w, 3], that returns uint8 [h, w, 3] of the size
      that the model takes. It raises BadImage or OSError for an image that cannot be read.
    """
    prepare = _example_preparation(model, {"image": Field("image", (None, None, 3), "bytes")})
    return lambda image: prepare({"image": image})["image"]


def make_mask_preparation(model: Model) -> Callable[[bytes, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Returns the function that prepares an image and its segmentation mask, which moves with it.

    Args:
      model: Model, from `open_model`.

    Returns:
      Function of the bytes of an image file and of a mask, int [h, w], that returns both in the size that the model
      takes, uint8 [h, w, 3] and int [h, w]. It raises BadImage or OSError for an image that cannot be read, and
      BadExample for a mask of another size than the image.
    """
    fields = {
        "image": Field("image", (None, None, 3), "bytes"),
        "mask": Field("segmentation", (None, None), "int32", of="image"),
    }
    prepare = _example_preparation(model, fields)

    def prepare_both(image: bytes, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        example = prepare({"image": image, "mask": mask})
        if example["mask"].shape != example["image"].shape[:2]:  # no operation has moved them
            raise BadExample(f"its size is {mask.shape}, and that of its image {example['image'].shape[:2]}")
        return example["image"], example["mask"]

    return prepare_both


def _example_preparation(model: Model, fields: Mapping[str, Field]) -> Callable[[dict], dict]:
    decodes = any(call.name == "decode" for call in specs.parse(model.host))  # not if the data set holds arrays
    process = host_ops.make_chain(model.host if decodes else f"decode|{model.host or 'none'}", fields=fields)
    fit = host_ops.make_chain(f"resize_short({max(model.shape)})|central_crop({model.shape})", fields=fields)
    rng = np.random.default_rng(0)

    def prepare(example: dict) -> dict:
        example = process(example, rng)
        return example if example["image"].shape[:2] == model.shape else fit(example, rng)

    return prepare
