"""Runs as processes of this machine, which continue when the controller ends.

A job is a session of its own, so that Ctrl-C in the controller's terminal does not reach it. Its id consists of
process id, start and host. So it names one process even if the process id is reused, and a controller on another host
does not take the job for lost.
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
from jaxvision.launch.base import JOB_FILE, Status, prepare, status
from jaxvision.processes import process_start
from jaxvision.reading import read_record
from jaxvision.registry import part

SLOT_FILE = "slot.json"  # the share of the machine that a job has


@part("launcher", "local")
class LocalLauncher:
    """Starts each job at once as a process.

    The machine is divided into slots, and a job gets the slot with the fewest jobs. With GPUs, a slot is `gpus` of them
    (CUDA_VISIBLE_DEVICES). Without GPUs, a slot is an equal share of the CPUs, if the system can bind processes to CPUs
    (Linux), so that each run does not start a thread for every CPU. If there are more slots than CPUs, slots share one.

    Args:
      slots: Number of jobs to run at once; None for as many as the GPUs allow, or one with all CPUs.
      gpus: Number of GPUs of each job; None for one if the machine has any (CUDA_VISIBLE_DEVICES, else nvidia-smi).

    Raises:
      UserError: There are no slots, or fewer GPUs than the slots need.
    """

    def __init__(
        self, slots: Annotated[int, Range(1, 10_000)] | None = None, gpus: Annotated[int, Range(0, 1024)] | None = None
    ):
        devices = [] if gpus == 0 else visible_gpus()
        gpus = min(1, len(devices)) if gpus is None else gpus
        cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if gpus > len(devices):
            raise UserError(f"local(gpus={gpus}) needs more GPUs than this machine shows ({len(devices)}): give fewer")
        count = slots if slots is not None else len(devices) // gpus if gpus else 1
        if count < 1 or (gpus and count * gpus > len(devices)):
            raise UserError(
                f"local(slots={count}, gpus={gpus}) does not fit this machine, which shows {len(devices)} GPUs: change "
                "slots or gpus"
            )
        self._gpus = [devices[i * gpus : (i + 1) * gpus] for i in range(count)]
        starts = [i * len(cpus) // count for i in range(count + 1)]
        self._cpus = [cpus[i : max(j, i + 1)] for i, j in pairwise(starts)]
        self._bind = bool(cpus) and not gpus and count > 1
        self._slots: dict[str, int] = {}  # slots of the jobs that were alive when last seen

    def submit(self, command: Sequence[str], folder: Path, name: str) -> str:
        """Starts a command at once.

        Args:
          command: Words of the command line.
          folder: Folder of the job.
          name: Unused name.

        Returns:
          The id of the job, PROCESS-START@HOST.
        """
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
        if self._bind:  # not by preexec_fn, which would fork a process that may have JAX's threads
            os.sched_setaffinity(process.pid, self._cpus[slot])
        job = _id(process.pid, process_start(process.pid))
        self._slots[job] = slot
        return job

    def find(self, folder: Path, name: str) -> str | None:
        """Finds a job by the id in its folder, or by its command line if it has not written the id yet.

        Args:
          folder: Folder of the job.
          name: Unused name.

        Returns:
          The id of the job if it is alive, else None.
        """
        folder = Path(folder).absolute()
        record = read_record(folder / JOB_FILE, pid=int, start=(str, type(None)), host=str)
        if record is not None:
            job = _id(record["pid"], record["start"], record["host"])
            return job if record["host"] != socket.gethostname() or _alive(job) else None
        lines = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True).stdout
        for line in lines.splitlines():
            pid, _, words = line.strip().partition(" ")
            if f"-m jaxvision.launch.job {folder} -- " in words and (start := process_start(int(pid))):
                return _id(int(pid), start)
        return None

    def poll(self, jobs: Mapping[str, Path]) -> dict[str, Status]:
        """Returns the states of jobs.

        Args:
          jobs: Folders of the jobs by id.

        Raises:
          UserError: A job runs on another host.
        """
        states = {}
        for job, folder in jobs.items():
            alive = _alive(job)
            states[job] = status(Path(folder), alive)
            if alive and job not in self._slots and (record := read_record(Path(folder) / SLOT_FILE, slot=int)):
                self._slots[job] = record["slot"]
        return states

    def cancel(self, job: str, folder: Path) -> None:
        """Sends SIGTERM to a job, which passes it on to its command.

        Args:
          job: Id of the job.
          folder: Unused folder.
        """
        if _alive(job):
            os.kill(_parts(job)[0], signal.SIGTERM)


def visible_gpus() -> list[str]:
    """Returns the GPUs that a process may use, as CUDA_VISIBLE_DEVICES names them; JAX, which would occupy them, is not
    asked."""
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
    if (match := re.fullmatch(r"(\d{1,10})-(.*)@([^@]*)", job, re.DOTALL)) is None:
        raise UserError(
            f"{shown(job)} is not a job of the launcher local (PROCESS-START@HOST): give the launcher that started it"
        )
    return int(match[1]), match[2], match[3]


def _alive(job: str) -> bool:
    pid, start, host = _parts(job)
    if host != socket.gethostname():
        raise UserError(f"the job {job} runs on {host}, but this is {socket.gethostname()}: run the command on {host}")
    return process_start(pid) == start
