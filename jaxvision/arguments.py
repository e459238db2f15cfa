"""Values that a user gives, checked against the annotations of parameters.

Types and ranges are said by annotations, `Annotated[float, Range(0, 1)]`, and checked here, in words that a person
reads without knowing Python's own. Names are checked in calls.py.
"""

import math
import numbers
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from jaxvision.errors import UserError, shown


class Range(NamedTuple):
    """The values that a number may have, as in `Annotated[float, Range(0, 1)]`.

    Attributes:
      low, high: bounds, which are allowed themselves unless `above` or `below` says otherwise.
      above: whether the number must be greater than `low`.
      below: whether it must be less than `high`.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether the number is allowed; a traced one, which is not known yet, is."""
        if not isinstance(value, numbers.Real):
            return True
        return (self.low < value or (value == self.low and not self.above)) and (
            value < self.high or (value == self.high and not self.below)
        )

    def __str__(self) -> str:
        low, high = (f"{bound:,}" for bound in self[:2])
        if self.high == math.inf:
            return f"above {low}" if self.above else f"of at least {low}"
        if self.low == -math.inf:
            return f"below {high}" if self.below else f"of at most {high}"
        return f"in {'(' if self.above else '['}{low}, {high}{')' if self.below else ']'}"


class Text(NamedTuple):
    """The texts that an argument may be, as in `Annotated[str, Text(r"[a-z]+", "of small letters")]`.

    Attributes:
      pattern: regular expression of the whole text.
      words: description of it, which follows "a text".
      most: number of characters that it may have.
    """

    pattern: str
    words: str
    most: int = 4096

    def holds(self, value: str | os.PathLike) -> bool:
        """Whether the text is allowed."""
        text = os.fspath(value)
        return isinstance(text, str) and len(text) <= self.most and re.fullmatch(self.pattern, text) is not None

    def __str__(self) -> str:
        return f"{self.words}, at most {self.most:,} characters"


class Section(NamedTuple):
    """Marks a parameter that takes a section of a config, as in `Annotated[Mapping, Section("model")]`.

    Attributes:
      kind: Kind of the section, one of those in keys.py, which says what keys it may hold.
    """

    kind: str


COUNT = Annotated[int, Range(1)]
MAX_SIDE = 2**14  # pixels of a side that an operation makes, or of a border
SIDE = Annotated[int, Range(1, MAX_SIDE)]
SHARE = Annotated[float, Range(0, 1)]
POSITIVE = Annotated[float, Range(0, above=True)]
# What can stand in a line of a script or of a log: no line breaks, no other control characters, no surrogates.
LINE = Annotated[
    str, Text(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+", "of one line without control characters")
]


def is_whole(value: object, least: int = 1) -> bool:
    """Whether an argument is a whole number of at least `least`; NumPy's integers are, True and 32.0 are not.

    >>> is_whole(32), is_whole(32.0), is_whole(True), is_whole(0, least=0)
    (True, False, False, True)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= least


def is_finite(value: float | numbers.Real) -> bool:
    """Whether a number is neither NaN, nor infinite, nor a whole one of hundreds of digits, which no float can be.

    >>> is_finite(1e308), is_finite(float("nan")), is_finite(10**400)
    (True, False, False)
    """
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value is what an annotation says; what says nothing of a plain value is not looked into.

    Whole numbers of NumPy are whole numbers, a whole number is a number, a list stands for a tuple, and True is no
    number. NaN and infinity are no numbers, nor is a whole one that is too large for a float.

    >>> fits(3, float), fits(3.0, int), fits(True, int), fits("ab", tuple[str, ...]), fits([1, 2], tuple[int, int])
    (True, False, False, False, True)
    """
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return fits(value, inside[0]) and all(r.holds(value) for r in inside[1:] if isinstance(r, Range | Text))
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, choice) for choice in inside)
    if origin is typing.Literal:
        return any(value == choice and type(value) is type(choice) for choice in inside)
    if annotation in (None, type(None)):
        return value is None
    if annotation in (int, float):
        if not isinstance(value, numbers.Number):
            return _is_array_of_one(value, annotation)
        kind = numbers.Integral if annotation is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool) and is_finite(value)
    if annotation is bool:
        return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")
    if annotation is str:
        return isinstance(value, str | os.PathLike)
    kind = origin or annotation
    if kind in (tuple, list, Sequence):
        if isinstance(value, str | bytes) or not isinstance(value, Iterable) or hasattr(value, "keys"):
            return False
        items = list(value)
        if kind is tuple and inside and inside[-1] is not Ellipsis:
            return len(items) == len(inside) and all(map(fits, items, inside))
        return not inside or all(fits(item, inside[0]) for item in items)
    if kind in (dict, Mapping):
        return hasattr(value, "items") and (len(inside) < 2 or all(fits(v, inside[1]) for _, v in value.items()))
    return True


def _is_array_of_one(value: Any, kind: type) -> bool:
    """Whether a value is an array of one number of a kind, perhaps a traced one; one of a truth value is none."""
    dtype = str(getattr(value, "dtype", ""))
    return getattr(value, "shape", None) == () and dtype != "bool" and (kind is float or "int" in dtype)


def words(annotation: Any) -> str:
    """What an annotation says, in words.

    >>> words(int | tuple[int, int]), words(Annotated[float, Range(0, 1)]), words(tuple[str, ...] | None)
    ('a whole number or two whole numbers', 'a number in [0, 1]', 'a list of texts or None')
    """
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return " ".join([words(inside[0]), *(str(r) for r in inside[1:] if isinstance(r, Range | Text))])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(words(choice) for choice in inside))
    if origin is typing.Literal:
        return " or ".join(map(repr, inside))
    kind = origin or annotation
    if kind in (tuple, list, Sequence):
        items = [choice for choice in inside if choice is not Ellipsis]
        several = _plural(items[0]) if items else "values"
        count = {2: "two", 3: "three"}.get(len(items)) if kind is tuple and Ellipsis not in inside else None
        return f"{count} {several}" if count else f"a list of {several}"
    return _NOUNS.get(kind, getattr(kind, "__name__", str(kind)))


_NOUNS = {int: "a whole number", float: "a number", str: "a text", bool: "True or False", type(None): "None"}
_NOUNS |= {None: "None", dict: "a dict(...)", Mapping: "a dict(...)"}


def _plural(annotation: Any) -> str:
    noun = words(annotation)
    return noun.removeprefix("a ") + "s" if noun in ("a whole number", "a number", "a text") else f"({noun})"


def check_value(name: str, value: Any, annotation: Any) -> None:
    """Raises UserError where a value is not what an annotation says.

    >>> check_value("task.smoothing", "lots", float)
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: task.smoothing must be a number, not 'lots'
    """
    if not fits(value, annotation):
        raise UserError(f"{name} must be {words(annotation)}, not {shown(value)}{_advice(value, annotation)}")


def _advice(value: Any, annotation: Any) -> str:
    if isinstance(value, str) and _number(value, annotation):
        return f": write {value.strip()} without quotes"
    return ", which is too large" if isinstance(value, int) and not is_finite(value) else ""


def _number(text: str, annotation: Any) -> bool:
    try:
        return fits(float(text), annotation) or fits(int(text), annotation)
    except ValueError:
        return False
