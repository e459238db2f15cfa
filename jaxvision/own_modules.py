"""Parts from a user's own code, named "package.module:function": found, checked and imported.

A module is imported from where Python finds it (what is installed, PYTHONPATH); then from the working directory; then
from the folders of the config files that were executed. The last two stand at the end of `sys.path`, so that a file in
them never takes the place of an installed module.

A config that lies in the folder of a run may have been written by somebody else. So commands that read such a folder
close it (`scripts.close`): no module in it is ever imported, and those that its config asks for are told before that.
"""

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

from jaxvision import scripts
from jaxvision.errors import UserError, nearest, shown

_WORD = r"[^\W\d]\w*"
NAME = re.compile(rf"({_WORD}(?:\.{_WORD})*):({_WORD})")
PACKAGE = __package__

_trained_from: dict[str, str] = {}  # by module, the file that a run was trained with
_imported: set[str] = set()
_told: set[str] = set()  # modules of a closed folder's config that the user has read of


def is_own(name: Any) -> bool:
    """Whether a name is that of a part from a user's module.

    >>> is_own("my_models.tiny:tiny_vit"), is_own("vit"), is_own("cifar10:3.0.2")
    (True, False, False)
    """
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def load(kind: str, name: str) -> Any:
    """What a name stands for, once its module is imported.

    Args:
      kind: Kind of the part, such as "model", for messages.
      name: "package.module:function".

    Raises:
      UserError: The module is not here, is one of Python's or of jaxvision, lies in a closed folder or fails when it is
        imported; or it has nothing of that name.
    """
    module_name, function = NAME.fullmatch(name).groups()
    what = f"the {kind} {name!r}"
    top = module_name.partition(".")[0]
    if top == PACKAGE:
        raise UserError(f"{what} is inside jaxvision: built-in parts go by their short names")
    if top in sys.stdlib_module_names or top == "__main__":
        raise UserError(f"{what} is in the module {top!r} of Python itself, which holds no parts")
    file = find(module_name)
    if file is None and module_name.endswith(".py"):
        plain = f"{module_name.removesuffix('.py')}:{function}"
        raise UserError(f"{what} is named as Python imports it, without .py: {plain!r}")
    if file is None:
        raise UserError(_missing(what, module_name))
    _check_open(what, module_name, file)
    if scripts.is_closed() and module_name not in _told | _imported:
        print(line(module_name, [name]), file=sys.stderr, flush=True)
        _told.add(module_name)
    module = _import(what, module_name, file)
    _imported.add(module_name)
    if not hasattr(module, function):
        names = [n for n, value in vars(module).items() if inspect.isfunction(value) and not n.startswith("_")]
        raise UserError(f"{what}: {file} defines no {function!r}{nearest(function, names)}")
    return getattr(module, function)


def check_takes(kind: str, name: str, factory: Any, given: Sequence[str]) -> None:
    """Raises UserError unless what a name stands for can be called with the arguments that the program gives.

    Args:
      kind: Kind of the part, such as "model".
      name: "package.module:function".
      factory: What it stands for.
      given: Names of parameters that it must have. Those that take anything (`**options`) do not count, so that no
        function is called that was not written as a part.
    """
    if not callable(factory):
        raise UserError(f"the {kind} {name!r} is a {type(factory).__name__}, not a function or class")
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        parameters = {}
    if missing := [parameter for parameter in given if parameter not in parameters]:
        names = f"parameter{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        raise UserError(
            f"the {kind} {name!r} has no {names}, which the program gives to each {kind}: "
            f"define it as def {name.partition(':')[2]}({', '.join(given)}, ...), see docs/extending.md"
        )


def find(module: str) -> str | None:
    """The file of a module, or the folder of a package without a file; None where there is none. Nothing is imported.

    >>> find("no_such_module.inside") is None
    True
    """
    scripts.make_importable(Path.cwd())
    importlib.invalidate_caches()
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ValueError, ImportError):  # a module without a spec
        return None
    for name in rest:  # without the names of its parents, which a folder without __init__.py would need imported
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
        is_read = " (the folder that is read: nothing is imported from it)" if scripts.is_closed(Path.cwd()) else ""
        places = [f"in the working directory {Path.cwd()}{is_read}"]
        places += [f"beside the config in {folder}" for folder in _config_folders()]
        lacks = f"there is no module {top!r} where Python looks, nor {', nor '.join(places)}"
    known = _trained_from.get(module)
    then = f" The run was trained with {known}." if known else ""
    folder = _root_of(module, known) if known else f"the folder that holds {top}"
    return (
        f"{what} is not here: {lacks}.{then} Run the command in {folder}, add that folder to PYTHONPATH, or install "
        f"the package that has {top!r} (pip install)"
    )


