"""A fingerprint that tells one data set from another without reading all of it."""

import hashlib
from pathlib import PurePath
from typing import Any

import numpy as np

from jaxvision.data.sources.base import BadExample, Source

EXAMPLES = 16  # number of examples whose content is read, spread over the set
NAMES = 1024  # number of examples whose names are read


def fingerprint(source: Source) -> dict[str, Any]:
    """Returns the size and classes of a set, and digests of the names and content of some examples, spread over it.

    Copies of a set have the same fingerprint wherever they are stored: only the last two parts of a path count. Only 16
    examples are read, so sets that differ in a few others get the same one.

    Args:
      source: Set of examples.

    Returns:
      `{"name", "split", "examples", "classes", "class_names", "names", "content"}`, as JSON values.
    """
    info, count = source.info, len(source)
    named = sorted({i * count // NAMES for i in range(NAMES)}) if count else []
    sampled = sorted({i * count // EXAMPLES for i in range(EXAMPLES)} | {count - 1}) if count else []
    names, content = hashlib.sha256(), hashlib.sha256()
    for index in named:
        names.update("/".join(PurePath(source.describe(index)).parts[-2:]).encode(errors="replace") + b"\n")
    for index in sampled:
        _add(content, _example(source, index))
    return {
        "name": info.name,
        "split": info.split,
        "examples": count,
        "classes": info.num_classes,
        "class_names": hashlib.sha256("\n".join(map(str, info.classes)).encode(errors="replace")).hexdigest()[:12],
        "names": names.hexdigest()[:12],
        "content": content.hexdigest()[:12],
    }


def _example(source: Source, index: int) -> Any:
    try:
        return source[index]
    except (BadExample, OSError) as error:
        return type(error).__name__


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, dict):
        for key in sorted(value):
            digest.update(f"{key}:".encode())
            _add(digest, value[key])
    elif isinstance(value, bytes | bytearray | memoryview):
        digest.update(value)
    elif isinstance(value, list | tuple):
        for item in value:
            _add(digest, item)
    else:
        array = np.asarray(value)
        digest.update(f"{array.dtype} {array.shape};".encode())
        digest.update(array.tobytes() if array.dtype != object else repr(value).encode(errors="replace"))
    digest.update(b"\0")
