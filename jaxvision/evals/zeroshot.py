"""Zero-shot classification: the class whose name, put into prompts, is most like the image. Nothing is learned."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

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
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.texts import Texts
from jaxvision.found import part
from jaxvision.parallel.distributed import gather, is_main
from jaxvision.parallel.gate import tick
from jaxvision.parallel.mesh import batch_axis_size, replicate, split_rows

LAYER = "image_embedding"
ROWS = 4096  # images that are judged at a time


@part(
    "evaluator",
    "zeroshot",
    small={"prompts": ("photo", "clip7"), "classes": None, "only": None, "report": None},
    fields=lambda options: ("image", "label"),
)
def make_zeroshot(
    *,
    task: Any,
    data: EvalSet,
    texts: Texts,
    prompts: tuple[str, ...] = ("class_name", "photo", "clip80"),
    classes: str | tuple[str, ...] | None = None,
    only: str | tuple | None = None,
    report: str | None = None,
) -> Callable[[Any], dict[str, float]]:
    """Judges a model of image and text by its choice among the classes of a set, which it knows by name alone.

    Radford et al. 2021 (CLIP), sec. 3.1: a class is the mean over prompts of the embeddings of length 1 of its name in
    each, scaled to length 1 again; an image is of the class of largest cosine. One pass over the images serves all sets
    of prompts, and one over the texts all data sets with the same names (`sets` of the section).

    Args:
      task: its `outputs` have "image_embedding" [B, D] and "text_embedding" [B, D].
      data: the split that is judged; one class an image.
      texts: how the model is given texts.
      prompts: sets of prompts, judged one by one: see `data.text.prompts.get_prompts`.
      classes: names of the classes in place of those of the set, see `data.text.class_names.candidate_classes`.
      only: the classes that are candidates, such as "imagenet_r"; likewise.
      report: a folder for `zeroshot_clip80_v1.json` and so on, with the accuracy of every class, what it was taken
        for, and the accuracy of every prompt; written anew at each evaluation.

    Returns:
      `run(variables) -> {"zeroshot_clip80_v1/top1": ..., "/top5": ..., "/mean_class": ..., "examples": n}`: accuracies
      in [0, 1], top5 from six classes on, mean_class the mean over classes that occur. Of sets of several prompts also
      the accuracies of the single prompts: `/prompt_mean`, `/prompt_std` (of this sample), `/prompt_min` and
      `/prompt_max`. Names of classes and candidates other than the set's own are part of the name:
      `zeroshot_clip80_v1_only_imagenet_r/top1`. Of equal cosines the first class counts, and embeddings that are no
      numbers are never right.

    Raises:
      UserError: a set without labels or names of classes, unknown prompts or classes.
    """
    if not data.info.num_classes or data.info.multi_label:
        raise UserError(f"the evaluator 'zeroshot' needs one class an image, which {data.info.name!r} has not")
    chosen = class_names.candidate_classes(data.info, classes, only)
    sets = _prompt_sets(prompts)
    of_images = features.make_features(task=task, data=data, layer=LAYER)
    of_texts = texts_of.make_embedder(task=task, texts=texts, mesh=data.mesh, store=data.store)

    def run(variables: Any) -> dict[str, float]:
        images = of_images(variables)
        among = np.isin(images.labels, chosen.labels)
        values, labels = images.values[among], np.searchsorted(chosen.labels, images.labels[among])
        if not len(labels):
            raise UserError(f"{data.info.name} {data.info.split} has no image of the classes that are judged")
        embedded = _embedded(of_texts, variables, sets, chosen.names)
        found: dict[str, float] = {}
        for of_set in sets:
            single, mean = classifiers(embedded[of_set.name])
            heads = mean[None] if len(single) == 1 else np.concatenate([mean[None], single])
            ranks, predicted = judge(values, labels, heads, data.mesh)
            protocol = f"zeroshot_{of_set.name}{chosen.protocol}"
            measured = measures(ranks, labels, len(chosen.names))
            found |= {f"{protocol}/{name}": value for name, value in measured.items()}
            if report is not None and is_main():
                told = details(ranks, predicted, labels, chosen, of_set)
                where = {"data": data.info.name, "split": data.info.split, "protocol": protocol}
                _write(storage.local(report, "report"), protocol, {**where, **measured, **told})
        return found | {"examples": float(len(labels))}

    return run


def classifiers(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the classifiers that prompts make.

    Args:
      embeddings: float [T, K, D], of each prompt with the name of each class.

    Returns:
      (single [T, K, D], mean [K, D]), float32 of length 1: of each prompt, and of their mean direction.

    >>> single, mean = classifiers(np.array([[[2.0, 0.0]], [[0.0, 1.0]]]))
    >>> np.allclose(mean, [[0.5**0.5, 0.5**0.5]])
    True
    """
    t, k, d = embeddings.shape
    single = unit(embeddings.reshape(t * k, d)).reshape(t, k, d)
    return single.astype(np.float32), unit(single.mean(axis=0)).astype(np.float32)


