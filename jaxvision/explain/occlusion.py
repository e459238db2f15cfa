"""Occlusion: how much the score of a class falls when a part of the image is covered."""

import functools
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.arguments import Range
from jaxvision.explain.base import Explanation, Outputs, Subject, in_batches, maps_over, score, without_classes
from jaxvision.registry import part

GREY = 0.5


@functools.partial(jax.jit, static_argnums=0)
def covered_scores(
    outputs: Outputs, variables: Any, images: jax.Array, targets: jax.Array, cover: jax.Array, value: float = GREY
) -> jax.Array:
    """Computes the logit of a class with a part of the images covered.

    Args:
      outputs: Pure function of variables and images that returns "logits" [b, k].
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      targets: Class of each image, int32 [b].
      cover: Pixels that are covered, bool [h, w].
      value: Grey of the cover, a scalar in [0, 1].

    Returns:
      float32 [b].
    """
    return score(outputs(variables, jnp.where(cover[..., None], value, images)), targets)


def occlusion(
    outputs: Outputs,
    variables: Any,
    images: jax.Array,
    targets: jax.Array,
    size: int,
    stride: int,
    value: float = GREY,
) -> jax.Array:
    """Computes how much the logit falls when a grey square covers a part of the image, at every position of a grid.

    One forward pass of the batch for each position. The square is cut off at the borders, so each pixel is covered by
    equally many squares, as nearly as the grid allows.

    Source: Zeiler and Fergus 2014, arXiv 1311.2901, sec. 4.2, which shows the probability instead of the fall.

    Args:
      outputs: Pure function of variables and images that returns "logits" [b, k].
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      targets: Class of each image, int32 [b].
      size: Side of the square in pixels.
      stride: Distance of the squares' middles in pixels.
      value: Grey of the square, in [0, 1].

    Returns:
      Fall of the logit, float32 [b, rows, columns] with rows = ceil(h / stride): above 0 where the covered part speaks
      for the class.
    """
    h, w = images.shape[1:3]
    covered = functools.partial(covered_scores, outputs, variables, images, targets)
    whole = covered(np.zeros((h, w), bool), value)
    falls = [whole - covered(cover, value) for cover in covers(h, w, size, stride)]
    return jnp.stack(falls, axis=1).reshape(len(images), -(-h // stride), -(-w // stride))


def covers(h: int, w: int, size: int, stride: int) -> np.ndarray:
    """Makes the squares of a grid, with a middle every `stride` pixels.

    Args:
      h: Height of the images in pixels.
      w: Width of the images in pixels.
      size: Side of the square in pixels.
      stride: Distance of the middles in pixels.

    Returns:
      bool [n, h, w], in row-major order.

    >>> covers(2, 3, 1, 1)[4].astype(int).tolist()
    [[0, 0, 0], [0, 1, 0]]
    """
    # The middle of a cell of the grid is that of its square, to half a pixel.
    before = (size - stride) // 2
    along = [
        [(np.arange(n) >= i - before) & (np.arange(n) < i - before + size) for i in range(0, n, stride)] for n in (h, w)
    ]
    return np.stack([row[:, None] & column for row in along[0] for column in along[1]])


def _sizes(subject: Subject, size: int | None, stride: int | None) -> tuple[int, int]:
    side = min(subject.images.shape[1:3])
    size = min(size or max(side // 4, 1), side)
    return size, stride or max(side // 16, 1)


def _passes(subject: Subject, size: int | None = None, stride: int | None = None, **_: Any) -> int:
    h, w = subject.images.shape[1:3]
    step = _sizes(subject, size, stride)[1]
    return 1 + -(-h // step) * -(-w // step)


@part("explanation", "occlusion", maps=True, small={"stride": 8}, passes=_passes, refuses=without_classes)
def explain_occlusion(
    subject: Subject,
    *,
    size: Annotated[int | None, Range(1)] = None,
    stride: Annotated[int | None, Range(1)] = None,
    value: Annotated[float, Range(0, 1)] = GREY,
) -> Explanation:
    """How much the logit falls when a grey square covers a part of the image (Zeiler and Fergus 2014).

    Args:
      subject: Model and images.
      size: Side of the square in pixels; None for a quarter of the image's.
      stride: Distance of the squares in pixels; None for a sixteenth of the image's side.
      value: Grey of the square, in [0, 1].
    """
    size, stride = _sizes(subject, size, stride)
    maps = in_batches(subject, lambda x, k: occlusion(subject.outputs, subject.variables, x, k, size, stride, value))
    text = (
        f"How much the logit of the class falls (red) or rises (blue) when a grey square of {size} pixels covers the "
        f"place, at steps of {stride} (Zeiler and Fergus 2014). It needs no gradient: it is what the network does. The "
        "largest fall is written under each map."
    )
    rows = [
        row._replace(tiles=[row.tiles[0], row.tiles[1]._replace(words=f"occlusion: falls by {values.max():.2f}")])
        for row, values in zip(maps_over(subject, {"occlusion": maps}, signed=True), maps)
    ]
    return Explanation("Occlusion", text, rows, maps, signed=True)
