"""The operations that a spec may name, and the checks of their arguments."""

import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from jaxvision import arguments, own_modules, specs
from jaxvision.errors import UserError, shown
from jaxvision.specs import Registry

ops = Registry("augmentation", [__package__], "jaxvision.augment.ops", usage='c.augment = "CALL"')
MAX_TIMES = 64  # limit of views and of operations in a row, each of which is traced separately

_statistics: dict[Callable, tuple[str, ...]] = {}  # names that an operation reads from batch["statistics"]


def uses_statistics(*names: str) -> Callable:
    """Decorates the factory of an operation that reads statistics of the training images.

    Args:
      *names: Names of the arrays that it reads from `batch["statistics"]`; see data/statistics.py.
    """

    def decorate(factory: Callable) -> Callable:
        _statistics[factory] = names
        return factory

    return decorate


def needs_statistics(spec: str) -> frozenset[str]:
    """Returns the names of the statistics of the training images that a spec reads.

    Args:
      spec: Spec, whose arguments may be specs too.

    >>> sorted(needs_statistics("flip_lr|standardize"))
    ['mean', 'std']
    """
    factories = (_factory(call.name) for call in _calls(spec))
    return frozenset(name for factory in factories if factory is not None for name in _statistics.get(factory, ()))


def _factory(name: str) -> Callable | None:
    return ops.find(name) if own_modules.is_own(name) else ops.factories.get(name)


def _calls(spec: str) -> Iterator[specs.Call]:
    """The operations of a spec and of the specs among its arguments, as in `views(2, "flip_lr|standardize")`."""
    for call in specs.parse(spec):
        yield call
        for value in (*call.args, *call.kwargs.values()):
            for text in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(text, str):  # other texts, such as "linear", parse as specs too, without statistics
                    yield from _calls(text)


def check_number(op: str, name: str, value: Any, low: float = 0, high: float = math.inf, kind: type = float) -> Any:
    """Returns a value if it is a number in [low, high]. Traced numbers pass.

    Args:
      op: Name of the operation, for the message.
      name: Name of the argument, for the message.
      value: Value of the argument.
      low, high: Bounds, which are allowed.
      kind: Type of the number, `int` for a whole one or `float`.

    Raises:
      UserError: If it is not.

    >>> check_number("flip_lr", "p", 0.5, high=1)
    0.5
    >>> check_number("flip_lr", "p", 1.5, high=1)
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: augmentation flip_lr: p must be a number in [0, 1], not 1.5
    """
    if arguments.fits(value, Annotated[kind, arguments.Range(low, high)]):
        return value
    noun = "a whole number" if kind is int else "a number"
    limits = f"of at least {low}" if high == math.inf else f"in [{low}, {high}]"
    raise UserError(f"augmentation {op}: {name} must be {noun} {limits}, not {shown(value)}")


def check_interval(
    op: str, name: str, value: Any, low: float, high: float, closed: bool = False
) -> tuple[float, float]:
    """Returns a value if it is a pair (a, b) of numbers with low < a <= b <= high.

    Args:
      op: Name of the operation, for the message.
      name: Name of the argument, for the message.
      value: Value of the argument.
      low, high: Bounds.
      closed: True to allow a = low.

    Raises:
      UserError: If it is not.

    >>> check_interval("scale", "factor", (0.5, 2), 0, 10)
    (0.5, 2)
    """
    is_pair = arguments.fits(value, tuple[float, float])
    if is_pair and (low < value[0] or (closed and low == value[0])) and value[0] <= value[1] <= high:
        return value[0], value[1]
    limits = f"{low} {'<=' if closed else '<'} a <= b" + ("" if high == math.inf else f" <= {high}")
    raise UserError(f"augmentation {op}: {name} must be a pair (a, b) of numbers with {limits}, not {shown(value)}")


def check_size(op: str, value: Any) -> tuple[int, int]:
    """Returns a size, given as a side or a pair (height, width), as a pair.

    Args:
      op: Name of the operation, for the message.
      value: Value of its argument `size`.

    Raises:
      UserError: If it is neither, or too large.

    >>> check_size("resize", 224)
    (224, 224)
    """
    sides = (value, value) if isinstance(value, int) else value
    if arguments.fits(sides, tuple[arguments.SIDE, arguments.SIDE]):
        return sides[0], sides[1]
    raise UserError(
        f"augmentation {op}: size must be a positive whole number or a pair (height, width), at most "
        f"{arguments.MAX_SIDE:,}, not {shown(value)}"
    )


def check_per_channel(op: str, name: str, value: Any) -> tuple[float, ...]:
    """Returns a number or three (red, green, blue) as a tuple.

    Args:
      op: Name of the operation, for the message.
      name: Name of the argument, for the message.
      value: Value of the argument.

    Raises:
      UserError: If it is neither, or a number is not finite.

    >>> check_per_channel("pad", "fill", 0.5)
    (0.5,)
    """
    values = value if isinstance(value, (tuple, list)) else (value,)
    if len(values) in (1, 3) and arguments.fits(values, tuple[float, ...]) and all(map(math.isfinite, values)):
        return tuple(values)
    raise UserError(f"augmentation {op}: {name} must be a number or three numbers, not {shown(value)}")
