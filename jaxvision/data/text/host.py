"""The host operations of text: captions made of class names, and tokens made of captions."""

import functools
from collections.abc import Sequence

import numpy as np

from jaxvision.arguments import is_whole
from jaxvision.data.host_ops import CLASS_NAME, Still, host_ops, serving
from jaxvision.data.sources.texts import one_or_several
from jaxvision.data.text import prompts as prompt_sets
from jaxvision.data.text.class_names import in_words, lines
from jaxvision.data.text.registry import make
from jaxvision.data.text.tokenizer import Tokenizer
from jaxvision.errors import UserError, shown, unknown
from jaxvision.fields import Field
from jaxvision.specs import Call, parse

MAX_CAPTIONS = 1000
CAPTIONS = ("random", "first", "all")
MADE = ("tokens", "tokens_mask")

_made_once = functools.lru_cache(maxsize=4)(make)  # a vocabulary takes a fifth of a second to read


def sources_of(fields: Sequence[str], host: str) -> list[str]:
    """The fields that a source must have so that a host spec can make `fields`.

    >>> sources_of(("image", "tokens"), "decode|tokenize('bytes', field='caption')")
    ['image', 'caption']
    >>> sources_of(("image", "tokens"), "decode|class_captions('a photo of a {}.')|tokenize('bytes')")
    ['image', 'label']
    """
    needed, made = [], set(MADE)
    for call in parse(host):
        if call.name == "class_captions":
            needed.append("label")
            made.add("text")
        field = call.kwargs.get("field", "text")
        if call.name == "tokenize" and isinstance(field, str) and field not in made:
            needed.append(field)
    return list(dict.fromkeys([field for field in fields if field not in made] + needed))


def images_only(host: str) -> str:
    """A host spec without its operations on texts and boxes, for images that come without any.

    >>> images_only("decode|resize(32)|pad_boxes(3)|tokenize('bytes')")
    'decode|resize(32)'
    """
    return serving(host, ())


def stand_in(host: str) -> str:
    """A host spec whose batches have the same shapes and that reads no file: its tokenizers become `bytes`.

    >>> stand_in("decode|tokenize('clip', 16, path='~/clip/bpe_simple_vocab_16e6.txt.gz')")
    "decode|tokenize('bytes', length=16, caption='random', captions=None)"
    """
    return "|".join(map(_stand_in, parse(host)))


def _stand_in(call: Call) -> str:
    if call.name == "class_captions":
        return "class_captions"
    if call.name != "tokenize":
        return str(call)
    given = host_ops.named(call).kwargs
    return str(Call("tokenize", ("bytes",), {key: given[key] for key in ("length", "caption", "captions")}))


@host_ops.register(serves=("tokens",))
def class_captions(prompts: str | Sequence[str] = "{}", *, names: str | Sequence[str] | None = None) -> Still:
    """Makes captions of the class of an example: adds `text`, prompts with its name in them.

    So any labelled set trains a model of image and text.

    Args:
      prompts: a text with `{}` in the place of the name, a set of prompts such as "clip7" (see `prompts.get`), or
        several of both. `tokenize` draws one of the captions.
      names: of the classes, in their order: a file with one a line, or the names. By default those of the set, in
        words (see `class_names.in_words`).

    Raises:
      UserError: no such set of prompts or file; when called, an example without a label of one class, or whose class
        has no name.

    >>> class_captions(("a {}.", "the {}."), names=("cat", "polar bear"))({"label": 1}, None)["text"]
    ('a polar bear.', 'the polar bear.')
    """
    several = (prompts,) if isinstance(prompts, str) else prompts
    templates = tuple(dict.fromkeys(template for one in several for template in prompt_sets.get(one).templates))
    if not templates:
        raise UserError("class_captions: no prompts are given")
    given = lines(names) if isinstance(names, str) else names

    @functools.cache
    def captions(name: str) -> tuple[str, ...]:
        return tuple(prompt_sets.fill(template, name) for template in templates)

    def apply(example: dict, rng: np.random.Generator | None) -> dict:
        label = example.get("label")
        if not is_whole(label, least=0):  # -1: a test split of TFDS that hides its labels
            raise UserError("class_captions needs examples with one class each")
        if given is None and CLASS_NAME not in example:
            raise UserError("class_captions: the set does not name its classes; give names=")
        if given is not None and not 0 <= label < len(given):
            raise UserError(f"class_captions: {len(given)} names are given, but there is a class {label}")
        return {**example, "text": captions(in_words(example[CLASS_NAME]) if given is None else given[label])}

    return Still(apply, {"text": Field("text", (), "str")})


