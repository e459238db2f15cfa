"""Parts from a user's own code, named "package.module:function": finds, checks and imports them.

Modules are searched in this order: where Python looks (installed packages, PYTHONPATH), in the working directory, and
in the folders of the config files that were executed. The last two are at the end of `sys.path`, so a file in them
never hides an installed module.

A config in the folder of a run may come from somebody else. So commands that read such a folder close it
(`scripts.close`): no module in it is ever imported, and the modules that its config names are printed before any
import.
"""

import contextlib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxvision import scripts, shipped
from jaxvision.errors import UserError, nearest, shown

_WORD = r"[^\W\d]\w*"
NAME = re.compile(rf"({_WORD}(?:\.{_WORD})*):({_WORD})")
PACKAGE = __package__

_trained_from: dict[str, str] = {}  # by module, its file when the run was trained
_imported: set[str] = set()
_announced: set[str] = set()  # modules named by configs of closed folders, which the user has been told about


def is_own(name: Any) -> bool:
    """Returns whether a name is one of a part in a user's module.

    Args:
      name: Name of a part, from a config.

    >>> is_own("my_models.tiny:tiny_vit"), is_own("vit"), is_own("cifar10:3.0.2")
    (True, False, False)
    """
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def load(kind: str, name: str) -> Any:
    """Imports the module of a part and returns the object that the name stands for.

    Args:
      kind: Kind of the part, such as "model", for messages.
      name: Name of the part, "package.module:function".

    Raises:
      UserError: The module does not exist, belongs to Python or jaxvision, is in a closed folder, or cannot be
        imported; or it has nothing of that name.
    """
    module_name, _, function = name.partition(":")
    what = f"the {kind} {name!r}"
    top = module_name.partition(".")[0]
    if top == PACKAGE:
        raise UserError(f"{what} is inside jaxvision: give the short name of the built-in part")
    if top in sys.stdlib_module_names or top == "__main__":
        raise UserError(f"{what} is in the module {top!r} of Python itself, which holds no parts: give another module")
    file = find(module_name)
    if file is None and module_name.endswith(".py"):
        plain = f"{module_name.removesuffix('.py')}:{function}"
        raise UserError(f"{what} must name the module as Python imports it, without .py: {plain!r}")
    if file is None:
        raise UserError(_missing(what, module_name))
    _check_open(what, module_name, file)
    if scripts.is_closed() and module_name not in _announced | _imported:
        print(announcement(module_name, [name]), file=sys.stderr, flush=True)
        _announced.add(module_name)
    module = _import(what, module_name, file)
    _imported.add(module_name)
    if not hasattr(module, function):
        names = [n for n, value in vars(module).items() if inspect.isfunction(value) and not n.startswith("_")]
        raise UserError(f"{what}: {file} defines no {function!r}{nearest(function, names)}")
    return getattr(module, function)


def check_takes(kind: str, name: str, factory: Any, required: Sequence[str]) -> None:
    """Checks that a user's part can be called with the arguments that the program gives.

    Args:
      kind: Kind of the part, such as "model".
      name: Name of the part, "package.module:function".
      factory: Object that the name stands for.
      required: Names of parameters that it must have. `**options` does not count, so no function is called that was
        not written as a part.

    Raises:
      UserError: It is not callable, or lacks one of the parameters.
    """
    if not callable(factory):
        raise UserError(f"the {kind} {name!r} is a {type(factory).__name__}: it must be a function or a class")
    parameters: Mapping[str, inspect.Parameter] = {}
    with contextlib.suppress(TypeError, ValueError):  # it has no signature
        parameters = inspect.signature(factory).parameters
    if missing := [parameter for parameter in required if parameter not in parameters]:
        names = f"parameter{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        raise UserError(
            f"the {kind} {name!r} has no {names}, which the program gives to each {kind}: "
            f"define it as def {name.partition(':')[2]}({', '.join(required)}, ...), see docs/extending.md"
        )


def find(module: str) -> str | None:
    """Returns the file of a module, or the folder of a package without a file; None if there is none.

    It imports nothing.

    Args:
      module: Name of the module, "package.module".

    >>> find("no_such_module.inside") is None
    True
    """
    top, *rest = module.split(".")
    own = shipped.root() if top in shipped.FOLDERS else None  # experiments.own_parts, of a run in any folder
    for folder in (Path.cwd(), *([own] if own else [])):
        scripts.make_importable(folder)
    importlib.invalidate_caches()
    try:
        spec = importlib.util.find_spec(top)
    except (ValueError, ImportError):  # a module without a spec
        return None
    for name in rest:  # name by name: find_spec("a.b") would import `a`
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, list(spec.submodule_search_locations))
    if spec is None:
        return None
    place = spec.origin if spec.has_location else next(iter(spec.submodule_search_locations or ()), None)
    return None if place is None else os.path.abspath(place)


def _import(what: str, module: str, file: str) -> Any:
    try:
        return scripts.in_words(file, lambda: importlib.import_module(module))
    except UserError as error:
        hint = ""
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError):
            hint = f": install {cause.name!r}, which it imports, or run the command in the folder that holds it"
        raise UserError(f"{what} cannot be imported: {error}{hint}") from cause


def _missing(what: str, module: str) -> str:
    top = module.partition(".")[0]
    here = find(top) if top != module else None
    if here:
        lacks = f"{top!r} is {here}, and has no module {module!r}"
    else:
        is_read = (
            " (the command reads this folder, so it imports nothing from it)" if scripts.is_closed(Path.cwd()) else ""
        )
        places = [f"in the working directory {Path.cwd()}{is_read}"]
        places += [f"next to the config in {folder}" for folder in _config_folders()]
        lacks = f"there is no module {top!r} where Python looks, nor {', nor '.join(places)}"
    original = _trained_from.get(module)
    then = f" The run was trained with {original}." if original else ""
    folder = _root_of(module, original) if original else f"the folder that holds {top}"
    return (
        f"{what} cannot be found: {lacks}.{then} Run the command in {folder}, add that folder to PYTHONPATH, or "
        f"install the package that has {top!r} (pip install)"
    )


