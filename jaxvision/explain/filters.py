"""The filters of the first layer as pictures, and the response maps of any stage."""

from typing import Annotated, Any

import numpy as np

from jaxvision import paths
from jaxvision.arguments import COUNT, Range
from jaxvision.explain.base import Explanation, Row, Subject, Tile, class_of, in_batches
from jaxvision.explain.units import chosen_map, chosen_units, in_rows, respond, without_maps
from jaxvision.registry import part

PyTree = Any

CHANNELS = (3, 1)  # channels of colour images and of grey ones
COLUMNS = 16  # filters in a row


def first_kernel(params: PyTree) -> tuple[str, np.ndarray] | None:
    """Finds the kernel of the first convolution, or of a ViT's patch embedding.

    Args:
      params: Parameters of a network.

    Returns:
      Its path and its values, float [h, w, 3 or 1, N]; None if no parameter has such a shape.

    >>> first_kernel({"head": {"kernel": np.ones((8, 2))}, "stem": {"kernel": np.ones((7, 7, 3, 8))}})[0]
    'stem/kernel'
    """
    named = paths.flatten(params)
    for channels in CHANNELS:
        for name, kernel in named.items():
            if kernel.ndim == 4 and kernel.shape[2] == channels and kernel.shape[0] > 1:
                return name, np.asarray(kernel)
    return None


def filter_pictures(kernel: np.ndarray) -> np.ndarray:
    """Turns each filter of a kernel into a picture, scaled by its own largest weight, in order of falling norm.

    Args:
      kernel: Weights, float [h, w, C, N], with C of 3 or 1.

    Returns:
      Float [N, h, w, 3] in [0, 1]; a weight of 0 is 0.5, grey.

    >>> filter_pictures(np.array([0.0, -2.0, 1.0]).reshape(1, 1, 3, 1)).ravel().tolist()
    [0.5, 0.0, 0.75]
    """
    filters = np.moveaxis(np.asarray(kernel, np.float32), -1, 0)  # n h w c
    filters = filters[np.argsort(-np.square(filters).sum((1, 2, 3)), kind="stable")]
    largest = np.abs(filters).max(axis=(1, 2, 3), keepdims=True)
    scaled = 0.5 + 0.5 * filters / np.maximum(largest, 1e-12)
    return np.broadcast_to(scaled, (*scaled.shape[:3], 3))


def without_filters(subject: Subject, **_: Any) -> str | None:
    """Returns why a model has no filters to show, as the end of a sentence; None if it has some.

    Args:
      subject: Model and images.
      **_: Options of the instrument.
    """
    found = first_kernel(subject.variables.get("params", {}))
    return None if found else "this network has no convolution over the colours of the image"


@part("explanation", "filters", passes=0, refuses=without_filters)
def explain_filters(subject: Subject, *, count: COUNT = 192) -> Explanation:
    """The filters of the first layer, as small pictures in their own colours (Krizhevsky et al. 2012, fig. 3).

    Args:
      subject: Model and images.
      count: Number of filters that are shown; those of the largest norm.
    """
    found = first_kernel(subject.variables["params"])
    assert found is not None  # `without_filters` has refused the others
    name, kernel = found
    images = filter_pictures(kernel)[:count]
    height, width, channels, total = kernel.shape
    some = f", of which the {len(images)} of the largest norm are shown" if len(images) < total else ""
    text = (
        f"The {total} filters of {height}x{width} pixels and {channels} channels in `{name}`{some}, the largest norm "
        "first. Each is scaled by its own largest weight, so a weak filter looks as strong as the others; grey is 0 "
        "(Krizhevsky et al. 2012, fig. 3)."
    )
    rows = [Row("", [Tile(image) for image in row]) for row in in_rows(images, COLUMNS)]
    return Explanation("Filters of the first layer", text, rows)


@part("explanation", "responses", small={"count": 2}, passes=1, refuses=without_maps)
def explain_responses(
    subject: Subject,
    *,
    layer: str | None = None,
    units: tuple[Annotated[int, Range(0)], ...] = (),
    count: COUNT = 8,
) -> Explanation:
    """The response maps of a stage: how strongly each unit responds at each place of an image.

    Args:
      subject: Model and images.
      layer: Name of the map, such as "stages/1"; None for the first map of the model.
      units: Numbers of the units; empty for those with the largest responses over all images.
      count: Number of units, if they are not given.
    """
    name = chosen_map(subject, layer, first=True)
    maps = in_batches(subject, lambda x, _: respond(subject.outputs, subject.variables, x, name))  # n h w d
    chosen = chosen_units(units, np.abs(maps).max(axis=(0, 1, 2)), count)
    bounds = {unit: float(np.abs(maps[..., unit]).max()) for unit in chosen}
    signed = {unit: bool(maps[..., unit].min() < 0) for unit in chosen}
    rows = []
    for i, image in enumerate(subject.images):
        tiles = [Tile(image, None, subject.names[i] if subject.names else "image")]
        tiles += [Tile(None, maps[i, :, :, unit], f"unit {unit}", bounds[unit], signed[unit]) for unit in chosen]
        rows.append(Row(class_of(subject, i) if subject.has_classes() else "", tiles))
    text = (
        f"What {len(chosen)} of the {maps.shape[-1]} units of `{name}` return at each place, "
        f"{maps.shape[1]}x{maps.shape[2]} of them. One column is one unit. Its strongest colour is its largest "
        "response to any of the images."
    )
    return Explanation(f"Response maps of {name}", text, rows)
