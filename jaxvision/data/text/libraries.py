"""Tokenizers that other libraries read: SentencePiece models and the tokenizer.json of Hugging Face."""

from pathlib import Path

from jaxvision.data.text.tokenizer import Tokenizer, existing, library
from jaxvision.errors import UserError
from jaxvision.found import part


@part("tokenizer", "sentencepiece")
class SentencePiece(Tokenizer):
    """A SentencePiece model file (Kudo and Richardson 2018), such as T5's, SigLIP's or Gemma's.

    Start and end are the model's `bos` and `eos`, where it has them (T5 and SigLIP have no start). Padding is its
    `pad`, else its end, else 0; SigLIP pads with the end token, so give `pad=1` for its vocabulary.
    """

    def __init__(self, path: str | Path, length: int = 77, *, lower: bool = False):
        super().__init__(length, lower=lower)
        sentencepiece = library("sentencepiece")
        path = existing(path)
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_file=path)
        except (RuntimeError, OSError) as error:
            raise UserError(f"{path} is not a SentencePiece model: {error}") from None
        self.vocabulary = self._model.vocab_size()
        start, end, pad = self._model.bos_id(), self._model.eos_id(), self._model.pad_id()  # -1 where there is none
        self.start, self.end = (None if i < 0 else i for i in (start, end))
        self.pad = max(pad if pad >= 0 else end, 0)

    def pieces(self, text: str) -> list[int]:
        return self._model.encode(text)


@part("tokenizer", "huggingface")
class HuggingFace(Tokenizer):
    """A `tokenizer.json`, with the special tokens that its post-processor adds.

    Its own truncation and padding are set aside, except for the id of the padding: that of its padding settings,
    else of a token `<pad>` or `[PAD]`, else 0.
    """

    def __init__(self, path: str | Path, length: int = 77, *, lower: bool = False):
        super().__init__(length, lower=lower)
        tokenizers = library("tokenizers")
        path = existing(path)
        try:
            self._model = tokenizers.Tokenizer.from_file(path)
        except Exception as error:  # the library raises nothing more definite
            raise UserError(f"{path} is not a tokenizer.json of Hugging Face: {error}") from None
        named = next((i for name in ("<pad>", "[PAD]") if (i := self._model.token_to_id(name)) is not None), 0)
        self.pad = self._model.padding["pad_id"] if self._model.padding else named
        self._model.no_padding()
        self._model.enable_truncation(length)
        self.vocabulary = self._model.get_vocab_size()
        example = self._model.encode("a")
        if example.special_tokens_mask[:1] == [1]:
            self.start = example.ids[0]
        if example.special_tokens_mask[-1:] == [1]:
            self.end = example.ids[-1]

    def encode(self, text: str) -> list[int]:
        return self._model.encode(text.lower() if self._lower else text).ids
