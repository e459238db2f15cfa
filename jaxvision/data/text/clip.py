"""The byte-pair tokenizer of CLIP, equal in its ids to the original.

Source: openai/CLIP, clip/simple_tokenizer.py and clip.tokenize (Radford et al. 2021, arXiv 2103.00020, sec. 2.4).
The merging is implemented here because the fast implementations split text by other Unicode tables, so that zero-width
spaces in captions from the web give other ids.
"""

import html
import itertools
from pathlib import Path

from jaxvision import unpacking
from jaxvision.data.text.tokenizer import Tokenizer, existing, library
from jaxvision.errors import UserError
from jaxvision.reading import decode_text, reading
from jaxvision.registry import part

MERGES = 49_152 - 256 - 2  # number of the file's 262,144 lines that CLIP uses
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
KEPT = 2**17  # number of words whose ids are cached

Merge = tuple[str, str]


@part("tokenizer", "clip")
class Clip(Tokenizer):
    """CLIP's tokens: 49,408 ids, start 49406, end 49407, padding 0 (also the id of a "!" before other signs).

    ftfy repairs the text, HTML entities are decoded, runs of spaces become one, and the text becomes lower case,
    always.

    Args:
      path: File `bpe_simple_vocab_16e6.txt.gz` of openai/CLIP, or the same unpacked.
      length: Number of tokens per text; CLIP's is 77.
      lower: Not used; the text always becomes lower case.
    """

    def __init__(self, path: str | Path, length: int = 77, *, lower: bool = False):
        super().__init__(length)
        self._fix_text = library("ftfy").fix_text
        regex = library("regex")
        self._spaces = regex.compile(r"\s+")
        self._split = regex.compile(WORDS, regex.IGNORECASE)
        merges = _read_merges(existing(path))
        units = sorted(_BYTES.values())
        tokens = [*units, *(unit + "</w>" for unit in units), *map("".join, merges), START, END]
        self._ids = {token: i for i, token in enumerate(tokens)}
        self._ranks = {merge: i for i, merge in enumerate(merges)}
        self.vocabulary, self.start, self.end = len(tokens), self._ids[START], self._ids[END]
        self._words = {START: [self.start], END: [self.end]}

    def pieces(self, text: str) -> list[int]:
        """Returns the ids of the text alone, as `Tokenizer.pieces`."""
        text = html.unescape(html.unescape(self._fix_text(text)))
        words = self._split.findall(self._spaces.sub(" ", text).strip().lower())
        return list(itertools.chain.from_iterable(map(self._word, words)))

    def _word(self, word: str) -> list[int]:
        ids = self._words.get(word)
        if ids is None:
            units = [_BYTES[byte] for byte in word.encode()]
            ids = [self._ids[token] for token in _merge([*units[:-1], units[-1] + "</w>"], self._ranks)]
            if len(self._words) < KEPT:
                self._words[word] = ids
        return ids


def _byte_characters() -> dict[int, str]:
    """Maps every byte to a visible character, as GPT-2 does: itself if it is visible, else one from U+0100 on."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(others)}


_BYTES = _byte_characters()


def _read_merges(path: str) -> list[Merge]:
    file = Path(path)
    with reading(path):
        data = unpacking.read_gzip(file) if file.suffix.lower() == ".gz" else file.read_bytes()
    text = decode_text(data, path)
    lines = text.split("\n")[1 : 1 + MERGES]  # the first line is a version
    pairs = [line.split() for line in lines]
    if len(pairs) < MERGES or any(len(pair) != 2 for pair in pairs):
        raise UserError(f"{path} is not CLIP's vocabulary: want bpe_simple_vocab_16e6.txt.gz of openai/CLIP")
    return [(first, second) for first, second in pairs]


def _merge(tokens: list[str], ranks: dict[Merge, int]) -> list[str]:
    """Merges neighbours, the earliest merge of the file first and wherever it occurs, until no merge applies."""
    while len(tokens) > 1:
        best = min(itertools.pairwise(tokens), key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        joined: list[str] = []
        i = 0
        while i < len(tokens):
            step = 2 if tuple(tokens[i : i + 2]) == best else 1
            joined.append("".join(tokens[i : i + step]))
            i += step
        tokens = joined
    return tokens
