"""Everything that a config may name, found in the source: no module of a part is imported, so it takes no time.

The decorators say what there is: `@part("model", ...)` and `@ops.register(...)`, as the registries themselves read
them, and the registries say how their kind is called. So a new part or kind needs no entry anywhere.
"""

import ast
import fnmatch
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxvision import docstrings, shipped
from jaxvision.errors import UserError, nearest, shown, unknown

PACKAGE = Path(__file__).parents[1]
VARIANTS = "variants"  # the kind whose entries are values in the decorators of models, which have to be imported
_FILES = {"configs": "get_config", "sweeps": "get_sweep"}  # files in configs/, by the function that they define


_Definition = ast.FunctionDef | ast.ClassDef


class Entry(NamedTuple):
    """Something with a name.

    Attributes:
      name: Name as a config or a command line gives it.
      summary: First paragraph of its docstring.
      module: Name of the module that defines it; for a file, its path.
      function: Name of the factory in the module; empty for a file.
      options: Names of the parameters of the factory.
    """

    name: str
    summary: str
    module: str
    function: str = ""
    options: tuple[str, ...] = ()


class Kind(NamedTuple):
    """One kind of things that have names.

    Attributes:
      word: Word of the command line, such as "models".
      kind: Name of the kind in messages, such as "model".
      registry: Module and variable of the registry; None for files.
    """

    word: str
    kind: str
    registry: tuple[str, str] | None = None


class _Scan(NamedTuple):
    kinds: dict[str, Kind]  # by `Kind.kind`
    parts: dict[str, list[Entry]]  # by `Kind.kind`


def kinds() -> dict[str, Kind]:
    """Returns all kinds by their words, sorted."""
    every = [*_scan().kinds.values(), *(Kind(word, word.removesuffix("s")) for word in _FILES)]
    every += [Kind("studies", "study"), Kind(VARIANTS, "variant")]
    return {kind.word: kind for kind in sorted(every)}


def find_kind(word: str) -> Kind:
    """Returns the kind of a word, also if the word is in the singular.

    Args:
      word: Word of the command line, "models" or "model".

    Raises:
      UserError: There is no such kind.
    """
    every = kinds()
    for kind in every.values():
        if word.lower() in (kind.word, kind.kind, kind.kind.replace(" ", "_")):
            return kind
    raise unknown("kind", word, every)


def entries(word: str) -> list[Entry]:
    """Returns the entries of a kind, sorted by name.

    Args:
      word: Word of the kind, a key of `kinds`.
    """
    kind = kinds()[word]
    if kind.registry is not None:
        return sorted(_scan().parts.get(kind.kind, ()))
    if word == "studies":
        return _files("experiments", "*/study.py", "PRESETS")
    if word == VARIANTS:
        return _variants()
    return _files("configs", "**/*.py", _FILES[word])


def matching(found: Sequence[Entry], pattern: str | None, word: str) -> list[Entry]:
    """Returns the entries whose name matches a pattern.

    Args:
      found: Entries to choose from.
      pattern: Pattern as in fnmatch, "*crop*", or a part of the name, in small or capital letters; None for all.
      word: Word of their kind, for the message.

    Raises:
      UserError: None matches.
    """
    if pattern is None:
        return list(found)
    text = pattern.lower()
    whole = text if any(letter in text for letter in "*?[") else f"*{text}*"
    chosen = [entry for entry in found if fnmatch.fnmatchcase(entry.name.lower(), whole)]
    if not chosen:
        hint = nearest(pattern, (entry.name for entry in found)) or "."
        raise UserError(f"no name of the {word} matches {shown(pattern)}{hint} 'jaxvision list {word}' lists them all")
    return chosen


def named(name: str) -> list[tuple[Kind, Entry]]:
    """Returns the parts, files and studies of a name, of every kind.

    Args:
      name: Name as a config gives it.
    """
    return [(kind, e) for word, kind in kinds().items() if word != VARIANTS for e in entries(word) if e.name == name]


