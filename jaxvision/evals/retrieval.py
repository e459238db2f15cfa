"""Retrieval: search for images by caption, and for captions by image."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.arguments import is_whole
from jaxvision.data.sources.base import BadExample, first_readable
from jaxvision.data.text import texts_in
from jaxvision.errors import UserError, unknown
from jaxvision.evals import features
from jaxvision.evals import texts as texts_of
from jaxvision.evals.columns import Rows, blocks, computed, place
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.store import Features
from jaxvision.evals.texts import Texts
from jaxvision.evals.zeroshot import LAYER
from jaxvision.losses.pairs import unit
from jaxvision.parallel.collectives import against_rows
from jaxvision.parallel.distributed import gather
from jaxvision.parallel.mesh import batch_axis_size, batch_sharding, replicate
from jaxvision.registry import part

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables

BY = ("text", "class")


def _fields(options: Mapping[str, Any]) -> tuple[str, ...]:
    return ("image", "text", "label") if "class" in options.get("by", ()) else ("image", "text")


@part("evaluator", "retrieval", fields=_fields)
def make_retrieval(
    *,
    task: "Task",
    data: EvalSet,
    texts: Texts,
    by: tuple[str, ...] = ("text",),
    k: tuple[int, ...] = (1, 5, 10),
    chunk: int = 256,
) -> "Callable[[Variables], dict[str, float]]":
    """Makes the evaluator of search in both directions among all images and all captions of a split.

    A caption that belongs to several images counts as one text: it is one query, it is one candidate, and it is right
    for all its images. If no caption repeats, this is the protocol of Karpathy and Fei-Fei 2015, sec. 4.1, with all
    captions of an image, as on COCO and Flickr30k.

    Args:
      task: Task whose `outputs` have "image_embedding" [b, d] and "text_embedding" [b, d].
      data: Split to evaluate; each image has one caption or several.
      texts: Tokenizer of the model, and name of the field with the captions.
      by: Definitions of a right answer: "text", a caption of the image itself; "class", a caption of any image of the
        same class, which needs labels.
      k: Numbers k of the recalls.
      chunk: Number of queries at a time, which limits memory to `chunk` x candidates cosines and changes nothing else.

    Returns:
      `run(variables) -> {"text_to_image/recall1": ..., "text_to_image/median_rank": ..., "image_to_text/...": ...,
      "images": n, "texts": m}`: the share of queries with a right answer among the first k, in [0, 1], for each k below
      the number of candidates; and the rank of the first right answer, from 1, as median over queries. By class the
      names are `text_to_image_class/recall1` and so on. Of equal cosines the earlier in the set comes first; a NaN in
      an embedding is a query that finds nothing.

    Raises:
      UserError: If an option is out of range, the set has no captions, or it has no classes and `by` needs them.
    """
    if isinstance(by, str) or not by:
        raise UserError(f"by must be a tuple like {BY}, not {by!r}")
    for kind in by:
        if kind not in BY:
            raise unknown("value of by", kind, BY)
    if not k or not all(map(is_whole, (*k, chunk))):
        raise UserError(f"k and chunk must be whole numbers of at least 1, not {k!r} and {chunk!r}")
    if "class" in by and (not data.info.num_classes or data.info.multi_label):
        raise UserError(f"retrieval by class needs one class for each image, which {data.info.name!r} does not have")
    if texts.field not in (first := first_readable(data.source)):
        raise UserError(
            f"retrieval reads captions in the field {texts.field!r} of {data.info.name!r}, which has {sorted(first)}; "
            "captions from class_captions cannot be searched"
        )
    of_images = features.make_features(task=task, data=data, layer=LAYER)
    of_texts = texts_of.make_embedder(task=task, texts=texts, mesh=data.mesh, store=data.store)
    captions_of: dict[int, Sequence[str]] = {}  # by row, for images that have captions; read once

    def run(variables: "Variables") -> dict[str, float]:
        images = of_images(variables)
        if not captions_of:
            captions_of.update(_read_captions(data, images.rows, texts.field))
        described = [row in captions_of for row in images.rows]
        if not all(described):
            images = Features(images.values[described], images.labels[described], images.rows[described])
        captions = [captions_of[row] for row in images.rows]
        unique = list(dict.fromkeys(caption for several in captions for caption in several))
        embedded = of_texts(variables, unique)
        metrics: dict[str, float] = {}
        for kind in by:
            groups = np.arange(len(captions)) if kind == "text" else data.source.labels[images.rows]
            suffix = "" if kind == "text" else "_class"
            for_text, for_image = right_answers(captions, unique, groups)
            ways = {
                f"text_to_image{suffix}": (embedded, images.array, for_text),
                f"image_to_text{suffix}": (images.array, embedded, for_image),
            }
            for way, (queries, candidates, right) in ways.items():
                places = first_right(queries, candidates, right, chunk, data.mesh)
                below = [n for n in k if n < len(candidates) or n == 1]
                metrics |= {f"{way}/recall{n}": float(np.mean(places < n)) for n in below}
                metrics[f"{way}/median_rank"] = float(np.median(places) + 1)
        return metrics | {"images": float(len(captions)), "texts": float(len(unique))}

    return run


def _read_captions(data: EvalSet, rows: np.ndarray, field: str) -> dict[int, Sequence[str]]:
    """The captions of the rows that have any."""
    captions: dict[int, Sequence[str]] = {}
    reason = ""
    for row in rows.tolist():
        try:
            example = data.source[row]
            captions[row] = texts_in(example.get(field), field)  # type: ignore[arg-type]  # it refuses None itself
        except (BadExample, OSError) as error:
            reason = reason or f" ({data.source.describe(row)}: {error})"
    if not captions:
        raise UserError(f"{data.info.name} {data.info.split} has no captions{reason}")
    return captions


def right_answers(
    captions: Sequence[Sequence[str]], unique: Sequence[str], groups: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Finds the right images for each text, and the right texts for each image.

    Args:
      captions: Captions of each of n images.
      unique: Texts of all captions, each once.
      groups: Group of each image, int [n]. An image is right for the captions of every image of its group.

    Returns:
      (indices of images for each text, indices of texts for each image), in rising order.

    >>> right_answers([("a", "b"), ("b",)], ["a", "b"], np.array([0, 1]))
    ([array([0]), array([0, 1])], [array([0, 1]), array([1])])
    """
    at = {text: i for i, text in enumerate(unique)}
    members: dict[int, list[int]] = {}  # images by group
    group_texts: dict[int, set[int]] = {}  # texts by group
    text_groups: list[set[int]] = [set() for _ in unique]  # groups by text
    for image, (several, group) in enumerate(zip(captions, groups.tolist())):
        members.setdefault(group, []).append(image)
        for caption in several:
            group_texts.setdefault(group, set()).add(at[caption])
            text_groups[at[caption]].add(group)
    sorted_texts = {group: np.array(sorted(texts)) for group, texts in group_texts.items()}
    images = [np.array(sorted(image for group in owners for image in members[group])) for owners in text_groups]
    return images, [sorted_texts[group] for group in groups.tolist()]


