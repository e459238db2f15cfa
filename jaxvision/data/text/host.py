"""The host operations on text: captions from class names, and tokens from captions."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxvision.arguments import is_whole
from jaxvision.data.host_ops import CLASS_NAME, Still, host_ops, serving
from jaxvision.data.sources.texts import one_or_several
from jaxvision.data.text import prompts as prompt_sets
from jaxvision.data.text.class_names import in_words, read_class_names
from jaxvision.data.text.registry import make_tokenizer
from jaxvision.data.text.tokenizer import Tokenizer
from jaxvision.errors import UserError, shown, unknown
from jaxvision.fields import Field
from jaxvision.specs import Call, parse

MAX_CAPTIONS = 1000  # of an example
CAPTIONS = ("random", "first", "all")
MADE = ("tokens", "tokens_mask")

_cached_tokenizer = functools.lru_cache(maxsize=4)(make_tokenizer)  # reading a vocabulary takes a fifth of a second


def sources_of(fields: Sequence[str], host: str) -> list[str]:
    """Returns the fields that a source must have so that a host spec can make `fields`.

    Args:
      fields: Names of the fields of a batch.
      host: Host spec.

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
    """Returns a host spec without its operations on texts and boxes, for images that come without them.

    Args:
      host: Host spec.

    >>> images_only("decode|resize(32)|pad_boxes(3)|tokenize('bytes')")
    'decode|resize(32)'
    """
    return serving(host, ())


def stand_in(host: str) -> str:
    """Returns a host spec that reads no file and whose batches have the same shapes: its tokenizers become `bytes`.

    Args:
      host: Host spec.

    >>> stand_in("decode|tokenize('clip', 16, path='~/clip/bpe_simple_vocab_16e6.txt.gz')")
    "decode|tokenize('bytes', length=16, caption='random', captions=None)"
    """
    return "|".join(map(_stand_in, parse(host)))


def _stand_in(call: Call) -> str:
    if call.name == "class_captions":
        return "class_captions"
    if call.name != "tokenize":
        return str(call)
    arguments = host_ops.named(call).kwargs
    return str(Call("tokenize", ("bytes",), {key: arguments[key] for key in ("length", "caption", "captions")}))


@host_ops.register(serves=("tokens",))
def class_captions(prompts: str | Sequence[str] = "{}", *, names: str | Sequence[str] | None = None) -> Still:
    """Makes captions from the class of an example: adds `text`, prompts with the name of the class.

    So any labelled set can train a model of image and text.

    Args:
      prompts: Text with `{}` in place of the name; a set of prompts, one of `prompts.SETS`; a file of prompts, one a
        line; or several of these. `tokenize` draws one of the captions.
      names: Names of the classes, in their order: a file with one per line, or the names. By default those of the set,
        in words: CLIP's names for the classes of ImageNet, else with spaces for underscores.

    Raises:
      UserError: There is no such set of prompts or file; when called, an example has no single label, or its class has
        no name.

    >>> class_captions(("a {}.", "the {}."), names=("cat", "polar bear"))({"label": 1}, None)["text"]
    ('a polar bear.', 'the polar bear.')
    """
    sets = (prompts,) if isinstance(prompts, str) else prompts
    templates = tuple(dict.fromkeys(template for name in sets for template in prompt_sets.get_prompts(name).templates))
    if not templates:
        raise UserError("class_captions: no prompts are given")
    class_names = read_class_names(names) if isinstance(names, str) else names

    @functools.cache
    def captions(name: str) -> tuple[str, ...]:
        return tuple(prompt_sets.fill_template(template, name) for template in templates)

    def apply(example: dict, rng: np.random.Generator | None) -> dict:
        label: Any = example.get("label")
        if not is_whole(label, least=0):  # -1: a test split of TFDS that hides its labels
            raise UserError("class_captions needs examples with one class each")
        if class_names is None and CLASS_NAME not in example:
            raise UserError("class_captions: the set does not name its classes; give names=")
        if class_names is not None and not 0 <= label < len(class_names):
            raise UserError(f"class_captions: {len(class_names)} names are given, but there is a class {label}")
        name = in_words(example[CLASS_NAME]) if class_names is None else class_names[label]
        return {**example, "text": captions(name)}

    return Still(apply, {"text": Field("text", (), "str")})


def _evaluate_tokenize(*args, **kwargs) -> str:
    # caption='all' stays; 'random' becomes 'first'.
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

    Args:
      tokenizer: Name of the tokenizer, as for `make_tokenizer`.
      length: Number of tokens per text, with start and end.
      path: File of the vocabulary, as for `make_tokenizer`.
      lower: True to convert the text to lower case first.
      pad: Id of the padding; the tokenizer's own if None.
      field: Name of the field of the text: a string, or several.
      caption: Choice among several captions: "random" draws one (in evaluation the first); "first" always takes the
        first; "all" keeps them all: `tokens` is then int32 [captions, length], `tokens_mask` likewise.
      captions: Number of captions with "all". Further ones are left out; if there are fewer, rows of padding follow.

    Raises:
      UserError: The same errors as those of `make_tokenizer`; when called, an example lacks the field.
      BadExample: (When called.) An example has no captions, or its field is no text; it is counted and replaced like a
        bad image.
    """
    if caption not in CAPTIONS:
        raise unknown("choice of caption", caption, CAPTIONS)
    if (caption == "all") != (captions is not None) or not (captions is None or is_whole(captions)):
        raise UserError(f"tokenize: captions is a number, given only with caption='all', not {shown(captions)}")
    if captions is not None and captions > MAX_CAPTIONS:
        raise UserError(f"tokenize: captions is at most {MAX_CAPTIONS:,}, not {shown(captions)}")
    encode = _cached_tokenizer(tokenizer, length, path=path, lower=lower, pad=pad)
    rows = functools.lru_cache(maxsize=1024)(lambda texts: _rows(encode, texts, captions)) if captions else None

    def apply(example: dict, rng: np.random.Generator | None) -> dict:
        if field not in example:
            raise unknown("text field", field, example)
        texts = texts_in(example[field], field)
        if rows:
            ids, mask = rows(tuple(texts))
            return {**example, "tokens": ids, "tokens_mask": mask}
        chosen = 0
        if caption == "random" and len(texts) > 1:
            assert rng is not None  # in evaluation the choice is "first"
            chosen = int(rng.integers(len(texts)))
        ids, mask = encode.with_mask(texts[chosen])
        return {**example, "tokens": ids[0], "tokens_mask": mask[0]}

    shape = (length,) if captions is None else (captions, length)
    return Still(apply, {"tokens": Field("tokens", shape, "int32"), "tokens_mask": Field("other", shape, "bool")})


def _rows(encode: Tokenizer, texts: Sequence[str], captions: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids of the first texts and their mask, padded to `captions` rows."""
    ids, mask = encode.with_mask(texts[:captions])
    missing = ((0, captions - len(ids)), (0, 0))
    return np.pad(ids, missing, constant_values=encode.pad), np.pad(mask, missing)


def texts_in(value: str | bytes | Sequence[str | bytes], field: str) -> list[str]:
    """Returns the captions in a field of an example; `one_or_several` decides what a caption is.

    Args:
      value: Value of the field.
      field: Name of the field, for messages.

    Raises:
      BadExample: There are no captions, or the field is no text.

    >>> texts_in((b"a cat", "an animal", ""), "text")
    ['a cat', 'an animal']
    """
    texts = one_or_several(value, f"its field {field!r}")
    return [texts] if isinstance(texts, str) else list(texts)
