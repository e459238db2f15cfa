"""Moves: the effect of one draw of a geometric operation on an image and on its segmentations, boxes and points.

Coordinates are pixels from the image's top left corner: the middle of the first pixel is (0.5, 0.5), and the bottom
right corner of an image of h x w pixels is (w, h).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxvision.fields import PLACED, Field


class Move(NamedTuple):
    """The move of one image, and of everything that lies in it.

    Attributes:
      image: Function `float32 [h, w, c] -> float32 [h', w', c]` that moves the image.
      segmentation: Function `(integers [h, w, 1], fill) -> integers [h', w', 1]` that moves a segmentation by nearest
        neighbour, with `fill` for pixels that move into view.
      points: Function `float32 [..., 2] -> float32 [..., 2]` from the points (x, y) of the image to their places in the
        result.
    """

    image: Callable[[jax.Array], jax.Array]
    segmentation: Callable[[jax.Array, Any], jax.Array]
    points: Callable[[jax.Array], jax.Array]


class Rule(NamedTuple):
    """The options of a move: boxes that are dropped, and pixels that move into view.

    Attributes:
      least_area: Least share of its area that a box must keep after clipping; other boxes are dropped.
      fill: Value of pixels of a segmentation that move into view.
    """

    least_area: float = 0.1
    fill: int = 0


def exact_move(pixels: Callable[[jax.Array], jax.Array], points: Callable[[jax.Array], jax.Array]) -> Move:
    """Makes the move of an operation that only rearranges pixels, so that one function moves images and segmentations.

    Args:
      pixels: Function `[h, w, c] -> [h', w', c]` of arrays of any dtype.
      points: Function that moves points, see `Move`.
    """
    return Move(pixels, lambda values, fill: pixels(values), points)


def move_if(applied: jax.Array | bool, move: Move) -> Move:
    """Makes a move that happens only if `applied` is true.

    Args:
      applied: Condition, bool [].
      move: Move, which must keep the size of the image.
    """
    return Move(
        lambda image: jnp.where(applied, move.image(image), image),
        lambda values, fill: jnp.where(applied, move.segmentation(values, fill), values),
        lambda points: jnp.where(applied, move.points(points), points),
    )


def move_fields(
    move: Move, rule: Rule, fields: Mapping[str, Field], example: Mapping[str, jax.Array], leading: bool = False
) -> dict[str, jax.Array]:
    """Moves images with their segmentations, boxes and points.

    Args:
      move: Move to apply.
      rule: Options of the move.
      fields: Fields of the entries of `example`: images of one size, fields that lie in them, and labels of boxes.
      example: Arrays of one example, by name of the field.
      leading: True if the functions of `move` take arrays with more axes before h, w and c; `example` may then be a
        batch. Otherwise they take one image, and are mapped over the frames of a clip.

    Returns:
      `example` with these fields moved. Boxes are clipped to the image, and dropped if less than `rule.least_area` of
      their area is left: their row becomes 0, and their labels -1. Points outside the image get visibility 0, if they
      have a visibility.
    """
    moved = dict(example)
    sides: dict[str, tuple[int, int]] = {}
    for name, field in fields.items():
        if field.kind == "image" and name in example:
            moved[name] = over_frames(move.image, example[name], leading)
            sides["before"], sides["after"] = _sides(example[name]), _sides(moved[name])
    for name, field in fields.items():
        if field.kind not in PLACED or name not in example:
            continue
        values = example[name]
        if field.kind == "segmentation":
            moved[name] = _segmentation(move, rule.fill, values, has_channel(field), leading)
        elif field.kind == "points":
            moved[name] = _points(move, values, sides["after"])
        else:
            moved[name], kept = _boxes(move, values, sides["before"], sides["after"], rule.least_area)
            for other, labels in fields.items():
                if labels.kind == "label" and labels.of == name and other in example:
                    moved[other] = _labels(example[other], kept)
    return moved


def has_channel(segmentation: Field) -> bool:
    """Tells whether a segmentation is [..., h, w, 1], and not [..., h, w].

    Args:
      segmentation: Field of the segmentation.
    """
    return len(segmentation.shape) > 2 and segmentation.shape[-1] == 1


def over_frames(fn: Callable[[jax.Array], jax.Array], images: jax.Array, leading: bool = False) -> jax.Array:
    """Applies a function of one image to every frame.

    Args:
      fn: Function of an image [h, w, c].
      images: Images, [..., h, w, c].
      leading: True if `fn` takes the axes before h, w and c itself.

    Returns:
      Results of `fn`, [..., h, w, c], with the axes before h, w and c as in `images`.
    """
    for _ in range(0 if leading else images.ndim - 3):
        fn = jax.vmap(fn)
    return fn(images)


def _segmentation(move: Move, fill: int, values: jax.Array, channel: bool, leading: bool) -> jax.Array:
    filling = jnp.asarray(fill, values.dtype)
    nearest = lambda one: move.segmentation(one, filling)
    moved = over_frames(nearest, values if channel else values[..., None], leading)
    return moved if channel else moved[..., 0]


def _points(move: Move, points: jax.Array, sides: tuple[int, int]) -> jax.Array:
    places = move.points(points[..., :2])
    if points.shape[-1] == 2:
        return places
    inside = jnp.all((places >= 0) & (places <= _corner(sides)), axis=-1, keepdims=True)
    return jnp.concatenate([places, jnp.where(inside, points[..., 2:], 0)], axis=-1)


def _boxes(
    move: Move, boxes: jax.Array, before: tuple[int, int], after: tuple[int, int], least_area: float
) -> tuple[jax.Array, jax.Array]:
    """Moves boxes [..., n, 4]: the boxes around their moved outlines, clipped, and a mask bool [..., n] of kept boxes.

    The outline is followed at the corners of the box, and at the points of its sides that are nearest to the horizontal
    and vertical lines through the middle of the image. Between these points, neither an affine map nor a radial
    distortion reaches further out.
    """
    x1, y1, x2, y2 = jnp.moveaxis(boxes, -1, 0)
    x, y = jnp.clip(before[1] / 2, x1, x2), jnp.clip(before[0] / 2, y1, y2)
    outline = jnp.stack(
        [jnp.stack([x1, x, x2, x2, x2, x, x1, x1], -1), jnp.stack([y1, y1, y1, y, y2, y2, y2, y], -1)], -1
    )
    places = move.points(outline)  # ... n 8 2
    low, high = places.min(axis=-2), places.max(axis=-2)
    edges = [jnp.clip(corner, 0, _corner(after)) for corner in (low, high)]
    area, left = jnp.prod(high - low, axis=-1), jnp.prod(edges[1] - edges[0], axis=-1)
    kept = (left > 0) & (left >= least_area * area)
    return jnp.where(kept[..., None], jnp.concatenate(edges, axis=-1), 0), kept


def _labels(labels: jax.Array, kept: jax.Array) -> jax.Array:
    """The labels [..., n] or [..., n, k] of boxes, -1 for those that are not kept."""
    if jnp.issubdtype(labels.dtype, jnp.unsignedinteger):  # unsigned types have no -1
        labels = labels.astype(jnp.int32)
    return jnp.where(jnp.expand_dims(kept, tuple(range(kept.ndim, labels.ndim))), labels, -1)


def _sides(images: jax.Array) -> tuple[int, int]:
    return images.shape[-3], images.shape[-2]


def _corner(sides: tuple[int, int]) -> jax.Array:
    return jnp.array([sides[1], sides[0]], jnp.float32)
