"""What a user gives to a function by name: the one check of names, and of values by the annotations of parameters.

A section of a config, an operation of a spec, the options of a model, an optimizer, a data set or a launcher: whatever
a user writes reaches a function by keyword, and is checked here before the function is called. Only how a mistake is
told differs: `ConfigKeys`, `Options` and `Usage` are the words.
"""

import inspect
import numbers
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from inspect import Parameter
from typing import Any, NamedTuple

from jaxvision.arguments import check_value
from jaxvision.errors import UserError, listed, nearest, unknown


class ConfigKeys(NamedTuple):
    """The words for mistakes in a section of a config.

    Attributes:
      where: Dotted key of the section.
    """

    where: str

    def unknown(self, name: str, names: Collection[str]) -> UserError:
        hint = nearest(name, names) or "."
        return UserError(
            f"unknown config key '{self.where}.{name}'{hint} Keys of {self.where}: {listed(name, names) or '(none)'}"
        )

    def missing(self, missing: Sequence[str], names: Collection[str]) -> UserError:
        first = missing[0]
        return UserError(f"the config misses '{self.where}.{first}'. Keys of {self.where}: {listed(first, names)}")

    def value(self, name: str) -> str:
        return f"config key {self.where}.{name}"


class Options(NamedTuple):
    """The words for mistakes in the options of something that was named.

    Attributes:
      of: What it is: "model 'vit'".
    """

    of: str

    def unknown(self, name: str, names: Collection[str]) -> UserError:
        return unknown(f"option of {self.of}", name, names) if names else UserError(f"{self.of} takes no options")

    def missing(self, missing: Sequence[str], names: Collection[str]) -> UserError:
        return UserError(f"{self.of} needs {', '.join(missing)}. Options: {listed(missing[0], names)}")

    def value(self, name: str) -> str:
        return f"{self.of}: {name}"


class Usage(NamedTuple):
    """The words for mistakes in a call that is written as one, such as an operation of a spec.

    Attributes:
      call: What the call is: "host operation 'resize(32, 4)'".
      how: How it is meant to be: "resize(size, method='area')".
    """

    call: str
    how: str

    def wrong(self, mistake: str) -> UserError:
        """The error for what else is wrong with the call."""
        return UserError(f"{self.call}: {mistake} Usage: {self.how}")

    def unknown(self, name: str, names: Collection[str]) -> UserError:
        return self.wrong(f"no argument is named {name!r}{nearest(name, names) or '.'}")

    def missing(self, missing: Sequence[str], names: Collection[str]) -> UserError:
        return self.wrong(f"missing argument{'s' * (len(missing) > 1)} {', '.join(missing)}.")

    def value(self, name: str) -> str:
        return f"{self.call}: {name}"


class Plain(NamedTuple):
    """The words for mistakes in values of names that a function has: no more than the name."""

    def value(self, name: str) -> str:
        return name


Words = ConfigKeys | Options | Usage


def parameters(function: Callable) -> dict[str, Parameter]:
    """The parameters of a function, by name.

    >>> list(parameters(lambda a, *, b=1: None))
    ['a', 'b']
    """
    return dict(inspect.signature(function).parameters)


def options(function: Callable, program: Collection[str] = ()) -> dict[str, Any] | None:
    """Annotations of what a user may give to a function, by name; None where that is anything (`**options`).

    Args:
      function: What is called, or made.
      program: Names of the parameters that are not a user's to set; with that of `**options` among them, the rest is
        all that there is.

    >>> options(lambda data, *, size=3: None, program=["data"])
    {'size': typing.Any}
    """
    if _anything(function, program):
        return None
    return {name: Any if p.annotation is p.empty else p.annotation for name, p in _named(function, program).items()}


