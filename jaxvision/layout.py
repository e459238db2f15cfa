"""The named parts of a task's variables (backbone, head, projection, teacher, ...) and the variables in each.

A task defines its parts by patterns over paths (`Task.parts`). Checkpoints store them, and transfer uses their names.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from jaxvision import paths

ONLINE = "online"  # the collection, and the part, of what watches a run; no other run takes it over


class Layout(NamedTuple):
    """The parts of the variables of a task.

    Attributes:
      parts: Pattern over the paths of variables ("params/head/bias") by name of the part. A path belongs to the first
        part whose pattern is found in it.
      model: Names of the parts that make up `config.model`; the other parts are extra, such as a teacher.
      sections: Section `model` by name of the part, for parts that are models of their own.
    """

    parts: Mapping[str, str]
    model: tuple[str, ...]
    sections: Mapping[str, Mapping[str, Any]] = {}

    def part_of(self, names: Iterable[str]) -> dict[str, str]:
        """Returns the name of the part of each path.

        Args:
          names: Paths of variables.
        """
        rules = tuple((pattern, name) for name, pattern in self.parts.items())
        return paths.match(rules, dict.fromkeys(names, 0), "the parts of the task", check_unused=False)

    def paths_in(self, part: str | None, names: Collection[str]) -> dict[str, str]:
        """Selects the paths of a part, and renames them to the paths that the part has as a model of its own.

        A part can be one collection (`teacher/params/stem` becomes `params/stem`), one module of each collection
        (`params/image_tower/stem` becomes `params/stem`), or neither; then its paths stay. The backbone includes the
        classifier.

        Args:
          part: Name of the part; None for the parts of the model.
          names: Paths of variables.

        Returns:
          New paths by old path.

        >>> layout = Layout({"teacher": "^teacher/", "backbone": ".*"}, ("backbone",))
        >>> layout.paths_in("teacher", ["teacher/params/w", "params/w"])
        {'teacher/params/w': 'params/w'}
        """
        wanted = self.model if part is None else (part, "head") if part == "backbone" else (part,)
        return {name: self.path_in(part, name) for name, owner in self.part_of(names).items() if owner in wanted}

    def in_model(self, name: str) -> bool:
        """Tells whether a variable belongs to the model, and not to a part outside of it, such as a projection.

        Args:
          name: Path of the variable.
        """
        owner = next((part for part, pattern in self.parts.items() if re.search(pattern, name)), None)
        return owner is None or owner in self.model

    @staticmethod
    def path_in(part: str | None, name: str) -> str:
        """Removes the name of a part from a path.

        Args:
          part: Name of the part; None leaves the path as it is.
          name: Path of a variable.
        """
        first, _, rest = name.partition("/")
        if part is None:
            return name
        return rest if first == part else f"{first}/{rest.removeprefix(f'{part}/')}"


def to_json(layout: Layout) -> dict[str, Any]:
    """Converts a layout to the JSON that a checkpoint stores. The parts are a list of pairs, to keep their order.

    Args:
      layout: Layout to store.
    """
    return {
        "parts": [list(pair) for pair in layout.parts.items()],
        "model": list(layout.model),
        "sections": {name: dict(section) for name, section in layout.sections.items()},
    }


def from_json(values: Mapping[str, Any] | None) -> Layout:
    """Reads what `to_json` wrote.

    Args:
      values: Stored JSON; None or empty for a checkpoint from before layouts were stored, which gives `EARLIER`.

    >>> layout = Layout({"head": "^params/head/", "backbone": ".*"}, ("head", "backbone"))
    >>> from_json(to_json(layout)) == layout
    True
    """
    if not values:
        return EARLIER
    return Layout(dict(map(tuple, values["parts"])), tuple(values["model"]), values["sections"])


def module_pattern(name: str) -> str:
    """Returns the pattern of a part that is one module, in every collection with variables of it.

    Args:
      name: Path of the module below the collection, "head" or "image_tower/projection".

    >>> import re
    >>> [bool(re.search(module_pattern("head"), path)) for path in ("params/head/bias", "teacher/params/head/bias")]
    [True, False]
    """
    return rf"^[^/]+/{name}(?:/|$)"


def collection_pattern(name: str) -> str:
    """Returns the pattern of a part that is one collection of the variables.

    Args:
      name: Name of the collection.
    """
    return rf"^{name}/"


# The parts of checkpoints that were written before tasks named their parts.
EARLIER = Layout(
    {
        "teacher": collection_pattern("teacher"),
        "projection": module_pattern("projection"),
        "image_tower_projection": module_pattern("image_tower/projection"),
        "image_tower": module_pattern("image_tower"),
        "text_tower_projection": module_pattern("text_tower/projection"),
        "text_tower": module_pattern("text_tower"),
        "head": module_pattern("(?:distillation_)?head"),
        "backbone": r".*",
    },
    (
        *(f"{tower}{suffix}" for tower in ("image_tower", "text_tower") for suffix in ("", "_projection")),
        "head",
        "backbone",
    ),
)
