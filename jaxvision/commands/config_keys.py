"""The keys of a config, each with the function that receives it, for `jaxvision help KEY`."""

import inspect
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from jaxvision import calls, docstrings
from jaxvision.commands import catalog, describe
from jaxvision.config import schema
from jaxvision.errors import UserError, listed, nearest
from jaxvision.sections import ConfigSections

ROOT = "config"


class Place(NamedTuple):
    """A key, and where its value goes.

    Attributes:
      path: Dotted path of the key.
      thing: Function or class with a parameter of that name; None for a section that has none.
      name: Name of the parameter.
      kind: Kind of the section that the key is; None for a plain value.
      owner: Description of the part whose option the key is; empty for a key that every config may have.
    """

    path: str
    thing: Callable | None
    name: str
    kind: str | None
    owner: str = ""


def describe_key(path: str) -> list[str]:
    """Describes a key or a section of a config.

    Args:
      path: Dotted path, "optimizer.learning_rate" or "train", also with "config." before it; or the last name of a
        key, "learning_rate".

    Returns:
      One text for each key that may be meant; none if there is no such key.

    Raises:
      UserError: The path begins with a section that has no such key.
    """
    if path in (ROOT, "sections"):
        return ["\n\n".join([_of_class(ConfigSections), "Keys:\n" + describe.parameters(ConfigSections)])]
    path = path.removeprefix(f"{ROOT}.")
    places = find(path)
    if not places and "." not in path:
        places = [place for place in every() if place.path.rpartition(".")[2] == path]
    elif not places:
        _refuse(path)
    return [_text(place) for place in places]


def every() -> Iterator[Place]:
    """Yields the keys that every config may have, section by section."""
    for name, parameter in calls.parameters(ConfigSections).items():
        kind = schema.section_kind(parameter.annotation)
        yield Place(name, ConfigSections, name, kind)
        prefix, kind = (f"{name}.NAME", schema.ENTRIES[kind]) if kind in schema.ENTRIES else (name, kind)
        for key, (thing, inside) in _keys(kind).items():
            yield Place(f"{prefix}.{key}", thing, key, inside)


def find(path: str) -> list[Place]:
    """Returns the keys of a dotted path: one, or one for each part that has an option of this name.

    Args:
      path: Dotted path, "evals.val.every".
    """
    kind: str | None = ROOT
    places: list[Place] = []
    for name in path.split("."):
        if kind is None:
            return []
        inside = schema.ENTRIES.get(kind)
        if inside is not None and name not in _keys(inside):
            places, kind = [Place(path, None, name, inside)], inside
            continue
        kind = inside or kind
        keys = _keys(kind)
        if name in keys:
            places = [Place(path, keys[name][0], name, keys[name][1])]
        else:
            places = list(_options(path, kind, name))
        kind = next((place.kind for place in places if place.kind), None)
    return places


def _keys(kind: str | None) -> dict[str, tuple[Callable, str | None]]:
    """The keys of a section whatever it names: the function of each, and the kind of section that it is."""
    found = (ConfigSections, ()) if kind == ROOT else schema.section_function(kind or "")
    if found is None:
        return {}
    function: Callable = found[0]
    program: Collection[str] = found[1]
    parameters = {name: p for name, p in calls.parameters(function).items() if name not in program}
    keys = {name: (function, schema.section_kind(p.annotation)) for name, p in parameters.items()}
    return {**keys, "players": (function, "players")} if kind == "optimizer" else keys


def _options(path: str, kind: str, name: str) -> Iterator[Place]:
    """The options of that name of the parts that a section may name."""
    for part_kind in schema.PARTS.get(kind, ()):
        found = catalog.find_kind(part_kind)
        for entry in catalog.entries(found.word):
            if name in entry.options and name not in describe.program_of(found):
                factory = describe.factory_of(entry)
                annotation = calls.parameters(factory)[name].annotation
                yield Place(path, factory, name, schema.section_kind(annotation), f"{part_kind} {entry.name}")


def _text(place: Place) -> str:
    if place.kind is None and place.thing is not None:
        whose = f", an option of the {place.owner}" if place.owner else ""
        value = describe.parameters(place.thing, only=place.name)
        key = f"--config.{place.path}"
        return f"config key {place.path}{whose}\n{value}\n\nCommand line:\n  {key}=VALUE"
    kind = schema.ENTRIES.get(place.kind or "", place.kind)
    blocks = [f"config section {place.path}" + (f", an option of the {place.owner}" if place.owner else "")]
    if kind != place.kind:
        blocks[0] += ": entries by a name of your choice, each with these keys"
    found = schema.section_function(kind or "")
    if found is not None:
        function, program = found
        blocks += [_of_class(function)] if inspect.isclass(function) else []
        blocks.append("Keys:\n" + describe.parameters(function, program))
    elif place.thing is not None and place.name in calls.parameters(place.thing):
        blocks.append(describe.parameters(place.thing, only=place.name))
    for part_kind in schema.PARTS.get(kind or "", ()):
        word = catalog.find_kind(part_kind).word
        names = ", ".join(entry.name for entry in catalog.entries(word))
        blocks.append(f"It also takes the options of the {part_kind} that it names (jaxvision help NAME):\n  {names}")
    return "\n\n".join(blocks)


def _of_class(function: Callable) -> str:
    """The docstring of a class without its attributes."""
    return docstrings.sections(inspect.getdoc(function) or "")[""].strip()


def _refuse(path: str) -> None:
    """Raises UserError if a path begins in a known section, whose keys the message names."""
    parent, _, name = path.rpartition(".")
    above = find(parent)
    kinds = [place.kind for place in above if place.kind]
    if not kinds:
        return
    kind = schema.ENTRIES.get(kinds[0], kinds[0])
    names = list(_keys(kind))
    for found in map(catalog.find_kind, schema.PARTS.get(kind, ())):
        options = {option for entry in catalog.entries(found.word) for option in entry.options}
        names += sorted(options - set(describe.program_of(found)))
    raise UserError(f"no config key {path!r}{nearest(name, names) or '.'} Keys of {parent}: {listed(name, names)}")
