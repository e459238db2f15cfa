"""Moves: what one draw of a geometric operation does to an image and to all that lies in it.

Coordinates are pixels from the image's upper left corner: the middle of the first pixel is (0.5, 0.5), and the lower
right corner of an image of H x W pixels (W, H).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxvision.fields import PLACED, Field


class Move(NamedTuple):
    """Where one image goes, and with it what lies in it.

    Attributes:
      image: `float32 [H, W, C] -> float32 [H', W', C]`.
      segmentation: `(integers [H, W, 1], fill) -> integers [H', W', 1]`: the same by nearest neighbour, with `fill` for
        what moves into view.
      points: `float32 [..., 2] -> float32 [..., 2]`: where the points (x, y) of the image are in the result.
    """

    image: Callable[[jax.Array], jax.Array]
    segmentation: Callable[[jax.Array, Any], jax.Array]
    points: Callable[[jax.Array], jax.Array]


class Rule(NamedTuple):
    """How what lies in an image moves, beside where.

    Attributes:
      least_area: Share of its area, clipped to the image, below which a box is dropped.
      fill: Value of pixels of a segmentation that move into view.
    """

    least_area: float = 0.1
    fill: int = 0


def exact_move(pixels: Callable[[jax.Array], jax.Array], points: Callable[[jax.Array], jax.Array]) -> Move:
    """The move of an operation that puts each pixel where another was, so that numbers of classes may go the same way.

    Args:
      pixels: `[H, W, C] -> [H', W', C]`, of any dtype.
      points: See `Move`.
    """
    return Move(pixels, lambda values, fill: pixels(values), points)


def move_if(applied: jax.Array, move: Move) -> Move:
    """The move where `applied`, bool [], is true, and none elsewhere. The move must keep the size."""
    return Move(
        lambda image: jnp.where(applied, move.image(image), image),
        lambda values, fill: jnp.where(applied, move.segmentation(values, fill), values),
        lambda points: jnp.where(applied, move.points(points), points),
    )


def move_fields(
    move: Move, rule: Rule, fields: Mapping[str, Field], example: Mapping[str, jax.Array], leading: bool = False
) -> dict[str, jax.Array]:
    """Moves an image and what lies in it.

    Args:
      move: Where they go.
      rule: What is dropped and filled in.
      fields: What the entries of `example` are: images, of one size, what lies in them, and the labels of boxes.
      example: Arrays of one example.
      leading: Whether the functions of `move` take arrays with further axes before H, W and C; `example` may then be a
        batch. Else they take one image, and are mapped over the frames of a clip.

    Returns:
      `example` with all of its images and what lies in them moved. Boxes are clipped to the image, and dropped where
      less than `rule.least_area` of their area is left: the row is 0 then, and the labels of the box -1. Points outside
      the image have visibility 0, if they have one.
    """
    moved, sides = dict(example), {}
    for name, field in fields.items():
        if field.kind == "image" and name in example:
            moved[name] = over_frames(move.image, example[name], leading)
            sides["before"], sides["after"] = example[name].shape[-3:-1], moved[name].shape[-3:-1]
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
            for other, of_boxes in fields.items():
                if of_boxes.kind == "label" and of_boxes.of == name and other in example:
                    moved[other] = _labels(example[other], kept)
    return moved


def has_channel(segmentation: Field) -> bool:
    """Whether a segmentation is [..., H, W, 1], and not [..., H, W]."""
    return len(segmentation.shape) > 2 and segmentation.shape[-1] == 1


def over_frames(fn: Callable[[jax.Array], jax.Array], images: jax.Array, leading: bool = False) -> jax.Array:
    """`fn`, a function of an image [H, W, C], of each of [..., H, W, C]; `leading`: it takes further axes itself."""
    for _ in range(0 if leading else images.ndim - 3):
        fn = jax.vmap(fn)
    return fn(images)


def _segmentation(move: Move, fill: int, values: jax.Array, channel: bool, leading: bool) -> jax.Array:
    fill = jnp.asarray(fill, values.dtype)
    nearest = lambda one: move.segmentation(one, fill)
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
    """The boxes around what boxes [..., n, 4] become, clipped, and which of them are kept, bool [..., n].

    The outline of a box is followed at its corners and at the points of its sides that are nearest to the lines through
    the middle of the image: between these an affine map, and one that acts along the radius, goes no further out.
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
    if jnp.issubdtype(labels.dtype, jnp.unsignedinteger):  # which has no -1
        labels = labels.astype(jnp.int32)
    return jnp.where(jnp.expand_dims(kept, tuple(range(kept.ndim, labels.ndim))), labels, -1)


def _corner(sides: tuple[int, int]) -> jax.Array:
    return jnp.array([sides[1], sides[0]], jnp.float32)
