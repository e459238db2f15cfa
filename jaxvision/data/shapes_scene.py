"""What a `shapes` scene shows: objects, background and light, drawn from the index of the example, and its caption."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

from jaxvision.data.shapes_render import (
    OUTLINES,
    TEXTURES,
    Background,
    Colour,
    Grain,
    Light,
    Object,
    Point,
    Scene,
    footprint,
)

Item = TypeVar("Item")

SPLITS = ("train", "validation", "test")
MIN_SIZE = 32  # pixels; how much of each object is visible is measured at this size
MAX_OBJECTS = 4

COLOURS: dict[str, Colour] = {
    "red": (0.85, 0.13, 0.13),
    "orange": (0.95, 0.52, 0.08),
    "yellow": (0.95, 0.88, 0.18),
    "green": (0.18, 0.62, 0.22),
    "cyan": (0.25, 0.80, 0.85),
    "blue": (0.18, 0.28, 0.85),
    "purple": (0.52, 0.20, 0.72),
    "pink": (0.95, 0.55, 0.75),
    "white": (0.95, 0.95, 0.95),
    "black": (0.08, 0.08, 0.08),
}


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draws a number from [low, high).

    Args:
      rng: Generator.
      low: Lower end.
      high: Upper end.

    Returns:
      The number.
    """
    # Only `Generator.random` is used: its stream is the least likely to change between NumPy versions.
    return low + (high - low) * rng.random()


def choice(rng: np.random.Generator, items: Iterable[Item]) -> Item:
    """Draws one of some items, all equally likely.

    Args:
      rng: Generator.
      items: Items, at least one.

    Returns:
      The item.
    """
    items = tuple(items)
    return items[int(rng.random() * len(items))]


def _tilted(rng: np.random.Generator, most: float) -> Point:
    """Draws a unit vector within `2 * atan(most)` of the x axis, without sines: their rounding varies by machine."""
    t = uniform(rng, -most, most)
    return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (x + (y - x) * share for x, y in zip(a, b))
    return red, green, blue


def _jittered(rng: np.random.Generator, colour: Colour, most: float) -> Colour:
    red, green, blue = (c + uniform(rng, -most, most) for c in colour)
    return red, green, blue


def colour_distance(a: Colour, b: Colour) -> float:
    """Returns the Euclidean distance of two colours.

    Args:
      a: First colour.
      b: Second colour.
    """
    return sum((x - y) ** 2 for x, y in zip(a, b)) ** 0.5


def draw_object(rng: np.random.Generator, centre: Point, radius: float, **rest) -> Object:
    """Draws an object whose kind, colour and texture are uniform and independent.

    Args:
      rng: Generator.
      centre: Middle of the object.
      radius: Radius of the disc that its outline fills.
      **rest: Further attributes of the object.

    Returns:
      The object.
    """
    colour = choice(rng, COLOURS)
    first = _jittered(rng, COLOURS[colour], 0.06)
    other = (0.0, 0.0, 0.0) if sum(first) > 1.5 else (1.0, 1.0, 1.0)
    return Object(
        kind=choice(rng, OUTLINES),
        colour=colour,
        texture=choice(rng, TEXTURES),
        centre=centre,
        radius=radius,
        aspect=uniform(rng, 0.8, 1.25),
        axis=_tilted(rng, 0.3),
        frequency=uniform(rng, 4, 7),
        paint=(first, _mix(first, other, uniform(rng, 0.25, 0.6))),
        **rest,
    )


def draw_background(rng: np.random.Generator, avoid: Colour) -> Background:
    """Draws a muted and mostly dark background, so that the main object stands out.

    Args:
      rng: Generator.
      avoid: Colour of the main object.

    Returns:
      The background.
    """
    while True:
        grey = uniform(rng, 0.1, 0.5)
        first = _jittered(rng, (grey, grey, grey), 0.15)
        second = _jittered(rng, first, 0.15)
        if min(colour_distance(first, avoid), colour_distance(second, avoid)) > 0.35:
            return Background(choice(rng, TEXTURES), _tilted(rng, 1), uniform(rng, 2, 6), (first, second))


