"""Reads config files: Python files that are executed, or the config.json of a run."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxvision import scripts
from jaxvision.config.overrides import override
from jaxvision.config.plain import misfit, normalised
from jaxvision.config.saved import saved
from jaxvision.errors import UserError
from jaxvision.reading import read_text


def read(path: str) -> ConfigDict:
    """Reads the config of a file as `get_config` returns it, including the types of its empty keys.

    Args:
      path: Path, `FILE.py` or `FILE.py:ARG`, or the config.json of a run.

    Raises:
      UserError: If there is no such file, it is of another kind, it fails, or its `get_config` returns no config.
    """
    file, arg = scripts.split(path)
    if Path(file).suffix == ".json" and Path(file).is_file():
        if arg is not None:
            raise UserError(f"{file} takes no argument, so not {arg!r}")
        return saved(read_text(file), file)
    if Path(file).is_dir() and (Path(file) / "config.json").is_file():
        raise UserError(f"{file} is the folder of a run: --config={Path(file) / 'config.json'} takes its config")
    with plain_writes():
        config = scripts.load(path, "get_config", "config")
    if not isinstance(config, Mapping | ConfigDict):
        missing = ": is its last line 'return c' missing?" if config is None else ""
        raise UserError(f"get_config of {file} must return a ConfigDict, not {type(config).__name__}{missing}")
    return config if type(config) is ConfigDict else ConfigDict(dict(config))


@contextlib.contextmanager
def plain_writes() -> Iterator[None]:
    """Checks what the code of a user writes into a `ConfigDict`, with this project's messages, inside a `with` block.

    A path becomes a text. Booleans in the place of a number, which ml_collections would convert to 1.0 and 0.0, and
    values of another type than before raise `scripts.Unfit`.
    """
    write = ConfigDict.__setitem__

    def checked(config: ConfigDict, key: str, value: Any) -> None:
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        kind = config.get_type(key) if key in config else type(None)
        if isinstance(value, bool) and kind in (int, float):
            raise scripts.Unfit(misfit(key, kind, value))
        try:
            write(config, key, value)
        except TypeError:
            raise scripts.Unfit(misfit(key, kind, value)) from None

    setattr(ConfigDict, "__setitem__", checked)  # noqa: B010, type checkers refuse the assignment
    try:
        yield
    finally:
        setattr(ConfigDict, "__setitem__", write)  # noqa: B010


def load(path: str, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """Loads the config of a file (see `read`) with plain values (see `normalised`) and overrides.

    Args:
      path: Path of the file, with an optional argument after a colon.
      overrides: New values by dotted key, such as `{"optimizer.learning_rate": 3e-4}`.

    Raises:
      UserError: For the reasons of `read` and `normalised`, or if an overridden key does not exist.
    """
    config = read(path)
    try:
        config = normalised(config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return override(config, overrides or {})
