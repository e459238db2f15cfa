"""Checks of the options that a config passes to a model. They run when the model is built."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from jaxvision import arguments
from jaxvision.arguments import Range
from jaxvision.errors import UserError, shown, unknown

T = TypeVar("T")
Number = TypeVar("Number", int, float)
RATE = Annotated[float, Range(0, 1, below=True)]  # a probability of dropping something
MAX_LAYERS, MAX_UNITS = 2000, 2**20
_LAYERS = ("depth", "blocks", "layers")  # endings of options that count layers; each layer is traced by itself


def bounded(kind: str, options: Mapping[str, Any]) -> None:
    """Checks that no option counts more layers, units or pixels than a model can have.

    Without this check a typo such as `depth=10**6` would trace for hours or run out of memory.

    Args:
      kind: Words for the model in a message, such as "model 'vit'".
      options: Options of the model by name.

    Raises:
      UserError: An option above 2,000 layers or 2 ** 20 units, or a tuple of more than 2,000 values.

    >>> bounded("model 'vit'", {"depth": 10**6})
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: model 'vit': depth is at most 2,000, not 1000000
    """
    for option, value in options.items():
        most = MAX_LAYERS if option.endswith(_LAYERS) else MAX_UNITS
        for number in value if isinstance(value, tuple | list) else (value,):
            if isinstance(number, int | float) and not number <= most:
                raise UserError(f"{kind}: {option} is at most {most:,}, not {shown(value)}")
        if isinstance(value, tuple | list) and len(value) > MAX_LAYERS:
            raise UserError(f"{kind}: {option} has at most {MAX_LAYERS:,} values, not {len(value):,}")


def in_words(blocks: Iterable[int], *more: str) -> str:
    """Describes the size of a variant in a few words, for `jaxvision list variants`.

    Args:
      blocks: Number of blocks of each stage.
      *more: Further words.

    >>> in_words((3, 4, 6, 3), "64 channels")
    'blocks 3, 4, 6, 3; 64 channels'
    """
    return "; ".join([f"blocks {', '.join(map(str, blocks))}", *more])


def one_of(kind: str, value: T, choices: Iterable[Any]) -> T:
    """Returns `value` if it is one of `choices`.

    Args:
      kind: Name of the option, for the message.
      value: Value of the option.
      choices: Allowed values.

    Raises:
      UserError: Another value; the message names the choices and the nearest one.

    >>> one_of("pool", "gap", ["token", "gap"])
    'gap'
    """
    if value not in choices:
        raise unknown(kind, value, choices)
    return value


def rate(name: str, value: float) -> float:
    """Returns `value` if it is a probability of dropping something: 0 <= value < 1.

    Args:
      name: Name of the option, for the message.
      value: Value of the option.

    Raises:
      UserError: A value out of range.

    >>> rate("dropout", 0.1)
    0.1
    """
    if not arguments.fits(value, RATE):
        raise UserError(f"{name} is a rate of at least 0 and below 1, not {shown(value)}")
    return value


def positive(name: str, value: Number) -> Number:
    """Returns `value` if it is above 0.

    Args:
      name: Name of the option, for the message.
      value: Value of the option.

    Raises:
      UserError: A value of 0 or below, or NaN.

    >>> positive("width", 0.5)
    0.5
    """
    if not value > 0:
        raise UserError(f"{name} must be above 0, not {shown(value)}")
    return value


def whole(name: str, value: int | None, low: int = 1, optional: bool = False) -> int | None:
    """Returns `value` if it is a whole number of at least `low`, or None if that is allowed.

    Args:
      name: Name of the option, for the message.
      value: Value of the option.
      low: Least allowed value.
      optional: True if None is allowed.

    Raises:
      UserError: Another value.

    >>> whole("projection_layers", 2)
    2
    """
    if not (optional and value is None) and (not isinstance(value, int) or value < low):
        or_none = ", or None" if optional else ""
        raise UserError(f"{name} must be a whole number of at least {low}{or_none}, not {shown(value)}")
    return value
