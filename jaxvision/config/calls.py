"""Passes sections as keyword arguments: their names and values are checked, then the function is called."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ml_collections import ConfigDict

from jaxvision import calls
from jaxvision.config.schema import SECTIONS
from jaxvision.errors import UserError

T = TypeVar("T")


def call(function: Callable[..., T], section: Mapping, where: str, **added: Any) -> T:
    """Calls `function(**added, **section)` after checking the section against the signature of the function.

    Args:
      function: Function that takes the section as keyword arguments; its annotations give their types.
      section: Section of a config.
      where: Name of the section, for messages.
      **added: Arguments that the program adds; the section may not set them.

    Returns:
      The result of the function.

    Raises:
      UserError: If a key is not a parameter of `function`, a required one is missing, or a value does not match the
        annotation of its parameter.

    >>> call(lambda *, width, depth=2: width * depth, {"width": 8}, "model")
    16
    """
    for name in added:
        if name in section:
            raise UserError(f"'{where}.{name}' is set by the program: remove it from the config")
    calls.check(function, section, calls.ConfigKeys(where), program=added)
    return function(**added, **section)


def check_sections(config: ConfigDict) -> None:
    """Checks the top-level keys of a config.

    Args:
      config: Config of a run.

    Raises:
      UserError: If a key is not one of `SECTIONS`, a required section is missing, or a section is not a mapping.
    """
    for key in config:
        if key not in SECTIONS:
            raise calls.ConfigKeys("config").unknown(key, SECTIONS)
    for key in ("data", "model", "task", "optimizer", "train"):
        if config.get(key) is None:
            raise UserError(f"the config has no section {key!r}, which is required. Sections: {', '.join(SECTIONS)}")
    for key in set(SECTIONS) - {"seed", "augment"}:
        if not isinstance(config.get(key, {}), Mapping | ConfigDict | None):
            raise UserError(f"the section {key!r} must be a dict of keys and values, not {config[key]!r}")
