"""The classes of a set in words, and which of them are judged: what a zero-shot classifier is made of."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxvision.data.sources.base import Info
from jaxvision.data.text import imagenet
from jaxvision.data.text.prompts import fingerprint
from jaxvision.errors import UserError, shown, unknown
from jaxvision.reading import is_file, read_text

# The classes of ImageNet that sets which vary it have, as its labels.
VARIANTS = {
    "imagenet": range(1000),
    "imagenet_v2": range(1000),
    "imagenet_sketch": range(1000),
    "imagenet_r": imagenet.RENDITION,
    "imagenet_a": imagenet.ADVERSARIAL,
}
ONLY = (*VARIANTS, "objectnet")


class Classes(NamedTuple):
    """The classes that are judged.

    Attributes:
      labels: of the set, rising.
      names: what stands in prompts, a text for each.
      protocol: what is to be added to the name of a metric; empty where the classes are all and named as in the set.
    """

    labels: tuple[int, ...]
    names: tuple[str, ...]
    protocol: str


def of_set(info: Info, names: str | Sequence[str] | None = None, only: str | Sequence | None = None) -> Classes:
    """The classes of a set that are judged, and their names.

    Args:
      info: of the set.
      names: of all its classes, in their order: a file with one a line, or the names. By default those of the set with
        spaces for underscores, and CLIP's where they are ImageNet's (n01440764, or whatever `only` says is ImageNet).
      only: which classes are candidates; images of others are left out. One of `ONLY`; labels or names of the set; or a
        file with one of these a line.

    Raises:
      UserError: names that are missing or too few, classes that the set has not.

    >>> of_set(Info("pets", "test", 9, ("cat", "polar_bear", "n01443537"), 3), only=("polar_bear", "n01443537"))
    Classes(labels=(1, 2), names=('polar bear', 'goldfish'), protocol='_only_e0d4edac')
    """
    k = info.num_classes
    own = info.classes or tuple(map(str, range(k)))
    kept, words = tuple(range(k)), None
    if isinstance(only, str) and only in VARIANTS:
        labels = _imagenet_labels(info, only)
        words = [imagenet.NAMES[label] for label in labels]
        kept = tuple(i for i, label in enumerate(labels) if label in VARIANTS[only])
    elif only == "objectnet":
        kept = tuple(i for i, name in enumerate(own) if name in imagenet.OBJECTNET)
        words = [imagenet.OBJECTNET.get(name, name) for name in own]
    elif only is not None:
        if isinstance(only, str) and not is_file(only):
            raise unknown("set of classes (or file of classes)", only, ONLY)
        chosen = lines(only) if isinstance(only, str) else only
        kept = tuple(sorted({_label(chosen_one, own) for chosen_one in chosen}))
    if not kept:
        raise UserError(f"{info.name} {info.split} has none of the classes of only={only!r}")
    protocol = ""
    if names is not None:
        words = lines(names) if isinstance(names, str) else list(names)
        if len(words) != k:
            raise UserError(f"{len(words)} names are given, but {info.name} {info.split} has {k} classes")
        protocol += f"_names_{fingerprint(words)}"
    elif words is None:
        if not info.classes:
            raise UserError(f"{info.name} {info.split} does not name its classes: give classes=, a file or the names")
        words = [in_words(name) for name in own]
    if only is not None:
        protocol += f"_only_{only if only in ONLY else fingerprint([own[i] for i in kept])}"
    return Classes(kept, tuple(words[i] for i in kept), protocol)


def in_words(name: str) -> str:
    """A class name as a text: CLIP's name of a class of ImageNet, spaces for underscores.

    >>> in_words("n01443537"), in_words("alarm_clock")
    ('goldfish', 'alarm clock')
    """
    if _is_wnid(name) and name in imagenet.WNIDS:
        return imagenet.NAMES[imagenet.WNIDS.index(name)]
    return name.replace("_", " ")


def lines(file: str | Path) -> list[str]:
    """The classes of a file with one a line; UserError where there is no such file, or it is not UTF-8."""
    if not is_file(str(file)):
        raise UserError(f"no file of class names {shown(str(file))[1:-1]}")
    path = Path(file).expanduser()
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def _is_wnid(name: str) -> bool:
    return re.fullmatch(r"n\d{8}", name) is not None


def _imagenet_labels(info: Info, only: str) -> list[int]:
    """The label in ImageNet of each class of a set, whose folders may be called n01440764 or, as in V2, 0 to 999."""
    if info.classes and all(name in imagenet.WNIDS for name in info.classes):
        return [imagenet.WNIDS.index(name) for name in info.classes]
    if info.num_classes != len(imagenet.WNIDS):
        raise UserError(
            f"only={only!r} wants the 1,000 labels of ImageNet, or classes that are called n01440764 and so on; "
            f"{info.name} {info.split} has {info.num_classes} others"
        )
    if sorted(info.classes) == sorted(map(str, range(len(imagenet.WNIDS)))):
        return list(map(int, info.classes))
    return list(range(len(imagenet.WNIDS)))


def _label(chosen: int | str, own: Sequence[str]) -> int:
    """The label that a number or a name of the set means."""
    if chosen in own:
        return own.index(chosen)
    if str(chosen).isdecimal() and int(chosen) < len(own):
        return int(chosen)
    raise unknown("class of only=", str(chosen), own)
