"""The images in the plane, each at the place of its features: principal components and t-SNE."""

from typing import Annotated, Any

import jax
import numpy as np

from jaxvision.arguments import Range
from jaxvision.explain import embedding
from jaxvision.explain.base import Explanation, Row, Subject, Tile, in_batches
from jaxvision.explain.units import mean_responses, units_of
from jaxvision.registry import part

PERPLEXITY = embedding.PERPLEXITY
SIDE = 768  # longest side of the picture, in pixels
SMALLEST, LARGEST = 20, 64  # longer side of an image in it
COLLAPSED = "Left out: all images have the same features, up to their length."


def lay_out(images: np.ndarray, points: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Draws small copies of images at points of the plane, on white. Where they overlap, the later one is above.

    Args:
      images: Images, float [n, h, w, 3] in [0, 1].
      points: Place of each image, to the right and up, float [n, 2]. Both axes have the same scale.
      side: Longest side that the picture may have, in pixels.

    Returns:
      float32 [height, width, 3] in [0, 1].

    >>> picture = lay_out(np.zeros((2, 8, 8, 3)), np.array([[0.0, 0.0], [2.0, 1.0]]), side=160)
    >>> picture.shape, picture[-1, 0].tolist(), picture[0, 0].tolist()
    ((112, 160, 3), [0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
    """
    n, *shape = images.shape[:3]
    longest = int(np.clip(side / np.sqrt(2 * n), SMALLEST, LARGEST))
    height, width = (max(round(length * longest / max(shape)), 1) for length in shape)
    small = np.clip(jax.image.resize(images, (n, height, width, 3), "linear"), 0, 1)
    places = np.asarray(points, np.float64) * (1, -1)
    places -= places.min(axis=0)
    places = np.rint(places * (side - longest) / max(places.max(), 1e-12)).astype(int)
    columns, rows = places.max(axis=0) + (width, height)
    picture = np.ones((rows, columns, 3), np.float32)
    for image, (left, top) in zip(small, places):
        picture[top : top + height, left : left + width] = image
    return picture


def vectors(subject: Subject, layer: str) -> np.ndarray:
    """Computes the features of the images, scaled to length 1; of a map, the means over its places.

    Args:
      subject: Model and n images.
      layer: Name of the output, see `base.layer`.

    Returns:
      float32 [n, d].

    Raises:
      UserError: There is no such output, or it has no units.
    """
    units_of(subject, layer)
    run = lambda x, _: mean_responses(subject.outputs, subject.variables, x, layer)
    return embedding.unit(in_batches(subject, run))


def without_plane(subject: Subject, layer: str = "features", **_: Any) -> str | None:
    """Returns why the images have no principal components, as the end of a sentence; None if they have two.

    Args:
      subject: Model and images.
      layer: Name of the output, an option of the instrument.
      **_: Further options of the instrument.

    Raises:
      UserError: There is no such output, or it has no units.
    """
    if units_of(subject, layer) < 2:
        return f"{layer!r} is a single number"
    few = len(subject.images)
    return f"a plane needs at least 3 images, not {few}: give more of them (--images, --most)" if few < 3 else None


def without_tsne(
    subject: Subject, layer: str = "features", perplexity: float = PERPLEXITY, **options: Any
) -> str | None:
    """Returns why the images have no t-SNE, as the end of a sentence; None if they have one.

    Args:
      subject: Model and images.
      layer: Name of the output, an option of the instrument.
      perplexity: Perplexity, an option of the instrument.
      **options: Further options of the instrument.

    Raises:
      UserError: There is no such output, or it has no units.
    """
    missing = without_plane(subject, layer, **options)
    return missing or embedding.obstacle(len(subject.images), perplexity, "--images, --most")


@part("explanation", "pca", passes=1, refuses=without_plane)
def explain_pca(subject: Subject, *, layer: str = "features") -> Explanation:
    """The images in the plane of the first two principal components of their features (Pearson 1901).

    Args:
      subject: Model and images.
      layer: Name of the output, such as "stages/1"; of a map, the means over its places.
    """
    title, values = f"Principal components of {layer}", vectors(subject, layer)
    if _collapsed(values):
        return Explanation(title, COLLAPSED, [])
    found = embedding.principal_components(values)
    first, second = (f"{100 * share:.1f} %" for share in found.explained)
    text = (
        f"Each image stands at the first two principal components of its `{layer}`, scaled to length 1: to the right "
        f"the first, with {first} of the variance, and up the second, with {second} (Pearson 1901)."
    )
    return _explanation(title, text, subject, found.points)


@part("explanation", "tsne", small={"perplexity": 1.5}, passes=1, refuses=without_tsne)
def explain_tsne(
    subject: Subject,
    *,
    layer: str = "features",
    perplexity: Annotated[float, Range(1, above=True)] = PERPLEXITY,
    seed: int = 0,
) -> Explanation:
    """The images in a plane where neighbours by features are neighbours, t-SNE (van der Maaten and Hinton 2008).

    Args:
      subject: Model and images. Give hundreds.
      layer: Name of the output, such as "stages/1"; of a map, the means over its places.
      perplexity: Approximate number of neighbours that count for an image; it needs three times as many images.
      seed: Seed of t-SNE.
    """
    title, values = f"t-SNE of {layer}", vectors(subject, layer)
    if _collapsed(values):
        return Explanation(title, COLLAPSED, [])
    points, divergence = embedding.tsne(embedding.principal_components(values, embedding.KEPT).points, perplexity, seed)
    text = (
        f"The {len(values)} images by t-SNE of their `{layer}`, scaled to length 1, with perplexity {perplexity:g} and "
        f"seed {seed} (van der Maaten and Hinton 2008); the KL divergence is {divergence:.2f}. Neighbours look alike "
        "to the network. The distances between groups and the sizes of groups mean nothing, and other perplexities "
        "give other pictures."
    )
    return _explanation(title, text, subject, points)


def _collapsed(values: np.ndarray) -> bool:
    return float(values.std(axis=0).max()) < 1e-6


def _explanation(title: str, text: str, subject: Subject, points: np.ndarray) -> Explanation:
    picture = lay_out(subject.images, points, min(SIDE, round(128 * np.sqrt(len(points)))))
    return Explanation(title, text, [Row("", [Tile(picture)])], height=len(picture))
