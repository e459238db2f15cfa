"""The interface of a tokenizer, and the tokenizer that needs no file."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from jaxvision.arguments import is_whole
from jaxvision.errors import UserError, shown
from jaxvision.reading import is_file
from jaxvision.registry import part

MAX_LENGTH = 2**17  # largest number of tokens per text


class Tokenizer:
    """Converts texts to rows of token ids: start, text, end, then padding.

    A text that is too long loses tokens at its end, but never the end token. Subclasses set the ids below and define
    `pieces`. A tokenizer can be pickled.

    Args:
      length: Number of tokens per text, with start and end.
      lower: True to convert texts to lower case first.

    Attributes:
      length: Number of tokens per text, with start and end.
      vocabulary: Number of ids; all ids are below it.
      pad: Id of the padding.
      start: Id of the start token; None if there is none.
      end: Id of the end token; None if there is none.

    Raises:
      UserError: The length is out of range.
    """

    length: int
    vocabulary: int
    pad: int = 0
    start: int | None = None
    end: int | None = None

    def __init__(self, length: int = 77, *, lower: bool = False):
        if not is_whole(length, least=3) or length > MAX_LENGTH:
            raise UserError(
                f"the length of a tokenizer is a number of tokens, at least 3 and at most {MAX_LENGTH:,}, not "
                f"{shown(length)}"
            )
        self.length = int(length)
        self._lower = lower

    def pieces(self, text: str) -> Sequence[int]:
        """Returns the ids of the text alone, however many.

        Args:
          text: Text.

        Raises:
          NotImplementedError: The subclass does not define it.
        """
        raise NotImplementedError

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one text with start and end, at most `length`, without padding.

        Args:
          text: Text.
        """
        start = [] if self.start is None else [self.start]
        end = [] if self.end is None else [self.end]
        ids = self.pieces(text.lower() if self._lower else text)
        return [*start, *ids[: self.length - len(start) - len(end)], *end]

    def with_mask(self, texts: str | Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of texts, and a mask.

        The mask cannot be inferred from the ids if the id of the padding is also a token of texts, as in CLIP.

        Args:
          texts: One text, or n texts.

        Returns:
          (ids int32 [n, length], mask bool [n, length], False at the padding).
        """
        rows = [self.encode(text) for text in ([texts] if isinstance(texts, str) else texts)]
        ids = np.full((len(rows), self.length), self.pad, np.int32)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
        lengths = np.array([len(row) for row in rows], np.int64)
        return ids, np.arange(self.length) < lengths[:, None]

    def __call__(self, texts: str | Sequence[str]) -> np.ndarray:
        """Returns the ids of n texts (n = 1 for a str), int32 [n, length]."""
        return self.with_mask(texts)[0]


@part("tokenizer", "bytes")
class Bytes(Tokenizer):
    """UTF-8 bytes: padding 0, start 1, end 2, and byte b is b + 3, so the vocabulary has 259 ids.

    A text that is cut may lose a part of its last character.

    >>> tokenizer = Bytes(length=6)
    >>> tokenizer(["ab", "abcdefgh"]).tolist()
    [[1, 100, 101, 2, 0, 0], [1, 100, 101, 102, 103, 2]]
    """

    vocabulary, pad, start, end = 259, 0, 1, 2

    def pieces(self, text: str) -> list[int]:
        """Returns the ids of the text alone, as `Tokenizer.pieces`."""
        return [byte + 3 for byte in text.encode()]


def library(name: str) -> ModuleType:
    """Imports a library of the extra `text`.

    Args:
      name: Name of the library.

    Raises:
      UserError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"this tokenizer needs the library {name}: pip install 'jaxvision[text]'") from None


def existing(path: str | Path) -> str:
    """Returns the path of a vocabulary, with `~` expanded.

    Args:
      path: File.

    Raises:
      UserError: There is no such file.
    """
    if not is_file(str(path)):
        raise UserError(f"no tokenizer file {path}")
    return str(Path(path).expanduser())
