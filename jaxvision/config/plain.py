"""The content of a config: plain numbers, texts and tuples under dotted keys."""

from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxvision import arguments, values
from jaxvision.errors import UserError, shown


def normalised(config: ConfigDict) -> ConfigDict:
    """Returns a copy of a config with plain values: Python numbers and texts, tuples instead of lists.

    Args:
      config: Config, or a dict.

    Raises:
      UserError: If a value cannot be stored in config.json, is NaN, or is an empty text, which an unset variable of a
        shell leaves behind; a spec without operations is `"none"`.

    >>> import numpy as np
    >>> normalised(ConfigDict(dict(model=dict(width=np.int64(8), blocks=[1, 2])))).model.blocks
    (1, 2)
    >>> normalised(ConfigDict(dict(augment="")))
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: augment is empty: was a variable not set? Write 'none' for no operations
    """
    try:
        plain = values.plain(config.to_dict() if isinstance(config, ConfigDict) else config, "")
    except RecursionError:
        raise UserError("the config contains itself, or is nested too deep") from None
    for key, value in flatten(plain).items():
        if any(text == "" for text in _texts(value)) or (is_spec(key) and value is not None and not str(value).strip()):
            instead = "Write 'none' for no operations" if is_spec(key) else "Give it a value, or leave it out"
            raise UserError(f"{key} is empty: was a variable not set? {instead}")
    return ConfigDict(plain)


def is_spec(key: str) -> bool:
    """Checks whether the value of a dotted key is a spec of operations.

    Args:
      key: Dotted key.

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


def flatten(config: Mapping, prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of a nested config by dotted key.

    Args:
      config: Config, or a section of it.
      prefix: Text before each key.

    >>> flatten({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping | ConfigDict) and len(value):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def misfit(key: str, kind: type, value: object) -> str:
    """Describes a value of another type than the one that it replaces, as an error message.

    Args:
      key: Key of the value.
      kind: Type of the value before.
      value: New value.

    >>> misfit("train.ema", float, "much")
    "train.ema must be a number, like its value before, not 'much'"
    """
    plural = "a section dict(...)" if issubclass(kind, ConfigDict) else arguments.words(kind)
    return f"{key} must be {plural}, like its value before, not {shown(value)}"