def check(
    function: Callable,
    given: Mapping[str, Any],
    words: Words,
    *,
    program: Collection[str] = (),
    others: Iterable[str] = (),
) -> None:
    """Checks what a user gives to a function by name.

    Args:
      function: What will be called.
      given: Values by the names of parameters.
      words: How a mistake is told.
      program: Names of the parameters that the program gives.
      others: Names that stand beside them and go to another function, for the choices in a message.

    Raises:
      UserError: A name that is no parameter, a parameter without a value, or a value of another kind than the
        annotation says.

    >>> check(lambda *, width, depth=2: None, {"widht": 8}, Options("model 'a'"))
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: unknown option of model 'a' 'widht'; did you mean 'width'? Choices: width, depth
    """
    named = _named(function, program)
    names = [*named, *others]
    for name in given:
        if name not in named and (name in program or not _anything(function, program)):
            raise words.unknown(name, names)
    if missing := [name for name, p in named.items() if p.default is p.empty and name not in given]:
        raise words.missing(missing, names)
    check_values(function, given, words)


def check_values(function: Callable, given: Mapping[str, Any], words: Words | Plain) -> None:
    """Raises UserError where a value is not what the annotation of its parameter says; other names are left to others.

    What is equal to the default of its parameter is always right.
    """
    for name, value in given.items():
        parameter = parameters(function).get(name)
        if parameter is None or parameter.annotation is parameter.empty or parameter.kind is parameter.VAR_KEYWORD:
            continue
        if type(value) is type(parameter.default) and value == parameter.default:
            continue
        many = parameter.kind is parameter.VAR_POSITIONAL
        check_value(words.value(name), value, tuple[parameter.annotation, ...] if many else parameter.annotation)


def bind(function: Callable, words: Usage, args: Sequence, kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
    """The arguments of a call under the names of the parameters, each of a fitting type.

    Args:
      function: What will be called.
      words: How a mistake is told.
      args, kwargs: Arguments by place and by name.

    Raises:
      UserError: Too many or too few arguments, a name that is no parameter or is given twice, or a wrong type.

    >>> bind(lambda size, method="area": None, Usage("'resize()'", "resize(size, method='area')"), (), {})
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: 'resize()': missing argument size. Usage: resize(size, method='area')
    """
    kinds = {name: p.kind for name, p in parameters(function).items()}
    placed = [name for name, kind in kinds.items() if kind in _BY_PLACE]
    if twice := [name for name in placed[: len(args)] if name in kwargs]:
        raise words.wrong(f"the argument {twice[0]} is given twice, by place and by name.")
    if len(args) > len(placed) and Parameter.VAR_POSITIONAL not in kinds.values():
        most = f"at most {len(placed)}" if placed else "none"
        raise words.wrong(f"{len(args)} arguments without a name, but it takes {most}.")
    check(function, {**dict(zip(placed, args)), **kwargs}, words)
    bound = inspect.signature(function).bind(*args, **kwargs)
    check_values(function, bound.arguments, words)  # of several by place, too
    for name, value in bound.arguments.items():  # of a number, 1 is 1.0: jax.random.bernoulli, for one, minds
        if parameters(function)[name].annotation is float and isinstance(value, numbers.Integral):
            bound.arguments[name] = float(value)
    return bound


def usage(function: Callable, name: str = "") -> str:
    """How a function is called: its parameters and their defaults, without annotations.

    >>> usage(usage)
    "usage(function, name='')"
    """
    plain = [p.replace(annotation=p.empty) for p in parameters(function).values()]
    return f"{name or function.__name__}{inspect.Signature(plain)}"


_BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def _named(function: Callable, program: Collection[str]) -> dict[str, Parameter]:
    """The parameters that a user gives by name."""
    by_name = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return {name: p for name, p in parameters(function).items() if p.kind in by_name and name not in program}


def _anything(function: Callable, program: Collection[str]) -> bool:
    """Whether a function takes names that its signature does not say."""
    return any(p.kind is p.VAR_KEYWORD and name not in program for name, p in parameters(function).items())
