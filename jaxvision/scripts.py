"""Python files of users: configs, sweeps, studies. An error in one becomes one line that names the file and line."""

import functools
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from jaxvision import shipped
from jaxvision.errors import UserError, nearest, shown
from jaxvision.reading import decode_text, is_file, is_folder, reading

folders: list[Path] = []  # folders of the files that were executed; a user's modules may be there, too
_added: list[str] = []  # entries that this module added to sys.path
T = TypeVar("T")
_closed: list[Path] = []  # folders of runs, which may be somebody else's


class Unfit(TypeError):
    """A value that a key of a config cannot hold. Whoever catches it adds the file and the line to the message."""


def split(path: str) -> tuple[str, str | None]:
    """Splits `FILE.py:ARG` into the file and the argument, which is None without a colon.

    A config or experiment of this project is found from any folder; see `shipped`.

    Args:
      path: Path of a file, with an optional argument after a colon.

    >>> split("configs/resnet.py:20"), split("runs/a:b/config.json"), split("study.py:small/lr:3")
    (('configs/resnet.py', '20'), ('runs/a:b/config.json', None), ('study.py', 'small/lr:3'))
    """
    match = re.match(r"(.*?\.\w+):(.*)", str(path), re.DOTALL)
    file, arg = (match[1], match[2]) if match and not Path(path).exists() else (str(path), None)
    return shipped.find(file), arg


def run_file(file: str | Path, name: str) -> ModuleType:
    """Executes a Python file as a module.

    Args:
      file: Python file.
      name: Name of the module.

    Raises:
      UserError: The file cannot be read, or raises an error; the message names its line.
    """
    with reading(file, only=OSError):
        _check_text(Path(file).read_bytes(), file)
    folder = Path(os.path.abspath(file)).parent  # without "..", for messages and checkpoints
    if folder not in folders:
        folders.append(folder)
    root = shipped.root()
    own = [root] if root and shipped.is_shipped(folder) else []  # a config of ours may name experiments.own_parts
    for place in (Path.cwd(), folder, *own):  # the file may import modules from there
        make_importable(place)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    in_words(file, functools.partial(spec.loader.exec_module, module))
    return module


def make_importable(folder: Path) -> None:
    """Appends a folder to `sys.path`, after everything that is installed, also for processes spawned later.

    It does nothing for a folder that `close` closed.

    Args:
      folder: Folder with modules.
    """
    if str(folder) not in sys.path and not is_closed(folder):
        sys.path.append(str(folder))
        _added.append(str(folder))


def close(folder: str | Path) -> None:
    """Makes modules in a folder impossible to import, from now on: somebody else may have made it.

    Args:
      folder: Folder, whose entries that `make_importable` added to `sys.path` are removed.
    """
    path = Path(folder).absolute()
    if path not in _closed:
        _closed.append(path)
    for place in [place for place in _added if is_closed(place)]:
        _added.remove(place)
        sys.path.remove(place)


def is_closed(path: str | Path | None = None) -> bool:
    """Returns whether a path is in a closed folder; without a path, whether any folder is closed.

    Args:
      path: File or folder, or None.
    """
    if path is None:
        return bool(_closed)
    path = Path(path)
    return any(p.is_relative_to(folder.resolve()) for folder in _closed for p in (path.absolute(), path.resolve()))


def load(path: str, function: str, kind: str) -> Any:
    """Executes a file, calls one of its functions and returns the result.

    Args:
      path: Path of the file, with an optional argument after a colon: `FILE.py` or `FILE.py:ARG`.
      function: Name of the function; it is called with the argument, if there is one.
      kind: Kind of the file in messages, such as "config".

    Raises:
      UserError: There is no such file, it is not a Python file, it raises an error, or it lacks the function; or the
        function takes no argument, or needs one.
    """
    file, arg = split(path)
    if not file.strip():
        raise UserError(f"the name of the {kind} file is empty: give FILE.py. Was a shell variable not set?")
    if arg is not None and not arg.strip():
        raise UserError(f"{path}: the argument after the colon is empty: give one. Was a shell variable not set?")
    check_python(file, kind)
    module = run_file(file, f"{kind}_{Path(file).stem}")
    if not callable(getattr(module, function, None)):
        names = [name for name, value in vars(module).items() if callable(value)]
        raise UserError(f"{file} defines no {function}(arg){nearest(function, names)}")
    called = getattr(module, function)
    _check_signature(called, file, function, arg)
    return in_words(file, lambda: called(*([] if arg is None else [arg])))


