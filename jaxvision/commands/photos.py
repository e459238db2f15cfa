"""A user's image files and words, as a trained model is given them."""

import csv
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision import augment, parts, specs, storage
from jaxvision.commands import image_files
from jaxvision.commands.restore import image_shape, open_weights, restore
from jaxvision.data import host_ops, text
from jaxvision.errors import UserError
from jaxvision.evals import texts as texts_of
from jaxvision.evals import views, zeroshot
from jaxvision.fields import Field
from jaxvision.models.weights import folder
from jaxvision.progress import Progress

BATCH = 64
NAMED = 20  # files that are left out, of which each has a line of its own


class Model(NamedTuple):
    """A trained model, and how it is given images.

    Attributes:
      name: its folder.
      task: its `outputs`.
      variables: of the task.
      step: of the checkpoint; None for converted weights.
      classes: their names; empty where it has none.
      host, augment: specs with which it looks at new images.
      reads: host specs, the first of which that has `tokenize` says how it reads texts.
      section: `model` of its config.
      shape: (height, width) of the images after the host operations.
      image: Name of the field of the images.
      transform: what `augment` names: `(rng, batch) -> batch`.
      mesh: of the devices.
    """

    name: str
    task: Any
    variables: Any
    step: int | None
    classes: tuple[str, ...]
    host: str
    augment: str
    reads: tuple[str, ...]
    section: Mapping[str, Any]
    shape: tuple[int, int]
    image: str
    transform: Callable
    mesh: Mesh


def open_model(workdir: str | Path, step: int | None = None) -> Model:
    """Opens a checkpoint of a run (the latest by default), or a folder of converted weights."""
    path = storage.path(workdir, "--workdir")
    if folder.is_folder(path):
        found, state, meta = open_weights(path)
        shape, at, section, image = image_shape(found, meta), None, meta["model"], "image"
    else:
        found, state, meta = restore(path, step)
        image, at, section = found.image, int(state.step), found.config.model.to_dict()
        if image is None:
            raise UserError(f"{path} holds a model that reads no images, only {', '.join(found.data.fields)}")
        shape = found.batch[image].shape[1:3]
    numbered = [str(k) for k in range(found.info.num_classes or 0)]
    return Model(
        str(path),
        found.task,
        state.best_variables,
        at,
        tuple(meta["classes"] or numbered),
        text.images_only(meta["preprocessing"]["host"]),
        meta["preprocessing"]["augment"],
        (meta["preprocessing"]["host"], found.data.host),
        section,
        shape,
        image,
        augment.make_augmentation(
            meta["preprocessing"]["augment"],
            statistics=found.statistics,
            fields={image: Field("image", (*shape, 3), "uint8")},
        ),
        found.mesh,
    )


def matching(images: str | Sequence[str]) -> list[str]:
    """The files that paths and patterns mean (see `image_files.find`); files in folders that are none are told."""
    for one in [images] if isinstance(images, str) else images:
        storage.local(one, "--images")
    found = image_files.find(images)
    if found.others:
        named = ", ".join(map(image_files.printable, found.others[:3]))
        more = f" and {len(found.others) - 3:,} more" if len(found.others) > 3 else ""
        note(f"passed over {len(found.others):,} files that are no pictures by their names: {named}{more}")
    return found.files


def note(message: str) -> None:
    """Says something on stderr: standard output is for results."""
    print(message, file=sys.stderr, flush=True)


def listed(words: str) -> list[str]:
    """Words from a line: `a cat,"a cat, or a dog"`.

    >>> listed('a cat, "a cat, or a dog"')
    ['a cat', 'a cat, or a dog']
    """
    found = [word.strip() for word in next(csv.reader([words], skipinitialspace=True), [])]
    if not found or not all(found) or len(set(found)) < len(found):
        raise UserError(f"want different words with commas between, not {words!r}")
    return found


