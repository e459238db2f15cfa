"""From text to token ids, as tokenizers and as host operations; and the prompts and names of zero-shot classifiers.

    tokenizer.py   the interface of a tokenizer; bytes, which needs no file
    clip.py        CLIP's byte pairs
    libraries.py   SentencePiece models, tokenizer.json of Hugging Face
    registry.py    tokenizers by name
    host.py        the host operations `class_captions` and `tokenize`
    prompts.py     texts with a place for a class name
    class_names.py classes in words, and the choice of candidates; imagenet.py: those of ImageNet and its variants

The libraries behind `clip.py` and `libraries.py` are the extra `text`: pip install 'jaxvision[text]'.
"""

from jaxvision.data.text.host import MADE, class_captions, images_only, sources_of, stand_in, texts_in, tokenize
from jaxvision.data.text.registry import TOKENIZERS, make_tokenizer
from jaxvision.data.text.tokenizer import Tokenizer

__all__ = [
    "MADE",
    "TOKENIZERS",
    "Tokenizer",
    "class_captions",
    "images_only",
    "make_tokenizer",
    "sources_of",
    "stand_in",
    "texts_in",
    "tokenize",
]
