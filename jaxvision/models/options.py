"""Checks of the options that a config passes to a model, made when the model is built."""

from collections.abc import Iterable
from typing import Any

from jaxvision.errors import UserError, unknown
from jaxvision.traced import known


def one_of(kind: str, value: Any, choices: Iterable[Any]) -> Any:
    """Returns `value` if it is one of `choices`.

    Raises:
      UserError: it is not; the message names the choices and the nearest one.

    >>> one_of("pool", "gap", ["token", "gap"])
    'gap'
    """
    if value not in choices:
        raise unknown(kind, value, choices)
    return value


def rate(name: str, value: float) -> float:
    """Returns `value` if it is a probability of dropping something: 0 <= value < 1.

    Raises:
      UserError: it is not.

    >>> rate("dropout", 0.1)
    0.1
    """
    if known(value) and not 0 <= value < 1:
        raise UserError(f"{name} is a rate of at least 0 and below 1, not {value!r}")
    return value


def positive(name: str, value: float) -> float:
    """Returns `value` if it is above 0.

    Raises:
      UserError: it is not.

    >>> positive("width", 0.5)
    0.5
    """
    if not value > 0:
        raise UserError(f"{name} must be above 0, not {value!r}")
    return value


def whole(name: str, value: int | None, low: int = 1, optional: bool = False) -> int | None:
    """Returns `value` if it is a whole number of at least `low`, or None where that is allowed.

    Raises:
      UserError: it is neither.

    >>> whole("projection_layers", 2)
    2
    """
    if not (optional and value is None) and (not isinstance(value, int) or value < low):
        or_none = ", or None" if optional else ""
        raise UserError(f"{name} must be a whole number of at least {low}{or_none}, not {value!r}")
    return value