def check_python(file: str, kind: str) -> None:
    """Checks that a file exists and is a Python file.

    Args:
      file: Path of the file.
      kind: Kind of the file in messages, such as "config".

    Raises:
      UserError: There is no such file, it is a folder, or its suffix is not `.py`.
    """
    path = Path(file)
    if is_folder(path):
        raise UserError(f"{file} is a folder, not a {kind} file: name a file in it, FILE.py or FILE.py:ARG")
    if not is_file(file):
        raise UserError(f"no {kind} file {shown(file)} ({shipped.looked_in(file)}){_beside(path)}")
    if path.suffix != ".py":
        raise UserError(f"the {kind} file {file!r} is not a Python file: give FILE.py or FILE.py:ARG")


def _check_text(data: bytes, file: str | Path) -> None:
    """Raises UserError if the bytes of a Python file are not text, or text in an encoding that Python does not read."""
    if b"\0" in data:
        decode_text(data, file)  # recognises UTF-16 and UTF-32 by their byte order marks
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise UserError(f"{file}:{line} contains a NUL byte, so it is not a text file: save it as UTF-8")


def _beside(path: Path) -> str:
    folder = path.parent
    names = [other.name for other in folder.glob("*.py")] if is_folder(folder) else []
    return nearest(path.name, names)


def _check_signature(called: Callable, file: str, function: str, arg: str | None) -> None:
    signature = inspect.signature(called)
    try:
        signature.bind(*([] if arg is None else [arg]))
    except TypeError:
        pass
    else:
        return
    if arg is not None and not signature.parameters:
        raise UserError(f"{file} takes no argument: leave out {arg!r}")
    try:
        signature.bind("")
    except TypeError:
        raise UserError(
            f"{function}{signature} of {file} must take one argument, the text ARG of {Path(file).name}:ARG, or none"
        ) from None
    raise UserError(f"{file} needs an argument: {Path(file).name}:ARG. It defines {function}{signature}")


def in_words(file: str | Path, do: Callable[[], T]) -> T:
    """Calls a function; an error other than UserError becomes one line that names the line of a file that led to it.

    Args:
      file: Python file whose code runs.
      do: Function to call.

    Returns:
      The result of the function.

    Raises:
      UserError: The function raised an error.
    """
    try:
        return do()
    except UserError:
        raise
    except SystemExit as error:
        code = "" if error.code is None else repr(error.code)
        raise UserError(
            f"{_place(error, file)}: the file ends the program with sys.exit({code}): remove that call"
        ) from error
    except SyntaxError as error:
        code = (error.text or "").strip()
        line = f":{error.lineno}" if error.lineno else ""
        raise UserError(f"{error.filename or file}{line}: SyntaxError: {error.msg} ({code})") from error
    except Exception as error:
        code = f" ({frame.line})" if (frame := _frame(error, file)) and frame.line else ""
        text = " ".join(str(error).split())
        name = "" if isinstance(error, Unfit) else f"{type(error).__name__}{': ' if text else ''}"
        raise UserError(f"{_place(error, file)}: {name}{text}{code}") from error


def _frame(error: BaseException, file: str | Path) -> traceback.FrameSummary | None:
    """The last frame of an error's traceback that is in `file`."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _same(frame.filename, file)]
    return frames[-1] if frames else None


def _place(error: BaseException, file: str | Path) -> str:
    frame = _frame(error, file)
    return f"{file}:{frame.lineno}" if frame else f"{file}"


def _same(name: str, file: str | Path) -> bool:
    return Path(name).absolute() == Path(file).absolute()
