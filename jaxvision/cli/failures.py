"""One line for an error that was not foreseen; the traceback goes to a file.

JAXVISION_TRACEBACK=1 prints the traceback as well.
"""

import contextlib
import errno
import os
import re
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from jaxvision import own_modules
from jaxvision.errors import UserError
from jaxvision.exits import EXIT_FAILED

VARIABLE = "JAXVISION_TRACEBACK"
LEAVING_SECONDS = 60.0  # from the last message of a command that failed to the end of its process
MAX_TEXT = 400  # characters of an exception's text that the line repeats

# What to do, by the error of the system. Libraries wrap it in their own exceptions, with its text in theirs.
_RESUME = "then run the same command to resume from the last checkpoint"
_ADVICE = {
    errno.ENOSPC: f"free some space; {_RESUME}",
    errno.EDQUOT: f"free some of your quota; {_RESUME}",
    errno.EROFS: "check whether it is mounted read-only, or became so after an error of the disk (dmesg)",
    errno.EACCES: "check that this account may read and write there (ls -ld)",
    errno.EPERM: "check that this account may change it (ls -ld, lsattr)",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or set data.threads lower",
    errno.ENFILE: "the machine has too many open files: close some programs",
    errno.EIO: "the disk or its connection fails: check it (dmesg)",
    errno.ESTALE: f"the network file system or the folder was replaced: check that the workdir is there; {_RESUME}",
    errno.ENOTCONN: f"the mount is gone: mount it again; {_RESUME}",
    errno.ENODEV: f"the device is gone: bring it back; {_RESUME}",
    errno.EFBIG: f"the file is larger than ulimit -f or the file system allows: raise the limit; {_RESUME}",
    errno.ENOENT: "check whether it was removed while the program ran",
    errno.ETIMEDOUT: f"the network or its server does not answer: wait until it does; {_RESUME}",
}
# These are the reason whenever they occur. Others are often handled and mean nothing, such as a file that is not there.
_SERIOUS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EFBIG, errno.EMFILE}
_NUMBERS = {os.strerror(number): number for number in _ADVICE}
# TensorStore: `Error writing "/a/b.tmp" [...] [OS error 28: ENOSPC No space left on device]`.
_QUOTED = re.compile(r"""["'](?:file://)?(/[^"'\n]{1,300})["']""")


def tell(error: BaseException, command: str, words: list[str], folder: str | None) -> int:
    """Prints one line about an exception that was not foreseen, and writes its traceback to a file.

    If something else failed while the program ended because of a UserError, the UserError decides the status.

    Args:
      error: Exception that ended the command.
      command: Name of the command, such as "train".
      words: Words of the command line after that name.
      folder: Workdir of the command, or its --out. If it holds a run, sweep or study, the traceback is written to its
        subfolder `errors`; else to the folder for temporary files.

    Returns:
      The exit status.
    """
    text = "".join(traceback.format_exception(error))
    if os.environ.get(VARIABLE, "0") not in ("", "0"):
        print(text, file=sys.stderr)
    file = _store(_report(text, command, words), command, folder)
    where = f"traceback: {file}" if file else f"the traceback cannot be written to a file; {VARIABLE}=1 prints it"
    foreseen = next((one for one, _ in _chain(error) if isinstance(one, UserError)), None)
    what = line(error, folder)
    message = f"{foreseen} (another error while the program ended: {what})" if foreseen else what
    print(f"jaxvision: {message} ({where})", file=sys.stderr)
    return foreseen.status if foreseen else EXIT_FAILED


def end_soon(code: int) -> None:
    """Ends this process after `LEAVING_SECONDS`, in case threads of libraries wait for something that failed.

    Args:
      code: Exit status.
    """
    timer = threading.Timer(LEAVING_SECONDS, os._exit, [code])
    timer.daemon = True
    timer.start()


