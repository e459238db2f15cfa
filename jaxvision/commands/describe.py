"""`jaxvision help NAME`: the options of a part, a key of a config, a config file or a study, from their docstrings."""

import contextlib
import importlib
import inspect
import pkgutil
import re
import shutil
import textwrap
from collections.abc import Callable, Collection
from inspect import Parameter
from pathlib import Path
from typing import Any

from jaxvision import arguments, calls, docstrings, own_modules, registry, scripts, shipped, specs
from jaxvision.commands import catalog
from jaxvision.commands.catalog import Entry, Kind
from jaxvision.errors import shown

WIDEST = 100  # characters of a line, also on a wider terminal
MOST_FILES = 4  # most configs that are named as examples
# A table that a docstring names, or a function that returns one.
_TABLE = re.compile(r"\b(?:a key of|((?:one|any) of))\s+`([\w.]*\b[A-Z][A-Z_]+|[\w.]+(?=\(\)))(\(\))?`")
# A paper, in the first paragraph of a docstring: a year, "et al.", arXiv.
_PAPER = re.compile(r"arxiv|\bet al\b|\(?\b(19|20)\d\d[a-z]?\b|table \d", re.IGNORECASE)


def part(kind: Kind, entry: Entry) -> str:
    """Describes a part: what it does, its options, the errors it raises, its source, and how a config names it.

    Args:
      kind: Kind of the part.
      entry: The part.
    """
    found = registry_of(kind)
    program = program_of(kind)
    factory = factory_of(entry)
    text = function(f"{kind.kind} {entry.name}", factory, program)
    usage = found.usage.replace("NAME", entry.name).replace("CALL", _call(entry.name, factory))
    named = [f"{'In a config' if usage.startswith('c.') else 'Usage'}:\n  {usage}"] if usage else []
    files = _naming(entry.name, isinstance(found, specs.Registry))
    if files:
        more = f" and {len(files) - MOST_FILES} more" if len(files) > MOST_FILES else ""
        named.append(_section("Named in", ", ".join(files[:MOST_FILES]) + more))
    return "\n\n".join([text, *named])


def registry_of(kind: Kind) -> registry.PartRegistry | specs.Registry:
    """Imports the registry of a kind of parts.

    Args:
      kind: Kind, which is not one of files.
    """
    assert kind.registry is not None
    return getattr(importlib.import_module(kind.registry[0]), kind.registry[1])


def program_of(kind: Kind) -> tuple[str, ...]:
    """Returns the names of the parameters that the program gives to every part of a kind, so that no user may set them.

    Args:
      kind: Kind, which is not one of files.
    """
    found = registry_of(kind)
    return (*found.required, *found.offered) if isinstance(found, registry.PartRegistry) else ()


def factory_of(entry: Entry) -> Callable:
    """Imports the factory of a part.

    Args:
      entry: The part.
    """
    return getattr(importlib.import_module(entry.module), entry.function)


def function(title: str, thing: Callable, program: Collection[str] = ()) -> str:
    """Describes a function or a class by its signature and docstring.

    Args:
      title: Name with its kind, such as "model vit".
      thing: Function or class.
      program: Names of the parameters that the program sets, and no user.
    """
    doc = with_choices(inspect.getdoc(thing) or "", thing.__module__)
    texts = docstrings.sections(doc)
    before, _, after = texts[""].strip().partition("\n\n")
    blocks = [f"{title}: {' '.join(before.split())}" if before else title]
    blocks += [_fill(block) for block in after.split("\n\n") if block.strip() and not block.lstrip().startswith(">>>")]
    if options := parameters(thing, program):
        blocks.append("Options:\n" + options)
    else:
        blocks.append("It takes no options.")
    if given := [name for name in program if name in calls.parameters(thing)]:
        blocks.append(_section("Given by the program", ", ".join(given)))
    if raised := docstrings.entries(texts.get("Raises", "")):
        blocks.append("Raises:\n" + "\n".join(_fill(f"{name}: {why}", "  ", "    ") for name, why in raised.items()))
    if source := _source(thing, doc):
        blocks.append(_section("Source", source))
    examples = [block for block in after.split("\n\n") if block.lstrip().startswith(">>>")]
    if examples:
        blocks.append("In Python:\n" + textwrap.indent("\n\n".join(examples), "  "))
    return "\n\n".join(blocks)


def parameters(thing: Callable, program: Collection[str] = (), only: str | None = None) -> str:
    """Describes parameters: name, default and type, then the description in the docstring.

    Args:
      thing: Function or class.
      program: Names of the parameters to leave out.
      only: Name of the one to describe; None for all.
    """
    described = docstrings.arguments(with_choices(inspect.getdoc(thing) or "", thing.__module__))
    blocks = []
    for name, parameter in calls.parameters(thing).items():
        if name in program or only not in (None, name):
            continue
        text = described.get(name)
        blocks.append(f"  {_headline(parameter)}" + (f"\n{_fill(text, '      ')}" if text else ""))
    return "\n".join(blocks)


