"""The patches of images to which a unit responds most: what the unit looks for."""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np

from jaxvision.arguments import COUNT, Range
from jaxvision.explain.base import Explanation, Outputs, Row, Subject, Tile, in_batches
from jaxvision.explain.receptive_fields import SIDES, receptive_fields, sees_everything
from jaxvision.explain.units import chosen_map, chosen_units, maps_of, peaks, shape_of, without_maps
from jaxvision.registry import part

WHITE = 1.0


class Patch(NamedTuple):
    """A patch of an image: the receptive field of a unit at one place of its map.

    Attributes:
      image: Position of the image.
      top: First row of pixels.
      bottom: Row of pixels after the last.
      left: First column of pixels.
      right: Column of pixels after the last.
      response: Response of the unit at this place.
    """

    image: int
    top: int
    bottom: int
    left: int
    right: int
    response: float

    def cut(self, images: np.ndarray) -> np.ndarray:
        """Returns the pixels of the patch, [height, width, 3].

        Args:
          images: All images, [n, h, w, 3].
        """
        return images[self.image, self.top : self.bottom, self.left : self.right]


def top_patches(
    outputs: Outputs,
    variables: Any,
    size: tuple[int, int],
    name: str,
    values: np.ndarray,
    places: np.ndarray,
    units: Sequence[int],
    count: int,
) -> list[list[Patch]]:
    """Finds the patches to which each unit responds most, at most one of each image, in order of falling response.

    Source: Zeiler and Fergus 2014, arXiv 1311.2901, fig. 2; Springenberg et al. 2015, arXiv 1412.6806, fig. 3.

    Args:
      outputs: Pure function of variables and images that returns the map among others.
      variables: Variables of the model.
      size: Height and width of the images, in pixels.
      name: Name of the map, such as "stages/1".
      values: Largest response of each of the d units to each of the n images, float [n, d]; see `units.peaks`.
      places: Place of this response, (row, column) of the map, int [n, d, 2].
      units: Numbers of u units, each in [0, d).
      count: Number of patches of a unit, if there are as many images.

    Returns:
      The patches of each of the u units.
    """
    order = [np.argsort(-values[:, unit], kind="stable")[:count] for unit in units]
    wanted = [(*places[i, unit], unit) for unit, images in zip(units, order) for i in images]
    fields = iter(receptive_fields(outputs, variables, size, name, wanted).tolist())
    found = []
    for unit, images in zip(units, order):
        patches = []
        for i in images.tolist():
            above, below, before, after = next(fields)
            patches.append(Patch(i, above, below, before, after, float(values[i, unit])))
        found.append(patches)
    return found


def of_one_size(patches: Sequence[Patch], images: np.ndarray) -> list[np.ndarray]:
    """Cuts patches out of images. Those that the border of an image cuts off get a white margin there.

    Args:
      patches: Patches.
      images: All images, float [n, h, w, 3] in [0, 1].

    Returns:
      Pictures, each float [height, width, 3], of the height and width of the largest patch.

    >>> patches = [Patch(0, 0, 1, 0, 2, 1.0), Patch(0, 1, 3, 0, 2, 1.0)]
    >>> [x[:, 0, 0].tolist() for x in of_one_size(patches, np.zeros((1, 4, 4, 3)))]
    [[1.0, 0.0], [0.0, 0.0]]
    """
    height, width = max(p.bottom - p.top for p in patches), max(p.right - p.left for p in patches)
    pictures = []
    for patch in patches:
        pixels = patch.cut(images)
        above, before = height - pixels.shape[0], width - pixels.shape[1]
        rows = (above, 0) if patch.top == 0 else (0, above)
        columns = (before, 0) if patch.left == 0 else (0, before)
        pictures.append(np.pad(pixels, (rows, columns, (0, 0)), constant_values=WHITE))
    return pictures


def _passes(subject: Subject, units: Sequence[int] = (), count: int = 10, top: int = 9, **_: Any) -> float:
    steps = max(subject.images.shape[1:3]).bit_length()
    shown = (len(units) or count) * min(top, len(subject.images))
    return 1 + SIDES * steps * min(shown, max(subject.images.shape[1:3]) // 4) / len(subject.images)


@part("explanation", "patches", small={"count": 2}, passes=_passes, refuses=without_maps)
def explain_patches(
    subject: Subject,
    *,
    layer: str | None = None,
    units: tuple[Annotated[int, Range(0)], ...] = (),
    count: COUNT = 10,
    top: COUNT = 9,
) -> Explanation:
    """The patches of the images to which units of a map respond most, as large as their receptive fields.

    Args:
      subject: Model and images. All images are searched, so give many, with `--most`.
      layer: Name of the map, such as "stages/1"; None for the last one whose units do not see the whole image.
      units: Numbers of the units; empty for those with the largest responses.
      count: Number of units, if they are not given.
      top: Number of patches of each unit, at most one of each image.
    """
    size = subject.images.shape[1:3]
    names = maps_of(subject)
    whole = sees_everything(subject.outputs, subject.variables, size, names)
    name = layer or next((x for x in reversed(names) if not whole[x]), None) or chosen_map(subject, None)
    values, places = in_batches(subject, lambda x, _: peaks(subject.outputs, subject.variables, x, name))
    places = np.stack(np.divmod(places, shape_of(subject, name)[2]), axis=-1)  # n d 2
    chosen = chosen_units(units, values.max(axis=0), count)
    found = top_patches(subject.outputs, subject.variables, size, name, values, places, chosen, top)
    rows = []
    for unit, patches in zip(chosen, found):
        pictures = of_one_size(patches, subject.images)
        tiles = [Tile(picture, None, _words(subject, patch)) for picture, patch in zip(pictures, patches)]
        rows.append(Row(f"unit {unit}", tiles))
    every = [patch for patches in found for patch in patches]
    height, width = max(p.bottom - p.top for p in every), max(p.right - p.left for p in every)
    text = (
        f"For units of `{name}`: the patches of the {len(subject.images)} images to which they respond most, at most "
        "one of each image, with the response below it (Zeiler and Fergus 2014). A patch is the receptive field of the "
        f"unit, all pixels that can change its response: {height}x{width} of the {size[0]}x{size[1]} pixels of an "
        "image"
    )
    text += ", so these are whole images." if whole.get(name) else ", less at a border, where the rest is left white."
    return Explanation(f"Patches that units of {name} respond to", text, rows)


def _words(subject: Subject, patch: Patch) -> str:
    name = subject.names[patch.image] if subject.names else f"image {patch.image}"
    return f"{name}: {patch.response:.3g}"
