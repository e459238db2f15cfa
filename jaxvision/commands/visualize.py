"""`jaxvision visualize`: a page of pictures of what a network learned."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxvision import config as configs
from jaxvision import evaluations, outputs, paths, storage
from jaxvision.analysis import documents, embedding
from jaxvision.analysis.words import code, plain
from jaxvision.commands import pictures
from jaxvision.commands.restore import open_weights, restore
from jaxvision.data.subsets import subset
from jaxvision.errors import UserError
from jaxvision.evals import features
from jaxvision.evals.dataset import EvalSet
from jaxvision.experiment import Experiment
from jaxvision.models.weights import folder
from jaxvision.parallel.distributed import is_main
from jaxvision.sections import DataSection, EvalSection
from jaxvision.storage import Path
from jaxvision.train.progress import console
from jaxvision.train.state import TrainState

WRITTEN = ("views.png", "neighbours.png", "embedding.png", "filters.png", "index.html", "index.md")


def run_visualize(
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
      layer: of the features, see `features.pick_layer`.
      split: whose features are drawn, of the set of the first evaluation or of `data`; by default theirs.
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
    workdir, out = storage.path(workdir, "--workdir"), storage.path(out, "--out")
    outputs.check(out, WRITTEN, "--out")
    judged, state, experiment = _open(workdir, step, data)
    images = _images(judged, _section(judged, experiment, split, data), examples, seed)
    embedding.check(len(images.source), perplexity)
    features.check_layers(judged.task, images, judged.variables, [layer])
    variables = state.best_variables
    found = features.make_features(task=judged.task, data=images, layer=layer)(variables)
    if not is_main():
        return out / "index.html"
    outputs.claim(out, WRITTEN, "--out")
    with storage.folder(out) as here:
        parts = [
            *_heading(workdir, int(state.step), experiment, images, layer, found.values, seed),
            *pictures.views(experiment, here / "views.png"),
            *pictures.neighbours(images, found, here / "neighbours.png"),
            *pictures.maps(images.info, found, perplexity, seed, here / "embedding.png"),
            *pictures.filters(_of_model(experiment, variables["params"]), here / "filters.png"),
        ]
        documents.write("\n\n".join(parts) + "\n", here / "index.md", f"what {workdir} learned")
    console().print(f"written to {out}/index.html")
    return out / "index.html"


def _of_model(experiment: Experiment | None, params: Any) -> dict[str, Any]:
    """The parameters of the model that is looked at, by path: without those of a projection, a teacher, a player."""
    found = paths.flatten(params)
    if experiment is None:
        return found
    inside = experiment.layout.inside(None, [f"params/{name}" for name in found])
    return {name: x for name, x in found.items() if f"params/{name}" in inside}


def _open(
    workdir: Path, step: int | None, data: Mapping | None
) -> tuple[evaluations.Judged, TrainState, Experiment | None]:
    """The model, its state and, where it is of a run, the experiment."""
    if not folder.is_folder(workdir):
        experiment, state, _ = restore(workdir, step)
        return experiment.judged(), state, experiment
    if step is not None:
        raise UserError(f"{workdir} holds converted weights, which have no steps")
    if not data:
        raise UserError(f"{workdir} holds converted weights: name images with --config=FILE.py that has a section data")
    return *open_weights(workdir, data)[:2], None


def _section(
    judged: evaluations.Judged, experiment: Experiment | None, split: str | None, data: Mapping | None
) -> EvalSection:
    """Which images, as an evaluation would say it: those of `data`, else of the first evaluation, else of training."""
    if data:
        given = configs.call(DataSection, {"batch_size": judged.data.batch_size, **data}, "data")
        kept = {name: getattr(given, name) for name in ("data_dir", "options", "subset")}
        return EvalSection("visualize", split or given.split, data=given.name, **kept)
    if experiment.evals:
        first = experiment.evals[0].common
        return first._replace(split=split or first.split, subset=None)
    return EvalSection("visualize", split or judged.data.split)


def _images(judged: evaluations.Judged, section: EvalSection, examples: int, seed: int) -> EvalSet:
    """Images of one class each, so many where there are more."""
    # With train_split, labels are read whatever the task reads.
    section = section._replace(train_split=section.split)
    images = evaluations.open_split(section, section.split, section.subset, judged, {})
    info = images.info
    if not info.num_classes or info.multi_label:
        has = "several labels" if info.multi_label else "no label"
        raise UserError(f"the pictures are coloured by class, but an image of {info.name} {info.split} has {has}")
    if examples >= len(images.source):
        return images
    return images.take(subset(images.source.labels, examples, seed))


def _heading(
    workdir: Path, step: int, experiment: Experiment | None, images: EvalSet, layer: str, values: np.ndarray, seed: int
) -> list[str]:
    what = "Converted weights"
    if experiment is not None:
        task, model = (code(_call(experiment.config[part])) for part in ("task", "model"))
        what = f"Step {step:,} of {task} with {model}"
    (count, dimensions), info = values.shape, images.info
    return [
        f"# What {plain(workdir)} learned",
        f"{what}. Below, features are the output {code(layer)} of {count:,} images of {plain(info.name)} "
        f"{plain(info.split)} (where there are more, seed {seed} chose them, evenly over {info.num_classes} "
        f"classes): {dimensions:,} numbers an image, scaled to length 1. Images were prepared by "
        f"{code(images.host)}, then {code(images.augment or 'nothing')}.",
    ]


def _call(section: Mapping[str, Any]) -> str:
    options = ", ".join(f"{name}={value!r}" for name, value in section.items() if name != "name")
    return f"{section['name']}({options})"
