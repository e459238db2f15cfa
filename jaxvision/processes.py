"""The identity of a process, in a form that another process can check. Imports the standard library only."""

import getpass
import os
import socket
import subprocess
from pathlib import Path
from typing import Any


def process_start(pid: int) -> str | None:
    """Returns when a process of this host started, in the system's own format, or None if it has ended.

    Process ids are reused; together with the start, an id names one process.

    Args:
      pid: Id of the process.
    """
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()  # the name of the program may hold anything
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, start = fields[0], fields[19]
    else:
        words = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True).stdout
        state, _, start = words.strip().partition(" ")
    return start.strip() if state and state[0] not in "ZX" else None  # a zombie has ended


def describe() -> dict[str, Any]:
    """Describes this process: user, host, process id, start, and an identity of the machine, since hosts may share a
    name."""
    pid = os.getpid()
    host = socket.gethostname()
    return {"user": _user(), "host": host, "pid": pid, "started": process_start(pid), "machine": _here()}


def is_alive(described: dict[str, Any]) -> bool | None:
    """Returns whether a process is alive; None if that is not visible from here.

    It is visible for processes of this machine since its last boot, in the same namespace of process ids (containers).

    Args:
      described: Description of the process, from `describe`.
    """
    if described.get("host") != socket.gethostname() or described.get("machine") != _here():
        return None
    pid = described.get("pid")
    if not isinstance(pid, int):
        return None
    return process_start(pid) == described.get("started")


def _here() -> str:
    """Identity of this boot and of this namespace of process ids; empty if the system does not give them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return str(os.getuid())
