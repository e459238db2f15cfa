"""The splits of a set, and the part that each has in a run, as their names say."""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

# The part that a split has in a run -> names that splits have.
ROLES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev", "eval"),
    "test": ("test", "testing"),
}


class Layout(NamedTuple):
    """A set of images as the section `data` of a config names it.

    Attributes:
      name: Kind of source, or name of a prepared set.
      data_dir: Folder of the set, absolute; None if its kind needs none.
      options: Options of the source.
      splits: Names of the splits by the part that they have in a run: "train", "validation", "test".
      words: Description of what was found.
      others: Names of splits that are not used.
    """

    name: str
    data_dir: str | None
    options: dict[str, Any]
    splits: dict[str, str]
    words: str
    others: tuple[str, ...] = ()


def role_of(name: str) -> str | None:
    """Returns the part that a split of a name has in a run, or None.

    Args:
      name: Name of a split.

    >>> role_of("Val"), role_of("train2017"), role_of("cats")
    ('validation', 'train', None)
    """
    name = re.sub(r"[\W\d_]+$", "", name)
    return next((role for role, names in ROLES.items() if name.casefold() in names), None)


def role_names(splits: Iterable[str]) -> dict[str, str]:
    """Returns the splits by the part that they have in a run; of several, the one whose name comes first in `ROLES`.

    Args:
      splits: Names of splits; those that say nothing are left out.
    """
    found: dict[str, list[str]] = {role: [] for role in ROLES}
    for split in splits:
        if role := role_of(split):
            found[role].append(split)

    def place(role: str, split: str) -> tuple[int, str]:
        names = ROLES[role]
        return (names.index(split.casefold()) if split.casefold() in names else len(names)), split

    return {role: min(names, key=lambda split: place(role, split)) for role, names in found.items() if names}
