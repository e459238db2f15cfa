"""From the description of a `shapes` scene to its pixels: outlines, textures, shadows, light.

Arrays are only added, subtracted, multiplied, divided, rounded and compared, which IEEE 754 defines to the last bit, so
a scene gives the same bytes on every machine. Coordinates are fractions of the frame, x to the right and y downwards,
so the same scene can be drawn at any size.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

SAMPLES = 3  # samples per pixel and axis; odd, so that the middle one is the pixel's centre

Point = tuple[float, float]
Colour = tuple[float, float, float]


class Object(NamedTuple):
    """One object of a scene; lengths are fractions of the frame, colours are RGB in [0, 1]."""

    kind: str
    colour: str
    texture: str
    centre: Point
    radius: float
    aspect: float  # the outline is stretched by `aspect` along `axis` and by 1 / aspect across it
    axis: Point  # unit vector
    frequency: float  # periods of the texture per frame
    paint: tuple[Colour, Colour]  # the colour itself, and the other colour of its texture
    behind: bool = False  # painted before the main object instead of after it
    overlaps: bool = False  # its outline and that of the main object intersect


class Background(NamedTuple):
    """The background of a scene: two colours in a texture, as for an object."""

    texture: str
    axis: Point
    frequency: float
    paint: tuple[Colour, Colour]


class Light(NamedTuple):
    """The light of a scene, from one side."""

    direction: Point  # unit vector towards the light
    colour: Colour  # multiplies every pixel
    falloff: float  # relative change of brightness over the frame
    relief: float  # relative change of brightness from the middle of an object to its lit edge
    shadow: float  # opacity of shadows, 0 for none
    reach: float  # distance of a shadow from its object


class Grain(NamedTuple):
    """Noise of the camera, uniform in [-amplitude, amplitude], independent for each pixel and channel."""

    amplitude: float
    key: int


class Scene(NamedTuple):
    """Everything that a picture shows."""

    objects: tuple[Object, ...]  # the main object is the first
    background: Background
    light: Light
    grain: Grain


def _sides(count: int) -> list[Point]:
    """Returns the unit normals of the sides of a regular polygon with a corner at the top."""
    angles = [math.pi * (2 * i + 1) / count - math.pi / 2 for i in range(count)]
    return [(math.cos(a), math.sin(a)) for a in angles]


def _polygon(count: int) -> Callable:
    inradius, sides = math.cos(math.pi / count), _sides(count)
    return lambda u, v: functools.reduce(np.maximum, (u * x + v * y for x, y in sides)) <= inradius


def _star(u, v):
    # The sides of a five-pointed star are on five lines; a point in one of its tips is outside exactly one of them.
    inner = math.cos(2 * math.pi / 5)
    count = sum((u * nx + v * ny <= inner).view(np.uint8) for nx, ny in _sides(5))
    return count >= 4


def _ring(u, v):
    r2 = u * u + v * v
    return (r2 <= 1) & (r2 >= 0.3)


def _crescent(u, v):
    return (u * u + v * v <= 1) & ((u - 0.5) ** 2 + v * v >= 0.6)


def _cross(u, v):
    u, v = np.abs(u), np.abs(v)
    return (np.minimum(u, v) <= 0.3) & (np.maximum(u, v) <= 0.92)


def _heart(u, v):
    # The curve (x^2 + y^2 - 1)^3 = x^2 y^3, shrunk and moved into the disc.
    u2, y = 1.8 * u * u, 0.13 - 1.34 * v
    body = u2 + y * y - 1
    return body * body * body <= u2 * y * y * y


# Each outline is inside the unit disc: inside(u, v) -> bool for float32 coordinates u, v.
OUTLINES: dict[str, Callable] = {
    "circle": lambda u, v: u * u + v * v <= 1,
    "ring": _ring,
    "crescent": _crescent,
    "triangle": _polygon(3),
    "square": _polygon(4),
    "pentagon": _polygon(5),
    "hexagon": _polygon(6),
    "star": _star,
    "cross": _cross,
    "heart": _heart,
}


def _fraction(p: np.ndarray) -> np.ndarray:
    return p - np.floor(p)


# Each texture defines where its second colour is visible: second(p, q) -> bool, with period 1 in p and q.
TEXTURES: dict[str, Callable] = {
    "plain": lambda p, q: np.zeros(np.broadcast_shapes(p.shape, q.shape), bool),
    "striped": lambda p, q: _fraction(p) < 0.5,
    "checked": lambda p, q: (_fraction(p) < 0.5) ^ (_fraction(q) < 0.5),
    "dotted": lambda p, q: (_fraction(p) - 0.5) ** 2 + (_fraction(q) - 0.5) ** 2 < 0.1,
}


def _rotate(x: np.ndarray, y: np.ndarray, axis: Point) -> tuple[np.ndarray, np.ndarray]:
    """Returns the coordinates along `axis` and across it."""
    return x * axis[0] + y * axis[1], y * axis[0] - x * axis[1]


class Footprint(NamedTuple):
    """The samples around an object: the pixels `rows` x `cols`, each divided into samples."""

    rows: slice
    cols: slice
    along: np.ndarray  # float32 [h, w], coordinates from the object's centre along its axis
    across: np.ndarray
    inside: np.ndarray  # bool [h, w]


def footprint(obj: Object, size: int, samples: int = 1) -> Footprint:
    """Samples an object in a frame.

    Args:
      obj: Object.
      size: Side of the frame in pixels.
      samples: Number of samples per pixel and axis.
    """
    extent = obj.radius * max(obj.aspect, 1 / obj.aspect)
    cols, rows = (_span(c - extent, c + extent, size) for c in obj.centre)
    x = _centres(size, samples, cols)[None, :] - obj.centre[0]
    y = _centres(size, samples, rows)[:, None] - obj.centre[1]
    along, across = _rotate(x, y, obj.axis)
    inside = OUTLINES[obj.kind](along * (1 / (obj.radius * obj.aspect)), across * (obj.aspect / obj.radius))
    return Footprint(rows, cols, along, across, inside)


def _span(low: float, high: float, size: int) -> slice:
    """Returns the pixels that meet the interval from `low` to `high`."""
    return slice(min(size, max(0, math.floor(low * size))), min(size, max(0, math.ceil(high * size))))


def _centres(size: int, samples: int = 1, pixels: slice = slice(None)) -> np.ndarray:
    """Returns the coordinates of the samples in `pixels`, float32."""
    start, stop, _ = pixels.indices(size)
    return (np.arange(start * samples, stop * samples, dtype=np.float32) + 0.5) / (size * samples)


def _coverage(samples: np.ndarray) -> np.ndarray:
    """Returns the share of each pixel's samples that are true: bool [h * 3, w * 3] -> float32 [h, w, 1]."""
    count = samples.view(np.uint8)
    count = functools.reduce(np.add, (count[i::SAMPLES] for i in range(SAMPLES)))
    count = functools.reduce(np.add, (count[:, i::SAMPLES] for i in range(SAMPLES)))
    return count[:, :, None] * np.float32(1 / SAMPLES**2)


