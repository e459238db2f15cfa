"""Zero-shot classification: the class whose name, in prompts, is most similar to the image. Nothing is learned."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import storage
from jaxvision.data.text import class_names, prompts
from jaxvision.data.text.class_names import Classes
from jaxvision.data.text.prompts import PromptSet
from jaxvision.errors import UserError
from jaxvision.evals import features
from jaxvision.evals import texts as texts_of
from jaxvision.evals.class_mean import unit
from jaxvision.evals.classify import rank
from jaxvision.evals.columns import Rows, blocks, computed
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.texts import Texts
from jaxvision.parallel.distributed import gather, is_main
from jaxvision.parallel.mesh import batch_axis_size, replicate
from jaxvision.registry import part

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables

LAYER = "image_embedding"
ROWS = 4096  # images at a time


@part(
    "evaluator",
    "zeroshot",
    small={"prompts": ("photo", "clip7"), "classes": None, "only": None, "report": None},
    fields=lambda options: ("image", "label"),
)
def make_zeroshot(
    *,
    task: "Task",
    data: EvalSet,
    texts: Texts,
    prompts: tuple[str, ...] = ("class_name", "photo", "clip80"),
    classes: str | tuple[str, ...] | None = None,
    only: str | tuple | None = None,
    report: str | None = None,
) -> "Callable[[Variables], dict[str, float]]":
    """Makes the evaluator of zero-shot classification, where the model knows the classes by name only.

    Radford et al. 2021 (CLIP), sec. 3.1: the name of a class is put into every prompt and embedded. The mean of these
    embeddings of length 1, scaled to length 1 again, represents the class, and an image belongs to the class with the
    largest cosine. All sets of prompts share one pass over the images; data sets with the same names (`sets` of the
    section) share one pass over the texts.

    Args:
      task: Task whose `outputs` have "image_embedding" [b, d] and "text_embedding" [b, d].
      data: Split to evaluate, with one class for each image.
      texts: Tokenizer of the model.
      prompts: Sets of prompts, each evaluated separately: one of `prompts.SETS`, a file of prompts, or a text with
        `{}` in place of the name.
      classes: Names of the classes in their order, in place of the set's: a file with one per line, or the names.
      only: Classes to choose from; images of others are left out: one of `class_names.ONLY`; labels or names of the
        set; or a file with one of these per line.
      report: Folder for files such as `zeroshot_clip80_v1.json` with the accuracy of every class, its confusions, and
        the accuracy of every prompt. Each evaluation overwrites them.

    Returns:
      `run(variables) -> {"zeroshot_clip80_v1/top1": ..., "/top5": ..., "/mean_class": ..., "examples": n}`: accuracies
      in [0, 1], `top5` for six classes or more, `mean_class` averaged over the classes that occur. For a set of several
      prompts, `/prompt_mean`, `/prompt_std` (with n - 1), `/prompt_min` and `/prompt_max` are of the accuracies of
      single prompts. Other classes than the set's are in the name: `zeroshot_clip80_v1_only_imagenet_r/top1`. Of equal
      cosines the first class counts, and an embedding with a NaN is never right.

    Raises:
      UserError: If the set has no labels or no names of classes, or prompts or classes are unknown.
    """
    if not data.info.num_classes or data.info.multi_label:
        raise UserError(
            f"the evaluator 'zeroshot' needs one class for each image, which {data.info.name!r} does not have"
        )
    chosen = class_names.candidate_classes(data.info, classes, only)
    sets = _prompt_sets(prompts)
    of_images = features.make_features(task=task, data=data, layer=LAYER)
    of_texts = texts_of.make_embedder(task=task, texts=texts, mesh=data.mesh, store=data.store)

    def run(variables: "Variables") -> dict[str, float]:
        images = of_images(variables)
        among = np.flatnonzero(np.isin(images.labels, chosen.labels))
        values = images.array if len(among) == len(images.labels) else images.values[among]
        labels = np.searchsorted(chosen.labels, images.labels[among])
        if not len(labels):
            raise UserError(
                f"{data.info.name} {data.info.split} has no image of the classes to choose from: set other `classes` "
                "or `only`"
            )
        embedded = _embedded(of_texts, variables, sets, chosen.names)
        metrics: dict[str, float] = {}
        for prompt_set in sets:
            single, mean = classifiers(embedded[prompt_set.name])
            heads = mean[None] if len(single) == 1 else np.concatenate([mean[None], single])
            ranks, predicted = judge_classifiers(values, labels, heads, data.mesh)
            protocol = f"zeroshot_{prompt_set.name}{chosen.protocol}"
            measured = prompt_accuracies(ranks, labels, len(chosen.names))
            metrics |= {f"{protocol}/{name}": value for name, value in measured.items()}
            if report is not None and is_main():
                rest = report_details(ranks, predicted, labels, chosen, prompt_set)
                where = {"data": data.info.name, "split": data.info.split, "protocol": protocol}
                _write(storage.local(report, "report"), protocol, {**where, **measured, **rest})
        return metrics | {"examples": float(len(labels))}

    return run


def classifiers(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes the weights of the classifiers of single prompts, and of all prompts together.

    Args:
      embeddings: Embeddings of each of t prompts with the name of each class, float [t, k, d].

    Returns:
      (weights for each prompt [t, k, d], weights for their mean direction [k, d]), float32 of length 1.

    >>> single, mean = classifiers(np.array([[[2.0, 0.0]], [[0.0, 1.0]]]))
    >>> np.allclose(mean, [[0.5**0.5, 0.5**0.5]])
    True
    """
    t, k, d = embeddings.shape
    single = unit(embeddings.reshape(t * k, d)).reshape(t, k, d)
    return single.astype(np.float32), unit(single.mean(axis=0)).astype(np.float32)


