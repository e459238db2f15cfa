"""Experiment configs: load, override, check, compare, save.

A config is a `ConfigDict` made by `get_config(arg)` of a file in configs/. Each of its sections is
the keyword arguments of one function, so `call` can name a misspelt key before anything runs.
Its values are plain numbers and texts; `normalised` makes them so, and refuses what cannot be meant.
"""

import contextlib
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxvision import arguments, durations, scripts, values
from jaxvision.errors import UserError, listed, nearest, shown
from jaxvision.reading import parse_json, read_text
from jaxvision.sections import DataSection, EvalSection, InitSection, TrainSection

SECTION_KEYS = {
    "data": DataSection._fields,
    "train": TrainSection._fields,
    "init": InitSection._fields,
    "evals": EvalSection._fields,
}
SECTIONS = ("seed", "data", "augment", "model", "task", "optimizer", "train", "init", "evals", "mesh")


def read(path: str) -> ConfigDict:
    """The config of a file as `get_config` returns it, with the types of its empty keys.

    Args:
      path: `FILE.py` or `FILE.py:ARG`, or the config.json of a run.

    Raises:
      UserError: no such file, one that is neither, one that fails, or one without a `get_config` that returns a config.
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
    """While a file of a user is executed, what it writes into a ConfigDict is checked in the project's words.

    A path becomes a text. True and False, which ml_collections makes 1.0 and 0.0 of in the place of a number, and
    values of another kind than the one that was there are a `scripts.Unfit`.
    """
    write = ConfigDict.__setitem__

    def checked(config: ConfigDict, key: str, value: Any) -> None:
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        kind = config.get_type(key) if key in config else type(None)
        if isinstance(value, bool) and kind in (int, float):
            raise scripts.Unfit(_unfit(key, kind, value))
        try:
            write(config, key, value)
        except TypeError:
            raise scripts.Unfit(_unfit(key, kind, value)) from None

    ConfigDict.__setitem__ = checked
    try:
        yield
    finally:
        ConfigDict.__setitem__ = write


def _unfit(key: str, kind: type, value: Any) -> str:
    plural = "a section dict(...)" if issubclass(kind, ConfigDict) else arguments.words(kind)
    return f"{key} must be {plural}, like its value before, not {shown(value)}"


def load(path: str, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """The config of a file (see `read`), with plain values (see `normalised`).

    Args:
      path: the file, with an optional argument after a colon.
      overrides: new values by dotted key, e.g. `{"optimizer.learning_rate": 3e-4}`.

    Raises:
      UserError: what `read` and `normalised` refuse, or an override of a key that is not there.
    """
    config = read(path)
    try:
        config = normalised(config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return override(config, overrides or {})


def normalised(config: ConfigDict) -> ConfigDict:
    """A copy of `config` with plain values: Python numbers and texts, tuples in place of lists.

    Raises:
      UserError: a value that config.json cannot hold, a NaN, or an empty text, which an unset variable of a shell
        leaves behind; `"none"` says that a spec has no operations.

    >>> import numpy as np
    >>> normalised(ConfigDict(dict(model=dict(width=np.int64(8), blocks=[1, 2])))).model.blocks
    (1, 2)
    >>> normalised(ConfigDict(dict(augment="")))
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: augment is empty: was a variable not set? Write 'none' for no operations
    """
    try:
        found = values.plain(config.to_dict() if isinstance(config, ConfigDict) else config, "")
    except RecursionError:
        raise UserError("the config holds itself, or is nested too deep") from None
    for key, value in flatten(found).items():
        if any(text == "" for text in _texts(value)) or (is_spec(key) and value is not None and not str(value).strip()):
            instead = "Write 'none' for no operations" if is_spec(key) else "Give it a value, or leave it out"
            raise UserError(f"{key} is empty: was a variable not set? {instead}")
    return ConfigDict(found)


def is_spec(key: str) -> bool:
    """Whether the value of a dotted key is a spec of operations.

    >>> is_spec("evals.val.host"), is_spec("train_augment"), is_spec("model.name")
    (True, True, False)
    """
    return key.endswith(("host", "augment"))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for one in value:
            yield from _texts(one)


def override(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """A copy of `config` with the values at the dotted keys of `changes` replaced.

    >>> override(ConfigDict(dict(a=dict(b=1))), {"a.b": 2}).a.b
    2
    """
    config = ConfigDict(config.to_dict())
    for key, value in changes.items():
        *parents, leaf = key.split(".")
        section = config
        for parent in parents:
            section = section.get(parent) if isinstance(section, ConfigDict) else None
        if not isinstance(section, ConfigDict) or leaf not in section:
            keys = flatten(config)
            if parents and leaf in SECTION_KEYS.get(parents[0], ()):
                raise UserError(
                    f"{key!r} is a key that the config does not set, and the command line changes only what it sets: "
                    f"write {leaf}=... into its section {'.'.join(parents)}"
                )
            raise UserError(f"the config has no key {key!r}{nearest(key, keys)}")
        if isinstance(value, bool) and (kind := section.get_type(leaf)) in (int, float):
            raise UserError(_unfit(key, kind, value))
        with section.ignore_type():
            section[leaf] = value
    return config


def flatten(config: Mapping, prefix: str = "") -> dict[str, Any]:
    """The leaves of a nested config by dotted key.

    >>> flatten({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    """
    flat = {}
    for key, value in config.items():
        if isinstance(value, Mapping | ConfigDict) and len(value):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


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


def to_json(config: ConfigDict) -> str:
    """The resolved config as JSON text, keys in their order. Tuples become lists."""
    return json.dumps(json.loads(config.to_json_best_effort()), indent=2)


def from_json(text: str) -> ConfigDict:
    """The inverse of `to_json`; lists become tuples, as configs write them."""

    def tuples(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: tuples(v) for k, v in value.items()}
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    return ConfigDict(tuples(json.loads(text)))


def saved(text: str, where: str = "config.json") -> ConfigDict:
    """The config of a run from the text of its config.json.

    Runs of before durations needed a unit, and specs a name for no operations, read as what they meant.

    Raises:
      UserError: no JSON, or not of a config; `where` is named.

    >>> config = saved('{"augment": "", "train": {"total": 5}}')
    >>> config.augment, config.train.total
    ('none', '5 steps')
    """
    parse_json(text, where)

    def today(section: ConfigDict, prefix: str) -> None:
        for key, value in section.items():
            if isinstance(value, ConfigDict):
                today(value, f"{prefix}{key}.")
            elif value == "" and is_spec(key):
                section[key] = "none"
            elif durations.is_duration(f"{prefix}{key}") and durations.is_bare(value):
                with section.ignore_type():
                    section[key] = f"{value} steps"

    config = from_json(text)
    today(config, "")
    return config


def fingerprint(config: ConfigDict) -> str:
    """Twelve hex digits that are equal exactly where the resolved configs are."""
    canonical = json.dumps(json.loads(to_json(config)), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """One line for each key whose value differs: `optimizer.learning_rate: 0.1 -> 0.3`."""
    missing = object()
    a, b = (flatten(from_json(to_json(c))) for c in (old, new))
    word = lambda value: "(absent)" if value is missing else repr(value)
    return [
        f"{key}: {word(a.get(key, missing))} -> {word(b.get(key, missing))}"
        for key in dict.fromkeys([*a, *b])
        if a.get(key, missing) != b.get(key, missing)
    ]
