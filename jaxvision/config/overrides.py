"""New values for single keys: of the command line, of sweeps, of studies."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxvision import literals
from jaxvision.config import schema
from jaxvision.config.plain import flatten, misfit
from jaxvision.errors import UserError, listed, nearest, shown


def override(
    config: ConfigDict, changes: Mapping[str, Any], say: Callable[[str], object] = lambda line: None
) -> ConfigDict:
    """A copy of `config` with the values at the dotted keys of `changes`.

    A key need not stand in the config, if what its section is handed to takes it (`schema.of`). A section may be new,
    too, and so may an entry of `evals` whose name is among the changes. Where the name of a section changes, the keys
    that what it names now does not take are left out.

    Args:
      config: Config; it is left as it is.
      changes: New values by dotted key; a `literals.Written` is read by the type of what it is for.
      say: Function that is called with a line about keys that are left out.

    Raises:
      UserError: A key that nothing takes, or a value that is written and does not fit.

    >>> config = ConfigDict(dict(optimizer=dict(name="sgd", momentum=0.9), train=dict(total="1 epoch")))
    >>> print(override(config, {"optimizer.name": "adam", "optimizer.b1": 0.8, "train.ema": 0.99}, print).optimizer.b1)
    optimizer.name is now 'adam', which takes no momentum: left out of the config: momentum=0.9
    0.8
    """
    config = ConfigDict(config.to_dict())
    # First whole sections, then names, on which it depends which keys there are.
    order = {key: (not isinstance(changes[key], Mapping | ConfigDict), not _is_name(key)) for key in changes}
    for key in sorted(changes, key=order.get):
        _set(config, key, changes[key], say)
    return config


def _is_name(key: str) -> bool:
    return key.rpartition(".")[2] == "name"


def _set(config: ConfigDict, key: str, value: Any, say: Callable[[str], object]) -> None:
    *parents, leaf = key.split(".")
    section = _section(config, parents, key)
    before, there = section.get(leaf), leaf in section
    if not there or isinstance(value, literals.Written):
        annotation = _annotation(config, parents, leaf)
        if not there and annotation is None:
            raise _no_key(config, key)
        if isinstance(value, literals.Written):
            value = literals.read(value, f"config.{key}", Any if annotation is None else annotation, before)
    if isinstance(value, bool) and there and (kind := section.get_type(leaf)) in (int, float):
        raise UserError(misfit(key, kind, value))
    with section.ignore_type():
        section[leaf] = value
    if _is_name(key) and before not in (None, value):
        _leave_out(config, parents, say)


def _section(config: ConfigDict, path: Sequence[str], key: str) -> ConfigDict:
    """The section at a path; one that is not there is made, where there may be one."""
    section = config
    for depth, name in enumerate(path):
        inside = section.get(name)
        if not isinstance(inside, ConfigDict):
            annotation = _annotation(config, path[:depth], name)
            if inside is not None or annotation is None or not schema.may_be_section(annotation):
                raise _no_key(config, key)
            if schema.ANY_NAME in (schema.of(config, path[:depth]) or {}) and not _is_name(key):
                new = ".".join([*path[: depth + 1], "name"])
                raise UserError(f"{_no_key(config, key)}. A new entry needs its name, too: {new}")
            with section.ignore_type():
                section[name] = ConfigDict()
        section = section[name]
    return section


def _annotation(config: ConfigDict, path: Sequence[str], name: str) -> Any:
    """The annotation of a key in the section at `path`; `Any` where nobody says which keys that has, None if none."""
    known = schema.of(config, path)
    if known is None:
        return Any if len(path) > 1 or name == "name" else None
    return known.get(name, known.get(schema.ANY_NAME))


def _no_key(config: ConfigDict, key: str) -> UserError:
    """The error for a key that nothing takes."""
    path, leaf, there = key.split(".")[:-1], key.rpartition(".")[2], flatten(config)
    while path and not isinstance(at(config, path), ConfigDict):
        path, leaf = path[:-1], path[-1]
    known = [name for name in schema.of(config, path) or () if name != schema.ANY_NAME]
    keys = [*there, *(".".join([*path, name]) for name in known)]
    where = f" Keys of {'.'.join(path) or 'a config'}: {listed(leaf, known)}" if known else ""
    return UserError(f"the config has no key {key!r}{nearest(key, keys) or '.' * bool(where)}{where}")


def at(config: ConfigDict, path: Sequence[str]) -> Any:
    """What stands at a path of keys; None where nothing does."""
    for name in path:
        config = config.get(name) if isinstance(config, ConfigDict) else None
    return config


def _leave_out(config: ConfigDict, path: Sequence[str], say: Callable[[str], object]) -> None:
    """Takes out what a section with a new name does not take, of its own keys and of the options beside the name."""
    section, gone = at(config, path), {}
    for inside in ((), *((name,) for name in section if name == "options")):
        keys, of = schema.of(config, [*path, *inside]), at(config, [*path, *inside])
        for name in list(of or ()):
            if keys is not None and name not in keys:
                gone[".".join([*inside, name])] = of[name]
                del of[name]
    if gone:
        told = ", ".join(f"{name}={shown(value)}" for name, value in gone.items())
        name = ".".join([*path, "name"])
        say(f"{name} is now {section.name!r}, which takes no {', '.join(gone)}: left out of the config: {told}")