def _blend(paint: tuple[Colour, Colour], first, second):
    """Mixes the two colours of `paint` with the weights `first` and `second`, float32 [h, w, 1]."""
    a, b = np.asarray(paint, np.float32)
    return first * a + second * b


def draw(scene: Scene, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws a scene, antialiased by `SAMPLES` x `SAMPLES` samples per pixel.

    Args:
      scene: Scene.
      size: Side of the image in pixels.

    Returns:
      (image uint8 [size, size, 3], mask uint8 [size, size, 1]). In the mask, 0 is background and i + 1 is
      `scene.objects[i]` where the centre of the pixel shows it.
    """
    ground, light = scene.background, scene.light
    fine = _centres(size, SAMPLES)
    along, across = _rotate(fine[None, :] * ground.frequency, fine[:, None] * ground.frequency, ground.axis)
    second = _coverage(TEXTURES[ground.texture](along, across))
    image = _blend(ground.paint, 1 - second, second)
    mask = np.zeros((size, size, 1), np.uint8)

    numbered = list(enumerate(scene.objects, 1))
    for number, obj in sorted(numbered, key=lambda item: not item[1].behind):
        _paint(image, mask, obj, number, light)

    x, y = _centres(size)[None, :, None] - 0.5, _centres(size)[:, None, None] - 0.5
    lit = 1 + light.falloff * (x * light.direction[0] + y * light.direction[1])
    image = image * lit * np.asarray(light.colour, np.float32)
    noise = np.random.Generator(np.random.Philox(key=scene.grain.key)).random(image.shape, np.float32)
    image += scene.grain.amplitude * (2 * noise - 1)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8), mask


def _paint(image: np.ndarray, mask: np.ndarray, obj: Object, number: int, light: Light) -> None:
    """Paints an object and its shadow over `image` and `mask`, in place."""
    size = len(image)
    toward = light.direction
    if light.shadow:
        away = obj.centre[0] - light.reach * toward[0], obj.centre[1] - light.reach * toward[1]
        cast = footprint(obj._replace(centre=away), size, SAMPLES)
        image[cast.rows, cast.cols] *= 1 - light.shadow * _coverage(cast.inside)

    seen = footprint(obj, size, SAMPLES)
    pattern = TEXTURES[obj.texture](seen.along * obj.frequency, seen.across * obj.frequency)
    covered, second = _coverage(seen.inside), _coverage(seen.inside & pattern)
    middle = slice(SAMPLES // 2, None, SAMPLES)
    x = _centres(size, 1, seen.cols)[None, :, None] - obj.centre[0]
    y = _centres(size, 1, seen.rows)[:, None, None] - obj.centre[1]
    lit = 1 + light.relief / obj.radius * (x * toward[0] + y * toward[1])
    window = image[seen.rows, seen.cols]
    window *= 1 - covered
    window += _blend(obj.paint, covered - second, second) * lit
    mask[seen.rows, seen.cols][seen.inside[middle, middle]] = number
