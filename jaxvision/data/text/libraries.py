"""Tokenizers that other libraries implement: SentencePiece models and the tokenizer.json of Hugging Face."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxvision.data.text.tokenizer import Tokenizer, existing, library
from jaxvision.errors import UserError, shown
from jaxvision.registry import part

MAX_VOCABULARY = 2**24  # largest number of ids; an embedding has a row for each


@contextlib.contextmanager
def _of_library(what: str) -> Iterator[None]:
    """Turns any error of a library into a UserError; a panic of a Rust library is not an Exception."""
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UserError(f"{what}: {' '.join(str(error).split())}") from None


@part("tokenizer", "sentencepiece")
class SentencePiece(Tokenizer):
    """A SentencePiece model file (Kudo and Richardson 2018), such as T5's, SigLIP's or Gemma's.

    Start and end are the model's `bos` and `eos`, if it has them (T5 and SigLIP have no start). Padding is its `pad`,
    else its end, else 0; SigLIP pads with the end token, so give `pad=1` for its vocabulary.

    Args:
      path: Model file.
      length: Number of tokens per text, with start and end.
      lower: True to convert texts to lower case first.
    """

    def __init__(self, path: str | Path, length: int = 77, *, lower: bool = False):
        super().__init__(length, lower=lower)
        sentencepiece = library("sentencepiece")
        path = existing(path)
        with _of_library(f"{path} is not a SentencePiece model"):
            self._model = sentencepiece.SentencePieceProcessor(model_file=path)
        self.vocabulary = self._model.vocab_size()
        start, end, pad = self._model.bos_id(), self._model.eos_id(), self._model.pad_id()  # -1 for none
        self.start, self.end = (None if i < 0 else i for i in (start, end))
        self.pad = max(pad if pad >= 0 else end, 0)

    def pieces(self, text: str) -> list[int]:
        """Returns the ids of the text alone, as `Tokenizer.pieces`."""
        return self._model.encode(text)


@part("tokenizer", "huggingface")
class HuggingFace(Tokenizer):
    """A `tokenizer.json`, with the special tokens that its post-processor adds.

    Its own truncation and padding are not used, except for the id of the padding: that of its padding settings, else of
    a token `<pad>` or `[PAD]`, else 0.

    Args:
      path: File.
      length: Number of tokens per text, with start and end.
      lower: True to convert texts to lower case first.

    Raises:
      UserError: The file is not a tokenizer.json, or an id in it is too large.
    """

    def __init__(self, path: str | Path, length: int = 77, *, lower: bool = False):
        super().__init__(length, lower=lower)
        tokenizers = library("tokenizers")
        path = existing(path)
        self._path = path
        with _of_library(f"{path} is not a tokenizer.json of Hugging Face"):
            self._model = tokenizers.Tokenizer.from_file(path)
        named = next((i for name in ("<pad>", "[PAD]") if (i := self._model.token_to_id(name)) is not None), 0)
        self.pad = self._model.padding["pad_id"] if self._model.padding else named
        self._model.no_padding()
        self._model.enable_truncation(length)
        greatest = max(
            self._model.get_vocab().values(), default=-1
        )  # may exceed the number of ids, if some are left out
        self.vocabulary = max(self._model.get_vocab_size(), greatest + 1)
        example = self._encoded("a")
        if highest := [i for i in (greatest, self.pad, *example.ids) if i >= min(self.vocabulary, MAX_VOCABULARY)]:
            raise UserError(
                f"{path}: the id {max(highest)} is too large: its vocabulary has {self.vocabulary:,} ids and may have "
                f"{MAX_VOCABULARY:,}"
            )
        if example.special_tokens_mask[:1] == [1]:
            self.start = example.ids[0]
        if example.special_tokens_mask[-1:] == [1]:
            self.end = example.ids[-1]

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one text with start and end, as `Tokenizer.encode`."""
        return self._encoded(text.lower() if self._lower else text).ids

    def _encoded(self, text: str) -> Any:
        with _of_library(f"{self._path} makes no tokens of {shown(text)}"):
            return self._model.encode(text)
