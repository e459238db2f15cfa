"""`jaxvision predict`: classify image files with a trained model, into its classes or by the user's words."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from rich.markup import escape
from rich.table import Table

from jaxvision.commands import class_maps, classifying, image_files, photos, tables
from jaxvision.errors import UserError
from jaxvision.train.progress import console

COLUMNS = ("path", "rank", "class", "probability")


class Predictions(dict[str, list[tuple[str, float]]]):
    """For each file a list of (class, probability), the most probable first.

    Attributes:
      left_out: Files that could not be read, with the reasons.
    """

    def __init__(self, predictions: Mapping[str, list[tuple[str, float]]], left_out: Mapping[str, str]):
        super().__init__(predictions)
        self.left_out = dict(left_out)


def run_predict(
    workdir: str | Path,
    images: str | Sequence[str],
    step: int | str | None = None,
    top: int = 5,
    *,
    labels: str | None = None,
    prompts: str | None = None,
    tokenizer: str | None = None,
    form: str = tables.TABLE,
    out: str | Path | None = None,
) -> Predictions | class_maps.Maps:
    """Prints and returns the most probable classes of each image.

    Args:
      workdir: Folder of a run, or of converted weights. The task of the model must give logits; with `labels`, the
        model must be one of image and text.
      images: Folder, file or pattern of image files, or several of these, see `image_files.find`.
      step: Step of the checkpoint, or "best", see `train.best.step_of`; None for the latest.
      top: Number of classes to name.
      labels: Classes in words, separated by commas. Their probabilities are a softmax over them, so they say which of
        the words fits best, not whether any fits.
      prompts: Texts to put `labels` into, see `data.text.prompts.get_prompts`; None uses the labels alone.
      tokenizer: Host spec such as "tokenize('clip', path='...')", for weights that do not name their tokenizer.
      form: Format of the printed results, "table", "json", "jsonl" or "csv". A row is one class of one file, with path,
        rank from 1, class and probability.
      out: File .json, .jsonl or .csv for the same rows; for a task that segments images, folder for its maps.

    Returns:
      For each file a list of (class, probability), the most probable first; for a task that segments images, the share
      of each class. Files that cannot be decoded are named on stderr and left out.

    Raises:
      UserError: No file matches or none can be decoded, or the model has no classes or reads no words.
    """
    if labels is None and (prompts or tokenizer):
        raise UserError("--prompts and --tokenizer need --labels, which is missing: add --labels='a cat,a dog'")
    files = photos.matching_files(images)
    left_out: dict[str, str] = {}
    model = photos.open_model(workdir, step)
    if labels is None and (maps := classifying.segmentations(model)):
        return class_maps.write_maps(model, files, maps, out, form)
    tables.check_output(form, out)
    words = None if labels is None else photos.split_words(labels)
    classes, logits = classifying.make_classifier(model, words, prompts, tokenizer)
    shares = photos.apply_model(model, files, lambda out: jax.nn.softmax(logits(out)), left_out, "classifying images")
    if not shares:
        raise UserError(f"none of the {len(files):,} files that match {images!r} is an image that can be read")
    predictions = {
        file: [(classes[k], float(row[k])) for k in np.argsort(-row, kind="stable")[:top]]
        for file, row in shares.items()
    }
    rows = [
        {"path": image_files.printable(file), "rank": rank, "class": name, "probability": probability}
        for file, ranked in predictions.items()
        for rank, (name, probability) in enumerate(ranked, 1)
    ]
    tables.write_rows(rows, COLUMNS, form, out)
    if form == tables.TABLE:
        _show(predictions, min(top, len(classes)))
    return Predictions(predictions, left_out)


def _show(predictions: Mapping[str, list[tuple[str, float]]], top: int) -> None:
    table = Table("image", *(f"top {i + 1}" for i in range(top)))
    for file, ranked in predictions.items():
        cells = (escape(f"{name} {probability:.1%}") for name, probability in ranked)
        table.add_row(escape(image_files.printable(file)), *cells)
    console().print(table)