def judge(
    images: np.ndarray, labels: np.ndarray, heads: np.ndarray, mesh: jax.sharding.Mesh
) -> tuple[np.ndarray, np.ndarray]:
    """The rank of the label and the class chosen, by each of several linear classifiers.

    Args:
      images: float32 [N, D].
      labels: int [N] in [0, K).
      heads: float32 [T, K, D].
      mesh: over which images are split.

    Returns:
      (ranks, predicted), int32 [T, N]; a rank of 0 is right, and where a cosine is no number the class is -1.
    """
    parts = batch_axis_size(mesh)
    rows = -(-min(ROWS, len(images)) // parts) * parts
    heads, found = replicate(heads, mesh), []
    for start in range(0, len(images), rows):
        tick()
        some = images[start : start + rows], labels[start : start + rows].astype(np.int32)
        missing = rows - len(some[1])
        filled = [np.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)) for x in some]
        found.append(gather(_judge(*split_rows(filled, mesh), heads)))
    ranks, predicted = (np.concatenate(part, axis=1)[:, : len(images)] for part in zip(*found))
    return ranks, predicted


@jax.jit
def _judge(images: jax.Array, labels: jax.Array, heads: jax.Array) -> tuple[jax.Array, jax.Array]:
    def one(head):
        cosines = jnp.matmul(images, head.T, precision=jax.lax.Precision.HIGHEST)  # n k
        chosen = jnp.where(jnp.isnan(cosines).any(axis=1), -1, cosines.argmax(axis=1))
        return rank(cosines, labels), chosen.astype(jnp.int32)

    return jax.lax.map(one, heads)


def measures(ranks: np.ndarray, labels: np.ndarray, num_classes: int) -> dict[str, float]:
    """Accuracies of the ensemble, and how much those of the single prompts differ.

    Args:
      ranks: int [1 + T, N], of the mean classifier and, where there are several prompts, of each.
      labels: int [N].

    >>> ranks = np.array([[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]])
    >>> measures(ranks, np.array([0, 0, 1, 1]), 2)["prompt_mean"]
    0.375
    """
    right = ranks == 0
    found = {"top1": right[0].mean()}
    if num_classes > 5:
        found["top5"] = (ranks[0] < 5).mean()
    found["mean_class"] = np.mean([right[0, labels == k].mean() for k in np.unique(labels)])
    if len(ranks) > 1:
        single = right[1:].mean(axis=1)
        found |= {"prompt_mean": single.mean(), "prompt_std": single.std(ddof=1)}
        found |= {"prompt_min": single.min(), "prompt_max": single.max()}
    return {name: float(value) for name, value in found.items()}


def details(
    ranks: np.ndarray, predicted: np.ndarray, labels: np.ndarray, chosen: Classes, of_set: PromptSet
) -> dict[str, Any]:
    """What the report holds beside the measures: every class with what it was taken for, and every prompt."""
    counts = np.zeros((len(chosen.names),) * 2, np.int64)
    judged = predicted[0] >= 0  # else no class was chosen: the embeddings are no numbers
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
    accuracies = {text: float(np.mean(row == 0)) for text, row in zip(of_set.templates, single)}
    return {"not_numbers": int((~judged).sum()), "classes": classes, "prompts": accuracies}


def _prompt_sets(names: Sequence[str]) -> list[PromptSet]:
    if not names or isinstance(names, str):
        raise UserError(f"prompts must be a tuple of sets of prompts like ('photo', 'clip80'), not {names!r}")
    return [prompts.get_prompts(name) for name in names]


def _embedded(
    of_texts: Callable, variables: Any, sets: Sequence[PromptSet], names: Sequence[str]
) -> Mapping[str, np.ndarray]:
    """The embeddings [T, K, D] of each set; a text that several sets have is embedded once."""
    filled = {
        s.name: [prompts.fill_template(template, name) for template in s.templates for name in names] for s in sets
    }
    unique = list(dict.fromkeys(text for of_set in filled.values() for text in of_set))
    at = {text: i for i, text in enumerate(unique)}
    values = of_texts(variables, unique)
    shape = (-1, len(names), values.shape[1])
    return {name: values[[at[text] for text in of_set]].reshape(shape) for name, of_set in filled.items()}


def _write(folder: Path, name: str, content: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    storage.write(folder / f"{name}.json", json.dumps(content, indent=1) + "\n")
