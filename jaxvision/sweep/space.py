"""The domains of a search space, as data. A space is a dict:

{
    "optimizer.learning_rate": log_uniform(1e-4, 1e-1),
    "optimizer.name": choice("sgd", "adamw"),
    "optimizer.momentum": when("optimizer.name", "sgd", uniform(0.5, 0.99)),
    "train.total": "10 epochs",  # not searched: the same in every trial
}
"""

import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from jaxvision.arguments import is_finite
from jaxvision.errors import UserError, shown
from jaxvision.values import plain


class Uniform(NamedTuple):
    """Real numbers in [low, high]; see `uniform`."""

    low: float
    high: float

    def __repr__(self) -> str:
        return f"uniform({self.low!r}, {self.high!r})"


class LogUniform(NamedTuple):
    """Real numbers in [low, high] whose logarithm is uniform; see `log_uniform`."""

    low: float
    high: float

    def __repr__(self) -> str:
        return f"log_uniform({self.low!r}, {self.high!r})"


class Integers(NamedTuple):
    """Whole numbers from low to high, both included; see `integers`."""

    low: int
    high: int
    log: bool = False

    def __repr__(self) -> str:
        return f"integers({self.low!r}, {self.high!r}{', log=True' if self.log else ''})"


class Choice(NamedTuple):
    """One of some values without an order; see `choice`."""

    values: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"choice({', '.join(map(repr, self.values))})"


class Grid(NamedTuple):
    """One of some values; see `grid`."""

    values: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"grid({', '.join(map(repr, self.values))})"


class When(NamedTuple):
    """A domain that is searched only if another key has one of `values`; see `when`."""

    key: str
    values: tuple[Any, ...]
    domain: "Uniform | LogUniform | Integers | Choice | Grid"

    def __repr__(self) -> str:
        values = self.values[0] if len(self.values) == 1 else self.values
        return f"when({self.key!r}, {values!r}, {self.domain!r})"


Domain = Uniform | LogUniform | Integers | Choice | Grid | When
Space = Mapping[str, Any]  # key -> domain, or its value if it is not searched


def uniform(low: float, high: float) -> Uniform:
    """Real numbers, uniform in [low, high].

    Args:
      low, high: Ends of the interval, both finite.

    >>> uniform(0, 0.2)
    uniform(0.0, 0.2)
    """
    _check_bounds("uniform", low, high)
    return Uniform(float(low), float(high))


def log_uniform(low: float, high: float) -> LogUniform:
    """Real numbers in [low, high] whose logarithm is uniform, as for learning rates.

    Args:
      low, high: Ends of the interval; low must be above 0.

    >>> log_uniform(1e-4, 1)
    log_uniform(0.0001, 1.0)
    """
    _check_bounds("log_uniform", low, high, positive=True)
    return LogUniform(float(low), float(high))


def integers(low: int, high: int, log: bool = False) -> Integers:
    """Integers from low to high, both included.

    Args:
      low, high: Smallest and largest integer.
      log: True for integers whose logarithm is about uniform, so that small ones are more frequent; needs low > 0.

    Raises:
      UserError: If a bound is not an integer, or low is not below high.

    >>> integers(1, 8)
    integers(1, 8)
    """
    _check_bounds("integers", low, high, positive=log)
    if int(low) != low or int(high) != high:
        raise UserError(f"integers({low}, {high}): the bounds must be integers")
    return Integers(int(low), int(high), bool(log))


def choice(*values: Any) -> Choice:
    """One of `values`, which have no order: names, specs, flags.

    Args:
      *values: Different values, at least one.

    >>> choice("sgd", "adamw")
    choice('sgd', 'adamw')
    """
    return Choice(_checked("choice", values))


def grid(*values: Any) -> Grid:
    """One of `values`, for a grid search. Other searches treat it as a `choice`.

    Args:
      *values: Different values, at least one.

    >>> grid(0.01, 0.1)
    grid(0.01, 0.1)
    """
    return Grid(_checked("grid", values))


def when(key: str, values: Any, domain: Domain) -> When:
    """A domain that is searched only if another key has a certain value.

    In other trials the key of this domain keeps the value of the config.

    Args:
      key: Other key, which must come earlier in the space.
      values: Value of that key, or a tuple of values.
      domain: Domain to search then.

    Raises:
      UserError: If `domain` is not a domain without a condition.

    >>> when("optimizer.name", "sgd", uniform(0.5, 0.99))
    when('optimizer.name', 'sgd', uniform(0.5, 0.99))
    """
    if not is_domain(domain) or isinstance(domain, When):
        raise UserError(f"when({key!r}, {values!r}, ...) needs a domain such as uniform(0, 1), not {domain!r}")
    return When(key, values if isinstance(values, tuple) else (values,), domain)


def is_domain(value: object) -> TypeGuard[Domain]:
    """Checks whether a value of a space is searched; other values are the same in every trial.

    Args:
      value: Domain or other value.

    >>> is_domain(uniform(0, 1)), is_domain("10 epochs")
    (True, False)
    """
    return isinstance(value, Domain)


