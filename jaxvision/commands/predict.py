"""`jaxvision predict`: classify image files with a trained model, into its classes or by the user's words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.markup import escape
from rich.table import Table

from jaxvision.commands import class_maps, image_files, photos, tables
from jaxvision.data.text import prompts as prompt_sets
from jaxvision.errors import UserError
from jaxvision.evals import zeroshot
from jaxvision.fields import Field
from jaxvision.train.progress import console

COLUMNS = ("path", "rank", "class", "probability")


class Predictions(dict[str, list[tuple[str, float]]]):
    """For each file, (class, probability) by falling probability.

    Attributes:
      left_out: files that could not be read, and why.
    """

    def __init__(self, found: Mapping[str, list[tuple[str, float]]], left_out: Mapping[str, str]):
        super().__init__(found)
        self.left_out = dict(left_out)


def run_predict(
    workdir: str | Path,
    images: str | Sequence[str],
    step: int | None = None,
    top: int = 5,
    *,
    labels: str | None = None,
    prompts: str | None = None,
    tokenizer: str | None = None,
    form: str = tables.TABLE,
    out: str | Path | None = None,
) -> Predictions:
    """Prints and returns the most probable classes of each image.

    Args:
      workdir: folder of a run, or of converted weights: of a model whose task gives logits, or with `labels` of one of
        image and text.
      images: a folder, a file or a glob of image files, or several, see `image_files.find`.
      step: of the checkpoint; the latest by default.
      top: how many classes to name.
      labels: the classes in words, with commas between. Their probabilities are a softmax over them, so they say which
        of the words fits best, not whether any does.
      prompts: what `labels` are put into, see `data.text.prompts.get_prompts`; by default they stand for themselves.
      tokenizer: a spec like "tokenize('clip', path='...')", for weights that do not know their own.
      form: of what is printed, "table", "json", "jsonl" or "csv"; a row is one class of one file: path, rank from 1,
        class, probability.
      out: a file .json, .jsonl or .csv for the same rows; of a task that segments images, the folder for its maps.

    Returns:
      For each file, (class, probability) by falling probability. Files that cannot be decoded are
      named on stderr and left out.

    Raises:
      UserError: no file matches, or none can be decoded; a model without classes, or one that knows no words.
    """
    if labels is None and (prompts or tokenizer):
        raise UserError("--prompts and --tokenizer say how --labels are read: give --labels='a cat,a dog'")
    files, left_out = photos.matching(images), {}
    model = photos.open_model(workdir, step)
    if labels is None and (maps := _segmentations(model)):
        return class_maps.write(model, files, maps, out, form)
    tables.check(form, out)
    if labels is not None:
        classes = photos.listed(labels)
        templates = prompt_sets.get_prompts(prompts or "class_name").templates
        words = [prompt_sets.fill_template(template, name) for template in templates for name in classes]
        embedded = photos.embed_texts(model, tokenizer)(words)
        _, head = zeroshot.classifiers(embedded.reshape(len(templates), len(classes), -1))
        scale = jnp.exp(model.variables["params"]["logit_scale"])
        logits = lambda out: scale * _cosines(out[zeroshot.LAYER], head)
    else:
        classes = model.classes
        logits = lambda out: _logits(out, model)
    found = photos.apply(model, files, lambda out: jax.nn.softmax(logits(out)), left_out, "classifying images")
    if not found:
        raise UserError(f"none of the {len(files):,} files that match {images!r} is an image that can be read")
    predictions = {
        file: [(classes[k], float(row[k])) for k in np.argsort(-row, kind="stable")[:top]]
        for file, row in found.items()
    }
    rows = [
        {"path": image_files.printable(file), "rank": rank, "class": name, "probability": probability}
        for file, ranked in predictions.items()
        for rank, (name, probability) in enumerate(ranked, 1)
    ]
    tables.write(rows, COLUMNS, form, out)
    if form == tables.TABLE:
        _show(predictions, min(top, len(classes)))
    return Predictions(predictions, left_out)


def _segmentations(model: photos.Model) -> dict[str, Field]:
    """The outputs of a model that are segmentations, as its task says."""
    return {name: field for name, field in getattr(model.task, "kinds", {}).items() if field.kind == "segmentation"}


def _show(predictions: Mapping[str, list[tuple[str, float]]], top: int) -> None:
    table = Table("image", *(f"top {i + 1}" for i in range(top)))
    for file, ranked in predictions.items():
        cells = (escape(f"{name} {probability:.1%}") for name, probability in ranked)
        table.add_row(escape(image_files.printable(file)), *cells)
    console().print(table)


def _cosines(images: jax.Array, head: jax.Array) -> jax.Array:
    return jnp.matmul(images, head.T, precision=jax.lax.Precision.HIGHEST)  # the scale multiplies their errors


def _logits(outputs: Mapping[str, Any], model: photos.Model) -> jax.Array:
    if "logits" not in outputs:
        raise UserError(
            f"{model.name} holds a model without classes; one of image and text takes --labels='a cat,a dog'"
        )
    return outputs["logits"]
