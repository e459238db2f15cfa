"""Pictures of the data that a config trains on: classes, examples, every augmentation, and the batch of a step."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from jaxvision import augment, outputs
from jaxvision.analysis import plots
from jaxvision.analysis.sheets import Cell, grid, join_pages, sheet
from jaxvision.augment import gallery
from jaxvision.data import Source, Subset, host_ops, loader, open_source, statistics, wanted
from jaxvision.data.sources import BadExample
from jaxvision.errors import UserError
from jaxvision.experiment import Experiment
from jaxvision.progress import track, waiting
from jaxvision.storage import Path as StoredPath
from jaxvision.tasks.task import Batch
from jaxvision.train.step import step_keys

WRITTEN = ("classes.png", "examples.png", "operations.png", "batch.png")
EXAMPLES_SHOWN = 48
GALLERY_SIDE = 80  # pixels
WHITENED_SIDE = 24  # pixels; small, because whitening needs the eigenvectors of all pixels
FITTED_TO = 1000  # number of examples for the statistics of the gallery
STRAYS = 0.02  # share of an image's values that may be outside of black and white

T = TypeVar("T")


def present(value: T | None) -> T:
    """Returns a value that the caller knows not to be None.

    Args:
      value: Value of an optional field, such as the source of an experiment whose data set was checked to be here.
    """
    assert value is not None
    return value


def write_pages(experiment: Experiment, folder: StoredPath) -> list[StoredPath]:
    """Writes the pages as PNG. Pages of an earlier call that this one does not write are deleted.

    classes.png      number of examples of each class
    examples.png     the first examples of training as evaluation sees them, with labels and captions
    operations.png   every augmentation of the library at several strengths, on an example
    batch.png        the batch of the first step, augmented and mixed, with its labels

    Args:
      experiment: Experiment of a config.
      folder: Folder of the pages; created if absent.

    Returns:
      The paths of the pages.

    Raises:
      UserError: The data set is absent, or has no images.
    """
    if experiment.source is None:
        raise UserError(f"--pages needs the data set {experiment.data.name!r}, which is not here: set data.data_dir")
    if experiment.image is None:
        raise UserError(
            f"--pages shows images, but data.fields has none ({', '.join(experiment.data.fields)}): leave out --pages"
        )
    draw = {"examples.png": _examples, "operations.png": _operations, "batch.png": _batch}
    with outputs.filling(folder, WRITTEN, "--pages") as here:
        if experiment.info.num_classes is not None:
            waiting("counting classes", _classes, experiment, here / "classes.png")
        for name, function in draw.items():
            function(experiment).save(here / name, optimize=True)
        return [folder / name for name in WRITTEN if (here / name).exists()]


def _classes(experiment: Experiment, path: Path) -> None:
    info, labels, num_classes = experiment.info, present(experiment.source).labels, present(experiment.info.num_classes)
    counts = labels.sum(axis=0) if info.multi_label else np.bincount(labels, minlength=num_classes)
    names = info.classes or [str(k) for k in range(num_classes)]
    plots.histogram(dict(zip(names, counts.tolist())), path, xlabel="examples", title=f"{info.name} {info.split}")


def _examples(experiment: Experiment):
    data = experiment.data
    source = open_source(data.name, data.split, data_dir=data.data_dir, options=data.options)  # with all its fields
    chosen = _first(source, EXAMPLES_SHOWN, experiment.seed)
    names = [name for name, field in source.fields.items() if field.kind in ("image", "label", "text")]
    host = wanted.make_source_chain(source, host_ops.serving(experiment.deployment()[0], ["tokens"]), names)
    cells, image = [], present(experiment.image)
    for i in track(range(len(chosen)), "drawing examples", unit="images"):
        try:
            raw = chosen[i]
            seen = host(raw, np.random.default_rng(0))
        except (host_ops.BadImage, BadExample, OSError) as error:
            cells.append(Cell(np.zeros((8, 8, 3), np.uint8), f"cannot be read: {error}"))
            continue
        words = [label_text(raw["label"], experiment.info.classes)] if "label" in raw else []
        texts = [text for key, value in seen.items() if key != host_ops.CLASS_NAME for text in _texts(value)]
        cells.append(Cell(seen[image], "; ".join([*words, *texts])))
    title = f"{experiment.info.name} {experiment.info.split}: {experiment.deployment()[0]}"
    return grid(cells, title=title, lines=6 if any(len(c.words) > 40 for c in cells) else 2)


def _first(source: Source, examples: int, seed: int) -> Subset:
    """The first examples of training."""
    return Subset(source, source.order(seed, 0, min(examples, len(source))))


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, tuple) else (value,)
    return [v for v in values if isinstance(v, str)]


def _operations(experiment: Experiment):
    large, small = (_fitted(experiment, side) for side in (GALLERY_SIDE, WHITENED_SIDE))
    rows = []
    shown = gallery.example_specs(GALLERY_SIDE)
    for name, specs in track(shown.items(), "drawing augmentations", len(shown), "operations"):
        images, fitted = small if "pixel_values" in augment.needs_statistics(specs[0]) else large
        batch = {"image": images, "label": np.arange(len(images)) % 2}
        cells = [Cell(images[0], "original")]
        for spec in specs:
            op = jax.jit(augment.make_augmentation(spec, num_classes=2, statistics=fitted))
            cells.append(Cell(np.asarray(op(jax.random.key(experiment.seed), batch)["image"][0]), spec))
        rows.append((name, cells))
    half = -(-len(rows) // 2)
    return join_pages([sheet(part, side=GALLERY_SIDE, lines=3) for part in (rows[:half], rows[half:])])


def _fitted(experiment: Experiment, side: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Two images of `side` pixels, uint8, and the statistics of `FITTED_TO` images."""
    image = present(experiment.image)

    def read() -> Iterator[dict[str, np.ndarray]]:
        source = _first(present(experiment.source), FITTED_TO, experiment.seed)
        # These few images do not show whether the set has too many bad ones, so any number may be bad.
        host, fields = f"decode|resize({side})", (image,)
        batches = loader.eval_batches(source, host, batch_size=100, fields=fields, max_bad_fraction=1.0)
        return track(batches, "reading images for statistics", -(-len(source) // 100), "batches")

    names = ("pixel_values",) if side == WHITENED_SIDE else ()
    return next(read())[image][:2], statistics.compute_statistics(read(), names, image)._asdict()


def _batch(experiment: Experiment, most: int = 64):
    _, out = waiting("drawing the first batch", first_batch, experiment)
    labels = out.get("label", [None] * len(out["mask"]))
    images = viewable(out[present(experiment.image)][:most], experiment)
    words = ["" if label is None else label_text(label, experiment.info.classes) for label in labels]
    title = f"step 0: {experiment.data.host} then {experiment.config.get('augment', '')}"
    return grid([Cell(*pair) for pair in zip(images, words)], columns=8 if images.ndim == 4 else 3, title=title)


def first_batch(experiment: Experiment) -> tuple[Batch, Batch]:
    """Returns the training batch of step 0, before and after the augmentation on the devices.

    Args:
      experiment: Experiment whose data set is here.
    """
    data = experiment.data
    batches = loader.train_batches(
        present(experiment.source),
        data.host,
        batch_size=data.batch_size,
        seed=experiment.seed,
        start=0,
        stop=1,
        fields=data.fields,
        max_bad_fraction=data.max_bad_fraction,
    )
    raw = next(batches)
    return raw, jax.device_get(jax.jit(experiment.augment)(step_keys(experiment.seed, 0)[0], raw))


def viewable(images: np.ndarray, experiment: Experiment) -> np.ndarray:
    """Undoes the normalisation of augmented images.

    The scale comes from what the augmentation makes of a black and a white image. If that scale does not fit the
    images, for instance after whitening, another one is chosen that keeps nearly all of their values.

    Args:
      images: Images after augmentation, [..., h, w, 3].
      experiment: Experiment whose augmentation made them.

    Returns:
      Images float32 [..., h, w, 3] in [0, 1].
    """
    name = present(experiment.image)
    spec, fields = augment.evaluation(experiment.config.get("augment", "")), {name: experiment.fields[name]}
    transform = augment.make_augmentation(spec, statistics=experiment.statistics, fields=fields)
    blank = np.ones(experiment.batch[name].shape[1:], np.uint8)
    ends = transform(jax.random.key(0), {name: np.stack([0 * blank, 255 * blank])})[name]
    black, white = np.median(np.asarray(ends).reshape(2, -1, 3), axis=1)
    shown = (np.asarray(images, np.float32) - black) / np.maximum(white - black, 1e-6)
    if np.mean(np.abs(shown - 0.5) > 0.6) > STRAYS:
        low, high = np.quantile(images, (STRAYS / 2, 1 - STRAYS / 2))
        shown = (images - low) / max(high - low, 1e-6)
    return np.clip(shown, 0, 1)


def label_text(label: np.ndarray, classes: tuple[str, ...]) -> str:
    """Returns a label in words: one class, or the largest shares of a mixed label.

    Args:
      label: Class, [], or the share of each class, [c].
      classes: Names of the classes; empty for their numbers.

    >>> label_text(np.array([0.6, 0.4]), ("cat", "dog"))
    'cat 0.60 + dog 0.40'
    """
    name = lambda k: classes[k] if classes else str(k)
    if np.ndim(label) == 0:
        return name(int(label))
    label = np.asarray(label)
    best = [k for k in np.argsort(-label, kind="stable")[:3] if label[k] > 0.005]
    return " + ".join(name(k) if label[k] == 1 else f"{name(k)} {label[k]:.2f}" for k in best)
