"""The process of a job, on any machine: `python -m jaxvision.launch.job FOLDER -- COMMAND...`.

It starts the command with its output appended to FOLDER/output.log, passes SIGTERM and SIGINT on to it, and writes to
FOLDER when it started and how it ended (see `jaxvision.launch.base`). There is one for each run, so it imports little.
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

CANNOT_START = 127  # the status of a shell for a command that does not exist
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(argv: Sequence[str]) -> None:
    """Runs a command as a job and exits with its status.

    Args:
      argv: Words `[FOLDER, "--", COMMAND...]`.

    Raises:
      SystemExit: The command has ended.
    """
    if len(argv) < 3 or argv[1] != "--":
        sys.exit("usage: python -m jaxvision.launch.job FOLDER -- COMMAND...")
    code = run_job(Path(argv[0]), argv[2:])
    sys.exit(code if code >= 0 else 128 - code)


def run_job(folder: Path, command: Sequence[str]) -> int:
    """Runs a command as a job. Call it in the main thread, which handles signals.

    A command that died of a signal passed on to it, before it handled signals, counts as preempted: it left nothing
    half-written, and the same command resumes.

    Args:
      folder: Folder of the job.
      command: Words of the command line.

    Returns:
      The exit status of the command; -N if signal N killed it.
    """
    child: subprocess.Popen[bytes] | None = None
    received: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        received.append(number)
        if child is not None:
            child.send_signal(number)

    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, forward)
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
            for number in received[:1]:  # it came before the child existed
                child.send_signal(number)
            code = child.wait()
    if -code in received:
        code = EXIT_PREEMPTED
    _write(folder / EXIT_FILE, {"code": code})
    return code


def dies_with_parent() -> Callable[[], None] | None:
    """Returns a `preexec_fn` that makes the kernel kill the child when this process dies; None outside Linux.

    Without it, a job whose own process was killed by SIGKILL would count as lost and be submitted again, while its
    command still writes to the same workdir.
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