def _evaluate_tokenize(*args, **kwargs) -> str:
    # Captions that are all there stay; of a random one the first is left.
    if kwargs.get("caption", "random") == "random":
        kwargs["caption"] = "first"
    return str(Call("tokenize", args, kwargs))


@host_ops.register(evaluation=_evaluate_tokenize, serves=("tokens",), reads=True)
def tokenize(
    tokenizer: str = "bytes",
    length: int = 77,
    *,
    path: str | None = None,
    lower: bool = False,
    pad: int | None = None,
    field: str = "text",
    caption: str = "random",
    captions: int | None = None,
) -> Still:
    """Adds `tokens`, int32 [length], and `tokens_mask`, bool [length], False at the padding, to an example.

    The other arguments are those of `make`.

    Args:
      field: the text: a string, or several.
      caption: of several, "random" draws one, and in evaluation takes the first; "first" always takes that; "all"
        keeps them: `tokens` then is int32 [captions, length], `tokens_mask` likewise.
      captions: how many "all" are. Further ones are left out; where there are fewer, rows of padding follow.

    Raises:
      UserError: what `make` raises; when called, an example without that field.
      BadExample (when called): an example without captions, or whose field is no text; it is counted and replaced as a
        bad image is.
    """
    if caption not in CAPTIONS:
        raise unknown("choice of caption", caption, CAPTIONS)
    if (caption == "all") != (captions is not None) or not (captions is None or is_whole(captions)):
        raise UserError(f"tokenize: captions is how many there are with caption='all' alone, not {shown(captions)}")
    if captions is not None and captions > MAX_CAPTIONS:
        raise UserError(f"tokenize: captions is at most {MAX_CAPTIONS:,}, not {shown(captions)}")
    encode = _made_once(tokenizer, length, path=path, lower=lower, pad=pad)
    rows = functools.lru_cache(maxsize=1024)(lambda texts: _rows(encode, texts, captions)) if captions else None

    def apply(example: dict, rng: np.random.Generator | None) -> dict:
        if field not in example:
            raise unknown("text field", field, example)
        texts = texts_in(example[field], field)
        if rows:
            ids, mask = rows(tuple(texts))
            return {**example, "tokens": ids, "tokens_mask": mask}
        chosen = rng.integers(len(texts)) if caption == "random" and len(texts) > 1 else 0
        ids, mask = encode.with_mask(texts[chosen])
        return {**example, "tokens": ids[0], "tokens_mask": mask[0]}

    shape = (length,) if captions is None else (captions, length)
    return Still(apply, {"tokens": Field("tokens", shape, "int32"), "tokens_mask": Field("other", shape, "bool")})


def _rows(encode: Tokenizer, texts: Sequence[str], captions: int) -> tuple[np.ndarray, np.ndarray]:
    """The ids of the first texts, and their mask, filled up to so many."""
    ids, mask = encode.with_mask(texts[:captions])
    missing = ((0, captions - len(ids)), (0, 0))
    return np.pad(ids, missing, constant_values=encode.pad), np.pad(mask, missing)


def texts_in(value: str | bytes | Sequence[str | bytes], field: str) -> list[str]:
    """The captions of an example, as its field holds them; what is a caption `one_or_several` says.

    Raises:
      BadExample: there are none, or the field is no text.

    >>> texts_in((b"a cat", "an animal", ""), "text")
    ['a cat', 'an animal']
    """
    texts = one_or_several(value, f"its field {field!r}")
    return [texts] if isinstance(texts, str) else list(texts)
