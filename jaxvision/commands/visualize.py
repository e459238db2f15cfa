"""`jaxvision visualize`: a page of pictures of what a network learned."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxvision import config as configs
from jaxvision import evaluations, outputs, paths, storage
from jaxvision.analysis import documents
from jaxvision.analysis.words import code, plain
from jaxvision.commands import attention, pictures
from jaxvision.commands.restore import open_weights, restore
from jaxvision.data.subsets import subset
from jaxvision.errors import UserError
from jaxvision.evals import features
from jaxvision.evals.dataset import EvalSet
from jaxvision.experiment import Experiment
from jaxvision.explain import embedding
from jaxvision.models.weights import folder
from jaxvision.parallel.distributed import is_main
from jaxvision.sections import DataSection, EvalSection
from jaxvision.storage import Path
from jaxvision.train.progress import console
from jaxvision.train.state import TrainState

WRITTEN = (
    "views.png",
    "task.png",
    "neighbours.png",
    "embedding.png",
    "attention.png",
    "filters.png",
    "index.html",
    "index.md",
)


def run_visualize(
    workdir: str | Path,
    out: str | Path,
    *,
    step: int | str | None = None,
    layer: str = "features",
    split: str | None = None,
    data: Mapping[str, Any] | None = None,
    examples: int = 2000,
    perplexity: float = embedding.PERPLEXITY,
    seed: int = 0,
) -> Path:
    """Draws pictures of a representation, and writes the page that shows them.

    views.png       images of the first training batch, and what the network sees of them
    task.png        what the task draws of some images, if it draws any: reconstructions of masked patches
    neighbours.png  some images, and those with the nearest features
    embedding.png   PCA and t-SNE of the features, coloured by class
    attention.png   what the class token of a ViT attends to in the last block, head by head
    filters.png     the filters of the first layer
    index.html      all pictures with text, in one file; index.md is its text

    A picture that cannot be drawn is left out, and the page says why: there are no views of converted weights or
    without the training set, no attention without a class token, and no filters if the first layer has none.

    Args:
      workdir: Folder of a run of any task, or of converted weights.
      out: Folder of the pictures and the page; created if absent.
      step: Step of the checkpoint, or "best", see `train.best.step_of`; None for the latest.
      layer: Output of the model to draw, see `features.pick_layer`.
      split: Split of the images, from the data set of `data` or of the first evaluation; None for that one's split.
      data: Section `data` of a config, in place of the data set of the run; converted weights need it.
      examples: Number of images of the split, balanced over the classes as well as possible.
      perplexity: Perplexity of t-SNE.
      seed: Seed of t-SNE and of the choice of images.

    Returns:
      The path of index.html.

    Raises:
      UserError: The images have no classes or are too few for the perplexity, or another input is wrong. It is raised
        before anything is computed or written.
    """
    workdir, out = storage.path(workdir, "--workdir"), storage.path(out, "--out")
    outputs.check(out, WRITTEN, "--out")
    judged, state, experiment, model = _open(workdir, step, data)
    images = _images(judged, _section(judged, experiment, split, data), examples, seed)
    embedding.check(len(images.source), perplexity)
    features.check_layers(judged.task, images, judged.variables, [layer])
    variables = state.best_variables
    vectors = features.make_features(task=judged.task, data=images, layer=layer)(variables)
    drawn = pictures.draw_task(judged.task, images, variables, seed)
    params = _of_model(experiment, variables["params"])
    attended = attention.compute(model, params, images, seed)
    if not is_main():
        return out / "index.html"
    with outputs.filling(out, WRITTEN, "--out") as here:
        parts = [
            *_heading(workdir, int(state.step), experiment, images, layer, vectors.values, seed),
            *pictures.views(experiment, here / "views.png"),
            *pictures.of_task(experiment, drawn, here / "task.png"),
            *pictures.neighbours(images, vectors, here / "neighbours.png"),
            *pictures.maps(images.info, vectors, perplexity, seed, here / "embedding.png"),
            *attention.draw(attended, here / "attention.png"),
            *pictures.filters(params, here / "filters.png"),
        ]
        documents.write("\n\n".join(parts) + "\n", here / "index.md", f"what {workdir} learned")
    console().print(f"written to {out}/index.html")
    return out / "index.html"


def _of_model(experiment: Experiment | None, params: Any) -> dict[str, Any]:
    """The parameters of the model by path, without those of a projection, a teacher or a player."""
    arrays = paths.flatten(params)
    if experiment is None:
        return arrays
    inside = experiment.layout.paths_in(None, [f"params/{name}" for name in arrays])
    return {name: x for name, x in arrays.items() if f"params/{name}" in inside}


def _open(
    workdir: Path, step: int | str | None, data: Mapping | None
) -> tuple[evaluations.Judged, TrainState, Experiment | None, Mapping[str, Any]]:
    """The model, its state, the experiment if it is a run's, and the section `model`."""
    if not folder.is_folder(workdir):
        experiment, state, _ = restore(workdir, step)
        return experiment.judged(), state, experiment, experiment.config.model
    if step is not None:
        raise UserError(f"{workdir} holds converted weights, which have no steps: leave out --step")
    if not data:
        raise UserError(f"{workdir} holds converted weights, which name no images: add --config=FILE.py with 'data'")
    judged, state, meta = open_weights(workdir, data)
    return judged, state, None, configs.from_json(json.dumps(meta["model"]))


def _section(
    judged: evaluations.Judged, experiment: Experiment | None, split: str | None, data: Mapping | None
) -> EvalSection:
    """The images as a section of `evals`: those of `data`, else of the first evaluation, else of training."""
    if data:
        section = configs.call(DataSection, {"batch_size": judged.data.batch_size, **data}, "data")
        kept = {name: getattr(section, name) for name in ("data_dir", "options", "subset")}
        return EvalSection("visualize", split or section.split, data=section.name, **kept)
    if experiment is not None and experiment.evals:
        first = experiment.evals[0].common
        return first._replace(split=split or first.split, subset=None)
    return EvalSection("visualize", split or judged.data.split)


def _images(judged: evaluations.Judged, section: EvalSection, examples: int, seed: int) -> EvalSet:
    """Images with one class each, at most `examples`."""
    # train_split makes the labels be read even if the task does not read them.
    section = section._replace(train_split=section.split)
    images = evaluations.open_split(section, section.split, section.subset, judged, {})
    info = images.info
    if not info.num_classes or info.multi_label:
        has = "several labels" if info.multi_label else "no label"
        raise UserError(
            f"the pictures are coloured by class, but an image of {info.name} {info.split} has {has}: give another "
            "data set with --config=FILE.py"
        )
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
        f"{plain(info.split)} (if there are more, seed {seed} chose these, evenly over {info.num_classes} "
        f"classes): {dimensions:,} numbers per image, scaled to length 1. The images were preprocessed by "
        f"{code(images.host)}, then {code(images.augment or 'nothing')}.",
    ]


def _call(section: Mapping[str, Any]) -> str:
    options = ", ".join(f"{name}={value!r}" for name, value in section.items() if name != "name")
    return f"{section['name']}({options})"
