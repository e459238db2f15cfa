"""The process that is a job, on whatever machine: `python -m jaxvision.launch.job FOLDER -- COMMAND...`.

It starts the command with its output appended to FOLDER/output.log, hands SIGTERM and SIGINT on to it, and writes into
FOLDER when it started and how it ended (see `jaxvision.launch.base`). One lives beside each run: it imports little.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from jaxvision.exits import EXIT_PREEMPTED
from jaxvision.launch.base import EXIT_FILE, JOB_FILE, OUTPUT_FILE
from jaxvision.processes import process_start

CANNOT_START = 127  # as in a shell, for a command that is not there
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(argv: Sequence[str]) -> None:
    """Runs the command of `[FOLDER, "--", COMMAND...]` and leaves with its exit status."""
    if len(argv) < 3 or argv[1] != "--":
        sys.exit("usage: python -m jaxvision.launch.job FOLDER -- COMMAND...")
    code = run(Path(argv[0]), argv[2:])
    sys.exit(code if code >= 0 else 128 - code)


def run(folder: Path, command: Sequence[str]) -> int:
    """Runs `command` as the job of `folder`; returns its exit status, -N where signal N killed it.

    A command that was told to stop and died of that, before it could listen, counts as preempted: it has left with
    nothing half-written and the same command goes on. Must be called in the main thread, which handles signals.
    """
    child, received = None, []

    def forward(number: int, _: FrameType | None) -> None:
        received.append(number)
        if child is not None:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    pid = os.getpid()
    _write(folder / JOB_FILE, {"host": socket.gethostname(), "pid": pid, "start": process_start(pid)})
    with (folder / OUTPUT_FILE).open("ab") as output:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=dies_with_parent(),
            )
        except OSError as error:
            output.write(f"cannot start {command[0]}: {error.strerror}\n".encode())
            code = CANNOT_START
        else:
            for number in received[:1]:  # it came before there was a child to hand it to
                child.send_signal(number)
            code = child.wait()
    if -code in received:
        code = EXIT_PREEMPTED
    _write(folder / EXIT_FILE, {"code": code})
    return code


def dies_with_parent() -> Callable[[], None] | None:
    """What the child calls before it becomes the command: the kernel shall kill it when this process dies.

    Otherwise a job whose own process was killed by SIGKILL would count as lost, and its command would go on writing to
    the workdir beside the one that was submitted instead. Only Linux has it.
    """
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def arrange() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os.kill(os.getpid(), signal.SIGKILL)

    return arrange


def _write(path: Path, value: dict) -> None:
    temporary = path.with_name(f".{path.name}-{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value) + "\n")
    os.replace(temporary, path)


if __name__ == "__main__":
    main(sys.argv[1:])