def line(error: BaseException, folder: str | None = None) -> str:
    """Returns one line that says what happened and what to do.

    Args:
      error: Exception to describe.
      folder: Folder that the line names if the system does not say which file it was.

    >>> line(OSError(28, "No space left on device", "/runs/a/metrics.jsonl"))
    'No space left on device: /runs/a/metrics.jsonl; free some space; then run the same command to resume
    from the last checkpoint'
    """
    chain = list(_chain(error))
    for one, meant in reversed(chain):  # the first cause says most
        if described := _of_system(one, meant, folder):
            return described
    if any(isinstance(one, MemoryError) for one, _ in chain):
        return "the memory of this machine is used up: try a smaller data.batch_size or fewer data.threads"
    text = " ".join(str(error).split())
    if "RESOURCE_EXHAUSTED" in text or "Out of memory" in text:
        advice = "try a smaller data.batch_size, or train.accumulate"
        return f"the memory of the device is used up: {advice}. {text[:MAX_TEXT]}"
    short = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."
    if place := next((place for one, _ in chain if (place := own_modules.error_place(one))), None):
        return f"{type(error).__name__}{': ' if short else ''}{short}. It was raised in your own code, {place}"
    return f"{type(error).__name__}{': ' if short else ''}{short}. This was not foreseen: it may be a bug in jaxvision"


def _of_system(error: BaseException, meant: bool, folder: str | None) -> str | None:
    """The line for an error of the system: one with its number, or a library's whose text repeats that of the system.

    None for another error.
    """
    text = str(error)
    message: str | None
    if isinstance(error, OSError) and error.errno is not None:
        number, message = error.errno, error.strerror or os.strerror(error.errno)
        name = error.filename2 or error.filename
        name = os.fsdecode(name) if isinstance(name, bytes | os.PathLike) else name
    else:
        message = next((words for words in _NUMBERS if words in text), None)
        if message is None:
            return None
        number, name = _NUMBERS[message], None
    if not (meant or number in _SERIOUS):
        return None
    quoted = _QUOTED.search(text)
    name = name if name is not None else quoted[1] if quoted else None
    advice = _ADVICE.get(number)
    where = f": {name}" if name is not None else f", probably in {folder}" if folder else ""
    return message + where + (f"; {advice}" if advice else "")


def _chain(error: BaseException) -> Iterator[tuple[BaseException, bool]]:
    """An exception and its causes, the first cause last; the exceptions of a group come one after the other.

    With each comes True if it is the exception itself or was raised `from`, False if it was only being handled when the
    next one was raised.
    """
    seen, todo = set(), [(error, True)]
    while todo:
        one, meant = todo.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one, meant
        if isinstance(one, BaseExceptionGroup):
            todo += [(inner, meant) for inner in one.exceptions]
        if one.__cause__ is not None:
            todo.append((one.__cause__, meant))
        elif one.__context__ is not None and not one.__suppress_context__:
            todo.append((one.__context__, False))


def _report(text: str, command: str, words: list[str]) -> str:
    head = [
        f"time      {time.strftime('%Y-%m-%dT%H:%M:%S%z')}",
        f"command   jaxvision {command} {' '.join(words)}",
        f"folder    {_folder()}",
        f"process   {os.getpid()} on {socket.gethostname()}, rank {_rank()}",
    ]
    with contextlib.suppress(Exception):
        from jaxvision import workdir

        head.append("versions  " + ", ".join(f"{name} {version}" for name, version in workdir.versions().items()))
        head.append(f"commit    {workdir.git_commit()}")
    return "\n".join(head) + "\n\n" + text


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return "removed"


def _rank() -> int:
    """The number of this process in its job, found without asking the devices, which may be what failed."""
    if "jax" in sys.modules:
        with contextlib.suppress(Exception):
            from jax._src import distributed  # jax.process_index would start a backend

            if (rank := distributed.global_state.process_id) is not None:
                return rank
    for name in ("JAX_PROCESS_ID", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"):
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return 0


def _store(text: str, command: str, folder: str | None) -> str | None:
    """Writes the report to the folder of the run, else to the temporary folder; returns its path, or None if neither
    can be written."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{command}-rank{_rank()}-{os.getpid()}.txt"
    with contextlib.suppress(Exception):
        place = _errors(folder)
        if place is not None:
            from jaxvision import storage

            storage.make_folder(place)
            storage.write(place / name, text)
            return str(place / name)
    with contextlib.suppress(Exception):
        place = Path(tempfile.gettempdir(), f"jaxvision-{name}")
        with place.open("x") as file:  # everybody may write to this folder: follow no link
            file.write(text)
        return str(place)
    return None


def _errors(folder: str | None):
    """The subfolder for tracebacks; None if `folder` holds no run, sweep or study."""
    if not folder:
        return None
    from jaxvision import storage

    path = storage.path(folder)
    marks = ("config.json", "sweep.json", "runs")
    return path / "errors" if any((path / mark).exists() for mark in marks) else None
