"""`jaxvision predict`: classify image files with a trained model."""

import glob
from pathlib import Path

import jax
import numpy as np
from rich.table import Table

from jaxvision import augment
from jaxvision.commands.restore import image_shape, open_weights, restore
from jaxvision.data import host_ops
from jaxvision.errors import UserError
from jaxvision.evals import views
from jaxvision.models.weights import folder
from jaxvision.train.progress import console

BATCH = 64


def run(workdir: str | Path, images: str, step: int | None = None, top: int = 5) -> dict[str, list[tuple[str, float]]]:
    """Prints and returns the most probable classes of each image.

    Args:
      workdir: folder of a run whose task gives logits, or of converted weights with a head.
      images: a glob of image files.
      step: of the checkpoint; the latest by default.
      top: how many classes to name.

    Returns:
      For each file, (class, probability) by falling probability. Files that cannot be decoded are
      named and left out.

    Raises:
      UserError: no file matches, or none can be decoded.
    """
    workdir = Path(workdir)
    files = sorted(f for f in glob.glob(images, recursive=True) if Path(f).is_file())
    if not files:
        raise UserError(f"no file matches {images!r}")
    if folder.is_folder(workdir):
        model, state, meta = open_weights(workdir)
        shape = image_shape(model, meta)
    else:
        model, state, meta = restore(workdir, step)
        shape = model.batch["image"].shape[1:3]
    if not model.info.num_classes:
        raise UserError(f"{workdir} holds a model without classes")
    transform = augment.make(meta["preprocessing"]["augment"], statistics=model.statistics)
    classes = meta["classes"] or [str(k) for k in range(model.info.num_classes)]

    @jax.jit
    def probabilities(variables, pixels):
        batch = transform(jax.random.key(0), {"image": pixels})
        return jax.nn.softmax(views.outputs(model.task, variables, batch)["logits"])

    predictions: dict[str, list[tuple[str, float]]] = {}
    size = min(BATCH, len(files))
    for start in range(0, len(files), size):
        pixels = _read(files[start : start + size], meta["preprocessing"]["host"], shape)
        batch = np.zeros((size, *shape, 3), np.uint8)  # one shape, so that the model is compiled once
        batch[: len(pixels)] = list(pixels.values()) or 0
        for file, row in zip(pixels, np.asarray(probabilities(state.best_variables, batch))):
            best = np.argsort(-row, kind="stable")[:top]
            predictions[file] = [(classes[k], float(row[k])) for k in best]
    if not predictions:
        raise UserError(f"none of the {len(files)} files that match {images!r} is an image that can be read")
    table = Table("image", *(f"top {i + 1}" for i in range(min(top, len(classes)))))
    for file, ranked in predictions.items():
        table.add_row(file, *(f"{name} {probability:.1%}" for name, probability in ranked))
    console().print(table)
    return predictions


def _read(files: list[str], host: str, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Decoded and processed images; those of another size than the model was trained on are resized and cropped."""
    process = host_ops.make(host)
    fit = host_ops.make(f"resize_short({max(shape)})|central_crop({shape})")
    rng, images = np.random.default_rng(0), {}
    for file in files:
        try:
            example = process({"image": Path(file).read_bytes()}, rng)
        except host_ops.BadImage as error:
            console().print(f"left out {file}: {error}")
            continue
        images[file] = (example if example["image"].shape[:2] == shape else fit(example, rng))["image"]
    return images
