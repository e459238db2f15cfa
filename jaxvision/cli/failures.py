"""What went wrong in one line; the traceback goes to a file.

JAXVISION_TRACEBACK=1 prints it as well.
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
LEAVING_SECONDS = 60.0  # from the last words of a command that failed to the end of its process
MOST = 400  # characters of a line about an exception that nobody foresaw

# What to do, by what the system says. Libraries wrap that in their own exceptions, with the system's words in the text.
_RESUME = "then run the same command to resume from the last checkpoint"
_ADVICE = {
    errno.ENOSPC: f"free some space; {_RESUME}",
    errno.EDQUOT: f"free some of your quota; {_RESUME}",
    errno.EROFS: "is it mounted read-only, or did the kernel make it so after an error of the disk (dmesg)?",
    errno.EACCES: "may this account read and write there (ls -ld)?",
    errno.EPERM: "may this account change it (ls -ld, lsattr)?",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or set data.threads lower",
    errno.ENFILE: "the machine has too many open files",
    errno.EIO: "the disk or its connection fails (dmesg)",
    errno.ESTALE: f"the network file system or the folder was replaced: look whether the workdir is there; {_RESUME}",
    errno.ENOTCONN: f"the mount is gone; mount it again; {_RESUME}",
    errno.ENODEV: f"the device is gone: bring it back; {_RESUME}",
    errno.EFBIG: f"a file would be larger than allowed (ulimit -f, or the file system): make room; {_RESUME}",
    errno.ENOENT: "was it removed while the program ran?",
    errno.ETIMEDOUT: f"the network or its server does not answer: wait until it does; {_RESUME}",
}
# Those that are the reason whenever they occur. Others are handled as a matter of course: a file that is not there.
_SERIOUS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EFBIG, errno.EMFILE}
_TOLD = {os.strerror(number): number for number in _ADVICE}
# TensorStore: `Error writing "/a/b.tmp" [...] [OS error 28: ENOSPC No space left on device]`.
_QUOTED = re.compile(r"""["'](?:file://)?(/[^"'\n]{1,300})["']""")


def tell(error: BaseException, command: str, words: list[str], folder: str | None) -> int:
    """Prints one line about an exception that was not foreseen, and leaves its traceback in a file.

    Where a UserError was on its way and something else failed when the program ended because of it, that one counts.

    Args:
      error: the exception.
      command: name of the command, such as "train".
      words: words of the command line behind it.
      folder: workdir of the command, or its --out. The traceback goes into the folder `errors` in it, where
        a run, sweep or study lies there already; else into the folder for temporary files.

    Returns:
      The exit status.
    """
    text = "".join(traceback.format_exception(error))
    if os.environ.get(VARIABLE, "0") not in ("", "0"):
        print(text, file=sys.stderr)
    file = _store(_report(text, command, words), command, folder)
    where = f"traceback: {file}" if file else f"the traceback cannot be stored; {VARIABLE}=1 prints it"
    foreseen = next((one for one, _ in _chain(error) if isinstance(one, UserError)), None)
    what = line(error, folder)
    told = f"{foreseen} (and while it ended: {what})" if foreseen else what
    print(f"jaxvision: {told} ({where})", file=sys.stderr)
    return foreseen.status if foreseen else EXIT_FAILED


def end_soon(code: int) -> None:
    """Ends this process in a minute, should it hang: threads of libraries may wait for what has failed."""
    timer = threading.Timer(LEAVING_SECONDS, os._exit, [code])
    timer.daemon = True
    timer.start()


def line(error: BaseException, folder: str | None = None) -> str:
    """What happened and what to do, in one line.

    Args:
      error: the exception.
      folder: named where the system does not say which file it was.

    >>> line(OSError(28, "No space left on device", "/runs/a/metrics.jsonl"))
    'No space left on device: /runs/a/metrics.jsonl; free some space; then run the same command to resume
    from the last checkpoint'
    """
    chain = list(_chain(error))
    for one, meant in reversed(chain):  # the first cause is the truest
        if found := _of_system(one, meant, folder):
            return found
    if any(isinstance(one, MemoryError) for one, _ in chain):
        return "the memory of this machine is used up; a smaller data.batch_size or fewer data.threads may help"
    text = " ".join(str(error).split())
    if "RESOURCE_EXHAUSTED" in text or "Out of memory" in text:
        advice = "a smaller data.batch_size may help, or train.accumulate"
        return f"the memory of the device is used up; {advice}: {text[:MOST]}"
    short = text if len(text) <= MOST else f"{text[:MOST]}..."
    if place := next((found for one, _ in chain if (found := own_modules.place(one))), None):
        return f"{type(error).__name__}{': ' if short else ''}{short}. It was raised in your own code, {place}"
    return (
        f"{type(error).__name__}{': ' if short else ''}{short}. This was not foreseen: it may be a fault of jaxvision"
    )


def _of_system(error: BaseException, meant: bool, folder: str | None) -> str | None:
    """What the system said, by the exception's number or by its words in the text of a library."""
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        number, said = error.errno, error.strerror or os.strerror(error.errno)
        name = error.filename2 or error.filename
        name = os.fsdecode(name) if isinstance(name, bytes | os.PathLike) else name
    else:
        said = next((words for words in _TOLD if words in text), None)
        number, name = _TOLD.get(said), None
    if number is None or not (meant or number in _SERIOUS):
        return None
    found = _QUOTED.search(text)
    name = name if name is not None else found[1] if found else None
    advice = _ADVICE.get(number)
    where = f": {name}" if name is not None else f", probably in {folder}" if folder else ""
    return said + where + (f"; {advice}" if advice else "")


def _chain(error: BaseException) -> Iterator[tuple[BaseException, bool]]:
    """An exception and what it came from, to the first cause; those of a group one after the other.

    With each, whether it is the exception itself or the stated cause of one, not merely what was handled at the time.
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
    """The number of this process in its job, without a question to the devices, which may be what failed."""
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
    """Writes the report, into the folder of the run if that can be; returns where, or None where no place takes it."""
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
        with place.open("x") as file:  # the folder is everybody's: no link is followed
            file.write(text)
        return str(place)
    return None


def _errors(folder: str | None):
    """The folder for the failures of what lies in `folder`; None where no run, sweep or study lies there."""
    if not folder:
        return None
    from jaxvision import storage

    path = storage.path(folder)
    marks = ("config.json", "sweep.json", "runs")
    return path / "errors" if any((path / mark).exists() for mark in marks) else None
