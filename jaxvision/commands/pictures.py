"""The pictures of a representation. Each function draws one to a file and returns the text about it.

If a picture cannot be drawn, the text says why. It is a list of paragraphs in Markdown; the first one is a heading.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from jaxvision import inputs
from jaxvision.analysis import embedding_plots
from jaxvision.analysis.sheets import Cell, grid, join_pages, sheet
from jaxvision.analysis.words import code, plain
from jaxvision.commands.pages import first_batch, label_text, present, viewable
from jaxvision.data import host_ops
from jaxvision.data.sources import Info
from jaxvision.data.subsets import subset
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.store import Features
from jaxvision.experiment import Experiment
from jaxvision.explain import embedding
from jaxvision.explain.filters import filter_pictures, first_kernel
from jaxvision.fields import Field
from jaxvision.parallel.distributed import gather
from jaxvision.progress import track, waiting
from jaxvision.tasks.task import Task, Variables
from jaxvision.train.step import step_keys

SIDE = 80  # side of a picture in a sheet, in pixels
LARGE = 128  # the same of what a task draws
ROWS, PICTURES = 8, 12  # rows in the sheet of the training batch, and pictures in a row
QUERIES = 10  # number of images whose neighbours are shown
NEIGHBOURS = 10
FILTERS = 192
RIGHT, WRONG = "#009e73", "#d55e00"  # two of plots.COLOURS, which colour-blind people can tell apart


def views(experiment: Experiment | None, path: Path) -> list[str]:
    """Draws images of the first training batch, and what the network sees of them.

    Args:
      experiment: Experiment of the run; None for converted weights.
      path: PNG file to write.

    Returns:
      The text about the picture.
    """
    title = "## What the network sees"
    if experiment is None:
        return [title, "Left out: the training of these weights is not known."]
    source, info, absent = inputs.open_or_describe(experiment.data, "optional", experiment.stored)
    if experiment.image is None:
        return [title, "Left out: a batch has no images."]
    if source is None:
        return [title, f"Left out: the training set is not here ({plain(absent)})."]
    experiment = experiment._replace(source=source, info=info)
    rows = [("", cells) for cells in waiting("drawing what the network sees", seen_images, experiment)]
    columns = max(1, PICTURES // max(_width(cells) for _, cells in rows))
    shown = rows[: columns * ROWS]
    height = -(-len(shown) // columns)
    pages = [shown[i : i + height] for i in range(0, len(shown), height)]
    join_pages([sheet(page, side=SIDE, lines=1, title="an image, and what is seen of it") for page in pages]).save(
        path, optimize=True
    )
    asks = " Under each question of the task is its answer, as the position among the possible answers."
    return [
        title,
        f"The first picture of a row is an image of the batch of step 0 after {code(experiment.data.host)}. The others "
        f"are the same image after {code(experiment.config.get('augment', '') or 'nothing')}, without the "
        "normalisation." + (asks if experiment.task.ask else ""),
        f"![what the network sees]({path.name})",
    ]


def seen_images(experiment: Experiment) -> list[list[Cell]]:
    """Returns the first images of the batch of step 0, each followed by what the network sees of it.

    Args:
      experiment: Experiment whose data set is here.
    """
    raw, batch = first_batch(experiment)
    name = present(experiment.image)
    count = min(ROWS * PICTURES, len(raw[name]))
    labels = batch["label"][:count] if "label" in batch else [None] * count
    words = ["" if label is None else label_text(label, experiment.info.classes) for label in labels]
    if experiment.task.ask is None:
        fields: dict[str, Field] = experiment.augment.fields  # type: ignore[attr-defined]  # an attribute of the function
        crops = [other for other, field in fields.items() if field.kind == "image" and field.views and other != name]
        images = viewable(batch[name][:count], experiment)
        views = [images if fields[name].views else images[:, None]]
        views += [viewable(batch[other][:count], experiment) for other in crops]  # small ones of `multi_crop`
        shown = [[Cell(view) for of in every for view in of] for every in zip(*views)]
    else:
        pieces, together, answers = jax.device_get(
            jax.jit(experiment.task.ask)(batch, step_keys(experiment.seed, 0)[1])
        )
        pieces = viewable(pieces[:count], experiment)
        shown = [
            [Cell(of[ones], f"answer {answer}") for ones, answer in zip(questions, of_questions)]
            for of, questions, of_questions in zip(pieces, together, answers)
        ]
    return [[Cell(*first), *cells] for first, cells in zip(zip(raw[name], words), shown)]


def _width(cells: list[Cell]) -> int:
    """Number of pictures in a row."""
    return sum(math.prod(np.shape(cell.image)[:-3]) for cell in cells)


def draw_task(task: Task, images: EvalSet, variables: Variables, seed: int) -> dict[str, np.ndarray] | None:
    """Computes what a task draws of some images; every process must call it.

    Args:
      task: Task of the run.
      images: Images, each with a class.
      variables: Variables of the task.
      seed: Seed of the choice of images, and of the task's random draws.

    Returns:
      Pictures by caption, float [n, h, w, 3] on the scale of the batch; None if the task draws nothing.
    """
    if task.pictures is None:
        return None
    few = images.take(subset(images.source.labels, min(ROWS, len(images.source)), seed))
    draw = task.pictures.draw
    compute = jax.jit(lambda variables, batch: draw(variables, few.preprocess(batch), jax.random.key(seed)))
    batch, drawn = next(few.each(lambda batch: compute(variables, batch)))
    mask, drawn = gather((batch["mask"], drawn))
    return {caption: x[mask] for caption, x in drawn.items()}


def of_task(experiment: Experiment | None, drawn: Mapping[str, np.ndarray] | None, path: Path) -> list[str]:
    """Draws what the task of a run makes of images, such as reconstructions of masked patches.

    Args:
      experiment: Experiment of the run; None for converted weights.
      drawn: Pictures from `draw_task`.
      path: PNG file to write.

    Returns:
      The text about the picture; nothing if the task draws none.
    """
    if experiment is None or experiment.task.pictures is None or drawn is None:
        return []
    shown = viewable(np.stack(list(drawn.values()), axis=1), experiment)  # n c h w 3, on one scale
    rows = [("", [Cell(x, caption) for caption, x in zip(drawn, row)]) for row in shown]
    title, text, _ = experiment.task.pictures
    sheet(rows, side=LARGE, title=title).save(path, optimize=True)
    return [f"## {title}", text, f"![{title.lower()}]({path.name})"]


def neighbours(images: EvalSet, features: Features, path: Path) -> list[str]:
    """Draws one image of each of some classes, with the images whose features are most similar.

    Args:
      images: Images of the features.
      features: Features of the images, with labels.
      path: PNG file to write.

    Returns:
      The text about the picture.
    """
    names = images.info.classes or [str(k) for k in range(present(images.info.num_classes))]
    classes, firsts = np.unique(features.labels, return_index=True)
    chosen = np.unique(np.linspace(0, len(classes) - 1, min(QUERIES, len(classes))).round().astype(int))
    queries = firsts[chosen]
    rows, cosines = embedding.nearest(features.values, queries, min(NEIGHBOURS, len(features.values) - 1))
    host = host_ops.make_chain(images.host)
    image = lambda row: host(images.source[int(features.rows[row])], np.random.default_rng(0))["image"]
    page = []
    of_queries = zip(queries, rows, cosines)
    for query, others, likeness in track(of_queries, "drawing neighbours", len(queries), "queries"):
        label = features.labels[query]
        cells = [
            Cell(
                image(row), f"{s:.2f} {names[features.labels[row]]}", RIGHT if features.labels[row] == label else WRONG
            )
            for row, s in zip(others, likeness)
        ]
        page.append((names[label], [Cell(image(query), "query"), *cells]))
    title = f"{images.info.name} {images.info.split}: an image, and those whose features have the largest cosine to it"
    sheet(page, side=SIDE, title=title).save(path, optimize=True)
    right = np.mean(features.labels[rows] == features.labels[queries][:, None])
    return [
        "## Nearest neighbours",
        "The first image of a row is the query, the first of its class. The others are the "
        f"{rows.shape[1]} of {len(features.values) - 1:,} images with the largest cosine to it, which is written under "
        "them. A green frame means the same class, an orange one another class: "
        f"{right:.0%} of the neighbours below have the same class; guessing gives "
        f"{_chance(features.labels, queries):.0%}.",
        f"![nearest neighbours]({path.name})",
    ]


def _chance(labels: np.ndarray, queries: np.ndarray) -> float:
    return float(np.mean([(np.sum(labels == labels[q]) - 1) / (len(labels) - 1) for q in queries]))


def maps(info: Info, features: Features, perplexity: float, seed: int, path: Path) -> list[str]:
    """Draws PCA and t-SNE of the features, scaled to length 1.

    Args:
      info: Description of the data set, with its classes.
      features: Features of the images, with labels.
      perplexity: Perplexity of t-SNE.
      seed: Seed of t-SNE.
      path: PNG file to write.

    Returns:
      The text about the picture.
    """
    title = "## PCA and t-SNE"
    values = embedding.unit(features.values)
    if values.std(axis=0).max() < 1e-6:
        return [title, "Left out: all images have the same features, up to their length. The network has collapsed."]
    names = info.classes or [str(k) for k in range(present(info.num_classes))]
    points = waiting(f"t-SNE of {len(values):,} images", embedding.embed, values, perplexity, seed)
    embedding_plots.draw(points, features.labels, names, path)
    return [
        title,
        "A dot is an image. PCA is linear, and its axes say how much of the variance they show. t-SNE only keeps "
        "neighbours together: the distances, sizes and number of groups mean little, and other perplexities give other "
        "pictures.",
        f"![PCA and t-SNE of the features]({path.name})",
    ]


def filters(params: Mapping[str, jax.Array], path: Path) -> list[str]:
    """Draws the filters of the first layer.

    Args:
      params: Parameters of the model, by path.
      path: PNG file to write.

    Returns:
      The text about the picture.
    """
    title = "## Filters of the first layer"
    first = first_kernel(params)
    if first is None:
        return [title, "Left out: this network has no convolution over the colours of the image."]
    name, kernel = first
    images = filter_pictures(kernel)
    side = 64 if len(images) <= 64 else 40
    grid([Cell(f) for f in images[:FILTERS]], columns=16 if side == 64 else 24, side=side, lines=0, title=name).save(
        path
    )
    height, width, channels, count = kernel.shape
    some = f" (shown are the {FILTERS} largest)" if count > FILTERS else ""
    return [
        title,
        f"{code(name)}: {count} filters of {height}x{width} pixels and {channels} channels{some}, the largest norm "
        "first. Each is scaled by its own largest weight, so a weak filter looks as strong as the others; grey is 0.",
        f"![filters of the first layer]({path.name})",
    ]
