"""Reading a user's file: any exception of a library becomes one error that names the file and the place in it."""

import codecs
import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxvision.errors import UserError, shown

MAX_JSON = 2**26  # bytes of a JSON text, 67 MB; in memory it takes some ten times as many
_KINDS: dict[type, str] = {
    dict: 'an object like {"key": ...}',
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    type(None): "null",
}
# Marks at the beginning of texts that are not UTF-8; the mark of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


@contextlib.contextmanager
def reading(where: str | Path, error: type[Exception] = UserError, only: type[Exception] = Exception) -> Iterator[None]:
    """Turns an exception that is raised inside, while a file is read, into one `error` that names the file.

    Args:
      where: Name of the file, with the line, row or member if that is known.
      error: Type of the exception to raise. A UserError or an `error` that is raised inside passes unchanged.
      only: Type of the exceptions that are turned into it. With OSError, faults of this project stay as they are; use
        that if the block does much more than read one file.

    Raises:
      UserError: (Or `error`.) Any other exception of type `only` was raised inside, and is its cause.

    >>> with reading("labels.json:3"):
    ...     int("many")
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: cannot read labels.json:3: invalid literal for int() with base 10: 'many'
    """
    try:
        yield
    except (UserError, error):
        raise
    except Exception as cause:
        if not isinstance(cause, only):
            raise
        raise error(_worded(where, cause)) from cause


def _worded(where: str | Path, cause: Exception) -> str:
    if isinstance(cause, UnicodeDecodeError):
        byte = f"byte {cause.start:,} is 0x{cause.object[cause.start]:02x}"
        return f"{where} is not UTF-8 ({byte}): save it as UTF-8"
    if isinstance(cause, json.JSONDecodeError):
        return f"{where} is not JSON: {cause}"
    if isinstance(cause, gzip.BadGzipFile) and str(cause).startswith("Not a gzipped"):
        return f"{where} is not a gzip file, although its name says so"
    if isinstance(cause, gzip.BadGzipFile | zlib.error):
        return f"{where} is damaged: its content does not match its checksum ({cause}). Copy or download it again"
    if isinstance(cause, EOFError):
        return f"{where} is truncated: copy or download it again"
    if isinstance(cause, OSError):
        file = "" if cause.filename in (None, str(where)) else f" ({cause.filename})"
        words = " ".join(str(cause.strerror or cause).split())  # Arrow's take several lines
        return f"cannot read {where}: {words or type(cause).__name__}{file}"
    text = " ".join(str(cause).split())
    named = text if text and not isinstance(cause, KeyError) else f"{type(cause).__name__} {text}".strip()
    return f"cannot read {where}: {named}"


def is_file(path: str | Path) -> bool:
    """Returns whether a file exists; False for a name that no file can have (too long, or with a NUL).

    Args:
      path: Path; `~` is expanded if it is a str.

    >>> is_file("x" * 5000), is_file("a\\0b")
    (False, False)
    """
    try:
        return (Path(path).expanduser() if isinstance(path, str) else path).is_file()
    except (OSError, ValueError, RuntimeError):  # RuntimeError: ~name of an unknown user
        return False


def is_folder(path: Path) -> bool:
    """Returns whether a folder exists; False for a name that no folder can have.

    Args:
      path: Path of the folder.
    """
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def read_text(path: str | Path) -> str:
    """Returns the text of a UTF-8 file, without the byte-order mark that spreadsheets write.

    Args:
      path: File, local or in a bucket.

    Raises:
      UserError: The file is missing, cannot be read, or is not UTF-8; the message names the byte and the line.
    """
    with reading(path):
        data = (Path(path) if isinstance(path, str) else path).read_bytes()  # may be in a bucket
    return decode_text(data, path)


