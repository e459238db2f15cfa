"""The domains of a search space, as data.

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
from typing import Any, NamedTuple

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
    """A domain that is searched where another key has one of `values`; see `when`."""

    key: str
    values: tuple[Any, ...]
    domain: "Uniform | LogUniform | Integers | Choice | Grid"

    def __repr__(self) -> str:
        values = self.values[0] if len(self.values) == 1 else self.values
        return f"when({self.key!r}, {values!r}, {self.domain!r})"


Domain = Uniform | LogUniform | Integers | Choice | Grid | When
Space = Mapping[str, Any]  # a domain, or the value of a key that is not searched


def uniform(low: float, high: float) -> Uniform:
    """Real numbers, uniform in [low, high].

    >>> uniform(0, 0.2)
    uniform(0.0, 0.2)
    """
    _check_bounds("uniform", low, high)
    return Uniform(float(low), float(high))


def log_uniform(low: float, high: float) -> LogUniform:
    """Real numbers in [low, high] whose logarithm is uniform, as for learning rates; low > 0.

    >>> log_uniform(1e-4, 1)
    log_uniform(0.0001, 1.0)
    """
    _check_bounds("log_uniform", low, high, positive=True)
    return LogUniform(float(low), float(high))


def integers(low: int, high: int, log: bool = False) -> Integers:
    """Whole numbers from low to high, both included; with `log`, small ones as often as large ones by their logarithm.

    >>> integers(1, 8)
    integers(1, 8)
    """
    _check_bounds("integers", low, high, positive=log)
    if int(low) != low or int(high) != high:
        raise UserError(f"integers({low}, {high}): the bounds must be whole numbers")
    return Integers(int(low), int(high), bool(log))


def choice(*values: Any) -> Choice:
    """One of `values`, which have no order: names, specs, flags.

    >>> choice("sgd", "adamw")
    choice('sgd', 'adamw')
    """
    return Choice(_checked("choice", values))


def grid(*values: Any) -> Grid:
    """One of `values`: what a grid search goes through. Other searches take it as a `choice`.

    >>> grid(0.01, 0.1)
    grid(0.01, 0.1)
    """
    return Grid(_checked("grid", values))


def when(key: str, values: Any, domain: Domain) -> When:
    """`domain` where `key`, which stands before it in the space, has the value or one of the values in the tuple.

    Elsewhere the key of this domain keeps the value of the config.

    >>> when("optimizer.name", "sgd", uniform(0.5, 0.99))
    when('optimizer.name', 'sgd', uniform(0.5, 0.99))
    """
    if not is_domain(domain) or isinstance(domain, When):
        raise UserError(f"when({key!r}, {values!r}, ...) wants a domain such as uniform(0, 1), not {domain!r}")
    return When(key, values if isinstance(values, tuple) else (values,), domain)


def is_domain(value: Any) -> bool:
    """Whether it is searched, rather than a value that stands for itself."""
    return isinstance(value, Domain)


def inner(domain: Domain) -> Uniform | LogUniform | Integers | Choice | Grid:
    """The domain without its condition."""
    return domain.domain if isinstance(domain, When) else domain


def searched(space: Space) -> dict[str, Domain]:
    """The keys that are searched.

    >>> searched({"a": uniform(0, 1), "b": 3})
    {'a': uniform(0.0, 1.0)}
    """
    return {key: domain for key, domain in space.items() if is_domain(domain)}


def active(domain: Domain, params: Mapping[str, Any]) -> bool:
    """Whether the condition of a domain holds, given the values of the keys before it."""
    return not isinstance(domain, When) or (domain.key in params and params[domain.key] in domain.values)


def samples(domain: Domain) -> tuple[Any, ...]:
    """Values to check a domain with: all of a finite one, the ends of another.

    >>> samples(uniform(0, 1)), samples(choice("a", "b", "c"))
    ((0.0, 1.0), ('a', 'b', 'c'))
    """
    domain = inner(domain)
    return domain.values if isinstance(domain, Choice | Grid) else (domain.low, domain.high)


def at(domain: Domain, u: float) -> Any:
    """The value of a domain below which lies a share `u` of it, in [0, 1).

    >>> at(uniform(2, 4), 0.5), at(log_uniform(1, 100), 0.5), at(integers(1, 6), 0.99), at(choice("a", "b"), 0.2)
    (3.0, 10.0, 6, 'a')
    """
    domain = inner(domain)
    if isinstance(domain, Choice | Grid):
        return domain.values[int(u * len(domain.values))]
    if isinstance(domain, Integers):
        low, high = domain.low, domain.high + 1
        found = math.floor(low * (high / low) ** u if domain.log else low + u * (high - low))
        return min(found, domain.high)
    low, high = domain
    found = low * (high / low) ** u if isinstance(domain, LogUniform) else low + u * (high - low)
    return min(max(found, low), high)


def draw(domain: Domain, seed: int, trial: int, key: str) -> Any:
    """A random value, a function of (seed, trial, key) alone: neither order nor other keys play a part.

    >>> draw(integers(1, 6), 0, 3, "model.depth") == draw(integers(1, 6), 0, 3, "model.depth")
    True
    """
    return at(domain, np.random.default_rng([seed, trial, zlib.crc32(key.encode())]).random())


def select(space: Space, pick: Callable[[str, Domain], Any]) -> dict[str, Any]:
    """A point: `pick(key, domain)` for each key in turn whose condition holds.

    >>> select({"a": choice(1, 2), "b": when("a", 2, uniform(0, 1))}, lambda key, domain: samples(domain)[0])
    {'a': 1}
    """
    params: dict[str, Any] = {}
    for key, domain in searched(space).items():
        if active(domain, params):
            params[key] = pick(key, inner(domain))
    return params


def points(space: Space) -> Iterator[dict[str, Any]]:
    """All points of a space of finite domains; the last key varies fastest.

    >>> list(points({"a": grid(1, 2), "b": when("a", 2, grid("x", "y"))}))
    [{'a': 1}, {'a': 2, 'b': 'x'}, {'a': 2, 'b': 'y'}]
    """
    domains = searched(space)
    places = {key: i for i, key in enumerate(domains)}
    seen = set()
    for values in itertools.product(*(inner(domain).values for domain in domains.values())):
        params = select(space, lambda key, _, given=values: given[places[key]])
        if repr(params) not in seen:  # inactive keys do not make it another point
            seen.add(repr(params))
            yield params


def _check_bounds(name: str, low: Any, high: Any, positive: bool = False) -> None:
    numbers = all(isinstance(x, int | float) and is_finite(x) for x in (low, high))
    if not numbers or not low < high:
        raise UserError(f"{name}({shown(low)}, {shown(high)}): want two numbers, the lower one first")
    if positive and low <= 0:
        raise UserError(f"{name}({low!r}, {high!r}): on a logarithmic scale the lower bound must be above 0")


def _checked(name: str, values: tuple) -> tuple:
    """The values as a config holds them, see `values.plain`."""
    values = plain(values, name)
    if not values:
        raise UserError(f"{name}() wants at least one value")
    if len({repr(value) for value in values}) < len(values):
        raise UserError(f"{name}({', '.join(map(repr, values))}) names a value twice")
    return values
