"""Looks at the images of a set: their sizes and classes, and those that cannot be read."""

import statistics
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from jaxvision import inputs
from jaxvision.data import decoding
from jaxvision.data.bad import Bad, allowed_count
from jaxvision.data.decoding import BadImage, Jpeg
from jaxvision.data.formats import MAX_PIXELS
from jaxvision.data.sources import BadExample, Source
from jaxvision.errors import UserError, some
from jaxvision.progress import track
from jaxvision.recipes.choices import SMALL

_SIZED = 1_000  # most images whose size is read, evenly spaced
_CHECKED = 10_000  # most images of a split that are decoded, evenly spaced
_THREADS = 8


class Survey(NamedTuple):
    """What is known of the training images before any is decoded.

    Attributes:
      examples: Number of images of the training split.
      classes: Number of classes.
      names: Names of the classes; empty if the set has none.
      counts: Number of images of each class that has one, ascending; empty for several labels per image.
      multi_label: True if an image may have several classes.
      side: Median of the shorter sides, in pixels.
      pixels: Median number of pixels.
      uniform: (height, width) if all images have it that were looked at, else None; of small images all are.
      sized: Number of images that were looked at.
    """

    examples: int
    classes: int
    names: tuple[str, ...]
    counts: tuple[int, ...]
    multi_label: bool
    side: int
    pixels: int
    uniform: tuple[int, int] | None
    sized: int


def open_part(section: Mapping[str, Any]) -> Source:
    """Opens a split as a run opens it.

    Args:
      section: Keys of the section `data` of a config: name, split, data_dir, options, subset, host.
    """
    given: dict[str, Any] = {key: section.get(key) for key in ("name", "split", "data_dir", "options", "subset")}
    return inputs.open_set(**given, host="decode", fields=("image", "label"))


def survey(source: Source) -> Survey:
    """Reads the labels of a training split, and the sizes of up to a thousand of its images.

    Args:
      source: Training split.

    Raises:
      UserError: It has no classes, images of one class only, or no image that can be read.
    """
    info = source.info
    if info.num_classes is None:
        raise UserError(
            f"{info.name} {info.split} has no class labels: a model that is trained on images alone needs a config of "
            "configs/self_supervised"
        )
    labels = source.labels
    counts = () if info.multi_label else tuple(sorted(int(n) for n in np.bincount(labels) if n))
    if len(counts) == 1:
        name = info.classes[labels[0]] if info.classes else labels[0]
        raise UserError(
            f"all {len(source):,} images of {info.name} {info.split} are of the class {name!r}, and a classifier needs "
            "two classes at least: make a folder for each class"
        )
    sizes, bad = [], []
    for index in _spaced(len(source), _SIZED):
        size = _size(source, index)
        if isinstance(size, str):
            bad.append(f"{source.describe(index)} ({size})")
        else:
            sizes.append(size)
    if not sizes:
        raise UserError(
            f"none of the {len(bad):,} images of {info.name} {info.split} that were looked at can be read: "
            f"{some(bad, mark=';')}"
        )
    uniform = sizes[0] if len(set(sizes)) == 1 else None
    sized = min(len(source), _SIZED)
    if uniform and max(uniform) <= SMALL and len(source) > _SIZED:
        uniform, sized = (uniform if has_size(source, uniform) else None), len(source)
    side, pixels = (int(statistics.median(map(f, sizes))) for f in (min, lambda size: size[0] * size[1]))
    return Survey(len(source), info.num_classes, info.classes, counts, info.multi_label, side, pixels, uniform, sized)


def has_size(source: Source, size: tuple[int, int]) -> bool:
    """Returns whether all images of a split that can be read are of one size; small ones are quickly looked at.

    Args:
      source: Split.
      size: (height, width).
    """
    if "image" in source.fields and source.fields["image"].shape[:2] == size:
        return True
    what = f"comparing the sizes of {source.info.name} {source.info.split}"
    with ThreadPoolExecutor(_THREADS) as pool:
        pieces = [range(start, min(start + _SIZED, len(source))) for start in range(0, len(source), _SIZED)]
        each = (found for piece in pieces for found in pool.map(lambda index: _size(source, index), piece))
        return all(isinstance(found, str) or found == size for found in track(each, what, len(source), "images"))


def find_bad(source: Source) -> tuple[list[Bad], int]:
    """Decodes the images of a split, up to ten thousand of them.

    Args:
      source: Split.

    Returns:
      The images that cannot be read, and the number of images that were tried.
    """
    indices = _spaced(len(source), _CHECKED)
    with ThreadPoolExecutor(_THREADS) as pool:
        each = pool.map(lambda index: _problem(source, index), indices)
        what = f"checking the images of {source.info.name} {source.info.split}"
        reasons = list(track(each, what, len(indices), "images"))
    return [Bad(index, reason) for index, reason in zip(indices, reasons) if reason], len(indices)


def refuse_bad(source: Source, bad: list[Bad], max_bad_fraction: float) -> list[str]:
    """Applies the rule of a run to the images that cannot be read.

    Args:
      source: Split.
      bad: Its images that cannot be read.
      max_bad_fraction: Share of the split that may be bad, `data.max_bad_fraction`.

    Returns:
      Lines that name the bad images.

    Raises:
      UserError: There are more than the share allows.
    """
    if not bad:
        return []
    named = some((f"{source.describe(one.index)} ({one.reason})" for one in bad), mark=";")
    allowed = allowed_count(source, max_bad_fraction)
    if len(bad) <= allowed:
        count = f"{len(bad):,} of {len(source):,} images of {source.info.split}"
        return [f"{count} cannot be read, and are left out: {named}"]
    share = min(-(-len(bad) * 100 // len(source)) / 100, 1.0)
    raise UserError(
        f"{len(bad):,} of {len(source):,} images of {source.info.name} {source.info.split} cannot be read, more than "
        f"the {allowed:,} that data.max_bad_fraction={max_bad_fraction:g} allows: {named}. Repair them or take "
        f"them away, or leave them out with --config.data.max_bad_fraction={share:g}"
    )


def _spaced(n: int, most: int) -> list[int]:
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)).tolist()


def _size(source: Source, index: int) -> tuple[int, int] | str:
    """Returns (height, width) of an image, or why it cannot be read; a JPEG is not decoded."""
    try:
        picture = _picture(source, index)
    except (BadImage, BadExample, OSError) as error:
        return str(error)
    height, width = picture.shape[:2]
    return int(height), int(width)


def _problem(source: Source, index: int) -> str:
    """Returns why an image cannot be read, or an empty text."""
    try:
        picture = _picture(source, index)
        if isinstance(picture, Jpeg):
            picture.pixels(factor=8)  # reads all of the file, and computes few pixels
    except (BadImage, BadExample, OSError) as error:
        return str(error) or type(error).__name__
    return ""


def _picture(source: Source, index: int) -> Jpeg | np.ndarray:
    image: Any = source[index].get("image")
    return decoding.three_channels(image) if isinstance(image, np.ndarray) else decoding.read_image(image, MAX_PIXELS)