def apply(
    model: Model,
    files: Sequence[str],
    fn: Callable[[dict], jax.Array],
    left_out: dict[str, str] | None = None,
    what: str = "reading images",
) -> dict[str, np.ndarray]:
    """What `fn` makes of the outputs of the model for each file; those that cannot be decoded are named and left out.

    Args:
      model: as it was opened.
      files: image files.
      fn: outputs of the task -> array [B, ...]; runs inside jit.
      left_out: gains the files that cannot be read, and why.
      what: is done, for the display of progress.
    """

    @jax.jit
    def call(variables, pixels):
        batch = model.transform(jax.random.key(0), {model.image: pixels})
        return fn(views.averaged_outputs(model.task, variables, batch, model.transform.fields))

    found: dict[str, np.ndarray] = {}
    left_out = {} if left_out is None else left_out
    with Progress(what, len(files), "images") as progress:
        for names, pixels in _batches(model, files, left_out):
            found |= dict(zip(names, np.asarray(call(model.variables, pixels))))
            progress.advance(min(BATCH, len(files)))
    if len(left_out) > NAMED:
        note(f"left out {len(left_out):,} of {len(files):,} files, which are no images that can be read")
    return found


def embed_texts(model: Model, tokenizer: str | None = None) -> Callable[[Sequence[str]], np.ndarray]:
    """The text tower of a model: `texts -> float32 [n, D]` of length 1.

    Args:
      model: of image and text.
      tokenizer: a spec like "tokenize('clip', path='...')", where the model does not know its own.

    Raises:
      UserError: a model of images alone, or one whose tokenizer is not known or does not fit its text tower.
    """
    _check_pair(model)
    texts = texts_of.find_texts(*(model.reads if tokenizer is None else (tokenizer,)))
    if texts is None:
        why = f"{model.name} does not say how it reads texts" if tokenizer is None else f"{tokenizer!r} is no tokenizer"
        raise UserError(
            f"{why}: give --tokenizer=\"tokenize('clip', path='...')\" with the tokenizer that it was trained with"
        )
    parts.check_tokenizer(model.section, texts.tokenizer)
    run = texts_of.make_embedder(task=model.task, texts=texts, mesh=model.mesh)
    return lambda words: run(model.variables, words)


def embed_images(model: Model, files: Sequence[str], left_out: dict[str, str] | None = None) -> dict[str, np.ndarray]:
    """The embedding of each file by a model of image and text, float32 [D] of length 1; `left_out` as in `apply`."""
    _check_pair(model)
    return apply(model, files, lambda out: out[zeroshot.LAYER], left_out, "embedding images")


def _check_pair(model: Model) -> None:
    if "logit_scale" not in model.variables["params"]:
        raise UserError(f"{model.name} holds no model of image and text")


def _batches(
    model: Model, files: Sequence[str], left_out: dict[str, str]
) -> Iterator[tuple[Mapping[str, np.ndarray], np.ndarray]]:
    size = min(BATCH, len(files))
    for start in range(0, len(files), size):
        pixels = _read(files[start : start + size], model, left_out)
        batch = np.zeros((size, *model.shape, 3), np.uint8)  # one shape, so that the model is compiled once
        batch[: len(pixels)] = list(pixels.values()) or 0
        yield pixels, batch


def _read(files: Sequence[str], model: Model, left_out: dict[str, str]) -> dict[str, np.ndarray]:
    """Decoded and processed images; those of another size than the model was trained on are resized and cropped."""
    decodes = any(call.name == "decode" for call in specs.parse(model.host))  # not where the set holds arrays
    process = host_ops.make_chain(model.host if decodes else f"decode|{model.host or 'none'}")
    fit = host_ops.make_chain(f"resize_short({max(model.shape)})|central_crop({model.shape})")
    rng, images = np.random.default_rng(0), {}
    for file in files:
        try:
            example = process({"image": Path(file).read_bytes()}, rng)
        except (host_ops.BadImage, OSError) as error:
            left_out[file] = getattr(error, "strerror", None) or str(error)
            if len(left_out) <= NAMED:
                note(f"left out {image_files.printable(file)}: {left_out[file]}")
            continue
        images[file] = (example if example["image"].shape[:2] == model.shape else fit(example, rng))["image"]
    return images
