"""The named parts of a task's variables: backbone, head, projection, teacher, ..., and what lies in each.

A task says them as patterns over paths (`Task.parts`), a checkpoint carries them, and transfer goes by their names.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from jaxvision import paths


class Layout(NamedTuple):
    """What the variables of a task are made of.

    Attributes:
      parts: Patterns over the paths of variables ("params/head/bias") by the name of a part; the first that is found in
        a path decides.
      model: Names of the parts that make up `config.model`; the others lie beside it.
      sections: Section `model` of the parts that are models of their own, by their names.
    """

    parts: Mapping[str, str]
    model: tuple[str, ...]
    sections: Mapping[str, Mapping[str, Any]] = {}

    def part_of(self, names: Iterable[str]) -> dict[str, str]:
        """The part of each path."""
        rules = tuple((pattern, name) for name, pattern in self.parts.items())
        return paths.match(rules, dict.fromkeys(names, 0), "the parts of the task", check_unused=False)

    def inside(self, part: str | None, names: Collection[str]) -> dict[str, str]:
        """The paths in a part, as they are called in it: the variables of a teacher or tower are those of a model.

        A part is one collection (`teacher/params/stem`), one module of each collection (`params/image_tower/stem`), or
        neither, and then its paths are as they are. The classifier is in the backbone. None is the model.

        >>> layout = Layout({"teacher": "^teacher/", "backbone": ".*"}, ("backbone",))
        >>> layout.inside("teacher", ["teacher/params/w", "params/w"])
        {'teacher/params/w': 'params/w'}
        """
        wanted = self.model if part is None else (part, "head") if part == "backbone" else (part,)
        return {name: self.called(part, name) for name, of in self.part_of(names).items() if of in wanted}

    def of_model(self, name: str) -> bool:
        """Whether a path would lie in the model. A teacher may have a projection beside its own model, too."""
        found = next((part for part, pattern in self.parts.items() if re.search(pattern, name)), None)
        return found is None or found in self.model

    @staticmethod
    def called(part: str | None, name: str) -> str:
        """What a path is called in a part; itself where it does not lie there."""
        first, _, rest = name.partition("/")
        if part is None:
            return name
        return rest if first == part else f"{first}/{rest.removeprefix(f'{part}/')}"


def to_json(layout: Layout) -> dict[str, Any]:
    """A layout as a checkpoint holds it; the parts are pairs, for their order decides."""
    return {
        "parts": [list(pair) for pair in layout.parts.items()],
        "model": list(layout.model),
        "sections": {name: dict(section) for name, section in layout.sections.items()},
    }


def from_json(values: Mapping[str, Any] | None) -> Layout:
    """The inverse of `to_json`; of a checkpoint that holds none, what tasks had up to then.

    >>> layout = Layout({"head": "^params/head/", "backbone": ".*"}, ("head", "backbone"))
    >>> from_json(to_json(layout)) == layout
    True
    """
    if not values:
        return EARLIER
    return Layout(dict(map(tuple, values["parts"])), tuple(values["model"]), values["sections"])


def module_pattern(name: str) -> str:
    """The pattern of a part that is one module, in every collection that holds variables of it.

    >>> import re
    >>> [bool(re.search(module_pattern("head"), path)) for path in ("params/head/bias", "teacher/params/head/bias")]
    [True, False]
    """
    return rf"^[^/]+/{name}(?:/|$)"


def collection_pattern(name: str) -> str:
    """The pattern of a part that is one collection of the variables."""
    return rf"^{name}/"


# Checkpoints of before tasks named their parts.
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
        *(f"{tower}{of}" for tower in ("image_tower", "text_tower") for of in ("", "_projection")),
        "head",
        "backbone",
    ),
)