def draw_light(rng: np.random.Generator) -> Light:
    """Draws the light of a scene.

    Args:
      rng: Generator.

    Returns:
      The light.
    """
    exposure = uniform(rng, 0.7, 1.15)
    up, across = _tilted(rng, 1)
    red, green, blue = (exposure * uniform(rng, 0.92, 1.08) for _ in range(3))
    return Light(
        direction=(across, -up),
        colour=(red, green, blue),
        falloff=uniform(rng, 0, 0.5),
        relief=uniform(rng, 0, 0.3),
        shadow=choice(rng, (0.0, 1.0)) * uniform(rng, 0.2, 0.6),
        reach=uniform(rng, 0.03, 0.08),
    )


def draw_grain(rng: np.random.Generator) -> Grain:
    """Draws the noise of a scene.

    Args:
      rng: Generator.

    Returns:
      The noise.
    """
    return Grain(amplitude=uniform(rng, 0, 0.25), key=int(rng.random() * 2**53))


def _outline(obj: Object) -> np.ndarray:
    """Returns the pixels whose centre the object covers, bool [MIN_SIZE, MIN_SIZE]."""
    seen = footprint(obj, MIN_SIZE)
    canvas = np.zeros((MIN_SIZE, MIN_SIZE), bool)
    canvas[seen.rows, seen.cols] = seen.inside
    return canvas


def _others(rng: np.random.Generator, main: Object) -> Iterator[Object]:
    """Yields up to three smaller objects; one that would hide too much, or be hidden too much, is left out."""
    whole = _outline(main)
    taken = hidden = np.zeros_like(whole)
    for _ in range(int(rng.random() * MAX_OBJECTS)):
        centre = (uniform(rng, 0.08, 0.92), uniform(rng, 0.08, 0.92))
        extra = draw_object(rng, centre, uniform(rng, 0.1, 0.17), behind=rng.random() < 0.4)
        outline = _outline(extra)
        overlap = outline & whole
        shown = (outline & ~whole if extra.behind else outline).sum()
        hides = hidden if extra.behind else hidden | overlap
        visible = max(12, outline.sum() / 2) <= shown <= 0.32 * whole.sum()
        if visible and hides.sum() <= 0.35 * whole.sum() and not (outline & taken).any():
            taken, hidden = taken | outline, hides
            yield extra._replace(overlaps=bool(overlap.any()))


def sample(split: str, index: int) -> Scene:
    """Draws the scene of an example, a function of the split and the index alone.

    The main object comes first. Its radius is 0.22 to 0.40 of the frame, and its kind, colour and texture are uniform
    and independent. At most 35 % of it is hidden, so that it shows at least twice as much as any other object. At least
    half of each other object is visible, and no two of them overlap.

    Args:
      split: Name of the split.
      index: Position in the split, from 0.
    """
    rng = np.random.Generator(np.random.Philox(key=[SPLITS.index(split), index]))
    centre = (uniform(rng, 0.38, 0.62), uniform(rng, 0.38, 0.62))
    main = draw_object(rng, centre, uniform(rng, 0.22, 0.4))
    objects = (main, *_others(rng, main))
    return Scene(objects, draw_background(rng, main.paint[0]), draw_light(rng), draw_grain(rng))


def caption(scene: Scene) -> str:
    """Describes a scene in one English sentence.

    It names the main object and its place, the background, and the other objects relative to the main one.

    Args:
      scene: Scene.
    """
    main, *others = scene.objects
    size = "big" if main.radius > 0.31 else "medium-sized"
    text = f"a {size} {describe(main)} {_place(main)} of a {scene.background.texture} background"
    parts = [f"a small {describe(other)} {_relation(other, main)}" for other in others]
    if parts:
        text += ", with " + " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)
    return text


def describe(obj: Object) -> str:
    """Returns texture, colour and kind of an object in words.

    Args:
      obj: Object.
    """
    words = [obj.colour, obj.kind]
    return " ".join(words if obj.texture == "plain" else [obj.texture, *words])


def _place(obj: Object) -> str:
    x, y = obj.centre
    row = "top" if y < 0.45 else "bottom" if y > 0.55 else ""
    col = "left" if x < 0.45 else "right" if x > 0.55 else ""
    return "in the middle" if not row + col else f"at the {row} {col}".replace("  ", " ").strip()


def _relation(obj: Object, main: Object) -> str:
    dx, dy = obj.centre[0] - main.centre[0], obj.centre[1] - main.centre[1]
    if abs(dx) > abs(dy):
        side = "to its left" if dx < 0 else "to its right"
    else:
        side = "above it" if dy < 0 else "below it"
    depth = "" if not obj.overlaps else " and partly behind it" if obj.behind else " and in front of it"
    return side + depth
