"""Checks of launchers' options, which become lines of scripts, words of command lines and names of files.

Text for a shell goes through `shlex`, and YAML through PyYAML. The checks here make sure that an option has its type,
and that none can begin a line of its own.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from jaxvision import arguments, calls
from jaxvision.arguments import LINE, Range, Text
from jaxvision.errors import UserError, shown

AMOUNT = Annotated[int, Range(0)]
MANY = Annotated[int, Range(1)]
GIGABYTES = Annotated[float, Range(0, 10**6, above=True)]
JOB = Annotated[str, Text(r"[\w][\w.+=@,: -]*", "of letters, digits and .+=@,:_-, one of the first two at first", 200)]
CODE = Annotated[str, Text(r"[A-Za-z0-9][A-Za-z0-9._:@-]*", "of letters, digits and ._:@-", 200)]
IMAGE = Annotated[str, Text(r"[A-Za-z0-9][A-Za-z0-9._:@/-]*", "that names a container image", 500)]
OBJECT = Annotated[str, Text(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", "of small letters, digits, '.' and '-'", 253)]
MACHINE = Annotated[str, Text(r"[a-z]([a-z0-9-]*[a-z0-9])?", "of small letters, digits and '-', a letter first", 61)]
FOLDER = Annotated[str, Text(r"/[^:\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*", "that is an absolute path, no ':'")]
_OPTION = Annotated[str, Text(r"[A-Za-z][A-Za-z0-9_-]*", "of letters, digits, '_' and '-'", 100)]
_VARIABLE = Annotated[str, Text(r"[A-Za-z_][A-Za-z0-9_]*", "of letters, digits and '_', no digit first", 200)]


def checked(function: Callable) -> Callable:
    """Decorates a function of a command and options, so that it checks both before it runs.

    The function then raises UserError if an option does not fit the annotation of its parameter, or if a command line
    cannot hold a word of the command.

    Args:
      function: Function with a parameter `command`.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(function).bind(*args, **kwargs).arguments
        options = {key: value for key, value in bound.items() if key != "command"}
        calls.check_values(function, options, calls.Plain())
        check_command(bound["command"])
        return function(*args, **kwargs)

    return call


def check_command(command: Sequence[str]) -> None:
    """Checks that a command line can hold each word: text without NUL and without half a surrogate pair.

    Args:
      command: Words of the command line.

    Raises:
      UserError: A word is not such text.
    """
    for word in command:
        if not isinstance(word, str) or "\0" in word or any("\ud800" <= c <= "\udfff" for c in word):
            raise UserError(f"the word {shown(word)} of the command is not UTF-8 text: a command line cannot hold it")


def sbatch(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns further options of sbatch, under sbatch's own names.

    Args:
      options: Values by name, in which `_` may stand for `-`.

    Raises:
      UserError: A name or a value would not stay in its line.

    >>> sbatch({"no_kill": True, "nice": 0})
    {'no-kill': True, 'nice': 0}
    """
    for key, value in (options or {}).items():
        arguments.check_value("an option in sbatch=", key, _OPTION)
        arguments.check_value(f"sbatch={{{key!r}: ...}}", value, bool | int | float | LINE | None)
    return {key.replace("_", "-"): value for key, value in (options or {}).items()}


def environment(variables: Mapping[str, Any] | None) -> dict[str, str]:
    """Returns environment variables as text.

    Args:
      variables: Values by name; text or numbers.

    Raises:
      UserError: A name is not one of a variable, or a value is neither text nor a number.

    >>> environment({"EPOCHS": 90})
    {'EPOCHS': '90'}
    """
    for key, value in (variables or {}).items():
        arguments.check_value("a name in env=", key, _VARIABLE)
        arguments.check_value(f"env={{{key!r}: ...}}", value, LINE | int | float | bool)
    return {key: str(value) for key, value in (variables or {}).items()}