def judge_classifiers(
    images: Rows, labels: np.ndarray, heads: np.ndarray, mesh: jax.sharding.Mesh
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the rank of the label and the predicted class, for each of several linear classifiers.

    Args:
      images: Embeddings of images, float32 [n, d].
      labels: Labels, int [n] in [0, k).
      heads: Weights of t classifiers, float32 [t, k, d].
      mesh: Mesh of the devices that images are split over.

    Returns:
      (ranks, predicted), int32 [t, n]. A rank of 0 is right; if a cosine is NaN, the predicted class is -1.
    """
    parts = batch_axis_size(mesh)
    rows = -(-min(ROWS, len(images)) // parts) * parts
    heads = replicate(heads, mesh)
    judged = (_judge(*some, heads) for some in blocks((images, labels.astype(np.int32)), rows, mesh, split=True))
    results = [gather(result) for result in computed(judged)]
    ranks, predicted = (np.concatenate(part, axis=1)[:, : len(images)] for part in zip(*results))
    return ranks, predicted


@jax.jit
def _judge(images: jax.Array, labels: jax.Array, heads: jax.Array) -> tuple[jax.Array, jax.Array]:
    def one(head):
        cosines = jnp.matmul(images, head.T, precision=jax.lax.Precision.HIGHEST)  # n k
        chosen = jnp.where(jnp.isnan(cosines).any(axis=1), -1, cosines.argmax(axis=1))
        return rank(cosines, labels), chosen.astype(jnp.int32)

    return jax.lax.map(one, heads)


def prompt_accuracies(ranks: np.ndarray, labels: np.ndarray, num_classes: int) -> dict[str, float]:
    """Computes the accuracies of the mean classifier, and the spread of the accuracies of single prompts.

    Args:
      ranks: Ranks of the labels, int [1 + t, n], by the mean classifier and by each of t prompts; int [1, n] for one
        prompt.
      labels: Labels, int [n].
      num_classes: Number of classes.

    Returns:
      Accuracies in [0, 1] by name, see `make_zeroshot`.

    >>> ranks = np.array([[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]])
    >>> prompt_accuracies(ranks, np.array([0, 0, 1, 1]), 2)["prompt_mean"]
    0.375
    """
    right = ranks == 0
    values = {"top1": right[0].mean()}
    if num_classes > 5:
        values["top5"] = (ranks[0] < 5).mean()
    values["mean_class"] = np.mean([right[0, labels == k].mean() for k in np.unique(labels)])
    if len(ranks) > 1:
        single = right[1:].mean(axis=1)
        values |= {"prompt_mean": single.mean(), "prompt_std": single.std(ddof=1)}
        values |= {"prompt_min": single.min(), "prompt_max": single.max()}
    return {name: float(value) for name, value in values.items()}


def report_details(
    ranks: np.ndarray, predicted: np.ndarray, labels: np.ndarray, chosen: Classes, prompt_set: PromptSet
) -> dict[str, Any]:
    """Collects the details of the report: accuracy and confusions of every class, and accuracy of every prompt.

    Args:
      ranks: Ranks of the labels, int [1 + t, n] or [1, n], as in `prompt_accuracies`.
      predicted: Predicted classes, int [1 + t, n] or [1, n]; -1 for an embedding with a NaN.
      labels: Labels, int [n].
      chosen: Classes to choose from.
      prompt_set: Set of t prompts.

    Returns:
      JSON of the report.
    """
    counts = np.zeros((len(chosen.names),) * 2, np.int64)
    judged = predicted[0] >= 0  # -1: the embedding has a NaN
    np.add.at(counts, (labels[judged], predicted[0][judged]), 1)
    images = np.bincount(labels, minlength=len(chosen.names))
    often = Counter(chosen.names)  # CLIP calls two classes of ImageNet "missile"
    names = [name if often[name] == 1 else f"{name} ({label})" for name, label in zip(chosen.names, chosen.labels)]
    classes = [
        {
            "class": name,
            "label": label,
            "images": int(images[i]),
            "accuracy": float(row[i] / images[i]) if images[i] else None,
            "taken_for": {names[j]: int(row[j]) for j in np.argsort(-row, kind="stable") if row[j] and j != i},
        }
        for i, (name, label, row) in enumerate(zip(names, chosen.labels, counts))
    ]
    single = ranks if len(ranks) == 1 else ranks[1:]
    accuracies = {text: float(np.mean(row == 0)) for text, row in zip(prompt_set.templates, single)}
    return {"not_numbers": int((~judged).sum()), "classes": classes, "prompts": accuracies}


def _prompt_sets(names: Sequence[str]) -> list[PromptSet]:
    if not names or isinstance(names, str):
        raise UserError(f"prompts must be a tuple of sets of prompts like ('photo', 'clip80'), not {names!r}")
    return [prompts.get_prompts(name) for name in names]


def _embedded(
    of_texts: Callable, variables: "Variables", sets: Sequence[PromptSet], names: Sequence[str]
) -> Mapping[str, np.ndarray]:
    """The embeddings [t, k, d] of each set; a text that several sets share is embedded once."""
    filled = {
        s.name: [prompts.fill_template(template, name) for template in s.templates for name in names] for s in sets
    }
    unique = list(dict.fromkeys(text for sentences in filled.values() for text in sentences))
    at = {text: i for i, text in enumerate(unique)}
    values = np.asarray(of_texts(variables, unique))
    shape = (-1, len(names), values.shape[1])
    return {name: values[[at[text] for text in sentences]].reshape(shape) for name, sentences in filled.items()}


def _write(folder: Path, name: str, content: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    storage.write(folder / f"{name}.json", json.dumps(content, indent=1) + "\n")
