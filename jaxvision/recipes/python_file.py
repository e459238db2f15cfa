"""Writes a config as a Python file, like those of configs/: one page that can be read and edited."""

import keyword
import shlex
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

_WIDTH = 120
_ORDER = ("seed", "data", "augment", "model", "init", "task", "optimizer", "train", "evals", "mesh")
# A `ConfigDict` sorts its keys; here those come first that a reader looks for.
_FIRST_IN_DATA = ("name", "variant", "weights", "data_dir", "split", "options", "subset", "hold_out", "part", "host")
_FIRST = (*_FIRST_IN_DATA, "batch_size", "total", "precision", "learning_rate")


def python_file(config: ConfigDict, docstring: str, reasons: Mapping[str, str] | None = None) -> str:
    """Returns the text of a Python file whose `get_config` returns a config.

    Args:
      config: Config with plain values, see `config.normalised`.
      docstring: Docstring of the file, of one or more lines.
      reasons: Comments by dotted key.

    >>> text = python_file(ConfigDict(dict(seed=0, data=dict(name="folder", batch_size=32))), "My photos.",
    ...                    {"data.batch_size": "of 400 images"})
    >>> print(text.split("def get_config")[1])
    ():
        c = ConfigDict()
        c.seed = 0
        c.data = dict(
            name="folder",
            batch_size=32,  # of 400 images
        )
        return c
    <BLANKLINE>
    """
    reasons, values = dict(reasons or {}), config.to_dict()
    keys = [*(key for key in _ORDER if key in values), *(key for key in values if key not in _ORDER)]
    lines = ["from ml_collections import ConfigDict", "", "", "def get_config():", "    c = ConfigDict()"]
    for key in keys:
        lines += _assigned(f"    c.{key} = ", values[key], "", 4, key, reasons)
    body = docstring.replace("\\", "\\\\").replace('"""', "'''").strip()
    end = "\n" if "\n" in body or body.endswith('"') else ""
    return "\n".join([f'"""{body}{end}"""', "", *lines, "    return c", ""])


def docstring(title: str, file: str, source: str) -> str:
    """Returns a docstring in the form of those of configs/.

    Args:
      title: First line.
      file: Path of the file, for the commands.
      source: Description of where the values come from.
    """
    config = f"--config={shlex.quote(file)}"
    return (
        f"{title}\n\n"
        f"Run:       jaxvision train {config} --workdir=...\n"
        f"Source:    {source}\n"
        "Expected:  not known: no run of it is published\n"
        f"Cost:      computed by jaxvision inspect {config}"
    )


def _assigned(start: str, value: Any, end: str, indent: int, key: str, reasons: Mapping[str, str]) -> list[str]:
    """Returns the lines `START VALUE END  # REASON`; a section gets a line for each key if it is long or explained."""
    reason = f"  # {reasons[key]}" if key in reasons else ""
    line = f"{start}{_literal(value)}{end}"
    explained = any(name.startswith(f"{key}.") for name in reasons)
    if not isinstance(value, dict) or not value or (len(line + reason) <= _WIDTH and not explained):
        if reason and len(line + reason) > _WIDTH:
            return [f"{' ' * indent}#{reason[3:]}", line]
        return [line + reason]
    inner, named = " " * (indent + 4), _is_named(value)
    lines = [f"{start}{'dict(' if named else '{'}{reason}"]
    for name in _ordered(value):
        label = f"{name}=" if named else f"{_literal(name)}: "
        lines += _assigned(f"{inner}{label}", value[name], ",", indent + 4, f"{key}.{name}", reasons)
    return [*lines, f"{' ' * indent}{')' if named else '}'}{end}"]


def _ordered(section: Mapping[str, Any]) -> list[str]:
    return [*(name for name in _FIRST if name in section), *(name for name in section if name not in _FIRST)]


def _is_named(section: Mapping[str, Any]) -> bool:
    """Whether the keys can be written as keyword arguments of `dict`."""
    return all(str(name).isidentifier() and not keyword.iskeyword(name) for name in section)


def _literal(value: Any) -> str:
    if isinstance(value, dict):
        if _is_named(value):
            return f"dict({', '.join(f'{name}={_literal(value[name])}' for name in _ordered(value))})"
        return f"{{{', '.join(f'{_literal(name)}: {_literal(item)}' for name, item in value.items())}}}"
    if isinstance(value, tuple | list):
        items = ", ".join(map(_literal, value))
        return f"({items},)" if len(value) == 1 else f"({items})"
    if isinstance(value, str):
        text = repr(value)
        return f'"{text[1:-1]}"' if text[0] == "'" and '"' not in text else text
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return f'float("{value}")'
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10_000:
        return f"{value:_}"
    return repr(value)
