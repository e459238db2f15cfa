"""`jaxvision data VERB`: bring a data set into the form that training reads."""

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxvision import calls, storage
from jaxvision.errors import UserError, nearest


def run_data(words: Sequence[str], flags: Mapping[str, Any]) -> None:
    """Runs a verb.

    Args:
      words: Verb and the words after it.
      flags: Values of the flags on the command line, by name.

    Raises:
      UserError: There is no such verb, or it does not take these words and flags.
    """
    verb = words[0] if words else None
    if verb not in VERBS:
        usages = "\n".join(f"  {_usage(name)}\n      {inspect.getdoc(VERBS[name])}" for name in VERBS)
        problem = f"unknown verb {verb!r}{nearest(verb, VERBS) or '.'}" if words else "the verb is missing."
        raise UserError(f"{problem} Verbs:\n{usages}")
    options = calls.bind(VERBS[verb], calls.Usage(f"data {verb}", _usage(verb)), words[1:], flags).arguments
    for name in ("SRC", "OUT", "data_dir", "out"):
        if options.get(name) is not None:
            storage.local(options[name], name if name.isupper() else f"--{name}", "sets are read from files")
    VERBS[verb](*words[1:], **flags)


def prepare(NAME: str, *, data_dir: str | None = None) -> None:
    """Downloads a data set of the TFDS catalog and writes it as ArrayRecord."""
    from jaxvision.data.prepare import prepare_set

    _tell(prepare_set(NAME, data_dir), NAME, data_dir)


def convert(SRC: str, OUT: str) -> None:
    """Converts a TFDS data set from TFRecord to ArrayRecord, without TensorFlow."""
    from jaxvision.data.convert import convert_set

    folder = convert_set(SRC, OUT)
    _tell(folder, "/".join(folder.relative_to(Path(OUT).expanduser()).parts[:-1]), OUT)


def cache(
    *,
    name: str,
    split: str,
    host: str,
    out: str,
    data_dir: str | None = None,
    options: str = "{}",
    format: str = "jpeg",
    quality: int = 95,
    max_bad_fraction: float = 0.001,
) -> None:
    """Writes a copy of a data set whose images are decoded, resized and encoded again."""
    from jaxvision.data.cache import cache_set

    copy, folder = cache_set(
        name,
        split,
        host,
        out,
        data_dir=data_dir,
        options=_literal(options),
        image_format=format,
        quality=quality,
        max_bad_fraction=max_bad_fraction,
    )
    _tell(folder, copy, out)


# Their docstrings are printed as help, so they have one line.
VERBS: dict[str | None, Callable[..., None]] = {"prepare": prepare, "convert": convert, "cache": cache}


def _usage(verb: str | None) -> str:
    words = ["jaxvision data", str(verb)]
    for parameter in inspect.signature(VERBS[verb]).parameters.values():
        word = parameter.name if parameter.kind is not parameter.KEYWORD_ONLY else f"--{parameter.name}=..."
        words.append(word if parameter.default is parameter.empty else f"[{word}]")
    return " ".join(words)


def _literal(text: str) -> dict[str, Any]:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = None
    if not isinstance(value, dict):
        raise UserError(f"--options must be a dict such as \"{{'image_size': 64}}\", not {text!r}")
    return value


def _tell(folder: Path, name: str, data_dir: str | None) -> None:
    where = f", data_dir={str(data_dir)!r}" if data_dir else ""
    print(f"{folder} is ready. Use it in a config: data = dict(name={name!r}{where}, ...)")
