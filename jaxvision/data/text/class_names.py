"""The classes of a set in words, and the choice of those that are candidates: the input of a zero-shot classifier."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxvision.data.sources.base import Info
from jaxvision.data.text import imagenet
from jaxvision.data.text.prompts import fingerprint
from jaxvision.errors import UserError, shown, unknown
from jaxvision.reading import is_file, read_text

# The classes of ImageNet in its variants, as labels of ImageNet.
VARIANTS = {
    "imagenet": range(1000),
    "imagenet_v2": range(1000),
    "imagenet_sketch": range(1000),
    "imagenet_r": imagenet.RENDITION,
    "imagenet_a": imagenet.ADVERSARIAL,
}
ONLY = (*VARIANTS, "objectnet")


class Classes(NamedTuple):
    """The classes that are candidates.

    Attributes:
      labels: Labels of the set, ascending.
      names: Names for prompts, one text for each label.
      protocol: Suffix for the name of a metric; empty if all classes are candidates and named as in the set.
    """

    labels: tuple[int, ...]
    names: tuple[str, ...]
    protocol: str


def candidate_classes(
    info: Info, names: str | Sequence[str] | None = None, only: str | Sequence | None = None
) -> Classes:
    """Returns the classes of a set that are candidates, and their names.

    Args:
      info: Description of the set.
      names: Names of all its classes, in their order: a file with one per line, or the names. By default those of the
        set with spaces for underscores, and CLIP's names for classes of ImageNet (n01440764, or those that `only`
        assigns).
      only: Candidates; images of other classes are left out. One of `ONLY`; labels or names of the set; or a file with
        one of these per line.

    Raises:
      UserError: Names are missing or too few, or a class does not exist in the set.

    >>> info = Info("pets", "test", 9, ("cat", "polar_bear", "n01443537"), 3)
    >>> candidate_classes(info, only=("polar_bear", "n01443537"))
    Classes(labels=(1, 2), names=('polar bear', 'goldfish'), protocol='_only_e0d4edac')
    """
    kept, words, protocol = _choose(info, only)
    k = info.num_classes
    if names is not None:
        words = read_class_names(names) if isinstance(names, str) else list(names)
        if len(words) != k:
            raise UserError(f"{len(words)} names are given, but {info.name} {info.split} has {k} classes")
        protocol = f"_names_{fingerprint(words)}{protocol}"
    elif words is None:
        if not info.classes:
            raise UserError(f"{info.name} {info.split} does not name its classes: give classes=, a file or the names")
        words = [in_words(name) for name in info.classes]
    return Classes(kept, tuple(words[i] for i in kept), protocol)


def candidate_labels(info: Info, only: str | Sequence) -> tuple[tuple[int, ...], str]:
    """Returns the labels of the classes that are candidates, for a classifier that does not need their names.

    Args:
      info: Description of the set whose classes they are.
      only: Candidates, see `candidate_classes`.

    Returns:
      Labels, ascending, and the suffix for the name of a metric.

    Raises:
      UserError: A class does not exist in the set, or none is chosen.

    >>> candidate_labels(Info("digits", "test", 9, (), 10), only=(7, "1"))[0]
    (1, 7)
    """
    kept, _, protocol = _choose(info, only)
    return kept, protocol


def _choose(info: Info, only: str | Sequence | None) -> tuple[tuple[int, ...], list[str] | None, str]:
    """The labels that `only` chooses, the words for all classes if it assigns them, and the suffix of a protocol."""
    k = info.num_classes
    assert k is not None
    set_names = info.classes or tuple(map(str, range(k)))
    kept = tuple(range(k))
    words: list[str] | None = None
    if isinstance(only, str) and only in VARIANTS:
        labels = _imagenet_labels(info, only)
        words = [imagenet.NAMES[label] for label in labels]
        kept = tuple(i for i, label in enumerate(labels) if label in VARIANTS[only])
    elif only == "objectnet":
        kept = tuple(i for i, name in enumerate(set_names) if name in imagenet.OBJECTNET)
        words = [imagenet.OBJECTNET.get(name, name) for name in set_names]
    elif only is not None:
        if isinstance(only, str) and not is_file(only):
            raise unknown("set of classes (or file of classes)", only, ONLY)
        chosen = read_class_names(only) if isinstance(only, str) else only
        kept = tuple(sorted({_label(label_or_name, set_names) for label_or_name in chosen}))
    if not kept:
        raise UserError(f"{info.name} {info.split} has none of the classes of only={only!r}")
    if only is None:
        return kept, words, ""
    return kept, words, f"_only_{only if only in ONLY else fingerprint([set_names[i] for i in kept])}"


def in_words(name: str) -> str:
    """Returns a class name in words: CLIP's name of a class of ImageNet, else the name with spaces for underscores.

    Args:
      name: Name of a class.

    >>> in_words("n01443537"), in_words("alarm_clock")
    ('goldfish', 'alarm clock')
    """
    if _is_wnid(name) and name in imagenet.WNIDS:
        return imagenet.NAMES[imagenet.WNIDS.index(name)]
    return name.replace("_", " ")


def read_class_names(file: str | Path) -> list[str]:
    """Returns the classes in a file with one per line.

    Args:
      file: File.

    Raises:
      UserError: There is no such file, or it is not UTF-8.
    """
    if not is_file(str(file)):
        raise UserError(f"no file of class names {shown(str(file))[1:-1]}")
    path = Path(file).expanduser()
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def _is_wnid(name: str) -> bool:
    return re.fullmatch(r"n\d{8}", name) is not None


def _imagenet_labels(info: Info, only: str) -> list[int]:
    """Returns the label in ImageNet of each class of a set; its folders may be n01440764 etc., or 0 to 999 (V2)."""
    if info.classes and all(name in imagenet.WNIDS for name in info.classes):
        return [imagenet.WNIDS.index(name) for name in info.classes]
    if info.num_classes != len(imagenet.WNIDS):
        raise UserError(
            f"only={only!r} wants the 1,000 labels of ImageNet, or classes that are called n01440764 and so on; "
            f"{info.name} {info.split} has {info.num_classes} other classes"
        )
    if sorted(info.classes) == sorted(map(str, range(len(imagenet.WNIDS)))):
        return list(map(int, info.classes))
    return list(range(len(imagenet.WNIDS)))


def _label(label_or_name: int | str, names: Sequence[str]) -> int:
    """Returns the label that a number or a name of the set means."""
    if label_or_name in names:
        return names.index(str(label_or_name))
    if str(label_or_name).isdecimal() and int(label_or_name) < len(names):
        return int(label_or_name)
    raise unknown("class of only=", str(label_or_name), names)
