"""Tokenizers by name."""

import inspect
from pathlib import Path

from jaxvision.arguments import is_whole
from jaxvision.data.text.tokenizer import Tokenizer
from jaxvision.errors import UserError
from jaxvision.registry import PartRegistry

TOKENIZERS = PartRegistry(
    "tokenizer", [__package__], required=("length", "lower"), usage="c.data.host = \"decode|tokenize('NAME')\""
)


def make_tokenizer(
    name: str, length: int = 77, *, path: str | Path | None = None, lower: bool = False, pad: int | None = None
) -> Tokenizer:
    """Makes a tokenizer: `tokenizer(texts) -> int32 [n, length]`.

    Args:
      name: Name of one of `TOKENIZERS`, or "package.module:function" of one of your own.
      length: Number of tokens per text, with start and end.
      path: File of the vocabulary, for all but "bytes": `bpe_simple_vocab_16e6.txt.gz` for "clip", a `.model` for
        "sentencepiece", a `tokenizer.json` for "huggingface".
      lower: True to convert texts to lower case first; "clip" always does.
      pad: Id of the padding; the tokenizer's own if None.

    Raises:
      UserError: There is no such tokenizer, file, library or padding, or the file is not what it should be.

    >>> make_tokenizer("bytes", length=5, lower=True)("A").tolist()
    [[1, 100, 2, 0, 0]]
    """
    factory = TOKENIZERS.resolve(name)
    reads = inspect.signature(factory).parameters.get("path")
    if reads is None and path is not None:
        raise UserError(f"the tokenizer {name!r} reads no file, but path is {str(path)!r}")
    if reads is not None and reads.default is reads.empty and path is None:
        raise UserError(f"the tokenizer {name!r} needs path, the file of its vocabulary")
    tokenizer = factory(**({} if path is None else {"path": path}), length=length, lower=lower)
    if pad is not None:
        if not (is_whole(pad, least=0) and pad < tokenizer.vocabulary):
            raise UserError(f"the padding of {name!r} is an id below {tokenizer.vocabulary}, not {pad!r}")
        tokenizer.pad = pad
    return tokenizer
