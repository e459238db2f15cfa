"""Sets new values of single keys, for the command line, sweeps and studies."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxvision import literals, loggers
from jaxvision.config import schema
from jaxvision.config.plain import flatten, misfit
from jaxvision.errors import UserError, listed, nearest, shown


def override(
    config: ConfigDict, changes: Mapping[str, Any], say: Callable[[str], object] = lambda line: None
) -> ConfigDict:
    """Returns a copy of `config` with new values at some dotted keys.

    A key may be missing in the config if the function that gets its section has such a parameter
    (`schema.section_keys`). A section may be new too, and so may an entry of `evals` whose name is among the changes.
    If the name of a section changes, keys that the new name does not take are removed.

    Args:
      config: Config; it is not changed.
      changes: New values by dotted key; a `literals.Written` is read by the type of its key.
      say: Function that is called with a line about removed keys.

    Raises:
      UserError: If a key does not exist, or a written value does not fit its type.

    >>> config = ConfigDict(dict(optimizer=dict(name="sgd", momentum=0.9), train=dict(total="1 epoch")))
    >>> print(override(config, {"optimizer.name": "adam", "optimizer.b1": 0.8, "train.ema": 0.99}, print).optimizer.b1)
    optimizer.name is now 'adam', which takes no momentum: left out of the config: momentum=0.9
    0.8
    """
    config = ConfigDict(config.to_dict())
    # First whole sections, then names, since names decide which keys exist.
    order = {key: (not isinstance(changes[key], Mapping | ConfigDict), not _is_name(key)) for key in changes}
    for key in sorted(changes, key=lambda key: order[key]):
        _set(config, key, changes[key], say)
    return config


def _is_name(key: str) -> bool:
    return key.rpartition(".")[2] == "name"


def _set(config: ConfigDict, key: str, value: Any, say: Callable[[str], object]) -> None:
    *parents, leaf = key.split(".")
    section = _section(config, parents, key)
    before, there, written = section.get(leaf), leaf in section, isinstance(value, literals.Written)
    if not there or written:
        annotation = _annotation(config, parents, leaf)
        if not there and annotation is None:
            raise _no_key(config, key)
        if written:
            value = literals.read(value, f"config.{key}", Any if annotation is None else annotation, before)
    if isinstance(value, bool) and there and (kind := section.get_type(leaf)) in (int, float):
        raise UserError(misfit(key, kind, value))
    if written and type(value) is int and isinstance(before, float):
        del section[leaf]  # ConfigDict would make the number a float again, even where its type is ignored
    with section.ignore_type():
        section[leaf] = value
    if _is_name(key) and before not in (None, value):
        _leave_out(config, parents, say)


def _section(config: ConfigDict, path: Sequence[str], key: str) -> ConfigDict:
    """The section at a path; a missing one is made, if it may exist."""
    section = config
    for depth, name in enumerate(path):
        inside = section.get(name)
        if not isinstance(inside, ConfigDict):
            annotation = _annotation(config, path[:depth], name)
            if inside is not None or annotation is None or not schema.may_be_section(annotation):
                raise _no_key(config, key)
            users_name = schema.ANY_NAME in (schema.section_keys(config, path[:depth]) or {})
            if users_name and not _is_name(key) and not loggers.named_by_key(path[:depth], name):
                new = ".".join([*path[: depth + 1], "name"])
                raise UserError(f"{_no_key(config, key)}. A new entry needs its name, too: {new}")
            with section.ignore_type():
                section[name] = ConfigDict()
        section = section[name]
    return section


def _annotation(config: ConfigDict, path: Sequence[str], name: str) -> Any:
    """The annotation of a key in the section at `path`; None if there is no such key, `Any` if its keys are unknown."""
    keys = schema.section_keys(config, path)
    if keys is None:
        return Any if len(path) > 1 or name == "name" else None
    return keys.get(name, keys.get(schema.ANY_NAME))


def _no_key(config: ConfigDict, key: str) -> UserError:
    """The error for a key that does not exist."""
    path, leaf, there = key.split(".")[:-1], key.rpartition(".")[2], flatten(config)
    while path and not isinstance(at(config, path), ConfigDict):
        path, leaf = path[:-1], path[-1]
    names = [name for name in schema.section_keys(config, path) or () if name != schema.ANY_NAME]
    keys = [*there, *(".".join([*path, name]) for name in names)]
    where = f" Keys of {'.'.join(path) or 'a config'}: {listed(leaf, names)}" if names else ""
    return UserError(f"the config has no key {key!r}{nearest(key, keys) or '.' * bool(where)}{where}")


def at(config: ConfigDict, path: Sequence[str]) -> Any:
    """Returns the value at a path of keys.

    Args:
      config: Config, or a section of it.
      path: Keys from the outermost to the innermost.

    Returns:
      The value; None if there is none.

    >>> at(ConfigDict(dict(train=dict(ema=0.99))), ["train", "ema"])
    0.99
    """
    for name in path:
        config = config.get(name) if isinstance(config, ConfigDict) else None
    return config


def _leave_out(config: ConfigDict, path: Sequence[str], say: Callable[[str], object]) -> None:
    """Removes the keys of a section that its new name does not take, also from its `options`."""
    section, removed = at(config, path), {}
    for inside in ((), *((name,) for name in section if name == "options")):
        keys, part = schema.section_keys(config, [*path, *inside]), at(config, [*path, *inside])
        for name in list(part or ()):
            if keys is not None and name not in keys:
                removed[".".join([*inside, name])] = part[name]
                del part[name]
    if removed:
        values = ", ".join(f"{name}={shown(value)}" for name, value in removed.items())
        name = ".".join([*path, "name"])
        say(f"{name} is now {section.name!r}, which takes no {', '.join(removed)}: left out of the config: {values}")
