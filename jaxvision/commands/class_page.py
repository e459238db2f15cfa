"""What a classifier gets right and wrong on an evaluation split: tables, the confusion matrix, images. In Markdown."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxvision import evaluations
from jaxvision.analysis import confusion
from jaxvision.analysis.sheets import Cell, grid
from jaxvision.analysis.words import code, plain, table
from jaxvision.commands import tables
from jaxvision.commands.restore import restore
from jaxvision.data import host_ops
from jaxvision.errors import UserError, unknown
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.predictions import Predictions, make_predictions
from jaxvision.progress import track
from jaxvision.storage import Path as StoredPath

EVALUATOR = "classify"
SHOWN = 24  # images of a sheet
SIDE = 96  # height of an image in a sheet, in pixels
_ROWS = 40  # most classes in the table
_PAIRS = 12
NO_CLASS = "not a number"  # stands for the class that is predicted if a logit is NaN
RIGHT, WRONG = "#009e73", "#d55e00"  # two of plots.COLOURS, which colour-blind people can tell apart


class Judgement(NamedTuple):
    """A classifier's predictions for an evaluation split.

    Attributes:
      evaluation: Name of the evaluation in the config.
      step: Step of the checkpoint.
      data: Split.
      image: Name of the field of the images.
      names: Names of the classes.
      predictions: Logits and labels.
    """

    evaluation: str
    step: int
    data: EvalSet
    image: str
    names: tuple[str, ...]
    predictions: Predictions


def judge(workdir: StoredPath, step: int | str | None = None, evaluation: str | None = None) -> Judgement:
    """Computes the predictions of a run for the split of one of its evaluations, in one pass over it.

    Args:
      workdir: Folder of the run.
      step: Step of the checkpoint, or "best", see `train.best.step_of`; None for the latest.
      evaluation: Name of an evaluation of the config whose evaluator is `classify`; None for the first.

    Raises:
      UserError: There is no such evaluation, or it has no images.
    """
    experiment, state, _ = restore(workdir, step)
    entries = {entry.name: entry for entry in experiment.evals if entry.common.name == EVALUATOR}
    if not entries:
        raise UserError(
            f"{workdir} has no evaluation {EVALUATOR!r}, whose split the predictions are for: leave out --predictions"
        )
    if evaluation is not None and evaluation not in entries:
        raise unknown("value of --evaluation", evaluation, entries)
    entry = entries[evaluation] if evaluation is not None else next(iter(entries.values()))
    if experiment.image is None:
        raise UserError(f"a batch of {workdir} has no images to show: leave out --predictions")
    judged = experiment.judged()
    data = evaluations.open_split(entry.common, entry.common.split, entry.common.subset, judged, {})
    variables = evaluations.VARIABLES[entry.common.weights](state)
    label = entry.options.get("label", "label")
    predict = make_predictions(task=judged.task, data=data, variables=variables, label=label)
    predictions = predict(variables)
    names = data.info.classes if label == "label" else ()
    names = tuple(names) or tuple(str(k) for k in range(predictions.logits.shape[1]))
    return Judgement(entry.name, int(state.step), data, experiment.image, names, predictions)


def whole(judgement: Judgement, here: Path) -> list[str]:
    """Draws the figures and writes the tables of a classifier's predictions.

    confusion.*       the confusion matrix, for at most `confusion.MOST_CLASSES` classes
    worst.png         the images with the highest loss
    surest.png        the images that are right with the highest probability, one of each class in turn
    predictions.csv   a row for each image; classes.csv: a row for each class

    Args:
      judgement: Predictions, from `judge`.
      here: Folder of the files.

    Returns:
      Paragraphs in Markdown.
    """
    (logits, labels, _), names = judgement.predictions, judgement.names
    with np.errstate(invalid="ignore"):  # of logits that are not finite
        log_probabilities = judgement.predictions.log_probabilities
    # As in `classify.rank`: NaN is never right. Such images count as one more class, which no label has.
    broken = np.isnan(logits).any(1)
    predicted = np.where(broken, logits.shape[1], logits.argmax(1))
    if broken.any():
        names = (*names, NO_CLASS)
        judgement = judgement._replace(names=names)
    matrix = confusion.confusion_matrix(labels, predicted, logits.shape[1] + int(broken.any()))
    scores = confusion.class_scores(matrix)
    losses = -log_probabilities[np.arange(len(labels)), labels]
    sure = np.exp(log_probabilities.max(1))
    of_classes = confusion.ClassScores(*(column[: logits.shape[1]] for column in scores))
    _write_tables(judgement, predicted, sure, losses, of_classes, here)
    info = judgement.data.info
    right = predicted == labels
    parts = [
        "## Predictions",
        f"Evaluation {code(judgement.evaluation)}: {len(labels):,} images of {plain(info.name)} {plain(info.split)} at "
        f"step {judgement.step:,}. {right.mean():.2%} are right; the mean over classes is "
        f"{np.nanmean(scores.recall):.2%}. {_of_probabilities(sure)}predictions.csv has a row for each image.",
        *_not_finite(logits, broken),
        "### What is confused",
        *_confused(matrix, names, here),
        "### Classes",
        *_classes(scores, names),
    ]
    order = np.argsort(-np.where(np.isnan(losses), np.inf, losses), kind="stable")[:SHOWN]
    _sheet(judgement, order, predicted, sure, log_probabilities, here / "worst.png")
    parts += [
        "### Worst and surest images",
        "![worst](worst.png)\n*The images with the highest loss: the true class, the predicted class, and the "
        "probabilities of both. A green frame is right, an orange one wrong. Look for wrong labels here.*",
    ]
    if right.any():
        _sheet(judgement, _surest(labels, right, sure), predicted, sure, log_probabilities, here / "surest.png")
        parts.append("![surest](surest.png)\n*Right images with the highest probability, one of each class in turn.*")
    return parts


def _of_probabilities(sure: np.ndarray) -> str:
    finite = sure[np.isfinite(sure)]
    if not len(finite):
        return ""
    return (
        f"The mean probability of the predicted class is {finite.mean():.2%}, which would be the share of right ones "
        "if probabilities meant what they say. "
    )


def _not_finite(logits: np.ndarray, broken: np.ndarray) -> list[str]:
    count = int((~np.isfinite(logits)).any(1).sum())
    if not count:
        return []
    return [
        f"The logits of {count:,} images are not finite. The {int(broken.sum()):,} of these with a logit that is not a "
        "number count as wrong, as in the results of the run."
    ]


def _confused(matrix: np.ndarray, names: Sequence[str], here: Path) -> list[str]:
    parts = []
    if len(matrix) <= confusion.MOST_CLASSES:
        confusion.draw_matrix(matrix, names, here / "confusion")
        parts.append(
            "![confusion matrix](confusion.svg)\n*A row is a true class; its cells are the shares of its images by "
            "predicted class, in percent. Empty cells are below half a percent.*"
        )
    else:
        parts.append(f"A matrix of {len(matrix):,} classes cannot be read as a figure; these are its largest errors.")
    pairs = confusion.confused_pairs(matrix, _PAIRS)
    if not pairs:
        return [*parts, "No image is wrong."]
    lines = [
        (plain(names[pair.true]), [plain(names[pair.predicted]), f"{pair.examples:,}", f"{pair.share:.1%}"])
        for pair in pairs
    ]
    return [*parts, "\n".join(table("true class", ["predicted as", "images", "of its images"], lines)).strip()]


def _classes(scores: confusion.ClassScores, names: Sequence[str]) -> list[str]:
    present = np.flatnonzero(scores.examples)
    order = present[np.argsort(scores.recall[present], kind="stable")]
    said = "By rising recall, the share of the images of a class that are predicted as it."
    if len(order) > _ROWS:
        said += f" The table has the {_ROWS // 2} lowest and highest of {len(order):,}; classes.csv has all."
        order = np.concatenate([order[: _ROWS // 2], order[-_ROWS // 2 :]])
    columns = (scores.recall, scores.precision, scores.f1)
    lines = [
        (plain(names[k]), [f"{scores.examples[k]:,}", *(_percent(column[k]) for column in columns)]) for k in order
    ]
    return [said, "\n".join(table("class", ["images", "recall", "precision", "F1"], lines)).strip()]


def _percent(share: float) -> str:
    return "" if np.isnan(share) else f"{share:.1%}"


def _surest(labels: np.ndarray, right: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """The right images with the highest probability: first one of each class, then a second, and so on."""
    order = np.flatnonzero(right)[np.argsort(-sure[right], kind="stable")]
    turns = np.empty(len(order), int)
    seen: dict[int, int] = {}
    for i, label in enumerate(labels[order].tolist()):
        turns[i] = seen[label] = seen.get(label, -1) + 1
    return order[np.argsort(turns, kind="stable")][:SHOWN]


def _sheet(
    judgement: Judgement,
    order: np.ndarray,
    predicted: np.ndarray,
    sure: np.ndarray,
    log_probabilities: np.ndarray,
    path: Path,
) -> None:
    data, names, labels = judgement.data, judgement.names, judgement.predictions.labels
    host = host_ops.make_chain(data.host)
    cells = []
    for i in track(order.tolist(), f"drawing {path.stem} images", len(order), "images"):
        image = host(data.source[int(judgement.predictions.rows[i])], np.random.default_rng(0))[judgement.image]
        true, seen = names[labels[i]], names[predicted[i]]
        if not np.isfinite(sure[i]):
            words = f"{true}, seen as {seen}, without probabilities"
        elif labels[i] == predicted[i]:
            words = f"{true} {sure[i]:.0%}"
        else:
            words = f"{true} {np.exp(log_probabilities[i, labels[i]]):.0%}, seen as {seen} {sure[i]:.0%}"
        cells.append(Cell(image, words, RIGHT if labels[i] == predicted[i] else WRONG))
    grid(cells, columns=8, side=SIDE, lines=3).save(path, optimize=True)


def _write_tables(
    judgement: Judgement,
    predicted: np.ndarray,
    sure: np.ndarray,
    losses: np.ndarray,
    scores: confusion.ClassScores,
    here: Path,
) -> None:
    names, (_, labels, rows) = judgement.names, judgement.predictions
    columns = ("index", "image", "true", "predicted", "probability", "loss")
    described = (judgement.data.source.describe(int(row)) for row in rows)
    images = [
        dict(zip(columns, (int(row), name, names[true], names[seen], float(p), float(loss))))
        for row, name, true, seen, p, loss in zip(rows, described, labels, predicted, sure, losses)
    ]
    text = tables.format_rows(images, columns, "csv")
    (here / "predictions.csv").write_text(text, encoding="utf-8", newline="")
    classes = [
        {"class": name, "images": int(count), "recall": float(r), "precision": float(p), "f1": float(f1)}
        for name, p, r, f1, count in zip(names, *scores)
    ]
    text = tables.format_rows(classes, ("class", "images", "recall", "precision", "f1"), "csv")
    (here / "classes.csv").write_text(text, encoding="utf-8", newline="")
