"""Reads and writes values in the form of the command line; they are read by the type of the key or flag."""

import ast
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any

from jaxvision import arguments
from jaxvision.errors import UserError, shown

_TRUTH = {"true": True, "false": False}


class Written(str):
    """The text of a value on the command line, whose type depends on its place in the config; see `read`."""


class Switch(Written):
    """What `--KEY` without a value means, "true", and `--noKEY`, "false", for a key that may be true or false."""


def write(value: object) -> str:
    """Writes a value in the form of the command line.

    Args:
      value: Value of a config.

    >>> write(1e-4), write("adamw"), write((4, 5)), write(True)
    ('0.0001', 'adamw', '(4, 5)', 'True')
    """
    return value if isinstance(value, str) else repr(value)


def read(text: str, name: str, annotation: Any = Any, before: Any = None) -> Any:
    """Reads the value that a text stands for.

    Args:
      text: Value as it was written: `3e-4`, `90 epochs`, `true`, `(4, 5)`, `image,tokens`, `None`.
      name: Name of the flag, for messages.
      annotation: Annotation of the parameter that gets the value; `Any` if it is unknown.
      before: Present value of the key. A text stays a text if the annotation allows it, a number stays a number of the
        same type; without an annotation the new value has the type of the present one.

    Raises:
      UserError: If the annotation does not allow what the text stands for.

    >>> read("0.99", "ema", float | None), read("8", "variant", str), read("image,tokens", "fields", tuple[str, ...])
    (0.99, '8', ('image', 'tokens'))
    >>> read("1", "rate", float), read("5 epochs", "total", str | float), read("0", "every", str | float, "1 epoch")
    (1.0, '5 epochs', '0')
    >>> read("1e3", "depth", int)
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: --depth must be a whole number, not '1e3': write 1000
    """
    switched = isinstance(text, Switch)
    text = str(text)  # a plain text from here on, no longer `Written`
    literal = _literal(text)
    unknown = annotation is Any and before is None
    if switched and not unknown and not isinstance(before, bool) and bool not in _kinds(annotation):
        raise UserError(_no_switch(name, literal, annotation, before))
    if _is_section(before) and not _is_section(literal) and literal is not None:
        raise UserError(f"--{name} is a section, not {shown(text)}: change the keys in it, as in --{name}.KEY=VALUE")
    if annotation is Any and before is None:
        return literal
    if annotation is Any:
        annotation = dict if _is_section(before) else tuple if isinstance(before, tuple | list) else type(before)
    items = (tuple(part.strip() for part in text.split(",")),) if "," in text else ()
    candidates = [literal, text, *items, (literal,)]
    if isinstance(before, str) and literal is not None:
        candidates.insert(0, text)
    if type(literal) is int and (isinstance(before, float) or (before is None and _kinds(annotation) <= {float, None})):
        candidates.insert(0, float(literal))
    for value in candidates:
        if arguments.fits(value, annotation):
            return value
    raise UserError(f"--{name} must be {arguments.words(annotation)}, not {shown(text)}{_without_point(literal)}")


def _no_switch(name: str, on: bool, annotation: Any, before: Any) -> str:
    """The message about a key without a value that is not true or false."""
    if _is_section(before):
        return f"--{name} is a section: change the keys in it, as in --{name}.KEY=VALUE"
    kind = type(before) if annotation is Any and before is not None else annotation
    value = "" if kind is Any else f", {arguments.words(kind)}"
    if on:
        return f"--{name} needs a value: write --{name}=VALUE{value}"
    return f"--no{name} turns a key off that is true or false, and this one is not: write --{name}=VALUE{value}"


def _kinds(annotation: Any) -> set[Any]:
    """The types in a union, with None for the type of None."""
    if typing.get_origin(annotation) is Annotated:
        return _kinds(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return set().union(*map(_kinds, typing.get_args(annotation)))
    return {None if annotation is type(None) else annotation}


def _literal(text: str) -> Any:
    """The number, boolean, None, tuple or dict that a text stands for; the text itself if it is none of them."""
    if text.strip().lower() in _TRUTH:
        return _TRUTH[text.strip().lower()]
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text
    if isinstance(value, str):
        return text
    return tuple(value) if isinstance(value, list) else value


def _is_section(value: Any) -> bool:
    return isinstance(value, Mapping) or hasattr(value, "items")


def _without_point(literal: Any) -> str:
    """Advice for 1e3 in the place of a whole number."""
    return f": write {int(literal)}" if isinstance(literal, float) and literal.is_integer() else ""
