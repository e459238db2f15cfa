"""Network dissection: which units of a map detect a concept, by comparing their responses with segmentation masks."""

import functools
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.arguments import COUNT
from jaxvision.errors import UserError
from jaxvision.explain.base import BATCH, Explanation, Outputs, Row, Subject, Tile, in_batches
from jaxvision.explain.units import chosen_map, peaks, respond, shape_of, without_maps
from jaxvision.registry import part

SHARE = 0.005  # of the places of all images at which a unit is called active
DETECTS = 0.04  # IoU above which a unit detects a concept
DARK = 0.25  # brightness of the pixels of an image that are not meant
IGNORED = 255  # value of the pixels of a mask that do not count


class Dissection(NamedTuple):
    """How well each unit matches each concept.

    Attributes:
      iou: Intersection over union of each unit and each of the concepts 1 to k, float64 [d, k] in [0, 1].
      thresholds: Response above which a unit is active, float32 [d].
    """

    iou: np.ndarray
    thresholds: np.ndarray

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the number of the concept that each unit matches best, int [d] in [1, k], and its IoU, float [d]."""
        return 1 + self.iou.argmax(axis=1), self.iou.max(axis=1)

    def detectors(self) -> list[int]:
        """Returns the units whose best IoU is above 0.04, the best first (Bau et al. 2017, sec. 2.3)."""
        _, iou = self.best()
        return [unit for unit in np.argsort(-iou, kind="stable").tolist() if iou[unit] > DETECTS]


def thresholds(maps: Iterator[np.ndarray], places: int, share: float = SHARE) -> np.ndarray:
    """Returns the threshold T of each unit with P(response > T) = share, over all places of all images.

    The quantile is exact. In memory are the largest `share` of the responses of each unit, and one batch.

    Args:
      maps: Batches of maps, float [b, h, w, d].
      places: Number of places b * h * w in all batches together.
      share: Share of the places that are above the threshold, in (0, 1). It is rounded down to whole places; fewer are
        above if several responses are equal to the threshold.

    Returns:
      float32 [d].

    Raises:
      UserError: There are so few places that none would be above the threshold.

    >>> thresholds(iter([np.arange(8.0).reshape(1, 2, 4, 1)]), places=8, share=0.25).tolist()
    [5.0]
    """
    above = int(share * places)
    if not above:
        raise UserError(
            f"{share:g} of {places} places is less than one, so no unit would be active: give at least "
            f"{int(np.ceil(1 / share)):,} places, by more images or an earlier map"
        )
    kept: np.ndarray = np.zeros(0)
    for batch in maps:
        rows = np.asarray(batch, np.float32).reshape(-1, batch.shape[-1])  # b*h*w d
        rows = np.concatenate([kept.reshape(-1, batch.shape[-1]), rows])
        kept = rows if len(rows) <= above + 1 else np.partition(rows, len(rows) - above - 1, axis=0)[-above - 1 :]
    return kept.min(axis=0)


@functools.partial(jax.jit, static_argnums=3)
def overlap(
    maps: jax.Array, limits: jax.Array, masks: jax.Array, concepts: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Counts the pixels of each image at which units are active and concepts are seen.

    A map is enlarged to the size of the masks by bilinear interpolation and then compared with the threshold.

    Args:
      maps: Responses, float [b, rows, columns, d].
      limits: Threshold of each unit, float [d].
      masks: Concept of each pixel, int [b, h, w]: 0 for none, 1 to k; 255 for pixels that do not count.
      concepts: Number k of concepts.

    Returns:
      (pixels of both int32 [b, d, k], of each unit int32 [b, d], of each concept int32 [b, k]).
    """

    def of_one(image: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        responses, mask = image
        large = jax.image.resize(responses, (*mask.shape, responses.shape[-1]), "linear")  # h w d
        active = ((large > limits) & (mask != IGNORED)[..., None]).astype(jnp.float32)
        seen = jax.nn.one_hot(jnp.where(mask == IGNORED, 0, mask) - 1, concepts)  # h w k; all 0 for none
        counts = jnp.einsum("hwd,hwk->dk", active, seen), active.sum((0, 1)), seen.sum((0, 1))
        return jax.tree.map(lambda x: x.astype(jnp.int32), counts)

    # One image at a time: enlarged maps of many units are large.
    return jax.lax.map(of_one, (maps, masks))


def dissect(
    outputs: Outputs,
    variables: Any,
    images: np.ndarray,
    masks: np.ndarray,
    name: str,
    concepts: int,
    batch: int = BATCH,
) -> Dissection:
    """Compares the units of a map with segmentation masks.

    Two passes over the images: the first finds the threshold of each unit, the second counts intersections and unions
    over all images. Bau et al. enlarge the maps around the centres of the receptive fields; here the borders of map and
    mask coincide, which is the same for a network whose padding is symmetric.

    Source: Bau et al. 2017, "Network dissection: Quantifying interpretability of deep visual representations", arXiv
    1704.05796, sec. 2.2 and 2.3.

    Args:
      outputs: Pure function of variables and images that returns the map among others.
      variables: Variables of the model.
      images: Images, float32 [n, h, w, 3] in [0, 1].
      masks: Concept of each pixel, int [n, h, w]: 0 for none, 1 to k; 255 for pixels that do not count.
      name: Name of the map, such as "stages/1".
      concepts: Number k of concepts.
      batch: Number of images in a pass.

    Returns:
      IoU of each unit and each concept, 0 where both are empty, and the thresholds.

    Raises:
      UserError: There are too few images for the threshold.
    """
    size = min(batch, len(images))

    def maps() -> Iterator[tuple[slice, np.ndarray]]:
        for start in range(0, len(images), size):
            rows = slice(start, start + size)
            filled = np.zeros((size, *images.shape[1:]), np.float32)  # one shape for all passes
            filled[: len(images[rows])] = images[rows]
            yield rows, np.asarray(respond(outputs, variables, filled, name))[: len(images[rows])]

    shape = jax.eval_shape(lambda v, x: respond(outputs, v, x, name), variables, images[:1]).shape
    limits = thresholds((values for _, values in maps()), len(images) * shape[1] * shape[2])
    totals = [np.zeros((shape[-1], concepts), int), np.zeros(shape[-1], int), np.zeros(concepts, int)]
    for rows, values in maps():
        counts = overlap(values, limits, masks[rows], concepts)
        totals = [total + np.asarray(count, int).sum(axis=0) for total, count in zip(totals, counts)]
    both, units, seen = totals
    union = units[:, None] + seen[None] - both
    return Dissection(both / np.maximum(union, 1), limits)


def lit(image: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Darkens an image except for some pixels.

    Args:
      image: Image, float [h, w, 3] in [0, 1].
      where: Pixels that stay as they are, bool [h, w].

    Returns:
      float [h, w, 3] in [0, 1].

    >>> lit(np.ones((1, 2, 3)), np.array([[True, False]]))[0, :, 0].tolist()
    [1.0, 0.25]
    """
    return image * np.where(where, 1.0, DARK)[..., None]


def _why_not(subject: Subject, layer: str | None = None, **_: Any) -> str | None:
    if subject.masks is None:
        return "there are no masks of the images: add --masks=FOLDER"
    return without_maps(subject, layer)


@part("explanation", "dissect", small={"count": 2, "top": 1}, passes=3, refuses=_why_not)
def explain_dissect(subject: Subject, *, layer: str | None = None, count: COUNT = 10, top: COUNT = 4) -> Explanation:
    """Which units of a map detect a concept, such as a kind of object, by masks of the images (Bau et al. 2017).

    Args:
      subject: Model, images and masks. All images are used, so give many, with `--most`.
      layer: Name of the map, such as "stages/1"; None for the last map of the model.
      count: Number of units that are shown, those with the largest IoU.
      top: Number of images of each unit, those with the largest responses.
    """
    assert subject.masks is not None  # `_why_not` has refused
    name = chosen_map(subject, layer)
    total = max(len(subject.concepts) - 1, int(subject.masks[subject.masks != IGNORED].max(initial=0)), 1)
    concepts = [*subject.concepts, *(f"concept {k}" for k in range(len(subject.concepts), total + 1))]
    found = dissect(subject.outputs, subject.variables, subject.images, subject.masks, name, total, subject.batch)
    best, iou = found.best()
    detectors = found.detectors()
    detected = Counter(concepts[best[unit]] for unit in detectors)
    listed = ", ".join(f"{concept} {number}" for concept, number in detected.most_common())
    height, width, units = shape_of(subject, name)[1:]
    text = (
        f"{len(detectors)} of the {units} units of `{name}` detect a concept"
        + (f", by the number of units: {listed}. " if detectors else ". ")
        + f"A unit is active where its response is above the threshold that 0.5 % of the {height}x{width} places of "
        f"the {len(subject.images)} images exceed. It detects a concept if the IoU of its active pixels and those of "
        "the concept, over all images, is above 0.04 (Bau et al. 2017, sec. 2). For the units with the largest IoU: "
        "the images with the strongest responses; bright is where the unit is active, and beside it where the concept "
        "is. An IoU of a few images may be chance."
    )
    values, _ = in_batches(subject, lambda x, _: peaks(subject.outputs, subject.variables, x, name))  # n d
    rows = []
    for unit in np.argsort(-iou, kind="stable")[:count].tolist():
        images = np.argsort(-values[:, unit], kind="stable")[:top]
        maps = respond(subject.outputs, subject.variables, subject.images[images], name)[..., unit]
        active = np.asarray(jax.image.resize(maps, (len(images), *subject.masks.shape[1:]), "linear"))
        tiles = []
        for i, response in zip(images, active):
            file, concept = subject.names[i] if subject.names else f"image {i}", concepts[best[unit]]
            tiles.append(Tile(lit(subject.images[i], response > found.thresholds[unit]), None, file))
            tiles.append(Tile(lit(subject.images[i], subject.masks[i] == best[unit]), None, concept))
        rows.append(Row(f"unit {unit}: {concepts[best[unit]]}, IoU {iou[unit]:.3f}", tiles))
    return Explanation(f"Dissection of {name}", text, rows)