def _config_folders() -> list[Path]:
    return [folder for folder in scripts.folders if folder != Path.cwd() and not scripts.is_closed(folder)]


def _root_of(module: str, file: str) -> str:
    """The folder that has to be on the path for a module to be found in a file."""
    levels = module.count(".") + (Path(file).name == "__init__.py")
    return str(Path(file).parents[levels])


def _check_open(what: str, module: str, file: str) -> None:
    if scripts.is_closed(file):
        raise UserError(
            f"{what} would be imported from {file}, which lies in the folder that is read. Code that came with a "
            f"folder is not run: if you trust it, copy {module.partition('.')[0]} to a folder of your own and run the "
            "command there"
        )


def asked(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """The names of own parts in a config, by the module that they are in.

    Args:
      config: Sections of a config, nested.

    >>> asked({"model": {"name": "my.models:tiny"}, "augment": "flip_lr|my_ops:blur(3)|views(2, 'my_ops:fog')"})
    {'my.models': ['my.models:tiny'], 'my_ops': ['my_ops:blur', 'my_ops:fog']}
    """
    found: dict[str, list[str]] = {}

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
                names = found.setdefault(match[1], [])
                if match[0] not in names:
                    names.append(match[0])

    look(config, "")
    return found


def tell(config: Mapping[str, Any], trained_from: Mapping[str, str] | None = None) -> list[str]:
    """Lines that say which modules a config asks for and where they lie, each module once; nothing is imported.

    Args:
      config: Sections of a config.
      trained_from: File of each module when the run was trained, as `files` gave them to the checkpoint.
    """
    _trained_from.update({str(module): str(file) for module, file in (trained_from or {}).items()})
    wanted = {module: names for module, names in asked(config).items() if module not in _told}
    _told.update(wanted)
    return [line(module, names) for module, names in wanted.items()]


def check_outside(folder: str | Path, config: Mapping[str, Any]) -> None:
    """Raises UserError where a module that a config asks for lies in the folder of its run: no reader imports it."""
    for module, file in files(config).items():
        if Path(file).resolve().is_relative_to(Path(folder).resolve()):
            raise UserError(
                f"the config asks for {asked(config)[module][0]}, and {file} lies in --workdir={folder}: evaluate and "
                "predict import nothing from the folder of a run, which may be somebody else's. Give another --workdir"
            )


def line(module: str, names: Sequence[str]) -> str:
    """One line: which module is imported, from which file, for which parts."""
    return f"own code: the config asks for {', '.join(names)}, in {find(module) or f'{module}, which is not here'}"


def files(config: Mapping[str, Any]) -> dict[str, str]:
    """The file of each module that a config asks for, as a checkpoint carries them."""
    return {module: file for module in asked(config) if (file := find(module))}


def digests(config: Mapping[str, Any]) -> dict[str, str]:
    """The beginning of the SHA-256 of the file of each module that a config asks for."""
    found = {module: Path(file) for module, file in files(config).items()}
    return {m: hashlib.sha256(file.read_bytes()).hexdigest()[:12] for m, file in found.items() if file.is_file()}


def place(error: BaseException) -> str | None:
    """Where in a user's module an error was raised, "FILE:LINE (code)"; None where it was elsewhere.

    What a library raises that a user's module calls is raised there; what jaxvision raises is not.
    """
    files = {getattr(sys.modules.get(name), "__file__", None) for name in _imported}
    package = str(Path(__file__).parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in files:
            return f"{frame.filename}:{frame.lineno}" + (f" ({frame.line})" if frame.line else "")
        if frame.filename.startswith(package):
            return None
    return None


def called(what: str, factory: Callable, *args: Any, **kwargs: Any) -> Any:
    """What a factory of a user returns; what it raises becomes one line with the place in its file.

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
        if error.__cause__ is None:  # the user's own, or that of a built-in part which it uses
            raise
        raise UserError(f"{what}: {error}") from error.__cause__


def describe(value: Any) -> str:
    """A value in a message about what a factory returned."""
    return f"{type(value).__name__}, {shown(value)}"
