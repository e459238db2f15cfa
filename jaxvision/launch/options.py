"""What the options of launchers may be: they become lines of scripts, words of command lines and names of files.

Whatever a launcher writes for a shell goes through `shlex`, whatever it writes as YAML through PyYAML. Here it is held
that an option is of its type, and that none of them can begin a line of its own.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from jaxvision import arguments, calls
from jaxvision.arguments import LINE, Range, Text
from jaxvision.errors import UserError, shown

AMOUNT, MANY = Annotated[int, Range(0)], Annotated[int, Range(1)]
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
    """Decorates a function of a command and options: both are checked when it is called.

    Raises (when called):
      UserError: an option is not what the annotation of its parameter says, or the command holds what no command line
        can.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(function).bind(*args, **kwargs).arguments
        options = {key: value for key, value in given.items() if key != "command"}
        calls.check_values(function, options, calls.Plain())
        check_command(given["command"])
        return function(*args, **kwargs)

    return call


def check_command(command: Sequence[str]) -> None:
    """Raises UserError where a word is no text or holds what no command line can: NUL, or half of a character."""
    for word in command:
        if not isinstance(word, str) or "\0" in word or any("\ud800" <= c <= "\udfff" for c in word):
            raise UserError(f"the word {shown(word)} of the command is no UTF-8 text, so no command line can hold it")


def sbatch(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Further options of sbatch by their names there.

    Raises:
      UserError: a key or a value that would not stay in its line.

    >>> sbatch({"no_kill": True, "nice": 0})
    {'no-kill': True, 'nice': 0}
    """
    for key, value in (given or {}).items():
        arguments.check_value("an option in sbatch=", key, _OPTION)
        arguments.check_value(f"sbatch={{{key!r}: ...}}", value, bool | int | float | LINE | None)
    return {key.replace("_", "-"): value for key, value in (given or {}).items()}


def environment(given: Mapping[str, Any] | None) -> dict[str, str]:
    """Environment variables as texts.

    Raises:
      UserError: a name that is none, or a value that is neither text nor number.
    """
    for key, value in (given or {}).items():
        arguments.check_value("a name in env=", key, _VARIABLE)
        arguments.check_value(f"env={{{key!r}: ...}}", value, LINE | int | float | bool)
    return {key: str(value) for key, value in (given or {}).items()}