def decode_text(data: bytes, where: str | Path, error: type[Exception] = UserError) -> str:
    """Decodes UTF-8 bytes, without a byte-order mark.

    Args:
      data: Content of a file.
      where: Name of the file, for the message.
      error: Type of the exception to raise.

    Raises:
      UserError: (Or `error`.) The bytes are not UTF-8; the message names the byte and the line.

    >>> decode_text(b"\\xef\\xbb\\xbfcat", "names.txt")
    'cat'
    """
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            raise error(f"{where} is {encoding}, not UTF-8: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        # With the mark of utf-8-sig taken off, `start` counts from behind it.
        byte = cause.start + len(data) - len(cause.object)
        line = data[:byte].count(b"\n") + 1
        raise error(f"{where} is not UTF-8 (byte {byte:,}, line {line:,}): save it as UTF-8") from cause


def read_json(path: str | Path, kind: type = dict) -> Any:
    """Returns the content of a JSON file.

    Args:
      path: File.
      kind: Type that its content must have.

    Raises:
      UserError: The file is missing, larger than `MAX_JSON`, not UTF-8, not JSON, or holds another type.
    """
    path = Path(path) if isinstance(path, str) else path
    with reading(path):
        status = path.stat()  # in a bucket the size is called `length`
        _check_json(getattr(status, "length" if hasattr(status, "length") else "st_size"), path, UserError)
    return parse_json(read_text(path), path, kind)


def parse_json(text: str | bytes, where: str | Path, kind: type = dict, error: type[Exception] = UserError) -> Any:
    """Returns the content of a JSON text.

    Args:
      text: JSON, as a str or in UTF-8.
      where: Name of the file, for the message.
      kind: Type that the content must have.
      error: Type of the exception to raise.

    Raises:
      UserError: (Or `error`.) The text is not JSON, larger than `MAX_JSON`, nested too deeply, or holds another type.

    >>> parse_json('[1, 2]', "train.tar: 0001.json")
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: train.tar: 0001.json holds [1, 2], not an object like {"key": ...}
    """
    _check_json(len(text), where, error)
    text = decode_text(text, where, error) if isinstance(text, bytes) else text
    try:
        value = json.loads(text)
    except RecursionError as cause:
        raise error(f"{where} cannot be read as JSON: it is nested too deeply") from cause
    except (ValueError, MemoryError) as cause:
        raise error(f"{where} is not JSON: {cause}") from cause
    if not isinstance(value, kind):
        raise error(f"{where} holds {shown(value)}, not {_KINDS.get(kind, kind.__name__)}")
    return value


def _check_json(size: int, where: str | Path, error: type[Exception]) -> None:
    if size > MAX_JSON:
        raise error(f"{where} has {size:,} bytes, more than the {MAX_JSON:,} that are read of JSON")


def read_record(path: Path, **kinds: Any) -> dict[str, Any] | None:
    """Reads a JSON object that the project itself wrote; returns None if there is no such file.

    Args:
      path: File.
      **kinds: Types of the fields that it must have; see `check_fields`.

    Raises:
      UserError: The file is damaged; the message says what is wrong and what to do.
    """
    if not path.is_file():
        return None
    try:
        return check_fields(read_json(path), path, **kinds)
    except UserError as error:
        raise UserError(f"{error}. Bring back a copy of the file, or move it away") from error


def check_fields(value: dict[str, Any], where: str | Path, **kinds: Any) -> dict[str, Any]:
    """Returns a JSON object after checking that its fields have the right types.

    Args:
      value: JSON object.
      where: Name of the file, for the message.
      **kinds: Types of the fields that it must have, by name: a type, or a tuple of types (with NoneType if the field
        may be null). A whole number counts as a float.

    Raises:
      UserError: A field is missing or of another type.

    >>> check_fields({"code": "0"}, "exit.json", code=int)
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: exit.json is damaged: its 'code' is '0', not a whole number
    """
    for name, kind in kinds.items():
        types = kind if isinstance(kind, tuple) else (kind,)
        if name not in value:
            raise UserError(f"{where} is damaged: it has no {name!r}")
        field = value[name]
        fits = isinstance(field, (*types, int) if float in types else types)
        if not fits or (isinstance(field, bool) and bool not in types):
            words = " or ".join(_KINDS.get(one, one.__name__) for one in types)
            raise UserError(f"{where} is damaged: its {name!r} is {shown(field)}, not {words}")
    return value
