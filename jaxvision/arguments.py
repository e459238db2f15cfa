"""Checks the values that a user gives against the annotations of parameters.

Types and ranges are in the annotations, such as `Annotated[float, Range(0, 1)]`, and the errors use plain words instead
of Python's own. Names are checked in calls.py.
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
      low, high: Bounds, both allowed unless `above` or `below` is set.
      above: True if the number must be greater than `low`.
      below: True if the number must be less than `high`.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Checks whether a number is allowed. A traced number, whose value is not known yet, is allowed.

        Args:
          value: Number to check.
        """
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
      pattern: Regular expression of the whole text.
      words: Description of the text, which follows "a text" in messages.
      most: Largest number of characters.
    """

    pattern: str
    words: str
    most: int = 4096

    def holds(self, value: str | os.PathLike) -> bool:
        """Checks whether a text or a path is allowed.

        Args:
          value: Text or path to check.
        """
        text = os.fspath(value)
        return isinstance(text, str) and len(text) <= self.most and re.fullmatch(self.pattern, text) is not None

    def __str__(self) -> str:
        return f"{self.words}, at most {self.most:,} characters"


class Section(NamedTuple):
    """Marks a parameter that takes a section of a config, as in `Annotated[Mapping, Section("model")]`.

    Attributes:
      kind: Kind of the section, one of those in config/schema.py, which decides the keys that it may hold.
    """

    kind: str


COUNT = Annotated[int, Range(1)]
MAX_SIDE = 2**14  # largest side of an image that an operation makes, and largest border, in pixels
SIDE = Annotated[int, Range(1, MAX_SIDE)]
SHARE = Annotated[float, Range(0, 1)]
POSITIVE = Annotated[float, Range(0, above=True)]
# Text that fits in one line of a script or a log: no line breaks, no other control characters, no surrogates.
LINE = Annotated[
    str, Text(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+", "of one line without control characters")
]


def is_whole(value: object, least: int = 1) -> bool:
    """Checks whether a value is a whole number of at least `least`. NumPy's integers are; True and 32.0 are not.

    Args:
      value: Value of any type.
      least: Smallest allowed number.

    >>> is_whole(32), is_whole(32.0), is_whole(True), is_whole(0, least=0)
    (True, False, False, True)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= least


def is_finite(value: float | numbers.Real) -> bool:
    """Checks whether a number fits in a float: it is not NaN, not infinite, and not an integer of hundreds of digits.

    Args:
      value: Real number.

    >>> is_finite(1e308), is_finite(float("nan")), is_finite(10**400)
    (True, False, False)
    """
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def fits(value: Any, annotation: Any) -> bool:
    """Checks whether a value matches an annotation. An annotation that is no plain type matches everything.

    NumPy's integers are whole numbers, a whole number is a number, and a list matches a tuple. True is not a number,
    and neither are NaN, infinity and integers that are too large for a float.

    Args:
      value: Value of any type.
      annotation: Annotation of a parameter, such as `int | None` or `Annotated[float, Range(0, 1)]`.

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
    """Checks for an array of one number of a kind, perhaps a traced one; an array of a boolean does not count."""
    dtype = str(getattr(value, "dtype", ""))
    return getattr(value, "shape", None) == () and dtype != "bool" and (kind is float or "int" in dtype)


def words(annotation: Any) -> str:
    """Describes an annotation in words.

    Args:
      annotation: Annotation of a parameter.

    >>> words(int | tuple[int, int]), words(Annotated[float, Range(0, 1)]), words(tuple[str, ...] | None)
    ('a whole number or two whole numbers', 'a number in [0, 1]', 'a list of texts or None')
    >>> words(tuple[tuple[str, float], ...])
    'a list of pairs (a text, a number)'
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
        if kind is tuple and Ellipsis not in inside and len(set(map(words, items))) > 1:
            return f"({', '.join(map(words, items))})"
        several = _plural(items[0]) if items else "values"
        count = {2: "two", 3: "three"}.get(len(items)) if kind is tuple and Ellipsis not in inside else None
        return f"{count} {several}" if count else f"a list of {several}"
    return _NOUNS.get(kind, getattr(kind, "__name__", str(kind)))


_NOUNS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "True or False",
    type(None): "None",
}
_NOUNS |= {None: "None", dict: "a dict(...)", Mapping: "a dict(...)"}


def _plural(annotation: Any) -> str:
    noun = words(annotation)
    if noun.startswith("("):
        return f"pairs {noun}" if len(typing.get_args(annotation)) == 2 else f"tuples {noun}"
    return noun.removeprefix("a ") + "s" if noun in ("a whole number", "a number", "a text") else f"({noun})"


def check_value(name: str, value: object, annotation: Any) -> None:
    """Checks that a value matches an annotation.

    Args:
      name: Name of the value, for the message.
      value: Value of any type.
      annotation: Annotation of a parameter.

    Raises:
      UserError: If it does not match.

    >>> check_value("task.smoothing", "lots", float)
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: task.smoothing must be a number, not 'lots'
    """
    if not fits(value, annotation):
        raise UserError(f"{name} must be {words(annotation)}, not {shown(value)}{_advice(value, annotation)}")


def _advice(value: object, annotation: Any) -> str:
    if isinstance(value, str) and _number(value, annotation):
        return f": write {value.strip()} without quotes"
    return ", which is too large" if isinstance(value, int) and not is_finite(value) else ""


def _number(text: str, annotation: Any) -> bool:
    try:
        return fits(float(text), annotation) or fits(int(text), annotation)
    except ValueError:
        return False
