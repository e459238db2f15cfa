"""The pages of the reference that list what a config may hold, made from signatures, annotations and docstrings.

One page has the keys of the sections, and one for each kind of part has the options of all its built-in parts. Kinds
and sections are those of the program (`commands/catalog.py`, `config/schema.py`), so a new one is here by itself.
"""

import ast
import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from inspect import Parameter
from pathlib import Path
from typing import Any, NamedTuple

from jaxvision import arguments, calls, docstrings
from jaxvision.commands import catalog, describe
from jaxvision.config import schema
from jaxvision.data.sources.tfds import TfdsSource
from jaxvision.sections import ConfigSections


class Option(NamedTuple):
    """An option, or a key of a section.

    Attributes:
      name: Name of the option.
      kind: Words for the values that it takes.
      default: Default as it is written in a config; None if the option is required.
      meaning: Description from the docstring; empty if there is none.
    """

    name: str
    kind: str
    default: str | None
    meaning: str


def options(function: Callable, program: Collection[str] = ()) -> list[Option]:
    """Returns the options of a function or class.

    Args:
      function: Function or class with a docstring.
      program: Names of the parameters that the program sets.
    """
    meanings = docstrings.arguments(inspect.getdoc(function) or "")
    return [
        Option(
            ("*" if parameter.kind is parameter.VAR_POSITIONAL else "") + name,
            _kind(parameter),
            None if parameter.default is Parameter.empty else _written(parameter.default),
            meanings.get(name, ""),
        )
        for name, parameter in calls.parameters(function).items()
        if name not in program and parameter.kind is not parameter.VAR_KEYWORD
    ]


def _kind(parameter: Parameter) -> str:
    """Words for the annotation of a parameter; those of its default if there is none."""
    annotation: Any = parameter.annotation
    if annotation is Parameter.empty:
        return "" if parameter.default in (None, Parameter.empty) else arguments.words(type(parameter.default))
    return "" if annotation is Any else arguments.words(annotation)


def _written(default: Any) -> str:
    if repr(default) == "<factory>":  # of a field of a dataclass; here always an empty section
        return "dict()"
    return getattr(default, "__name__", None) or repr(default)


def table(rows: Collection[Option], first: str = "option") -> str:
    """Returns options as a Markdown table.

    Args:
      rows: Options.
      first: Title of the first column.
    """
    if not rows:
        return "It takes no options."
    lines = [f"| {first} | type | default | meaning |", "|---|---|---|---|"]
    for row in rows:
        default = "required" if row.default is None else f"`{row.default}`"
        cells = (f"`{row.name}`", row.kind, default, row.meaning)
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


class Kind(NamedTuple):
    """A kind of parts, and the page about it.

    Attributes:
      title: Title of the page.
      about: Text below the title: where a config names such a part.
      parts: Functions by name.
      program: Names of the parameters that the program sets.
    """

    title: str
    about: str
    parts: Mapping[str, Callable]
    program: Collection[str] = ()

    def page(self) -> str:
        """Returns the page as Markdown."""
        texts = [f"# {self.title}", self.about]
        for name, part in sorted(self.parts.items()):
            file = part.__module__.replace(".", "/")
            about = docstrings.summary(inspect.getdoc(part) or "")
            texts += [f"## {name}", f"{about}\n\nIn `{file}.py`.", table(options(part, self.program))]
        return "\n\n".join(texts) + "\n"


TITLES = {"host": "Host operations", "sources": "Kinds of data sets", "freezing": "Values of init.freeze"}


def kinds() -> dict[str, Kind]:
    """Returns the kinds of parts by the name of their page, the word of `jaxvision list`."""
    found = {}
    for word, kind in catalog.kinds().items():
        if kind.registry is None:
            continue
        registry = getattr(importlib.import_module(kind.registry[0]), kind.registry[1])
        parts = {entry.name: describe.factory_of(entry) for entry in catalog.entries(word)}
        if word == "sources":
            parts["a TFDS name"] = TfdsSource
        program = (*getattr(registry, "required", ()), *getattr(registry, "offered", ()), "self")
        named = f"Every built-in {kind.kind}, and its options; `jaxvision help NAME` prints the same."
        usage = f"\n\n```python\n{registry.usage}\n```" if registry.usage else ""
        found[word] = Kind(TITLES.get(word, word.replace("_", " ").capitalize()), named + usage, parts, program)
    return found


class Section(NamedTuple):
    """A section of a config.

    Attributes:
      name: Dotted name, with NAME for a name that users choose.
      about: What it holds.
      rows: Keys that it may hold, whatever it names.
    """

    name: str
    about: str
    rows: list[Option]


def config_sections() -> list[Section]:
    """Returns the sections of a config; the first is the config itself."""
    [*rows] = options(ConfigSections)
    found = [Section("config", "The config itself: its sections, and two values.", rows)]
    for row in rows:
        kind = schema.section_kind(calls.parameters(ConfigSections)[row.name].annotation)
        if kind is not None:
            found += _sections(row.name, kind, row.meaning)
    return found


def _sections(name: str, kind: str, about: str) -> list[Section]:
    """A section, and the sections of closed keys inside it."""
    if kind in schema.ENTRIES:
        name, kind = f"{name}.NAME", schema.ENTRIES[kind]
    parts = [(part, catalog.find_kind(part).word) for part in schema.PARTS.get(kind, ())]
    if parts:
        about += f" Further keys are those of the {' or the '.join(f'[{part}]({word}.md)' for part, word in parts)}."
    function, program = schema.section_function(kind) or (None, ())
    rows = options(function, program) if function else []
    if parts and all(row.name != "name" for row in rows):
        rows = [Option("name", "a text", None, "Name of the part, or `package.module:function` of your own."), *rows]
    found = [Section(name, about, rows)]
    for key, parameter in calls.parameters(function).items() if function else ():
        inner = schema.section_kind(parameter.annotation)
        if inner is not None and key not in program and schema.section_function(inner):
            meaning = docstrings.arguments(inspect.getdoc(function) or "").get(key, "")
            found += _sections(f"{name}.{key}", inner, meaning)
    return found


CONFIG = """# Config keys

Every key of every section of a config, with its type, its default and its meaning. A key that is "required" has no
default. Every key can be changed on the command line, whether the file contains it or not:
`--config.train.total="90 epochs"`. `jaxvision help KEY` prints what is here."""


def config_page() -> str:
    """Returns the page with the keys of all sections."""
    texts = [f"## {one.name}\n\n{one.about}\n\n{table(one.rows, 'key')}" for one in config_sections()]
    return "\n\n".join([CONFIG, *texts]) + "\n"


def configs_page(root: Path) -> str:
    """Returns the page with the header of every config.

    Args:
      root: Root of the repository.
    """
    texts = [
        "# Configs",
        "Every config of the folder `configs/`, with its header: the command, the source of the recipe, the number to "
        "expect and its cost.",
    ]
    for file in sorted((root / "configs").rglob("*.py")):
        header = ast.get_docstring(ast.parse(file.read_text())) or ""
        texts.append(f"## {file.relative_to(root / 'configs')}\n\n```text\n{header}\n```")
    return "\n\n".join(texts) + "\n"


def pages(root: Path) -> dict[str, str]:
    """Returns the pages by name.

    Args:
      root: Root of the repository.
    """
    of_kinds = {name: kind.page() for name, kind in kinds().items()}
    return {"config": config_page(), "configs": configs_page(root), **of_kinds}
