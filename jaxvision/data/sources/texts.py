"""What is a caption: the one rule for all sources."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxvision.data.sources.base import BadExample
from jaxvision.errors import shown
from jaxvision.reading import decode_text


def one_or_several(value: Any, where: str) -> str | tuple[str, ...]:
    """The caption or captions of an example.

    What is empty or blank is no caption, like a null. In a list it is left out; an example that has no caption at all
    is a bad one.

    Args:
      value: a text, UTF-8 bytes, or a list of them.
      where: what holds it, in words, for messages: `its column 'caption'`.

    Returns:
      A text as it is stored, or a tuple of one or more.

    Raises:
      BadExample: there is no caption, or what is there is no text.

    >>> one_or_several(["a cat", " ", None, "an animal"], "its captions")
    ('a cat', 'an animal')
    >>> one_or_several("", "its .txt member")
    Traceback (most recent call last):
    ...
    jaxvision.data.sources.base.BadExample: its .txt member holds no caption
    """
    if isinstance(value, list | tuple | np.ndarray):
        found: str | tuple[str, ...] = tuple(_texts(value, where))
    else:
        found = next(_texts([value], where), ())
    if not found:
        raise BadExample(f"{where} holds no caption")
    return found


def _texts(values: Any, where: str) -> Iterator[str]:
    for value in values:
        if isinstance(value, bytes):
            value = decode_text(value, where, BadExample)
        if isinstance(value, str):
            if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
                raise BadExample(f"{where} holds half a character, {shown(value)}: it was cut, and cannot be encoded")
            if value.strip():
                yield str(value)
        elif value is not None and not (isinstance(value, float) and value != value):  # pandas writes NaN for nothing
            raise BadExample(f"{where} holds {shown(value)}, which is no text")
