"""Which process of which machine one is, in words that another process can check. Imports the standard library only."""

import getpass
import os
import socket
import subprocess
from pathlib import Path
from typing import Any


def process_start(pid: int) -> str | None:
    """When a process of this host started, in the system's own terms; None where it has ended.

    Process ids are given out again; with its start, an id means one process.
    """
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()  # the name before it may hold anything
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, start = fields[0], fields[19]
    else:
        words = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True).stdout
        state, _, start = words.strip().partition(" ")
    return start.strip() if state and state[0] not in "ZX" else None  # a zombie has ended


def describe() -> dict[str, Any]:
    """This process: user, host, process id and start, and what tells its host from others of the same name."""
    pid = os.getpid()
    host = socket.gethostname()
    return {"user": _user(), "host": host, "pid": pid, "started": process_start(pid), "machine": _here()}


def is_alive(described: dict[str, Any]) -> bool | None:
    """Whether a process that `describe` told of is alive; None where that cannot be seen from here.

    It can be seen of processes of this boot of this machine, in the same namespace of process ids (of containers).
    """
    if described.get("host") != socket.gethostname() or described.get("machine") != _here():
        return None
    pid = described.get("pid")
    if not isinstance(pid, int):
        return None
    return process_start(pid) == described.get("started")


def _here() -> str:
    """Identity of this boot and of this namespace of process ids, as far as the system tells them."""
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
