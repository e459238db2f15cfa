"""The one error a user may cause, and how it is worded: the thing, the value, the choices, the nearest match."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can mend: a config key, a name, a path, a file.

    The command line prints its message without a traceback and exits with status 2.
    """


def nearest(value: object, choices: Iterable[object]) -> str:
    """Returns `"; did you mean 'x'?"` for the closest of `choices`, or an empty string.

    >>> nearest("adamm", ["sgd", "adam"])
    "; did you mean 'adam'?"
    """
    match = difflib.get_close_matches(str(value), [str(c) for c in choices], n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def unknown(kind: str, value: object, choices: Iterable[object]) -> UserError:
    """The error for a `value` that is none of `choices`.

    >>> str(unknown("optimizer", "adamm", ["sgd", "adam"]))
    "unknown optimizer 'adamm'; did you mean 'adam'? Choices: adam, sgd"
    """
    names = sorted(str(c) for c in choices)
    hint = nearest(value, names) or "."
    return UserError(f"unknown {kind} {value!r}{hint} Choices: {', '.join(names)}")
