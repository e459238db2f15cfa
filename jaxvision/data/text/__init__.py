"""Text to token ids, as tokenizers and as the host operation `tokenize`.

    tokenizer.py   what a tokenizer is; bytes, which needs no file
    clip.py        CLIP's byte pairs
    libraries.py   SentencePiece models, tokenizer.json of Hugging Face

The libraries behind the last two are the extra `text`: pip install 'jaxvision[text]'.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxvision.data.host_ops import BadImage, HostOp, host_ops
from jaxvision.data.text.clip import Clip
from jaxvision.data.text.libraries import HuggingFace, SentencePiece
from jaxvision.data.text.tokenizer import Bytes, Tokenizer
from jaxvision.errors import UserError, unknown
from jaxvision.specs import Call, parse

TOKENIZERS: dict[str, type[Tokenizer]] = {
    "bytes": Bytes,
    "clip": Clip,
    "huggingface": HuggingFace,
    "sentencepiece": SentencePiece,
}
CAPTIONS = ("random", "first")
MADE = ("tokens", "tokens_mask")

__all__ = ["TOKENIZERS", "Tokenizer", "make", "sources_of", "tokenize"]


def make(
    name: str, length: int = 77, *, path: str | Path | None = None, lower: bool = False, pad: int | None = None
) -> Tokenizer:
    """Makes a tokenizer: `tokenizer(texts) -> int32 [n, length]`.

    Args:
      name: one of `TOKENIZERS`.
      length: tokens a text, with start and end.
      path: the vocabulary, for all but "bytes": `bpe_simple_vocab_16e6.txt.gz` for "clip", a `.model` for
        "sentencepiece", a `tokenizer.json` for "huggingface".
      lower: make capitals small first. "clip" always does.
      pad: id of the padding, where it is not the tokenizer's own.

    Raises:
      UserError: no such tokenizer, file, library or padding; a file that is not what it should be.

    >>> make("bytes", length=5, lower=True)("A").tolist()
    [[1, 100, 2, 0, 0]]
    """
    if name not in TOKENIZERS:
        raise unknown("tokenizer", name, TOKENIZERS)
    if name == "bytes" and path is not None:
        raise UserError(f"the tokenizer 'bytes' reads no file, but path is {str(path)!r}")
    if name != "bytes" and path is None:
        raise UserError(f"the tokenizer {name!r} needs path, the file of its vocabulary")
    tokenizer = TOKENIZERS[name](*([] if path is None else [path]), length, lower=lower)
    if pad is not None:
        if not (isinstance(pad, int) and 0 <= pad < tokenizer.vocabulary):
            raise UserError(f"the padding of {name!r} is an id below {tokenizer.vocabulary}, not {pad!r}")
        tokenizer.pad = pad
    return tokenizer


def sources_of(fields: Sequence[str], host: str) -> list[str]:
    """The fields that a source must have so that a host spec can make `fields`.

    >>> sources_of(("image", "tokens"), "decode|tokenize('bytes', field='caption')")
    ['image', 'caption']
    """
    texts = [call.kwargs.get("field", "text") for call in parse(host) if call.name == "tokenize"]
    return list(dict.fromkeys([field for field in fields if field not in MADE] + texts))


def _first_caption(*args, **kwargs) -> str:
    return str(Call("tokenize", args, {**kwargs, "caption": "first"}))


@host_ops.register(evaluation=_first_caption)
def tokenize(
    tokenizer: str = "bytes",
    length: int = 77,
    *,
    path: str | None = None,
    lower: bool = False,
    pad: int | None = None,
    field: str = "text",
    caption: str = "random",
) -> HostOp:
    """Adds `tokens`, int32 [length], and `tokens_mask`, bool [length], False at the padding, to an example.

    Of several captions one is drawn at random, or the first is taken (`caption="first"`); in evaluation it is
    always the first. The other arguments are those of `make`.

    Args:
      field: the text: a string, or several.

    Raises:
      UserError: what `make` raises; when called, an example without that field, or whose field is no text.
      BadImage (when called): an example without captions; it is counted and replaced as a bad image is.
    """
    if caption not in CAPTIONS:
        raise unknown("choice of caption", caption, CAPTIONS)
    encode = make(tokenizer, length, path=path, lower=lower, pad=pad)

    def apply(example: dict, rng: np.random.Generator | None) -> dict:
        if field not in example:
            raise unknown("text field", field, example)
        texts = _texts(example[field], field)
        chosen = rng.integers(len(texts)) if caption == "random" and len(texts) > 1 else 0
        ids, mask = encode.with_mask(texts[chosen])
        return {**example, "tokens": ids[0], "tokens_mask": mask[0]}

    return apply


def _texts(value: str | bytes | Sequence[str | bytes], field: str) -> list[str]:
    """The captions of a field; bytes, as TFDS gives them, are UTF-8."""
    values = [value] if isinstance(value, str | bytes) else list(value) if np.ndim(value) == 1 else [value]
    if not values:
        raise BadImage(f"no caption in {field!r}")
    if not all(isinstance(v, str | bytes) for v in values):
        raise UserError(f"the field {field!r} is no text: {value!r}")
    return [v if isinstance(v, str) else v.decode() for v in values]
