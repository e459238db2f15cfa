"""Sections as keyword arguments: their names and values are checked, then the function is called."""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxvision import calls
from jaxvision.config.schema import SECTIONS
from jaxvision.errors import UserError


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
    for name in given:
        if name in section:
            raise UserError(f"'{where}.{name}' is set by the program and cannot stand in the config")
    calls.check(function, section, calls.ConfigKeys(where), program=given)
    return function(**given, **section)


def check_sections(config: ConfigDict) -> None:
    """Raises UserError where a top-level key is none of `SECTIONS`, or a required section is missing or is none."""
    for key in config:
        if key not in SECTIONS:
            raise calls.ConfigKeys("config").unknown(key, SECTIONS)
    for key in ("data", "model", "task", "optimizer", "train"):
        if config.get(key) is None:
            raise UserError(f"the config has no section {key!r}, which is required. Sections: {', '.join(SECTIONS)}")
    for key in set(SECTIONS) - {"seed", "augment"}:
        if not isinstance(config.get(key, {}), Mapping | ConfigDict | None):
            raise UserError(f"the section {key!r} must be a dict of keys and values, not {config[key]!r}")
