"""`jaxvision predict`: classify image files with a trained model, into its classes or by the user's words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from jaxvision.commands import photos
from jaxvision.data.text import prompts as prompt_sets
from jaxvision.errors import UserError
from jaxvision.evals import zeroshot
from jaxvision.train.progress import console


def run(
    workdir: str | Path,
    images: str,
    step: int | None = None,
    top: int = 5,
    *,
    labels: str | None = None,
    prompts: str | None = None,
    tokenizer: str | None = None,
) -> dict[str, list[tuple[str, float]]]:
    """Prints and returns the most probable classes of each image.

    Args:
      workdir: folder of a run, or of converted weights: of a model whose task gives logits, or with `labels` of one of
        image and text.
      images: a glob of image files.
      step: of the checkpoint; the latest by default.
      top: how many classes to name.
      labels: the classes in words, with commas between. Their probabilities are a softmax over them, so they say which
        of the words fits best, not whether any does.
      prompts: what `labels` are put into, see `data.text.prompts.get`; by default they stand for themselves.
      tokenizer: a spec like "tokenize('clip', path='...')", for weights that do not know their own.

    Returns:
      For each file, (class, probability) by falling probability. Files that cannot be decoded are
      named and left out.

    Raises:
      UserError: no file matches, or none can be decoded; a model without classes, or one that knows no words.
    """
    if labels is None and (prompts or tokenizer):
        raise UserError("--prompts and --tokenizer say how --labels are read: give --labels='a cat,a dog'")
    files = photos.matching(images)
    model = photos.open_model(workdir, step)
    if labels is not None:
        classes = photos.listed(labels)
        templates = prompt_sets.get(prompts or "class_name").templates
        words = [prompt_sets.fill(template, name) for template in templates for name in classes]
        embedded = photos.embed_texts(model, tokenizer)(words)
        _, head = zeroshot.classifiers(embedded.reshape(len(templates), len(classes), -1))
        scale = jnp.exp(model.variables["params"]["logit_scale"])
        found = photos.apply(model, files, lambda out: jax.nn.softmax(scale * _cosines(out[zeroshot.LAYER], head)))
    else:
        classes = model.classes
        found = photos.apply(model, files, lambda out: jax.nn.softmax(_logits(out, model)))
    if not found:
        raise UserError(f"none of the {len(files)} files that match {images!r} is an image that can be read")
    predictions = {
        file: [(classes[k], float(row[k])) for k in np.argsort(-row, kind="stable")[:top]]
        for file, row in found.items()
    }
    table = Table("image", *(f"top {i + 1}" for i in range(min(top, len(classes)))))
    for file, ranked in predictions.items():
        table.add_row(file, *(f"{name} {probability:.1%}" for name, probability in ranked))
    console().print(table)
    return predictions


def _cosines(images: jax.Array, head: jax.Array) -> jax.Array:
    return jnp.matmul(images, head.T, precision=jax.lax.Precision.HIGHEST)  # the scale multiplies their errors


def _logits(outputs: Mapping[str, Any], model: photos.Model) -> jax.Array:
    if "logits" not in outputs:
        raise UserError(
            f"{model.name} holds a model without classes; one of image and text takes --labels='a cat,a dog'"
        )
    return outputs["logits"]
