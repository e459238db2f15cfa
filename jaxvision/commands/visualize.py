"""`jaxvision visualize`: a page of pictures of what a network learned."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import evaluations, inputs
from jaxvision.analysis import documents, embedding, kernels
from jaxvision.analysis.sheets import Cell, beside, grid, sheet
from jaxvision.commands import pages
from jaxvision.commands.restore import open_weights, restore
from jaxvision.data import host_ops
from jaxvision.data.sources import Info
from jaxvision.data.subsets import subset
from jaxvision.errors import UserError
from jaxvision.evals import features
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.store import Features
from jaxvision.experiment import Experiment
from jaxvision.models.weights import folder
from jaxvision.parallel.distributed import is_main
from jaxvision.sections import EvalSection
from jaxvision.train.progress import console
from jaxvision.train.state import TrainState
from jaxvision.train.step import step_keys

QUERIES = 10  # images whose neighbours are shown
NEIGHBOURS = 10
FILTERS = 192
SIDE = 80  # of a picture in a sheet, in pixels
ROWS, PICTURES = 8, 12  # of the sheet of the training batch
RIGHT, WRONG = "#009e73", "#d55e00"  # told apart by all eyes, as plots.COLOURS


class Subject(NamedTuple):
    """What is looked at.

    Attributes:
      judged: the model, as evaluations take it.
      state: its variables.
      experiment: of a run; None for converted weights.
    """

    judged: evaluations.Judged
    state: TrainState
    experiment: Experiment | None


def run(
    workdir: str | Path,
    out: str | Path,
    *,
    step: int | None = None,
    layer: str = "features",
    split: str | None = None,
    data: Mapping[str, Any] | None = None,
    examples: int = 2000,
    perplexity: float = embedding.PERPLEXITY,
    seed: int = 0,
) -> Path:
    """Draws pictures of a representation, and writes the page that shows them.

    views.png       images of the first training batch, and what the network sees of them
    neighbours.png  some images and those whose features lie nearest
    embedding.png   PCA and t-SNE of the features, coloured by class
    filters.png     the filters of the first layer
    index.html      all of it, with words; the pictures are inside. index.md is its text

    What there cannot be is left out, and the page says why: views of converted weights or without the training set,
    filters of a network whose first layer has none.

    Args:
      workdir: folder of a run of any task, or of converted weights.
      out: the folder that is written.
      step: of the checkpoint; the latest by default.
      layer: of the features, see `features.pick`.
      split: whose features are drawn; by default that of the first evaluation, or of `data`.
      data: section `data` of a config, in place of the set of the run; converted weights need it.
      examples: how many images of the split, as balanced over the classes as can be.
      perplexity: of t-SNE.
      seed: of the choice of images and of t-SNE.

    Returns:
      The path of index.html.

    Raises:
      UserError: images without a class, or too few for the perplexity, or another thing the user can mend. It comes
        before anything is computed or written.
    """
    workdir, out = Path(workdir), Path(out)
    subject = _open(workdir, step, data)
    images = _images(subject, split, data, examples, seed)
    embedding.check(len(images.source), perplexity)
    features.check_layers(subject.judged.task, images, subject.judged.variables, [layer])
    found = features.make(task=subject.judged.task, data=images, layer=layer)(subject.state.best_variables)
    if not is_main():
        return out / "index.html"
    out.mkdir(parents=True, exist_ok=True)
    parts = [
        *_heading(workdir, subject, images, layer, found, seed),
        *_views(subject, out / "views.png"),
        *_neighbours(images, found, out / "neighbours.png"),
        *_embedding(images.info, found, perplexity, seed, out / "embedding.png"),
        *_filters(subject.state, out / "filters.png"),
    ]
    documents.write("\n\n".join(parts) + "\n", out / "index.md", f"what {workdir} learned")
    console().print(f"written to {out}/index.html")
    return out / "index.html"


def _open(workdir: Path, step: int | None, data: Mapping | None) -> Subject:
    if not folder.is_folder(workdir):
        experiment, state, _ = restore(workdir, step)
        return Subject(experiment.judged(), state, experiment)
    if step is not None:
        raise UserError(f"{workdir} holds converted weights, which have no steps")
    if not data:
        raise UserError(f"{workdir} holds converted weights: name images with --config=FILE.py that has a section data")
    judged, state, _ = open_weights(workdir, data)
    return Subject(judged, state, None)


def _images(subject: Subject, split: str | None, data: Mapping | None, examples: int, seed: int) -> EvalSet:
    """The images whose features are drawn: of one class each."""
    if split is None:
        evals = {} if data or subject.experiment is None else subject.experiment.config.get("evals", {})
        split = next((section["split"] for section in evals.values()), (data or {}).get("split"))
        split = split or subject.judged.data.split
    given = {"data": data["name"], **{k: data.get(k) for k in ("data_dir", "options", "subset")}} if data else {}
    # With train_split, labels are read whatever the task reads.
    section = EvalSection("visualize", split, train_split=split, **given)
    images = evaluations.open_split(section, split, section.subset, subject.judged, {})
    info = images.info
    if not info.num_classes or info.multi_label:
        has = "several" if info.multi_label else "no"
        raise UserError(f"the pictures are coloured by class, but images of {info.name} {info.split} have {has} labels")
    if examples >= len(images.source):
        return images
    return images.take(subset(images.source.labels, examples, seed))


def _heading(workdir: Path, subject: Subject, images: EvalSet, layer: str, found: Features, seed: int) -> list[str]:
    if subject.experiment is None:
        what = "Converted weights"
    else:
        config = subject.experiment.config
        what = f"Step {int(subject.state.step):,} of `{_call(config.task)}` with `{_call(config.model)}`"
    info = images.info
    return [
        f"# What {workdir} learned",
        f"{what}. Below, features are the output `{layer}` of {len(found.values):,} images of {info.name} {info.split}"
        f" (balanced over {info.num_classes} classes, seed {seed}): {found.values.shape[1]:,} numbers an image, scaled "
        f"to length 1. Images were prepared by `{images.host}`, then `{images.augment or 'nothing'}`.",
    ]


def _call(section: Mapping[str, Any]) -> str:
    options = ", ".join(f"{name}={value!r}" for name, value in section.items() if name != "name")
    return f"{section['name']}({options})"


def _views(subject: Subject, path: Path) -> list[str]:
    """Draws images of the first training batch beside what the network sees of them."""
    title = "## What the network sees"
    if subject.experiment is None:
        return [title, "Left out: how these weights were trained is not known here."]
    source, _, absent = inputs.open_or_describe(subject.experiment.data, "optional")
    if source is None:
        return [title, f"Left out: the training set is not here ({absent})."]
    experiment = subject.experiment._replace(source=source)
    raw, batch = pages.first_batch(experiment)
    rows = _seen(experiment, raw, batch)
    wide = max(_width(cells) for _, cells in rows)
    columns = max(1, PICTURES // wide)
    rows = rows[: columns * ROWS]
    height = -(-len(rows) // columns)
    parts = [rows[i : i + height] for i in range(0, len(rows), height)]
    beside([sheet(part, side=SIDE, lines=1) for part in parts]).save(path, optimize=True)
    asks = " With each part of an image stands the answer, as a position in the answers of the task."
    return [
        title,
        f"Images of the batch of step 0 after `{experiment.data.host}`, then after "
        f"`{experiment.config.get('augment', '') or 'nothing'}`, with the normalisation taken back."
        + (asks if experiment.task.ask else ""),
        f"![what the network sees]({path.name})",
    ]


def _seen(experiment: Experiment, raw: Mapping, batch: Mapping) -> list[tuple[str, list[Cell]]]:
    """For each of the first images, itself and then what the network sees of it."""
    count = min(ROWS * PICTURES, len(raw["image"]))
    labels = batch["label"][:count] if "label" in batch else [None] * count
    words = ["" if label is None else pages.label_text(label, experiment.info.classes) for label in labels]
    if experiment.task.ask is None:
        images = pages.viewable(batch["image"][:count], experiment)
        views = images if images.ndim == 5 else images[:, None]
        seen = [[Cell(view) for view in of] for of in views]
    else:
        asked = jax.device_get(jax.jit(experiment.task.ask)(batch, step_keys(experiment.seed, 0)[1]))
        parts, asked = pages.viewable(asked.parts[:count], experiment), asked._replace(parts=None)
        seen = [
            [Cell(parts[i][ones], f"answer {answer}") for ones, answer in zip(asked.beside[i], asked.answers[i])]
            for i in range(count)
        ]
    return [("", [Cell(*first), *cells]) for first, cells in zip(zip(raw["image"], words), seen)]


def _width(cells: list[Cell]) -> int:
    """Pictures in a row."""
    return sum(1 if np.ndim(cell.image) == 3 else len(cell.image) for cell in cells)


def _neighbours(images: EvalSet, found: Features, path: Path) -> list[str]:
    """Draws one image of each of some classes, and the images whose features are most like its own."""
    names = images.info.classes or [str(k) for k in range(images.info.num_classes)]
    there, firsts = np.unique(found.labels, return_index=True)
    chosen = np.unique(np.linspace(0, len(there) - 1, min(QUERIES, len(there))).round().astype(int))
    queries = firsts[chosen]
    rows, cosines = embedding.nearest(found.values, queries, min(NEIGHBOURS, len(found.values) - 1))
    host = host_ops.make(images.host)
    image = lambda row: host(images.source[int(found.rows[row])], np.random.default_rng(0))["image"]
    page = []
    for query, others, likeness in zip(queries, rows, cosines):
        label = found.labels[query]
        cells = [
            Cell(image(row), f"{s:.2f} {names[found.labels[row]]}", RIGHT if found.labels[row] == label else WRONG)
            for row, s in zip(others, likeness)
        ]
        page.append((names[label], [Cell(image(query), "query"), *cells]))
    sheet(page, side=SIDE).save(path, optimize=True)
    right = np.mean(found.labels[rows] == found.labels[queries][:, None])
    return [
        "## Nearest neighbours",
        "The first image of a row is the query, one of its class that was not chosen for its looks; the others are the "
        f"{rows.shape[1]} of {len(found.values) - 1:,} images with the largest cosine to it, which stands under them. "
        "A green frame is of the same class, an orange one of another: "
        f"{right:.0%} of those below are of the same; guessing gives {_chance(found.labels, queries):.0%}.",
        f"![nearest neighbours]({path.name})",
    ]


def _chance(labels: np.ndarray, queries: np.ndarray) -> float:
    return float(np.mean([(np.sum(labels == labels[q]) - 1) / (len(labels) - 1) for q in queries]))


def _embedding(info: Info, found: Features, perplexity: float, seed: int, path: Path) -> list[str]:
    title = "## PCA and t-SNE"
    values = embedding.unit(found.values)
    if values.std(axis=0).max() < 1e-6:
        return [title, "Left out: all images have the same features, up to their length. The network has collapsed."]
    names = info.classes or [str(k) for k in range(info.num_classes)]
    embedding.draw(embedding.embed(values, perplexity, seed), found.labels, names, path)
    return [
        title,
        "A dot is an image. PCA is linear, and its axes say how much of the variance they show. t-SNE keeps neighbours "
        "together and nothing else: distances between groups, their sizes and their number say little, and other "
        "perplexities give other pictures.",
        f"![PCA and t-SNE of the features]({path.name})",
    ]


def _filters(state: TrainState, path: Path) -> list[str]:
    title = "## Filters of the first layer"
    found = kernels.first(state.best_variables["params"])
    if found is None:
        return [title, "Left out: no layer of this network is a convolution of the colours of the image."]
    name, kernel = found
    filters = kernels.pictures(kernel)
    side = 64 if len(filters) <= 64 else 40
    grid([Cell(f) for f in filters[:FILTERS]], columns=16 if side == 64 else 24, side=side, lines=0).save(path)
    height, width, channels, count = kernel.shape
    some = f", the {FILTERS} largest of which are shown" if count > FILTERS else ""
    return [
        title,
        f"`{name}`: {count} filters of {height}x{width} pixels and {channels} channels{some}, by falling norm. Each is "
        "scaled by its own largest weight, so that a weak filter looks as strong as any; grey is 0.",
        f"![filters of the first layer]({path.name})",
    ]
