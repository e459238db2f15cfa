"""Configs as JSON: written, read again, told apart."""

import hashlib
import json
from typing import Any

from ml_collections import ConfigDict

from jaxvision import durations
from jaxvision.config.plain import flatten, is_spec
from jaxvision.reading import parse_json


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
