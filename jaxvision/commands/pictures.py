"""The pictures of a representation, each drawn to a file, with the words that stand beside it on the page.

What cannot be drawn is left out, and the words say why. They are parts of a text in Markdown, the first a heading.
"""

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxvision import inputs
from jaxvision.analysis import embedding, kernels
from jaxvision.analysis.sheets import Cell, grid, join_pages, sheet
from jaxvision.analysis.words import code, plain
from jaxvision.commands.pages import first_batch, label_text, viewable
from jaxvision.data import host_ops
from jaxvision.data.sources import Info
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.store import Features
from jaxvision.experiment import Experiment
from jaxvision.progress import track, waiting
from jaxvision.train.step import step_keys

SIDE = 80  # of a picture in a sheet, in pixels
ROWS, PICTURES = 8, 12  # of the sheet of the training batch: rows, and pictures in one
QUERIES = 10  # images whose neighbours are shown
NEIGHBOURS = 10
FILTERS = 192
RIGHT, WRONG = "#009e73", "#d55e00"  # of plots.COLOURS, which all eyes tell apart


def views(experiment: Experiment | None, path: Path) -> list[str]:
    """Images of the first training batch, and what the network sees of them; `experiment` is None for bare weights."""
    title = "## What the network sees"
    if experiment is None:
        return [title, "Left out: how these weights were trained is not known here."]
    source, info, absent = inputs.open_or_describe(experiment.data, "optional", experiment.stored)
    if experiment.image is None:
        return [title, "Left out: a batch holds no image."]
    if source is None:
        return [title, f"Left out: the training set is not here ({plain(absent)})."]
    experiment = experiment._replace(source=source, info=info)
    rows = [("", cells) for cells in waiting("drawing what the network sees", seen, experiment)]
    columns = max(1, PICTURES // max(_width(cells) for _, cells in rows))
    shown = rows[: columns * ROWS]
    height = -(-len(shown) // columns)
    parts = [shown[i : i + height] for i in range(0, len(shown), height)]
    join_pages([sheet(part, side=SIDE, lines=1, title="an image, and what is seen of it") for part in parts]).save(
        path, optimize=True
    )
    asks = " Under what the task shows stands the answer, as its position among the answers that the task knows."
    return [
        title,
        f"The first of a row is an image of the batch of step 0 after {code(experiment.data.host)}; the others are "
        f"what it is after {code(experiment.config.get('augment', '') or 'nothing')}, with the normalisation taken "
        "back." + (asks if experiment.task.ask else ""),
        f"![what the network sees]({path.name})",
    ]


def seen(experiment: Experiment) -> list[list[Cell]]:
    """For each of the first images of the batch of step 0, itself and then what the network sees of it."""
    raw, batch = first_batch(experiment)
    name = experiment.image
    count = min(ROWS * PICTURES, len(raw[name]))
    labels = batch["label"][:count] if "label" in batch else [None] * count
    words = ["" if label is None else label_text(label, experiment.info.classes) for label in labels]
    if experiment.task.ask is None:
        images = viewable(batch[name][:count], experiment)
        views = images if experiment.augment.fields[name].views else images[:, None]
        shown = [[Cell(view) for view in of] for of in views]
    else:
        parts, together, answers = jax.device_get(jax.jit(experiment.task.ask)(batch, step_keys(experiment.seed, 0)[1]))
        parts = viewable(parts[:count], experiment)
        shown = [
            [Cell(of[ones], f"answer {answer}") for ones, answer in zip(questions, of_questions)]
            for of, questions, of_questions in zip(parts, together, answers)
        ]
    return [[Cell(*first), *cells] for first, cells in zip(zip(raw[name], words), shown)]


def _width(cells: list[Cell]) -> int:
    """Pictures in a row."""
    return sum(math.prod(np.shape(cell.image)[:-3]) for cell in cells)


def neighbours(images: EvalSet, found: Features, path: Path) -> list[str]:
    """One image of each of some classes, and those whose features are most like its own."""
    names = images.info.classes or [str(k) for k in range(images.info.num_classes)]
    there, firsts = np.unique(found.labels, return_index=True)
    chosen = np.unique(np.linspace(0, len(there) - 1, min(QUERIES, len(there))).round().astype(int))
    queries = firsts[chosen]
    rows, cosines = embedding.nearest(found.values, queries, min(NEIGHBOURS, len(found.values) - 1))
    host = host_ops.make_chain(images.host)
    image = lambda row: host(images.source[int(found.rows[row])], np.random.default_rng(0))["image"]
    page = []
    of_queries = zip(queries, rows, cosines)
    for query, others, likeness in track(of_queries, "drawing neighbours", len(queries), "queries"):
        label = found.labels[query]
        cells = [
            Cell(image(row), f"{s:.2f} {names[found.labels[row]]}", RIGHT if found.labels[row] == label else WRONG)
            for row, s in zip(others, likeness)
        ]
        page.append((names[label], [Cell(image(query), "query"), *cells]))
    title = (
        f"{images.info.name} {images.info.split}: an image, and those whose features have the largest cosine to its own"
    )
    sheet(page, side=SIDE, title=title).save(path, optimize=True)
    right = np.mean(found.labels[rows] == found.labels[queries][:, None])
    return [
        "## Nearest neighbours",
        "The first image of a row is the query, the first of its class; the others are the "
        f"{rows.shape[1]} of {len(found.values) - 1:,} images with the largest cosine to it, which stands under them. "
        "A green frame is of the same class, an orange one of another: "
        f"{right:.0%} of those below are of the same; guessing gives {_chance(found.labels, queries):.0%}.",
        f"![nearest neighbours]({path.name})",
    ]


def _chance(labels: np.ndarray, queries: np.ndarray) -> float:
    return float(np.mean([(np.sum(labels == labels[q]) - 1) / (len(labels) - 1) for q in queries]))


def maps(info: Info, found: Features, perplexity: float, seed: int, path: Path) -> list[str]:
    """PCA and t-SNE of the features, scaled to length 1."""
    title = "## PCA and t-SNE"
    values = embedding.unit(found.values)
    if values.std(axis=0).max() < 1e-6:
        return [title, "Left out: all images have the same features, up to their length. The network has collapsed."]
    names = info.classes or [str(k) for k in range(info.num_classes)]
    points = waiting(f"t-SNE of {len(values):,} images", embedding.embed, values, perplexity, seed)
    embedding.draw(points, found.labels, names, path)
    return [
        title,
        "A dot is an image. PCA is linear, and its axes say how much of the variance they show. t-SNE keeps neighbours "
        "together and nothing else: distances between groups, their sizes and their number say little, and other "
        "perplexities give other pictures.",
        f"![PCA and t-SNE of the features]({path.name})",
    ]


def filters(params: Any, path: Path) -> list[str]:
    """The filters of the first layer."""
    title = "## Filters of the first layer"
    found = kernels.first(params)
    if found is None:
        return [title, "Left out: no layer of this network is a convolution of the colours of the image."]
    name, kernel = found
    images = kernels.pictures(kernel)
    side = 64 if len(images) <= 64 else 40
    grid([Cell(f) for f in images[:FILTERS]], columns=16 if side == 64 else 24, side=side, lines=0, title=name).save(
        path
    )
    height, width, channels, count = kernel.shape
    some = f", the {FILTERS} largest of which are shown" if count > FILTERS else ""
    return [
        title,
        f"{code(name)}: {count} filters of {height}x{width} pixels and {channels} channels{some}, by falling norm. "
        "Each is scaled by its own largest weight, so that a weak filter looks as strong as any; grey is 0.",
        f"![filters of the first layer]({path.name})",
    ]
