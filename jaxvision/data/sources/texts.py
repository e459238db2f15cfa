"""The texts that a file states for an example: one, or several that say the same."""

from typing import Any

from jaxvision.data.sources.base import BadExample
from jaxvision.errors import shown


def one_or_several(value: Any, where: str = "") -> str | tuple[str, ...]:
    """What a file states as the text of an example, as a str or a tuple of several; in every source alike.

    Args:
      value: a text, or a list of texts. Texts of blanks alone are left out of a list.
      where: the place in the file, for the message.

    Raises:
      BadExample: there is no text, only blanks, or something else than texts.

    >>> one_or_several("a cat"), one_or_several(["a cat", " "]), one_or_several(["a cat", "an owl"])
    ('a cat', ('a cat',), ('a cat', 'an owl'))
    """
    place = f"{where}: " if where else ""
    texts = list(value) if isinstance(value, list | tuple) else [value]
    for text in texts:
        if text is not None and not isinstance(text, str):
            raise BadExample(f"{place}the text {shown(text)} is no text")
    texts = [text for text in texts if text is not None and text.strip()]
    if not texts:
        raise BadExample(f"{place}it has no text")
    return tuple(texts) if isinstance(value, list | tuple) else texts[0]
