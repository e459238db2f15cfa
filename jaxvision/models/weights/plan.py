"""Which of our arrays lie in which array of a file, as a table says."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxvision import paths
from jaxvision.models.weights.layouts import LAYOUTS, Layout
from jaxvision.models.weights.table import SCANNED, Table

PyTree = Any
FUSED = {"query": 0, "key": 1, "value": 2}


class Slot(NamedTuple):
    """One of our arrays, or a part of an array of the file."""

    path: str
    layout: Layout


def slots_by_name(table: Table, targets: Mapping[str, np.ndarray]) -> dict[str, list[Slot]]:
    """Which of our arrays lie in which array of the file."""
    slots_of: dict[str, list[Slot]] = {}
    for path in targets:
        layout = next(name for pattern, name in table.layouts if re.search(pattern, path))
        slots_of.setdefault(rename(path, table), []).append(Slot(path, LAYOUTS[layout]))
    for slots in slots_of.values():
        slots.sort(key=lambda slot: FUSED.get(slot.path.split("/")[-2], 0))
    return slots_of


def rename(path: str, table: Table) -> str:
    """Our path as the file's name, without a prefix."""
    for pattern, template in table.renames:
        path = re.sub(pattern, _expand(template), path)
    return path


def _expand(template: str) -> Callable[[re.Match], str]:
    """A template as a function of a match, see `table`."""

    def fill(found: re.Match) -> str:
        def group(place: re.Match) -> str:
            text, offset, form = found[int(place[1])], place[2], place[3]
            return format(int(text) + int(offset or 0), form or "") if offset or form else text

        return re.sub(r"\{(\d)([+-]\d+)?(?::(\d+))?\}", group, template)

    return fill


def dummies(variables: PyTree) -> dict[str, np.ndarray]:
    """Arrays of our shapes that take no memory, layers of a scan apart."""
    empty = lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape)
    return unstack({path: empty(x) for path, x in paths.flatten(variables).items()}, *SCANNED)


def unstack(arrays: Mapping[str, Any], pattern: str, template: str) -> dict[str, Any]:
    """Takes apart the arrays that hold the layers of a scan along their first axis.

    >>> sorted(unstack({"blocks/kernel": np.zeros((2, 3)), "head": np.zeros(1)}, r"^blocks/", "block_{:02}/"))
    ['block_00/kernel', 'block_01/kernel', 'head']
    """
    flat = {}
    for name, x in arrays.items():
        found = re.search(pattern, name)
        if found is None:
            flat[name] = x
        else:
            before, after = name[: found.start()], name[found.end() :]
            flat |= {before + template.format(i) + after: layer for i, layer in enumerate(x)}
    return flat
