"""What every tokenizer is, and the one that needs no file."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from jaxvision.arguments import is_whole
from jaxvision.errors import UserError, shown
from jaxvision.found import part
from jaxvision.reading import is_file

MAX_LENGTH = 2**17  # tokens of a text


class Tokenizer:
    """Texts to rows of token ids: start, text, end, then padding.

    A text that is too long loses tokens at its end, but never the end token. Subclasses set the ids below
    and give `pieces`. A tokenizer can be pickled.

    Attributes:
      length: tokens a text, with start and end.
      vocabulary: number of ids; all ids are below it.
      pad, start, end: ids of the special tokens; `start` and `end` are None where there is no such token.
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
        """The ids of the text alone, however many."""
        raise NotImplementedError

    def encode(self, text: str) -> list[int]:
        """The ids of one text with start and end, at most `length` of them and without padding."""
        start = [] if self.start is None else [self.start]
        end = [] if self.end is None else [self.end]
        ids = self.pieces(text.lower() if self._lower else text)
        return [*start, *ids[: self.length - len(start) - len(end)], *end]

    def with_mask(self, texts: str | Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids, int32 [n, length], and a mask, bool [n, length], that is False at the padding.

        The mask cannot be told from the ids where the padding's id is also a token of the text, as in CLIP.
        """
        rows = [self.encode(text) for text in ([texts] if isinstance(texts, str) else texts)]
        ids = np.full((len(rows), self.length), self.pad, np.int32)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
        lengths = np.array([len(row) for row in rows], np.int64)
        return ids, np.arange(self.length) < lengths[:, None]

    def __call__(self, texts: str | Sequence[str]) -> np.ndarray:
        """The ids of the texts (of one, if `texts` is a string), int32 [n, length]."""
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
        return [byte + 3 for byte in text.encode()]


def library(name: str) -> ModuleType:
    """Imports a library of the extra `text`."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"this tokenizer needs the library {name}: pip install 'jaxvision[text]'") from None


def existing(path: str | Path) -> str:
    """The path of a vocabulary, with `~` expanded.

    Raises:
      UserError: there is no such file.
    """
    if not is_file(str(path)):
        raise UserError(f"no tokenizer file {path}")
    return str(Path(path).expanduser())
