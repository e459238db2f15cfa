"""Values as people write them in configs and specs: as plain Python ones, and checked against what a function takes."""

import math
import types
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxvision.errors import UserError, shown

_SCALARS = (bool, int, float, str)
_WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a text", type(None): "None"}


def plain(value: Any, where: str) -> Any:
    """A value of a config as plain Python: NumPy's and JAX's numbers become Python's, lists become tuples.

    A config may compute its numbers with NumPy. `np.float32(0.1)` becomes 0.1, not 0.10000000149.

    Args:
      value: number, text, None, path, array, or a list, tuple or mapping of them.
      where: its key, for messages.

    Raises:
      UserError: a value of another kind, which config.json could not hold, a NaN, or a key that is no text.

    >>> plain([np.int64(3), np.float32(0.1), np.bool_(True), np.arange(2)], "model.sizes")
    (3, 0.1, True, (0, 1))
    """
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise UserError(f"keys of {where or 'a config'} must be texts, not {shown(key)}")
        return {str(key): plain(of, f"{where}.{key}" if where else str(key)) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return tuple(plain(of, f"{where}[{i}]") for i, of in enumerate(value))
    if isinstance(value, np.str_):
        return str(value)
    if isinstance(value, np.floating):
        value = float(str(value))  # the shortest text that is this number, which is what was written
    elif hasattr(value, "dtype") and hasattr(value, "tolist"):  # NumPy's and JAX's numbers and arrays
        return plain(value.tolist(), where)
    if hasattr(value, "__fspath__"):
        return str(value)
    if value is not None and not isinstance(value, _SCALARS):
        raise UserError(f"{where} must be a number, a text, None, or a list or dict of them, not {shown(value)}")
    if isinstance(value, float) and math.isnan(value):
        raise UserError(f"{where} is not a number (nan)")
    return value


def fit(value: Any, annotation: Any, where: str) -> Any:
    """A value as the parameter with this annotation takes it: a whole float becomes an int where only that will do.

    Annotations that say nothing of plain values, and values that are not plain (traced arrays, functions), pass.

    Args:
      value: of the argument.
      annotation: of the parameter, such as `int | tuple[int, int]`.
      where: what the argument is called in messages.

    Raises:
      UserError: a value of another kind: 0.5, "16" or True for an int, for example.

    >>> fit(224.0, int | tuple[int, int], "size"), fit((8, 16.0), int | tuple[int, int], "size")
    (224, (8, 16))
    >>> fit("16", int, "data.batch_size")
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: data.batch_size must be a whole number, not the text '16': write it without quotes
    """
    kinds = _kinds(annotation)
    if isinstance(value, np.generic):
        value = plain(value, where)
    if not kinds or not (value is None or isinstance(value, (*_SCALARS, list, tuple))):
        return value
    scalars = {kind for kind in kinds if kind in _WORDS}
    if type(value) in scalars or (type(value) is int and float in scalars):
        return value
    if type(value) is float and int in scalars and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        for kind in kinds:
            if (of := _elements(kind, len(value))) is not None:
                return tuple(fit(one, each, f"{where}[{i}]") for i, (one, each) in enumerate(zip(value, of)))
    raise UserError(f"{where} must be {_described(kinds)}, not {_named(value)}{_hint(value, kinds)}")


def _elements(kind: Any, count: int) -> list[Any] | None:
    """The annotations of `count` elements; None where `kind` is no tuple or list, or one of another length."""
    if (typing.get_origin(kind) or kind) not in (tuple, list):
        return None
    of = list(typing.get_args(kind)) or [Any]
    if len(of) == 1 or of[-1] is Ellipsis:
        return of[:1] * count
    return of if len(of) == count else None


def _kinds(annotation: Any) -> list[Any]:
    """The alternatives of an annotation; none where one of them says nothing that could be checked."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    kinds = list(typing.get_args(annotation)) if union else [annotation]
    kinds = [type(None) if kind is None else kind for kind in kinds]
    known = (*_WORDS, tuple, list, Mapping, dict)
    return kinds if all((typing.get_origin(kind) or kind) in known for kind in kinds) else []


def _described(kinds: list[Any]) -> str:
    words = []
    for kind in kinds:
        of = [one for one in typing.get_args(kind) if one is not Ellipsis]
        origin = typing.get_origin(kind) or kind
        if origin in (tuple, list):
            numbers = "whole numbers" if set(of) == {int} else "numbers" if set(of) <= {int, float} and of else ""
            several = numbers or ("texts" if set(of) == {str} else "values")
            endless = origin is list or len(typing.get_args(kind)) != len(of) or len(of) < 2
            words.append(f"a list of {several}" if endless else f"{len(of)} {several}")
        else:
            words.append(_WORDS.get(kind, "a dict"))
    if "a number" in words and "a whole number" in words:
        words.remove("a whole number")
    return " or ".join(dict.fromkeys(words))


def _named(value: Any) -> str:
    return f"the text {shown(value)}" if isinstance(value, str) else shown(value)


def _hint(value: Any, kinds: list[Any]) -> str:
    if isinstance(value, str) and {int, float} & set(kinds):
        try:
            float(value)
        except ValueError:
            return ""
        return ": write it without quotes"
    lists = any((typing.get_origin(kind) or kind) in (tuple, list) for kind in kinds)
    return f": of one, write ({value!r},)" if lists and isinstance(value, str | int | float) else ""
