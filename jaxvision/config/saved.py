"""Configs as JSON: writing, reading and comparing them."""

import hashlib
import json
from typing import Any

from ml_collections import ConfigDict

from jaxvision import durations
from jaxvision.config.plain import flatten, is_spec
from jaxvision.reading import parse_json


def to_json(config: ConfigDict) -> str:
    """Writes the resolved config as JSON text, with its keys in their order. Tuples become lists.

    Args:
      config: Config to write.

    >>> print(to_json(ConfigDict(dict(model=dict(sizes=(1, 2))))))
    {
      "model": {
        "sizes": [
          1,
          2
        ]
      }
    }
    """
    return json.dumps(json.loads(config.to_json_best_effort()), indent=2)


def from_json(text: str) -> ConfigDict:
    """Reads the text of `to_json`; lists become tuples, as in configs.

    Args:
      text: JSON text.

    >>> from_json('{"model": {"sizes": [1, 2]}}').model.sizes
    (1, 2)
    """

    def tuples(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: tuples(v) for k, v in value.items()}
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    return ConfigDict(tuples(json.loads(text)))


def saved(text: str, where: str = "config.json") -> ConfigDict:
    """Reads the config of a run from the text of its config.json.

    Old runs, from before durations needed a unit and empty specs a name, are converted to today's form.

    Args:
      text: Text of the file.
      where: Name of the file, for messages.

    Raises:
      UserError: If the text is not the JSON of a config.

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
    """Returns twelve hex digits that are equal if and only if the resolved configs are equal.

    Args:
      config: Config.

    >>> fingerprint(ConfigDict(dict(a=1, b=2))) == fingerprint(ConfigDict(dict(b=2, a=1)))
    True
    """
    canonical = json.dumps(json.loads(to_json(config)), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Lists the keys whose values differ, one line for each: `optimizer.learning_rate: 0.1 -> 0.3`.

    Args:
      old: Config of the values on the left.
      new: Config of the values on the right.

    >>> differences(ConfigDict(dict(seed=0, model=dict(depth=2))), ConfigDict(dict(seed=1, model=dict(depth=2))))
    ['seed: 0 -> 1']
    """
    missing = object()
    a, b = (flatten(from_json(to_json(c))) for c in (old, new))
    word = lambda value: "(absent)" if value is missing else repr(value)
    return [
        f"{key}: {word(a.get(key, missing))} -> {word(b.get(key, missing))}"
        for key in dict.fromkeys([*a, *b])
        if a.get(key, missing) != b.get(key, missing)
    ]
