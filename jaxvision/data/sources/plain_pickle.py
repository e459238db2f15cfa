"""Reads the plain data in a pickle without running anything: dicts, lists, texts, numbers, NumPy arrays of bytes.

A pickle is a program for a stack machine whose instructions may call any function. Here only the instructions that
build plain data are followed, and three functions by name: the two with which NumPy rebuilds an array of bytes, and the
codec with which Python 3 writes the bytes of Python 2. Everything else is refused.
"""

import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

_ARRAY = {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}
_DTYPE = ("numpy", "dtype")
_NDARRAY = ("numpy", "ndarray")
_ENCODE = ("_codecs", "encode")
_PLAIN = (
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
)  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class NotPlainError(ValueError):
    """The bytes are no pickle, are damaged, or hold more than plain data."""


class _Global(tuple):
    """A function that a pickle names: (module, name)."""


class _Array:
    """A NumPy array whose content is not known yet."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None


def load_plain(data: bytes) -> Any:
    """Returns the plain data in a pickle. Texts of Python 2 become bytes or str, depending on their characters.

    Args:
      data: Pickle.

    Raises:
      NotPlainError: The bytes are no pickle, are damaged, or hold more than plain data.

    >>> load_plain(b"\\x80\\x02}U\\x06labels]K\\x03as.")
    {'labels': [3]}
    """
    try:
        return _plain(_run(data), {})
    except NotPlainError:
        raise
    except Exception as error:  # an empty stack, a truncated instruction, an invalid number, ...
        raise NotPlainError(f"damaged, or no pickle: {error or type(error).__name__}") from error


def _run(data: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    marks: list[int] = []  # lengths of the stack

    def to_mark() -> list[Any]:
        at = marks.pop()
        items = stack[at:]
        del stack[at:]
        return items

    argument: Any
    for instruction, argument, _ in pickletools.genops(data):
        name = instruction.name
        if name in _PLAIN:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            items = stack[-_TUPLES[name] :]
            del stack[-_TUPLES[name] :]
            stack.append(tuple(items))
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(to_mark()))
        elif name == "LIST":
            stack.append(to_mark())
        elif name in ("DICT", "SETITEMS"):
            items = to_mark()
            pairs = dict(zip(map(_key, items[::2]), items[1::2]))
            stack[-1].update(pairs) if name == "SETITEMS" else stack.append(pairs)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            stack[-1][_key(key)] = value
        elif name == "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        elif name == "APPENDS":
            items = to_mark()
            stack[-1].extend(items)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(_Global(argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            function, module = stack.pop(), stack.pop()
            stack.append(_Global((module, function)))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_call(function, arguments))
        elif name == "BUILD":
            state, target = stack.pop(), stack[-1]
            if isinstance(target, _Array):
                target.value = _bytes_array(state)
            elif target != _DTYPE:
                raise NotPlainError(f"it sets the state of a {type(target).__name__}")
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise NotPlainError(f"it holds more than plain data (instruction {name})")
    raise NotPlainError("it has no end")


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Global):
        raise NotPlainError("it calls something that is not a function")
    if tuple(function) in _ARRAY and tuple(arguments[0]) == _NDARRAY:
        return _Array()
    if tuple(function) == _DTYPE:
        if arguments[0] in ("u1", b"u1"):
            return _DTYPE
        kind = arguments[0].decode("latin1") if isinstance(arguments[0], bytes) else arguments[0]
        raise NotPlainError(f"it holds an array of {_dtype_name(kind)}, where pixels are uint8")
    if tuple(function) == _ENCODE and isinstance(arguments[0], str) and arguments[1:] == ("latin1",):
        return arguments[0].encode("latin1")
    raise NotPlainError(f"it holds more than plain data ({'.'.join(map(str, function))})")


def _dtype_name(kind: Any) -> str:
    try:
        return np.dtype(kind).name
    except (TypeError, ValueError):
        return repr(kind)


def _bytes_array(state: tuple) -> np.ndarray:
    """Returns the array of a NumPy state: (version, shape, dtype, in Fortran order, bytes)."""
    _, shape, dtype, fortran, content = state
    if dtype != _DTYPE or not isinstance(content, bytes | str):
        raise NotPlainError("it holds an array of something other than bytes")
    content = content.encode("latin1") if isinstance(content, str) else content
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


def _key(value: Any) -> Any:
    """Checks a key of a dict and returns it; hashing nested tuples could take forever, so they are refused."""
    if isinstance(value, str | bytes | int | float):
        return value
    raise NotPlainError(f"a key of a dict in it is a {type(value).__name__}")


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """Returns the value with its arrays filled in, and with keys and texts of Python 2 as str.

    `done` has the results for lists and dicts by identity: one may occur in many places, and is converted once.
    """
    if isinstance(value, _Array):
        if value.value is None:
            raise NotPlainError("it holds an array without content")
        return value.value
    if isinstance(value, _Global) or value is _DTYPE:
        raise NotPlainError("it holds a function")
    if isinstance(value, dict | list | tuple):
        if id(value) not in done:
            converted: Any
            if isinstance(value, dict):
                converted = {_plain(k, done): _plain(v, done) for k, v in value.items()}
            else:
                converted = type(value)(_plain(item, done) for item in value)
            done[id(value)] = converted
        return done[id(value)]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
