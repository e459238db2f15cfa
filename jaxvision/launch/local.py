"""Runs as processes of this machine, which go on when the controller ends.

A job is a session of its own, so that Ctrl-C in the controller's terminal does not reach it. Its id says process,
start and host: that names one process even after the process id was given out again, and a controller on another host
does not take it for lost.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from jaxvision.arguments import Range
from jaxvision.errors import UserError, shown
from jaxvision.found import part
from jaxvision.launch.base import JOB_FILE, Status, prepare, status
from jaxvision.processes import process_start
from jaxvision.reading import read_record

SLOT_FILE = "slot.json"  # which share of the machine a job has


@part("launcher", "local")
class LocalLauncher:
    """Starts each job at once as a process; see `jaxvision.launch.base.Launcher`.

    The machine is dealt out in slots, and a job gets the one with the fewest jobs. With GPUs a slot is `gpus` of them
    (CUDA_VISIBLE_DEVICES). Without, it is an equal share of the CPUs where the system can bind processes to some
    (Linux), so that runs beside one another do not each start a thread for every CPU; slots beyond the CPUs share one.

    Args:
      slots: jobs that are meant to run at once; None: as many as the GPUs give, or one with all CPUs.
      gpus: of each job; None: one where the machine has any (CUDA_VISIBLE_DEVICES, else nvidia-smi), else none.

    Raises:
      UserError: no slots, or more GPUs than there are.
    """

    def __init__(
        self, slots: Annotated[int, Range(1, 10_000)] | None = None, gpus: Annotated[int, Range(0, 1024)] | None = None
    ):
        devices = [] if gpus == 0 else visible_gpus()
        gpus = min(1, len(devices)) if gpus is None else gpus
        cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if gpus > len(devices):
            raise UserError(f"local(gpus={gpus}): this machine shows {len(devices)} GPUs")
        count = slots if slots is not None else len(devices) // gpus if gpus else 1
        if count < 1 or (gpus and count * gpus > len(devices)):
            raise UserError(f"local(slots={count}, gpus={gpus}): this machine shows {len(devices)} GPUs")
        self._gpus = [devices[i * gpus : (i + 1) * gpus] for i in range(count)]
        starts = [i * len(cpus) // count for i in range(count + 1)]
        self._cpus = [cpus[i : max(j, i + 1)] for i, j in pairwise(starts)]
        self._bind = bool(cpus) and not gpus and count > 1
        self._slots: dict[str, int] = {}  # of the jobs that were alive when last seen

    def submit(self, command: Sequence[str], folder: Path, name: str) -> str:
        """Starts `command`; returns PROCESS-START@HOST."""
        folder = Path(folder).absolute()
        prepare(folder)
        self._slots = {job: slot for job, slot in self._slots.items() if _alive(job)}
        taken = list(self._slots.values())
        slot = min(range(len(self._gpus)), key=taken.count)
        (folder / SLOT_FILE).write_text(json.dumps({"slot": slot}) + "\n")
        environment = {**os.environ}
        if self._gpus[slot]:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self._gpus[slot])
        process = subprocess.Popen(
            [sys.executable, "-m", "jaxvision.launch.job", str(folder), "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=environment,
        )
        if self._bind:  # not by preexec_fn, which makes a fork of a process that may have JAX's threads
            os.sched_setaffinity(process.pid, self._cpus[slot])
        job = _id(process.pid, process_start(process.pid))
        self._slots[job] = slot
        return job

    def find(self, folder: Path, name: str) -> str | None:
        """The id that the job wrote into its folder, if it is alive; else that of a process which is about to."""
        folder = Path(folder).absolute()
        found = read_record(folder / JOB_FILE, pid=int, start=(str, type(None)), host=str)
        if found is not None:
            job = _id(found["pid"], found["start"], found["host"])
            return job if found["host"] != socket.gethostname() or _alive(job) else None
        lines = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True).stdout
        for line in lines.splitlines():
            pid, _, words = line.strip().partition(" ")
            if f"-m jaxvision.launch.job {folder} -- " in words and (start := process_start(int(pid))):
                return _id(int(pid), start)
        return None

    def poll(self, jobs: Mapping[str, Path]) -> dict[str, Status]:
        """States of the jobs.

        Raises:
          UserError: a job runs on another host.
        """
        found = {}
        for job, folder in jobs.items():
            alive = _alive(job)
            found[job] = status(Path(folder), alive)
            if alive and job not in self._slots and (known := read_record(Path(folder) / SLOT_FILE, slot=int)):
                self._slots[job] = known["slot"]
        return found

    def cancel(self, job: str, folder: Path) -> None:
        """Sends SIGTERM to the job, which hands it on to the command."""
        if _alive(job):
            os.kill(_parts(job)[0], signal.SIGTERM)


def visible_gpus() -> list[str]:
    """The GPUs that a process may use, as CUDA_VISIBLE_DEVICES names them; found without JAX, which would take them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu for gpu in named.split(",") if gpu and gpu != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    asked = subprocess.run(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True)
    return asked.stdout.split() if asked.returncode == 0 else []


def _id(pid: int, start: str | None, host: str | None = None) -> str:
    return f"{pid}-{start}@{host or socket.gethostname()}"


def _parts(job: str) -> tuple[int, str, str]:
    if (found := re.fullmatch(r"(\d{1,10})-(.*)@([^@]*)", job, re.DOTALL)) is None:
        raise UserError(f"{shown(job)} is no job of this launcher, PROCESS-START@HOST: was it another's?")
    return int(found[1]), found[2], found[3]


def _alive(job: str) -> bool:
    pid, start, host = _parts(job)
    if host != socket.gethostname():
        raise UserError(f"the job {job} runs on {host}, and this is {socket.gethostname()}: go on there")
    return process_start(pid) == start
