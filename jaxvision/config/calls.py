"""Sections as keyword arguments: their names and values are checked, then the function is called."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxvision import arguments
from jaxvision.config.schema import SECTIONS
from jaxvision.errors import UserError, listed, nearest


def check_keys(section: Mapping, where: str, keys: Iterable[str]) -> None:
    """Raises UserError where `section` has a key that is none of `keys`.

    >>> check_keys({"learning_rat": 1}, "optimizer", ["name", "learning_rate"])
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: unknown config key 'optimizer.learning_rat'; did you mean 'learning_rate'? ...
    """
    keys = list(keys)
    for key in section:
        if key not in keys:
            raise UserError(
                f"unknown config key '{where}.{key}'{nearest(key, keys) or '.'} Keys of {where}: {listed(key, keys)}"
            )


def parameters(function: Callable) -> list[str]:
    """The names of a function's parameters.

    >>> parameters(lambda a, *, b=1: None)
    ['a', 'b']
    """
    return list(inspect.signature(function).parameters)


def call(function: Callable, section: Mapping, where: str, **given: Any) -> Any:
    """Calls `function(**given, **section)` after checking the section's keys against its signature.

    Args:
      function: takes the section as keyword arguments; its annotations say of what kind they are.
      section: one section of a config.
      where: the section's name, for messages.
      given: arguments that the program adds; the section may not set them.

    Raises:
      UserError: a key that is no parameter of `function`, a required one that is missing, or a value of another kind
        than the parameter's annotation says.
    """
    signature = inspect.signature(function).parameters
    own = [name for name, p in signature.items() if name not in given and p.kind is not p.VAR_KEYWORD]
    if all(p.kind is not p.VAR_KEYWORD for p in signature.values()):  # else the function checks them itself
        check_keys(section, where, own)
    for name in given:
        if name in section:
            raise UserError(f"'{where}.{name}' is set by the program and cannot stand in the config")
    for name in own:
        if signature[name].default is inspect.Parameter.empty and name not in section:
            raise UserError(f"the config misses '{where}.{name}'. Keys of {where}: {listed(name, own)}")
    arguments.check(function, section, f"config key {where}.")
    return function(**given, **section)


def check_sections(config: ConfigDict) -> None:
    """Raises UserError where a top-level key is none of `SECTIONS`, or a required section is missing or is none."""
    check_keys(config, "config", SECTIONS)
    for key in ("data", "model", "task", "optimizer", "train"):
        if config.get(key) is None:
            raise UserError(f"the config misses the section {key!r}. Sections: {', '.join(SECTIONS)}")
    for key in set(SECTIONS) - {"seed", "augment"}:
        if not isinstance(config.get(key, {}), Mapping | ConfigDict | None):
            raise UserError(f"the section {key!r} must be a dict of keys and values, not {config[key]!r}")