@functools.cache
def _scan() -> _Scan:
    """Reads the registries and the decorated functions of the package from its source."""
    trees = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        inside = file.relative_to(PACKAGE)
        text = "" if inside.parts[0] == shipped.COPY else file.read_text(encoding="utf-8")
        if "@part(" in text or ".part(" in text or "Registry(" in text or ".register(" in text:
            parts = [PACKAGE.name, *inside.with_suffix("").parts]
            trees[".".join(parts).removesuffix(".__init__")] = ast.parse(text)
    registries = {(module, name): kind for module, tree in trees.items() for name, kind in _registries(module, tree)}
    by_name = {name: kind for (_, name), kind in registries.items()}
    found: dict[str, list[Entry]] = {}
    for module, tree in trees.items():
        for node in tree.body:
            if not isinstance(node, _Definition):
                continue
            for decorator in node.decorator_list:
                if part := _part(decorator, node):
                    found.setdefault(part[0], []).append(_entry(part[1], module, node))
                elif variable := _operation(decorator):
                    kind = registries.get((module, variable)) or by_name.get(variable)
                    if kind is not None:
                        found.setdefault(kind.kind, []).append(_entry(node.name, module, node))
    every = {kind.kind: kind for kind in registries.values()}
    return _Scan(every, found)


def _registries(module: str, tree: ast.Module) -> Iterator[tuple[str, Kind]]:
    """The registries that a module defines, with the names of their variables."""
    for node in tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(call := node.value, ast.Call):
            continue
        if _last_name(call.func) not in ("PartRegistry", "Registry"):
            continue
        if call.args and isinstance(target := node.targets[0], ast.Name):
            kind = _text(call.args[0])
            plural = next((_text(word.value) for word in call.keywords if word.arg == "plural"), "")
            yield target.id, Kind(plural or f"{kind.replace(' ', '_')}s", kind, (module, target.id))


def _part(decorator: ast.expr, node: _Definition) -> tuple[str, str] | None:
    """Kind and name of a factory that is decorated with `@part("model", "name")`."""
    if not isinstance(decorator, ast.Call) or _last_name(decorator.func) != "part" or not decorator.args:
        return None
    names = [*decorator.args[1:2], *(word.value for word in decorator.keywords if word.arg == "name")]
    return _text(decorator.args[0]), next(map(_text, names), "") or node.name


def _operation(decorator: ast.expr) -> str | None:
    """The variable of the registry in `@ops.register(...)`."""
    function = decorator.func if isinstance(decorator, ast.Call) else None
    if isinstance(function, ast.Attribute) and function.attr == "register":
        return _last_name(function.value)
    return None


def _entry(name: str, module: str, node: _Definition) -> Entry:
    options: tuple[str, ...] = ()
    if isinstance(node, ast.FunctionDef):
        options = tuple(one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs))
    return Entry(name, docstrings.summary(ast.get_docstring(node) or ""), module, node.name, options)


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _files(folder: str, pattern: str, defines: str) -> list[Entry]:
    """The Python files of the user and of this project that define something; the user's own hide others."""
    found: dict[str, Entry] = {}
    for place in shipped.places(folder):
        for file in sorted(place.glob(pattern)):
            try:
                tree = ast.parse(file.read_text(encoding="utf-8"))
            except (OSError, ValueError, SyntaxError):  # not a file of ours; whoever runs it is told what is wrong
                continue
            names = {getattr(n, "name", None) for n in tree.body}
            names |= {_last_name(t) for n in tree.body if isinstance(n, ast.Assign) for t in n.targets}
            if defines in names:
                name = file.parent.name if folder == "experiments" else f"{folder}/{file.relative_to(place).as_posix()}"
                summary = docstrings.summary(ast.get_docstring(tree) or "")
                found.setdefault(name, Entry(name, summary, str(file)))
    return sorted(found.values())


def _variants() -> list[Entry]:
    from jaxvision import models

    found = []
    for registry in (models.NAMES, models.TEXT_NAMES, models.PAIR_NAMES):
        for model, factory in registry.items():
            for variant, sizes in registry.more(factory, "variants", {}).items():
                found.append(Entry(f"{model}:{variant}", sizes, factory.__module__, factory.__name__))
    return found
