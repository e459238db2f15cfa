"""The rule for captions, the same for all sources."""

from collections.abc import Iterable, Iterator

import numpy as np

from jaxvision.data.sources.base import BadExample
from jaxvision.errors import shown
from jaxvision.reading import decode_text


def one_or_several(value: object, where: str) -> str | tuple[str, ...]:
    """Returns the caption or captions of an example.

    An empty or blank text is no caption, like a null. In a list it is left out; an example without any caption is a bad
    one.

    Args:
      value: Text, UTF-8 bytes, or a list of them.
      where: Place of the value, in words, for messages: `its column 'caption'`.

    Returns:
      A text as it is stored, or a tuple of one or more.

    Raises:
      BadExample: There is no caption, or a value is not a text.

    >>> one_or_several(["a cat", " ", None, "an animal"], "its captions")
    ('a cat', 'an animal')
    >>> one_or_several("", "its .txt member")
    Traceback (most recent call last):
    ...
    jaxvision.data.sources.base.BadExample: its .txt member holds no caption
    """
    if isinstance(value, list | tuple | np.ndarray):
        captions: str | tuple[str, ...] = tuple(_texts(value, where))
    else:
        captions = next(_texts([value], where), ())
    if not captions:
        raise BadExample(f"{where} holds no caption")
    return captions


def _texts(values: Iterable[object], where: str) -> Iterator[str]:
    for value in values:
        if isinstance(value, bytes):
            value = decode_text(value, where, BadExample)
        if isinstance(value, str):
            if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
                raise BadExample(f"{where} holds half a character, {shown(value)}: it was cut, and cannot be encoded")
            if value.strip():
                yield str(value)
        elif value is not None and not (
            isinstance(value, float) and value != value
        ):  # pandas writes NaN for a missing text
            raise BadExample(f"{where} holds {shown(value)}, which is not a text")