def _config_folders() -> list[Path]:
    return [folder for folder in scripts.folders if folder != Path.cwd() and not scripts.is_closed(folder)]


def _root_of(module: str, file: str) -> str:
    """The folder that must be on `sys.path` so that a module is imported from a file."""
    levels = module.count(".") + (Path(file).name == "__init__.py")
    return str(Path(file).parents[levels])


def _check_open(what: str, module: str, file: str) -> None:
    if scripts.is_closed(file):
        raise UserError(
            f"{what} would be imported from {file}, which is in the folder that the command reads. Code in such a "
            f"folder is not run: if you trust it, copy {module.partition('.')[0]} to a folder of your own and run the "
            "command there"
        )


def own_parts(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the names of the user's own parts in a config, by module.

    Args:
      config: Sections of a config, nested.

    >>> own_parts({"model": {"name": "my.models:tiny"}, "augment": "flip_lr|my_ops:blur(3)|views(2, 'my_ops:fog')"})
    {'my.models': ['my.models:tiny'], 'my_ops': ['my_ops:blur', 'my_ops:fog']}
    """
    parts: dict[str, list[str]] = {}

    def look(value: Any, key: str) -> None:
        if hasattr(value, "items"):
            for inside, one in value.items():
                look(one, f"{key}.{inside}" if key else str(inside))
        elif isinstance(value, list | tuple):
            for one in value:
                look(one, key)
        elif isinstance(value, str) and key != "init.model":  # NAME:VARIANT of weights
            whole = NAME.fullmatch(value)
            for match in NAME.finditer(value) if key.endswith(("host", "augment")) else [whole] if whole else []:
                names = parts.setdefault(match[1], [])
                if match[0] not in names:
                    names.append(match[0])

    look(config, "")
    return parts


def announcements(config: Mapping[str, Any], trained_from: Mapping[str, str] | None = None) -> list[str]:
    """Returns a line for each module that a config names and no earlier call returned; imports nothing.

    Args:
      config: Sections of a config.
      trained_from: File of each module when the run was trained, from `files`, which the checkpoint holds.
    """
    _trained_from.update({str(module): str(file) for module, file in (trained_from or {}).items()})
    new = {module: names for module, names in own_parts(config).items() if module not in _announced}
    _announced.update(new)
    return [announcement(module, names) for module, names in new.items()]


def check_outside(folder: str | Path, config: Mapping[str, Any]) -> None:
    """Checks that no module that a config names is in the folder of its run, from which later commands import nothing.

    Args:
      folder: Folder of the run.
      config: Sections of its config.

    Raises:
      UserError: One of the modules is in the folder.
    """
    for module, file in files(config).items():
        if Path(file).resolve().is_relative_to(Path(folder).resolve()):
            raise UserError(
                f"the config names {own_parts(config)[module][0]}, whose file {file} is in --workdir={folder}. Later "
                "commands import nothing from the folder of a run, which may be somebody else's: give another --workdir"
            )


def announcement(module: str, names: Sequence[str]) -> str:
    """Returns the line that says from which file a module is imported.

    Args:
      module: Name of the module.
      names: Names of the parts in it that the config names.
    """
    file = find(module)
    where = f"in {file}" if file else f"but the module {module} cannot be found"
    return f"own code: the config names {', '.join(names)}, {where}"


def files(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns the file of each module of the user that a config names; checkpoints hold these.

    Args:
      config: Sections of a config.
    """
    return {module: file for module in own_parts(config) if (file := find(module))}


def digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns the first 12 hex digits of the SHA-256 of each module of the user that a config names.

    Args:
      config: Sections of a config.
    """
    paths = {module: Path(file) for module, file in files(config).items()}
    return {m: hashlib.sha256(file.read_bytes()).hexdigest()[:12] for m, file in paths.items() if file.is_file()}


def error_place(error: BaseException) -> str | None:
    """Returns the place in a user's module where an error was raised, "FILE:LINE (code)".

    An error of a library that the module called counts as raised in the module; an error of jaxvision does not.

    Args:
      error: Error with its traceback.

    Returns:
      The place, or None if the error was raised elsewhere.
    """
    files = {getattr(sys.modules.get(name), "__file__", None) for name in _imported}
    package = str(Path(__file__).parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in files:
            return f"{frame.filename}:{frame.lineno}" + (f" ({frame.line})" if frame.line else "")
        if frame.filename.startswith(package):
            return None
    return None


def call_factory(what: str, factory: Callable, *args: Any, **kwargs: Any) -> Any:
    """Calls a user's factory; an error becomes one line with the place in its file.

    Args:
      what: Name of the part in messages, such as "the model 'my_models:small'".
      factory: Function or class to call.
      *args: Positional arguments of the call.
      **kwargs: Keyword arguments of the call.

    Raises:
      UserError: The factory raises.
    """
    try:
        file = inspect.getfile(inspect.unwrap(factory))
    except TypeError:
        return factory(*args, **kwargs)
    try:
        return scripts.in_words(file, lambda: factory(*args, **kwargs))
    except UserError as error:
        if error.__cause__ is None:  # a UserError that the factory raised, or a built-in part that it uses
            raise
        raise UserError(f"{what}: {error}") from error.__cause__


def describe(value: Any) -> str:
    """Describes a value that a factory returned, for a message.

    Args:
      value: Value of any type.
    """
    return f"{type(value).__name__}, {shown(value)}"