def first_right(
    queries: Rows, candidates: Rows, right: Sequence[np.ndarray], chunk: int, mesh: jax.sharding.Mesh
) -> np.ndarray:
    """Finds the place of the first right candidate for each query, with candidates sorted by falling cosine.

    Args:
      queries: Queries, float [q, d].
      candidates: Candidates, float [n, d].
      right: Indices of the right candidates for each query, int [r] with r at least 1.
      chunk: Number of queries at a time.
      mesh: Mesh of the devices that the candidates are split over.

    Returns:
      int32 [q] in [0, n]: 0 if the first candidate is right, n if an embedding has a NaN.
    """
    n, parts = len(candidates), batch_axis_size(mesh)
    bank = place(candidates, 0, n + -n % parts, batch_sharding(mesh))
    widest = max(map(len, right))
    chunk = min(chunk, len(queries))

    def firsts() -> Iterator[jax.Array]:
        for number, (some,) in enumerate(blocks((queries,), chunk, mesh)):
            marked = np.full((chunk, widest), n + parts, np.int32)  # beyond the last: none
            for row, indices in zip(marked, right[number * chunk : (number + 1) * chunk]):
                row[: len(indices)] = indices
            yield _first_right(some, replicate(marked, mesh), bank, n=n, mesh=mesh)

    return np.concatenate([gather(places) for places in computed(firsts())])[: len(queries)]


@partial(jax.jit, static_argnames=("n", "mesh"))
def _first_right(queries: jax.Array, right: jax.Array, bank: jax.Array, n: int, mesh: jax.sharding.Mesh) -> jax.Array:
    def cosines(queries, rows):
        return jnp.matmul(queries, unit(rows).T, precision=jax.lax.Precision.HIGHEST)

    s = against_rows(cosines, mesh)(unit(queries), bank)[:, :n]  # q n
    broken = jnp.isnan(s).any(axis=1)
    at = jnp.arange(s.shape[1])
    is_right = jnp.zeros(s.shape, bool).at[jnp.arange(len(s))[:, None], right].set(True, mode="drop")
    best = jnp.where(is_right, s, -jnp.inf).max(axis=1, keepdims=True)
    first = jnp.argmax(is_right & (s == best), axis=1)
    before = (s > best) | ((s == best) & (at < first[:, None]))
    return jnp.where(broken, n, before.sum(axis=1)).astype(jnp.int32)
