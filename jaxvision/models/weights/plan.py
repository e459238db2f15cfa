"""Which of our arrays are in which array of a file, according to a table."""

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
    """One of our arrays, which is a whole array of a file or a part of one.

    Attributes:
      path: Path of our array.
      layout: Layout of the array in the file.
    """

    path: str
    layout: Layout


def slots_by_name(table: Table, targets: Mapping[str, np.ndarray]) -> dict[str, list[Slot]]:
    """Finds the arrays of a file that hold our arrays.

    Args:
      table: Table of the library.
      targets: Our arrays by path; only the paths are read.

    Returns:
      By the name of each array in the file, without a prefix, the arrays of ours that it holds. More than one are
      concatenated along the first axis, in this order.
    """
    plan: dict[str, list[Slot]] = {}
    for path in targets:
        layout = next(name for pattern, name in table.layouts if re.search(pattern, path))
        plan.setdefault(rename(path, table), []).append(Slot(path, LAYOUTS[layout]))
    for slots in plan.values():
        slots.sort(key=lambda slot: FUSED.get(slot.path.split("/")[-2], 0))
    return plan


def rename(path: str, table: Table) -> str:
    """Turns one of our paths into the name in the file, without a prefix.

    Args:
      path: Path of our array, "params/stage1/block2/conv1/kernel".
      table: Table of the library.
    """
    for pattern, template in table.renames:
        path = re.sub(pattern, _expand(template), path)
    return path


def _expand(template: str) -> Callable[[re.Match], str]:
    """Makes a function of a match from a template, see `table`."""

    def fill(match: re.Match) -> str:
        def group(place: re.Match) -> str:
            text, offset, form = match[int(place[1])], place[2], place[3]
            return format(int(text) + int(offset or 0), form or "") if offset or form else text

        return re.sub(r"\{(\d)([+-]\d+)?(?::(\d+))?\}", group, template)

    return fill


def dummies(variables: PyTree) -> dict[str, np.ndarray]:
    """Makes arrays of the shapes of our variables that take no memory.

    Args:
      variables: Variables of a model, or `ShapeDtypeStruct`s.

    Returns:
      Arrays by path. A scan's layers are arrays of their own.
    """
    empty = lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape)
    return unstack({path: empty(x) for path, x in paths.flatten(variables).items()}, *SCANNED)


def unstack(arrays: Mapping[str, Any], pattern: str, template: str) -> dict[str, Any]:
    """Splits the arrays that hold the layers of a scan along their first axis.

    Args:
      arrays: Arrays by name.
      pattern: Regular expression for the part of a name that marks such an array.
      template: Format string that replaces this part; it takes the number of the layer.

    Returns:
      Arrays by name, one for each layer.

    >>> sorted(unstack({"blocks/kernel": np.zeros((2, 3)), "head": np.zeros(1)}, r"^blocks/", "block_{:02}/"))
    ['block_00/kernel', 'block_01/kernel', 'head']
    """
    flat = {}
    for name, x in arrays.items():
        match = re.search(pattern, name)
        if match is None:
            flat[name] = x
        else:
            before, after = name[: match.start()], name[match.end() :]
            flat |= {before + template.format(i) + after: layer for i, layer in enumerate(x)}
    return flat
