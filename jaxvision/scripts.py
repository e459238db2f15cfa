"""Python files of users: configs, sweeps, studies. What they raise becomes one line that names their file and line."""

import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxvision.errors import UserError, nearest, shown
from jaxvision.reading import decode_text, is_file, is_folder, reading

folders: list[Path] = []  # of the files that were executed, which own modules may lie beside
_added: list[str] = []  # to sys.path
_closed: list[Path] = []  # folders of runs, which may be somebody else's


class Unfit(TypeError):
    """A value that a key of a config cannot hold, in words; the file and its line are added where it is caught."""


def split(path: str) -> tuple[str, str | None]:
    """The file and the argument of `FILE.py:ARG`; None where there is no colon.

    >>> split("configs/resnet.py:20"), split("runs/a:b/config.json"), split("study.py:small/lr:3")
    (('configs/resnet.py', '20'), ('runs/a:b/config.json', None), ('study.py', 'small/lr:3'))
    """
    found = re.match(r"(.*?\.\w+):(.*)", str(path), re.DOTALL)
    return (found[1], found[2]) if found and not Path(path).exists() else (str(path), None)


def run(file: str | Path, name: str) -> ModuleType:
    """Executes a Python file as a module.

    Args:
      file: to execute.
      name: of the module.

    Raises:
      UserError: the file cannot be read or executed; with the line of it at which that happened.
    """
    with reading(file, only=OSError):
        _check_text(Path(file).read_bytes(), file)
    folder = Path(os.path.abspath(file)).parent  # without "..", for messages and checkpoints
    if folder not in folders:
        folders.append(folder)
    for place in (Path.cwd(), folder):  # so that it can import what lies there
        make_importable(place)
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    in_words(file, lambda: spec.loader.exec_module(module))
    return module


def make_importable(folder: Path) -> None:
    """Puts a folder at the end of `sys.path`, behind everything that is installed; processes that are spawned get it.

    Not one that lies in a folder of `closed`.
    """
    if str(folder) not in sys.path and not is_closed(folder):
        sys.path.append(str(folder))
        _added.append(str(folder))


def close(folder: str | Path) -> None:
    """Takes back what `make_importable` put on `sys.path` in a folder that somebody else may have made, for ever."""
    path = Path(folder).absolute()
    if path not in _closed:
        _closed.append(path)
    for place in [place for place in _added if is_closed(place)]:
        _added.remove(place)
        sys.path.remove(place)


def is_closed(path: str | Path | None = None) -> bool:
    """Whether a path lies in a folder that was closed; without a path, whether any was."""
    if path is None:
        return bool(_closed)
    path = Path(path)
    return any(p.is_relative_to(folder.resolve()) for folder in _closed for p in (path.absolute(), path.resolve()))


def load(path: str, function: str, kind: str) -> Any:
    """What `function` of a file returns, given as `FILE.py` or `FILE.py:ARG`.

    Args:
      path: of the file, with an optional argument after a colon.
      function: name of the function, called with the argument where there is one.
      kind: what the file holds, such as "config", for messages.

    Raises:
      UserError: there is no such file, it is no Python file, it fails, or it has no such function or argument.
    """
    file, arg = split(path)
    if not file.strip():
        raise UserError(f"the name of the {kind} file is empty: was a shell variable not set?")
    if arg is not None and not arg.strip():
        raise UserError(f"{path}: the argument after the colon is empty: was a shell variable not set?")
    check_python(file, kind)
    module = run(file, f"{kind}_{Path(file).stem}")
    if not callable(getattr(module, function, None)):
        names = [name for name, value in vars(module).items() if callable(value)]
        raise UserError(f"{file} defines no {function}(arg){nearest(function, names)}")
    called = getattr(module, function)
    _check_signature(called, file, function, arg)
    return in_words(file, lambda: called(*([] if arg is None else [arg])))


def check_python(file: str, kind: str) -> None:
    """Raises UserError unless `file` is there and is a Python file."""
    path = Path(file)
    if is_folder(path):
        raise UserError(f"{file} is a folder, not a {kind} file: name a file in it, FILE.py or FILE.py:ARG")
    if not is_file(file):
        raise UserError(f"no {kind} file {shown(file)} (looked in {Path.cwd()}){_beside(path)}")
    if path.suffix != ".py":
        raise UserError(f"a {kind} file is a Python file, FILE.py or FILE.py:ARG, not {file!r}")


def _check_text(data: bytes, file: str | Path) -> None:
    """Raises UserError where the bytes of a Python file are no text, or of an encoding that Python does not read."""
    if b"\0" in data:
        decode_text(data, file)  # UTF-16 and UTF-32 are told by their marks
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise UserError(f"{file}:{line} holds a NUL byte, so it is no text file: save it as UTF-8")


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
        raise UserError(f"{file} takes no argument, so not {arg!r}")
    try:
        signature.bind("")
    except TypeError:
        raise UserError(
            f"{function}{signature} of {file} must take one argument, the text ARG of {Path(file).name}:ARG, or none"
        ) from None
    raise UserError(f"{file} needs an argument: {Path(file).name}:ARG. It defines {function}{signature}")


def in_words(file: str | Path, do: Callable[[], Any]) -> Any:
    """What `do` returns; what it raises, other than UserError, as one line with the line of `file` that led to it."""
    try:
        return do()
    except UserError:
        raise
    except SystemExit as error:
        code = "" if error.code is None else repr(error.code)
        raise UserError(
            f"{_place(error, file)}: the file ends the program (sys.exit({code})): what is read of it must return"
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
    """The last place in `file` on the way to an error."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _same(frame.filename, file)]
    return frames[-1] if frames else None


def _place(error: BaseException, file: str | Path) -> str:
    frame = _frame(error, file)
    return f"{file}:{frame.lineno}" if frame else f"{file}"


def _same(name: str, file: str | Path) -> bool:
    return Path(name).absolute() == Path(file).absolute()
