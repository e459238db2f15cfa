"""The operations that a spec may name, and the checks of their arguments."""

import math
from collections.abc import Callable, Iterator
from typing import Annotated

from jaxvision import arguments, own_modules, specs
from jaxvision.errors import UserError, shown
from jaxvision.specs import Registry

ops = Registry("augmentation", [__package__], "jaxvision.augment.ops")
MAX_TIMES = 64  # views, operations in a row: each is traced by itself

_statistics: dict[Callable, tuple[str, ...]] = {}  # what an operation reads from batch["statistics"]


def uses_statistics(*names: str) -> Callable:
    """Decorates a factory whose operation reads these arrays from `batch["statistics"]`."""

    def decorate(factory: Callable) -> Callable:
        _statistics[factory] = names
        return factory

    return decorate


def needs_statistics(spec: str) -> frozenset[str]:
    """The statistics of the training split that a spec, or a spec among its arguments, reads.

    >>> sorted(needs_statistics("flip_lr|standardize"))
    ['mean', 'std']
    """
    return frozenset(name for call in _calls(spec) for name in _statistics.get(_factory(call.name), ()))


def _factory(name: str) -> Callable | None:
    return ops.find(name) if own_modules.is_own(name) else ops.factories.get(name)


def _calls(spec: str) -> Iterator[specs.Call]:
    """The operations of a spec and of the specs among its arguments, as in `views(2, "flip_lr|standardize")`."""
    for call in specs.parse(spec):
        yield call
        for value in (*call.args, *call.kwargs.values()):
            for text in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(text, str):  # a method's name reads as a spec too, of an operation that uses nothing
                    yield from _calls(text)


def check_number(op: str, name: str, value, low: float = 0, high: float = math.inf, kind: type = float):
    """Returns `value` if it is a number in [low, high], and a whole one where `kind` is int; traced ones pass.

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


def check_interval(op: str, name: str, value, low: float, high: float, closed: bool = False) -> tuple[float, float]:
    """Returns `value` if it is a pair (a, b) of numbers with low < a <= b <= high; `closed` allows a = low."""
    is_pair = arguments.fits(value, tuple[float, float])
    if is_pair and (low < value[0] or (closed and low == value[0])) and value[0] <= value[1] <= high:
        return tuple(value)
    limits = f"{low} {'<=' if closed else '<'} a <= b" + ("" if high == math.inf else f" <= {high}")
    raise UserError(f"augmentation {op}: {name} must be a pair (a, b) of numbers with {limits}, not {shown(value)}")


def check_size(op: str, value) -> tuple[int, int]:
    """Returns `value`, a side or a pair (height, width), as a pair.

    >>> check_size("resize", 224)
    (224, 224)
    """
    sides = (value, value) if isinstance(value, int) else value
    if arguments.fits(sides, tuple[arguments.SIDE, arguments.SIDE]):
        return tuple(sides)
    raise UserError(
        f"augmentation {op}: size must be a positive whole number or a pair (height, width), at most "
        f"{arguments.MAX_SIDE:,}, not {shown(value)}"
    )


def check_per_channel(op: str, name: str, value) -> tuple:
    """Returns `value`, a number or three (red, green, blue), as a tuple.

    >>> check_per_channel("pad", "fill", 0.5)
    (0.5,)
    """
    values = value if isinstance(value, (tuple, list)) else (value,)
    if len(values) in (1, 3) and arguments.fits(values, tuple[float, ...]) and all(map(math.isfinite, values)):
        return tuple(values)
    raise UserError(f"augmentation {op}: {name} must be a number or three numbers, not {shown(value)}")
