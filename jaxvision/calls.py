"""Checks the names and values that a user gives to a function, by its signature and annotations.

A section of a config, an operation of a spec, the options of a model, an optimizer, a data set or a launcher: every
value that a user writes reaches a function by keyword, and is checked here before the function is called. Only the
words of the errors differ: `ConfigKeys`, `Options` and `Usage` have them.
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
        """Makes the error for a name that the function does not have.

        Args:
          name: Unknown name.
          names: Known names.
        """
        hint = nearest(name, names) or "."
        return UserError(
            f"unknown config key '{self.where}.{name}'{hint} Keys of {self.where}: {listed(name, names) or '(none)'}"
        )

    def missing(self, missing: Sequence[str], names: Collection[str]) -> UserError:
        """Makes the error for required parameters without a value.

        Args:
          missing: Names of these parameters.
          names: Known names.
        """
        first = missing[0]
        return UserError(
            f"the config has no '{self.where}.{first}', which is required. Keys of {self.where}: {listed(first, names)}"
        )

    def value(self, name: str) -> str:
        """Names a value, as the subject of an error message.

        Args:
          name: Name of the parameter.
        """
        return f"config key {self.where}.{name}"


class Options(NamedTuple):
    """The words for mistakes in the options of something that was named.

    Attributes:
      owner: Thing that takes the options: "model 'vit'".
    """

    owner: str

    def unknown(self, name: str, names: Collection[str]) -> UserError:
        return unknown(f"option of {self.owner}", name, names) if names else UserError(f"{self.owner} takes no options")

    def missing(self, missing: Sequence[str], names: Collection[str]) -> UserError:
        return UserError(f"{self.owner} needs {', '.join(missing)}. Options: {listed(missing[0], names)}")

    def value(self, name: str) -> str:
        return f"{self.owner}: {name}"


class Usage(NamedTuple):
    """The words for mistakes in a call that is written as one, such as an operation of a spec.

    Attributes:
      call: Call as it was written: "host operation 'resize(32, 4)'".
      how: Signature of the function: "resize(size, method='area')".
    """

    call: str
    how: str

    def wrong(self, mistake: str) -> UserError:
        """Makes the error for any other mistake in the call.

        Args:
          mistake: Sentence that describes the mistake.
        """
        return UserError(f"{self.call}: {mistake} Usage: {self.how}")

    def unknown(self, name: str, names: Collection[str]) -> UserError:
        return self.wrong(f"no argument is named {name!r}{nearest(name, names) or '.'}")

    def missing(self, missing: Sequence[str], names: Collection[str]) -> UserError:
        return self.wrong(f"missing argument{'s' * (len(missing) > 1)} {', '.join(missing)}.")

    def value(self, name: str) -> str:
        return f"{self.call}: {name}"


class Plain(NamedTuple):
    """The words for mistakes in values whose names are known: only the name."""

    def value(self, name: str) -> str:
        return name


Words = ConfigKeys | Options | Usage


def parameters(function: Callable) -> dict[str, Parameter]:
    """Returns the parameters of a function by name.

    Args:
      function: Function or class.

    >>> list(parameters(lambda a, *, b=1: None))
    ['a', 'b']
    """
    return dict(inspect.signature(function).parameters)


def options(function: Callable, program: Collection[str] = ()) -> dict[str, Any] | None:
    """Returns the annotations of the parameters that a user may set, by name.

    Args:
      function: Function or class.
      program: Names of the parameters that the program sets. If the name of `**options` is among them, no other names
        are accepted.

    Returns:
      The annotations, `Any` for a parameter without one; None if the function takes any name (`**options`).

    >>> options(lambda data, *, size=3: None, program=["data"])
    {'size': typing.Any}
    """
    if _anything(function, program):
        return None
    return {name: Any if p.annotation is p.empty else p.annotation for name, p in _named(function, program).items()}


def check(
    function: Callable,
    values: Mapping[str, Any],
    words: Words,
    *,
    program: Collection[str] = (),
    others: Iterable[str] = (),
) -> None:
    """Checks the names and values that a user gives to a function.

    Args:
      function: Function that will be called.
      values: Values by the names of parameters.
      words: Words of the errors.
      program: Names of the parameters that the program sets.
      others: Further names that go to another function, listed as choices in a message.

    Raises:
      UserError: If a name is not a parameter, a required parameter has no value, or a value does not match the
        annotation of its parameter.

    >>> check(lambda *, width, depth=2: None, {"widht": 8}, Options("model 'a'"))
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: unknown option of model 'a' 'widht'; did you mean 'width'? Choices: width, depth
    """
    named = _named(function, program)
    names = [*named, *others]
    for name in values:
        if name not in named and (name in program or not _anything(function, program)):
            raise words.unknown(name, names)
    if missing := [name for name, p in named.items() if p.default is p.empty and name not in values]:
        raise words.missing(missing, names)
    check_values(function, values, words)


def check_values(function: Callable, values: Mapping[str, Any], words: Words | Plain) -> None:
    """Checks values against the annotations of their parameters; names that are not parameters are ignored.

    A value that equals the default of its parameter is always accepted.

    Args:
      function: Function that will be called.
      values: Values by the names of parameters.
      words: Words of the errors.

    Raises:
      UserError: If a value does not match the annotation of its parameter.

    >>> def resize(size: int): ...
    >>> check_values(resize, {"size": 1.5}, Plain())
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: size must be a whole number, not 1.5
    """
    for name, value in values.items():
        parameter = parameters(function).get(name)
        if parameter is None or parameter.annotation is parameter.empty or parameter.kind is parameter.VAR_KEYWORD:
            continue
        if type(value) is type(parameter.default) and value == parameter.default:
            continue
        annotation: Any = parameter.annotation
        many = parameter.kind is parameter.VAR_POSITIONAL
        check_value(words.value(name), value, tuple[annotation, ...] if many else annotation)


def bind(function: Callable, words: Usage, args: Sequence, kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
    """Binds the arguments of a call to the names of the parameters, and checks their types.

    Args:
      function: Function that will be called.
      words: Words of the errors.
      args, kwargs: Positional arguments and keyword arguments.

    Raises:
      UserError: If there are too many or too few arguments, a name is not a parameter or is given twice, or a type is
        wrong.

    >>> bind(lambda size, method="area": None, Usage("'resize()'", "resize(size, method='area')"), (), {})
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: 'resize()': missing argument size. Usage: resize(size, method='area')
    """
    kinds = {name: p.kind for name, p in parameters(function).items()}
    placed = [name for name, kind in kinds.items() if kind in _BY_PLACE]
    if twice := [name for name in placed[: len(args)] if name in kwargs]:
        raise words.wrong(f"the argument {twice[0]} is given twice, by position and by name.")
    if len(args) > len(placed) and Parameter.VAR_POSITIONAL not in kinds.values():
        most = f"at most {len(placed)}" if placed else "none"
        raise words.wrong(f"{len(args)} arguments without a name, but it takes {most}.")
    check(function, {**dict(zip(placed, args)), **kwargs}, words)
    bound = inspect.signature(function).bind(*args, **kwargs)
    check_values(function, bound.arguments, words)  # again, since `check` does not see the arguments of *args
    for name, value in bound.arguments.items():  # 1 becomes 1.0: jax.random.bernoulli, for example, needs a float
        if parameters(function)[name].annotation is float and isinstance(value, numbers.Integral):
            bound.arguments[name] = float(value)
    return bound


def usage(function: Callable, name: str = "") -> str:
    """Describes how a function is called: its parameters and their defaults, without annotations.

    Args:
      function: Function or class.
      name: Name to show; empty for the function's own.

    >>> usage(usage)
    "usage(function, name='')"
    """
    plain = [p.replace(annotation=p.empty) for p in parameters(function).values()]
    return f"{name or function.__name__}{inspect.Signature(plain)}"


_BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def _named(function: Callable, program: Collection[str]) -> dict[str, Parameter]:
    """The parameters that a user can set by name."""
    by_name = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return {name: p for name, p in parameters(function).items() if p.kind in by_name and name not in program}


def _anything(function: Callable, program: Collection[str]) -> bool:
    """Whether a function takes names that are not in its signature."""
    return any(p.kind is p.VAR_KEYWORD and name not in program for name, p in parameters(function).items())