def with_choices(text: str, module: str) -> str:
    """Returns a docstring with the choices in the place of the name of their table, such as "one of `FILTERS`".

    Args:
      text: Docstring.
      module: Name of its module. The table is in it, or in another one of its package or of a package around it.

    >>> with_choices("Filter, one of `resizing.METHODS`.", "jaxvision.data.host_ops.resize")
    'Filter, one of bilinear, bicubic, opencv_linear, opencv_area.'
    """

    def choices(match: re.Match) -> str:
        for parts in range(module.count(".") + 1, 0, -1):
            with contextlib.suppress(ImportError, AttributeError):
                table = pkgutil.resolve_name(".".join([*module.split(".")[:parts], match[2]]))
                return f"{match[1] or 'one of'} {', '.join(map(str, table() if match[3] else table))}"
        return match[0]

    return _TABLE.sub(choices, text)


def file(entry: Entry) -> str:
    """Describes a config, a sweep or a study by the docstring of its file.

    Args:
      entry: The file.
    """
    module = scripts.run_file(entry.module, f"help_{Path(entry.module).stem}")
    blocks = [entry.name if entry.module == entry.name else f"{entry.name} ({entry.module})"]
    blocks.append(inspect.cleandoc(module.__doc__ or "It has no docstring."))
    for name, words in {"ARGS": f"Arguments, as in {entry.name}:ARG", "PRESETS": "Presets, for --preset"}.items():
        if values := getattr(module, name, ()):
            blocks.append(_section(words, ", ".join(map(str, values))))
    return "\n\n".join(blocks)


def own(name: str) -> str:
    """Describes a user's own part.

    Args:
      name: Name of the part, "package.module:function".

    Raises:
      UserError: It cannot be imported.
    """
    thing = own_modules.load("part", name)
    if not callable(thing):
        return f"{name}: {own_modules.describe(thing)}, which is neither a function nor a class"
    kinds = registry.kinds_of(thing)
    return function(f"{' and '.join(kinds) or 'part'} {name}", thing)


def option(name: str) -> list[str]:
    """Describes an option by its name, for each part that has it.

    Args:
      name: Name of an option, such as "momentum".
    """
    found = []
    for word, kind in catalog.kinds().items():
        for entry in catalog.entries(word) if kind.registry else ():
            if name in entry.options:
                found.append(f"option of {kind.kind} {entry.name}\n{parameters(factory_of(entry), only=name)}")
    return found


def _headline(parameter: Parameter) -> str:
    stars = "*" * ((parameter.kind is parameter.VAR_POSITIONAL) + 2 * (parameter.kind is parameter.VAR_KEYWORD))
    annotation, default = parameter.annotation, parameter.default
    if annotation is parameter.empty and default not in (None, parameter.empty):
        annotation = type(default)
    words = "" if annotation in (parameter.empty, Any) else arguments.words(annotation)
    words = "" if "." in words.split(" ")[0] else words  # the name of a class tells a user nothing
    required = default is parameter.empty and not stars
    notes = ", ".join([*([words] if words else []), *(["required"] if required else [])])
    value = "" if default is parameter.empty else f"={_short(default)}"
    return f"{stars}{parameter.name}{value}" + (f"  ({notes})" if notes else "")


def _short(default: Any) -> str:
    return default.__name__ if inspect.isfunction(default) or inspect.isclass(default) else shown(default)


def _call(name: str, factory: Callable) -> str:
    """A call of an operation with the arguments that it needs, in capital letters."""
    by_place = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.VAR_POSITIONAL)
    needed = [
        one.name.upper() if one.kind in by_place else f"{one.name}={one.name.upper()}"
        for one in calls.parameters(factory).values()
        if one.default is one.empty and one.kind is not one.VAR_KEYWORD
    ]
    return f"{name}({', '.join(needed)})" if needed else name


def _source(thing: Callable, doc: str) -> str:
    """The paper that a docstring names, or else the docstring of its module."""
    text = docstrings.sections(doc).get("Source", "")
    if text:
        return " ".join(text.split())
    module = docstrings.summary(inspect.getdoc(inspect.getmodule(thing)) or "")
    if _PAPER.search(docstrings.summary(doc)) or not _PAPER.search(module):
        return ""
    return module


def _naming(name: str, in_spec: bool) -> list[str]:
    """The names of configs whose text names a part, in a spec or as a value."""
    word = re.escape(name)
    pattern = re.compile(rf"[\"'|( ]{word}[(|\"']" if in_spec else rf"=\s*[\"']{word}[\"']")
    texts = ((entry.name, Path(entry.module).read_text(encoding="utf-8")) for entry in catalog.entries("configs"))
    return [config for config, text in texts if pattern.search(text)]


def _section(title: str, text: str) -> str:
    return f"{title}:\n{_fill(text, '  ')}"


def _fill(text: str, first: str = "", others: str | None = None) -> str:
    """Fills a paragraph; one with an indentation of its own, such as a table, stays as it is."""
    rows = text.strip("\n").splitlines()
    if any(row.startswith("  ") for row in rows) and others is None:
        return textwrap.indent("\n".join(rows), first)
    width = min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST)
    others = first if others is None else others
    return textwrap.fill(" ".join(text.split()), max(width, 40), initial_indent=first, subsequent_indent=others)


def is_file(name: str) -> bool:
    """Returns whether a name is that of a Python file, the user's or this project's.

    Args:
      name: Name, "configs/quickstart.py" or "FILE.py:ARG".
    """
    path, _ = scripts.split(name)
    return path.endswith(".py") and Path(shipped.find(path)).is_file()
