"""The version of this package. setup.cfg has it; an installed package has it in its metadata."""

import configparser
import importlib.metadata
import sys
from pathlib import Path

NAME = __package__
LIBRARIES = ("jax", "flax")


def version() -> str:
    """Returns the version of this package, without importing anything slow.

    In a checkout setup.cfg is right even if the package was not installed, or was installed before the version changed.
    """
    setup = Path(__file__).parents[1] / "setup.cfg"
    if setup.is_file():
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(setup, encoding="utf-8")
        if parser.get("metadata", "name", fallback=None) == NAME:
            return parser.get("metadata", "version")
    return _installed(NAME)


def line() -> str:
    """Returns one line with the versions of this package, of Python, and of the libraries that matter most.

    >>> line().startswith("jaxvision ")
    True
    """
    others = [f"{name} {_installed(name)}" for name in LIBRARIES]
    return f"{NAME} {version()} ({', '.join(others)}, Python {sys.version.split()[0]})"


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
