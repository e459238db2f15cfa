"""Converts values of configs to plain Python values."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxvision.errors import UserError, shown

_SCALARS = (bool, int, float, str)


def plain(value: Any, where: str) -> Any:
    """Converts a value of a config to plain Python: NumPy's and JAX's numbers become Python's, lists become tuples.

    A config may compute its numbers with NumPy. `np.float32(0.1)` becomes 0.1, not 0.10000000149.

    Args:
      value: Number, text, None, path, array, or a list, tuple or mapping of them.
      where: Key of the value, for messages.

    Raises:
      UserError: If the value is of another type, which config.json could not hold, or NaN, or a key is not a text.

    >>> plain([np.int64(3), np.float32(0.1), np.bool_(True), np.arange(2)], "model.sizes")
    (3, 0.1, True, (0, 1))
    """
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise UserError(f"keys of {where or 'a config'} must be texts, not {shown(key)}")
        return {str(key): plain(item, f"{where}.{key}" if where else str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(plain(item, f"{where}[{i}]") for i, item in enumerate(value))
    if isinstance(value, np.str_):
        return str(value)
    if isinstance(value, np.floating):
        value = float(str(value))  # the shortest decimal of this float32 is the number that the user wrote
    elif hasattr(value, "dtype") and hasattr(value, "tolist"):  # NumPy's and JAX's numbers and arrays
        return plain(value.tolist(), where)
    if hasattr(value, "__fspath__"):
        return str(value)
    if value is not None and not isinstance(value, _SCALARS):
        raise UserError(f"{where} must be a number, a text, None, or a list or dict of them, not {shown(value)}")
    if isinstance(value, float) and math.isnan(value):
        raise UserError(f"{where} is not a number (nan)")
    return value
