"""Questions about scenes of distant objects: same or different, larger, nearest, how many, and what is the odd one.

`shapes` asks them with `question=`. The objects of these scenes are plain and lie in different cells of a grid, so that
none touches another. Objects whose kinds are compared are at opposite edges, 24 of 32 pixels apart: about as far as a
small convolutional network sees. Colours, tilt, background and light vary as in other scenes,
noise half as much. The answer is drawn first, each with the same probability, and then a scene that has this answer.
Guessing is right once in as many times as there are answers.

"same", "larger", "nearest" and "count" need little more than a relation of objects; "kind_same", "kind_of_larger" and
"odd_one" need a relation and the kind of an object together. "alone" needs no relation: one object fills the frame.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.data import shapes_scene
from jaxvision.data.shapes_render import Object, Scene
from jaxvision.data.shapes_scene import choice, uniform

KINDS = ("ring", "triangle", "square", "cross", "crescent")  # easy to tell apart when 6 pixels wide
FAR = 4  # cells along a side of the grid whose outer cells hold objects that are to be compared
RATIO = 1.3  # radius of the larger object to that of the smaller one
FARTHER = 0.45  # least distance of an object's colour from both colours of the background


class Cell(NamedTuple):
    """A place in a grid of `side` x `side` cells; `row` may be between two."""

    col: int
    row: float
    side: int


class Planned(NamedTuple):
    """An object of a scene, before its looks are drawn."""

    kind: str
    radius: float
    cell: Cell


class Question(NamedTuple):
    """A question that scenes answer.

    Attributes:
      text: Question in words.
      classes: Answers; each is as frequent as the others.
      plan: Function `plan(rng, answer)` that draws the objects of a scene with the answer of this number.
    """

    text: str
    classes: tuple[str, ...]
    plan: Callable[[np.random.Generator, int], list[Planned]]


def _several(rng: np.random.Generator, items: Sequence, count: int) -> list:
    """Draws `count` different items, in random order."""
    rest, drawn = list(items), []
    for _ in range(count):
        drawn.append(rest.pop(int(rng.random() * len(rest))))
    return drawn


def _side_by_side(rng: np.random.Generator, kinds: Sequence[str], radii: Sequence[float]) -> list[Planned]:
    """Draws the cells of an object in the left half and one in the right half, in any two rows."""
    cells = [Cell(col, int(rng.random() * 2), 2) for col in range(2)]
    return [Planned(*planned) for planned in zip(kinds, radii, cells)]


def _far_apart(rng: np.random.Generator, *kinds: str) -> list[Planned]:
    """Draws the heights of an object at the left edge and one at the right edge."""
    radii = [_radius(rng) for _ in kinds]
    cells = [Cell(col, uniform(rng, 0.03, FAR - 1.03), FAR) for col in (0, FAR - 1)]
    return [Planned(*planned) for planned in zip(kinds, radii, cells)]


def _radius(rng: np.random.Generator) -> float:
    """Draws the radius of an object at the edge, about as large as its cell allows."""
    return uniform(rng, 0.34, 0.4) / FAR


def _sizes(rng: np.random.Generator) -> tuple[float, float]:
    """Draws the radius of a larger object and that of a smaller one, each of which could be the other in a scene."""
    small = uniform(rng, 0.085, 0.2 / RATIO)
    return small * RATIO, small


def _same(rng: np.random.Generator, answer: int) -> list[Planned]:
    first, other = _several(rng, KINDS, 2)
    return _far_apart(rng, first, other if answer else first)


def _larger(rng: np.random.Generator, answer: int) -> list[Planned]:
    kind, radii = choice(rng, KINDS), _sizes(rng)
    return _side_by_side(rng, (kind, kind), radii[::-1] if answer else radii)


def _nearest(rng: np.random.Generator, answer: int) -> list[Planned]:
    # The outer objects are in different corners, the middle one beside the nearer: no place alone tells the answer.
    row = 2 * int(rng.random() * 2)
    rows = (row, 2 - row if answer else row, 2 - row)
    return [Planned(choice(rng, KINDS), uniform(rng, 0.115, 0.135), Cell(col, rows[col], 3)) for col in range(3)]


def _count(rng: np.random.Generator, answer: int) -> list[Planned]:
    cells = _several(rng, [Cell(i % 3, i // 3, 3) for i in range(9)], answer + 1)
    scale = uniform(rng, 0.7, 1)  # of the whole scene, so that the covered area tells less
    return [Planned(choice(rng, KINDS), scale * uniform(rng, 0.115, 0.135), cell) for cell in cells]


def _kind_same(rng: np.random.Generator, answer: int) -> list[Planned]:
    kind, different = KINDS[answer // 2], answer % 2
    other = choice(rng, [k for k in KINDS if k != kind])
    return _far_apart(rng, kind, other if different else kind)


def _kind_of_larger(rng: np.random.Generator, answer: int) -> list[Planned]:
    other = choice(rng, [k for k in KINDS if k != KINDS[answer]])
    kinds, radii = (KINDS[answer], other), _sizes(rng)
    turn = -1 if rng.random() < 0.5 else 1
    return _side_by_side(rng, kinds[::turn], radii[::turn])


def _odd_one(rng: np.random.Generator, answer: int) -> list[Planned]:
    other = choice(rng, [k for k in KINDS if k != KINDS[answer]])
    odd = int(rng.random() * 4)
    kinds = [KINDS[answer] if i == odd else other for i in range(4)]
    return [
        Planned(kind, _radius(rng), Cell(i % 2 * (FAR - 1), i // 2 * (FAR - 1), FAR)) for i, kind in enumerate(kinds)
    ]


def _alone(rng: np.random.Generator, answer: int) -> list[Planned]:
    return [Planned(KINDS[answer], uniform(rng, 0.28, 0.4), Cell(0, 0, 1))]


# The position of a question is part of the random key of its scenes: add new ones at the end.
QUESTIONS: dict[str, Question] = {
    "same": Question("Are the two objects of the same kind?", ("same", "different"), _same),
    "larger": Question("Which of the two objects is larger?", ("left", "right"), _larger),
    "nearest": Question("Which of the outer objects is nearest to the middle one?", ("left", "right"), _nearest),
    "count": Question("How many objects are there?", ("one", "two", "three", "four", "five", "six"), _count),
    "kind_same": Question(
        "What is the left object, and is the right one of the same kind?",
        tuple(f"{kind}, {relation}" for kind in KINDS for relation in ("same", "different")),
        _kind_same,
    ),
    "kind_of_larger": Question("What is the larger object?", KINDS, _kind_of_larger),
    "odd_one": Question("What is the object that is unlike the three others?", KINDS, _odd_one),
    "alone": Question("What is the object?", KINDS, _alone),
}


def sample(question: str, split: str, index: int) -> tuple[Scene, int]:
    """Draws the scene of an example, a function of question, split and index alone.

    Args:
      question: Name of the question, a key of `QUESTIONS`.
      split: Name of the split.
      index: Position in the split, from 0.

    Returns:
      (scene, number of the answer). The objects are in the order of the question or, if it has none, in any.
    """
    splits = shapes_scene.SPLITS
    stream = len(splits) * (1 + list(QUESTIONS).index(question)) + splits.index(split)  # 0 to 2: scenes without one
    rng = np.random.Generator(np.random.Philox(key=[stream, index]))
    asked = QUESTIONS[question]
    answer = int(rng.random() * len(asked.classes))
    planned = asked.plan(rng, answer)
    background = shapes_scene.draw_background(rng, (1.0, 1.0, 1.0))
    objects = tuple(_drawn(rng, plan, background.paint) for plan in planned)
    light, grain = shapes_scene.draw_light(rng), shapes_scene.draw_grain(rng)
    return Scene(objects, background, light, grain._replace(amplitude=grain.amplitude / 2)), answer


def _drawn(rng: np.random.Generator, planned: Planned, avoid: Sequence) -> Object:
    """Draws the looks of an object; its colour depends on the background only."""
    jitter = 0.05 / planned.cell.side
    x, y = ((i + 0.5) / planned.cell.side + uniform(rng, -jitter, jitter) for i in planned.cell[:2])
    while True:
        obj = shapes_scene.draw_object(rng, (x, y), planned.radius)
        if min(shapes_scene.colour_distance(obj.paint[0], colour) for colour in avoid) > FARTHER:
            # Stretched less than other objects, or neighbours would touch.
            return obj._replace(kind=planned.kind, texture="plain", aspect=1 + (obj.aspect - 1) * 0.4)


def caption(scene: Scene) -> str:
    """Describes the objects of a scene, their places and the background in one English sentence; answers nothing.

    Args:
      scene: Scene.
    """
    parts = [f"a {shapes_scene.describe(obj)} {_place(obj)}" for obj in scene.objects]
    listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)
    return f"{listed} of a {scene.background.texture} background"


def _place(obj: Object) -> str:
    x, y = (("first", "middle", "last")[(c > 0.4) + (c > 0.6)] for c in obj.centre)
    row = {"first": "top", "middle": "", "last": "bottom"}[y]
    col = {"first": "left", "middle": "", "last": "right"}[x]
    return "in the middle" if not row + col else "at the " + " ".join(word for word in (row, col) if word)