def inner(domain: Domain) -> Uniform | LogUniform | Integers | Choice | Grid:
    """Removes the condition of a domain.

    Args:
      domain: Domain with or without a condition.

    >>> inner(when("optimizer.name", "sgd", uniform(0, 1)))
    uniform(0.0, 1.0)
    """
    return domain.domain if isinstance(domain, When) else domain


def searched(space: Space) -> dict[str, Domain]:
    """Selects the keys that are searched.

    Args:
      space: Space of a sweep.

    >>> searched({"a": uniform(0, 1), "b": 3})
    {'a': uniform(0.0, 1.0)}
    """
    return {key: domain for key, domain in space.items() if is_domain(domain)}


def active(domain: Domain, params: Mapping[str, Any]) -> bool:
    """Checks whether the condition of a domain holds.

    Args:
      domain: Domain with or without a condition.
      params: Values of the earlier keys.

    >>> active(when("a", 2, uniform(0, 1)), {"a": 1}), active(uniform(0, 1), {})
    (False, True)
    """
    return not isinstance(domain, When) or (domain.key in params and params[domain.key] in domain.values)


def samples(domain: Domain) -> tuple[Any, ...]:
    """Returns values to check a domain with: all values of a finite domain, the ends of others.

    Args:
      domain: Domain with or without a condition.

    >>> samples(uniform(0, 1)), samples(choice("a", "b", "c"))
    ((0.0, 1.0), ('a', 'b', 'c'))
    """
    domain = inner(domain)
    return domain.values if isinstance(domain, Choice | Grid) else (domain.low, domain.high)


def quantile(domain: Domain, u: float) -> Any:
    """Returns the quantile `u` of a domain.

    Args:
      domain: Domain with or without a condition.
      u: Share of the domain that is below the value, in [0, 1).

    >>> quantile(uniform(2, 4), 0.5), quantile(log_uniform(1, 100), 0.5)
    (3.0, 10.0)
    >>> quantile(integers(1, 6), 0.99), quantile(choice("a", "b"), 0.2)
    (6, 'a')
    """
    domain = inner(domain)
    if isinstance(domain, Choice | Grid):
        return domain.values[int(u * len(domain.values))]
    if isinstance(domain, Integers):
        low, high = domain.low, domain.high + 1
        whole = math.floor(low * (high / low) ** u if domain.log else low + u * (high - low))
        return min(whole, domain.high)
    bottom, top = domain
    value = bottom * (top / bottom) ** u if isinstance(domain, LogUniform) else bottom + u * (top - bottom)
    return min(max(value, bottom), top)


def draw(domain: Domain, seed: int, trial: int, key: str) -> Any:
    """Draws a random value that depends on (seed, trial, key) only, not on the order of draws or on other keys.

    Args:
      domain: Domain with or without a condition.
      seed: Seed of the search.
      trial: Number of the trial.
      key: Key of the domain.

    >>> draw(integers(1, 6), 0, 3, "model.depth") == draw(integers(1, 6), 0, 3, "model.depth")
    True
    """
    return quantile(domain, np.random.default_rng([seed, trial, zlib.crc32(key.encode())]).random())


def select(space: Space, pick: Callable[[str, Domain], Any]) -> dict[str, Any]:
    """Makes a point: the value `pick(key, domain)` for each key, in order, whose condition holds.

    Args:
      space: Space of a sweep.
      pick: Function that chooses a value for a key and its domain.

    >>> select({"a": choice(1, 2), "b": when("a", 2, uniform(0, 1))}, lambda key, domain: samples(domain)[0])
    {'a': 1}
    """
    params: dict[str, Any] = {}
    for key, domain in searched(space).items():
        if active(domain, params):
            params[key] = pick(key, inner(domain))
    return params


def points(space: Space) -> Iterator[dict[str, Any]]:
    """Yields all points of a space of finite domains; the last key varies fastest.

    Args:
      space: Space of a sweep.

    >>> list(points({"a": grid(1, 2), "b": when("a", 2, grid("x", "y"))}))
    [{'a': 1}, {'a': 2, 'b': 'x'}, {'a': 2, 'b': 'y'}]
    """
    domains = searched(space)
    places = {key: i for i, key in enumerate(domains)}
    seen = set()
    finite: list[Any] = [inner(domain) for domain in domains.values()]
    for values in itertools.product(*(domain.values for domain in finite)):
        params = select(space, lambda key, _, values=values: values[places[key]])  # type: ignore[misc]  # a lambda with a default
        if repr(params) not in seen:  # points that differ only in inactive keys are the same
            seen.add(repr(params))
            yield params


def _check_bounds(name: str, low: Any, high: Any, positive: bool = False) -> None:
    numbers = all(isinstance(x, int | float) and is_finite(x) for x in (low, high))
    if not numbers or not low < high:
        raise UserError(f"{name}({shown(low)}, {shown(high)}): give two finite numbers, the lower one first")
    if positive and low <= 0:
        raise UserError(f"{name}({low!r}, {high!r}): on a logarithmic scale the lower bound must be above 0")


def _checked(name: str, values: tuple) -> tuple:
    """The values as a config holds them, see `values.plain`."""
    values = plain(values, name)
    if not values:
        raise UserError(f"{name}() needs at least one value")
    if len({repr(value) for value in values}) < len(values):
        raise UserError(f"{name}({', '.join(map(repr, values))}) names a value twice")
    return values
