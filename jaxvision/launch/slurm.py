"""Runs as jobs of a SLURM cluster whose nodes share a file system with the controller.

Trials go through submitit. One run over several nodes is an sbatch script of our own, which `jaxvision launch --slurm`
writes: submitit's requeueing neither waits until a run has saved itself nor knows the exit status 85.

SLURM tells only whether a job is still there (squeue; accounting may be off). What came of it says its folder.
"""

import os
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from jaxvision.arguments import LINE, Range, check_value
from jaxvision.errors import UserError
from jaxvision.exits import EXIT_HUNG, EXIT_PREEMPTED
from jaxvision.found import part
from jaxvision.launch import job as jobs
from jaxvision.launch import options as allowed
from jaxvision.launch.base import Status, prepare, status
from jaxvision.launch.options import AMOUNT, GIGABYTES, JOB, MANY, checked

_KILLED = "|".join(str(128 + number) for number in (6, 7, 9, 11, 15))  # ABRT, BUS, KILL, SEGV, TERM
SETTLE_SECONDS = 15  # that a network file system may take to show the exit status of a job that has left the queue


@part("launcher", "slurm")
class SlurmLauncher:
    """Queues each job by itself; see `jaxvision.launch.base.Launcher`.

    SLURM requeues none of them: the controller counts attempts, and submits again what was preempted or lost.

    Args:
      partition, account, qos, constraint: as of sbatch; the cluster's own unless given.
      minutes: time limit. A run that is told by it saves itself, leaves with 85 and is submitted again.
      gpus, cpus, memory_gb: of each job, on one node.
      save_seconds: from SIGTERM to the time limit.
      sbatch: further options of sbatch, such as `{"exclude": "node7", "reservation": "vision"}`.

    Raises:
      UserError: submitit is not installed, or SLURM is not there.
    """

    def __init__(
        self,
        partition: LINE | None = None,
        minutes: MANY = 240,
        gpus: Annotated[int, Range(0, 1024)] = 0,
        cpus: MANY = 1,
        memory_gb: GIGABYTES | None = None,
        account: LINE | None = None,
        qos: LINE | None = None,
        constraint: LINE | None = None,
        save_seconds: AMOUNT = 120,
        sbatch: Mapping[str, Any] | None = None,
    ):
        try:
            import submitit
        except ImportError:
            raise UserError("the launcher slurm needs submitit: pip install 'jaxvision[slurm]'") from None
        self._submitit = submitit
        _slurm("squeue", "--version")
        self._gone: dict[str, float] = {}  # when a job was first missed
        named = dict(
            slurm_partition=partition, slurm_account=account, slurm_qos=qos, slurm_constraint=constraint,
            slurm_gpus_per_node=gpus or None, mem_gb=memory_gb,
        )  # fmt: skip
        # A trial is one process, also on several GPUs; JAX would take the one of its rank.
        setup = [f"export JAX_LOCAL_DEVICE_IDS={','.join(map(str, range(gpus)))}"] if gpus > 1 else None
        self._options = dict(
            timeout_min=minutes, cpus_per_task=cpus, slurm_setup=setup, slurm_stderr_to_stdout=True,
            **{key: value for key, value in named.items() if value is not None},
        )  # fmt: skip
        # TERM and not submitit's signal, and to the job's step, not to the shell around it.
        self._sbatch = {"no_requeue": True, "signal": f"TERM@{save_seconds}", **allowed.sbatch(sbatch)}

    def submit(self, command: Sequence[str], folder: Path, name: str) -> str:
        """Queues `command`; returns SLURM's id of the job."""
        folder = Path(folder).absolute()
        check_value("the name of a job", name, LINE)
        check_value("the folder of a job", str(folder), LINE)  # it is the comment that finds the job again
        prepare(folder)
        executor = self._submitit.AutoExecutor(folder=folder / "slurm", cluster="slurm")
        executor.update_parameters(
            name=name, slurm_additional_parameters={**self._sbatch, "comment": str(folder)}, **self._options
        )
        where = {key: os.environ[key] for key in ("SLURM_CONF",) if key in os.environ}
        try:
            with self._submitit.helpers.clean_env():  # else a controller that is itself a job hands its own limits on
                os.environ.update(where)
                return executor.submit(jobs.main, [str(folder), "--", *command]).job_id
        except self._submitit.core.utils.FailedJobError as error:
            raise UserError(f"sbatch refused {name}: {error}") from None

    def find(self, folder: Path, name: str) -> str | None:
        """The job in the queue with this name whose comment is the folder."""
        for line in _queue("%i|%j|%k") or ():
            job, found, comment = line.split("|", 2)
            if (found, comment) == (name, str(Path(folder).absolute())):
                return job
        return None

    def poll(self, jobs: Mapping[str, Path]) -> dict[str, Status]:
        """States of the jobs; where SLURM does not answer, all without an exit status count as alive."""
        queue = _queue("%i")
        now = time.monotonic()
        found = {}
        for job, folder in jobs.items():
            if queue is None or job in queue:
                self._gone.pop(job, None)
                recent = True
            else:
                recent = now - self._gone.setdefault(job, now) < SETTLE_SECONDS
            found[job] = status(Path(folder), recent)
        return found

    def cancel(self, job: str, folder: Path) -> None:
        """Takes a waiting job out of the queue; sends SIGTERM to one that runs, which has all the time it needs."""
        subprocess.run(["scancel", "--state=PENDING", job], capture_output=True)
        subprocess.run(["scancel", "--signal=TERM", job], capture_output=True)


@checked
def script(
    command: Sequence[str],
    name: JOB,
    *,
    nodes: MANY = 1,
    tasks: MANY | None = None,
    gpus: AMOUNT = 0,
    cpus: MANY | None = None,
    memory_gb: GIGABYTES | None = None,
    minutes: MANY = 240,
    partition: LINE | None = None,
    account: LINE | None = None,
    qos: LINE | None = None,
    constraint: LINE | None = None,
    output: LINE = "%x-%j.log",
    save_seconds: AMOUNT = 120,
    setup: LINE | None = None,
    restarts: AMOUNT = 3,
    sbatch: Mapping[str, Any] | None = None,
) -> str:
    """The sbatch script of one run over several nodes, which requeues itself when it was preempted.

    JAX finds the coordinator and each process's rank in SLURM's variables (`parallel.distributed.initialize`).

    Args:
      command: the words of the command line of each process.
      name: of the job.
      nodes: how many.
      tasks: processes a node; by default one for each GPU, or one.
      gpus, cpus, memory_gb: of a node, of a process, of a node.
      minutes, partition, account, qos, constraint, sbatch: as of `SlurmLauncher`.
      output: file of what all processes print; %x is the name, %j the job's id. Later attempts append to it.
      save_seconds: from SIGTERM to the time limit, and from the first process that leaves to the last.
      setup: shell line that comes first, such as "source .venv/bin/activate".
      restarts: how often it is requeued after a hang (86) or a process that was killed, as by the kernel for its
        memory; a file slurm-JOB.restarts in the folder of the submission counts. Preemption does not count.

    Raises:
      UserError: an option of another type, out of its range, or of several lines.

    >>> print(script(["jaxvision", "train"], "vit", nodes=4, gpus=8).splitlines()[3])
    #SBATCH --ntasks-per-node=8
    """
    tasks = tasks or gpus or 1
    options = {
        "job-name": name,
        "nodes": nodes,
        "ntasks-per-node": tasks,
        "gpus-per-node": gpus or None,
        "cpus-per-task": cpus,
        "mem": memory_gb and f"{round(memory_gb * 1024)}M",
        "time": minutes,
        "partition": partition,
        "account": account,
        "qos": qos,
        "constraint": constraint,
        "output": output,
        "open-mode": "append",
        "signal": f"TERM@{save_seconds}",
        "requeue": True,  # also after the loss of a node
        **allowed.sbatch(sbatch),
    }
    lines = [
        f"#SBATCH --{key}" + ("" if value is True else f"={shlex.quote(str(value))}")
        for key, value in options.items()
        if value is not None and value is not False
    ]
    each = f" --cpus-per-task={cpus}" if cpus else ""  # srun does not take it from sbatch
    return "\n".join(
        [
            "#!/bin/bash",
            *lines,
            "",
            *([setup, ""] if setup else []),
            # The first process that leaves must not end the others: they may still be saving.
            f"srun --kill-on-bad-exit=0 --wait={save_seconds}{each} {shlex.join(command)}",
            "code=$?",
            'count="${SLURM_SUBMIT_DIR:-.}/slurm-$SLURM_JOB_ID.restarts"',
            "case $code in",
            f"  {EXIT_PREEMPTED}) scontrol requeue $SLURM_JOB_ID ;;  # saved; the same command resumes",
            # srun tells the highest status: of a job of which a process was killed that one's, 128 and the signal.
            f"  {EXIT_HUNG}|{_KILLED})",
            '    echo "$code" >> "$count"',
            f'    if [ "$(wc -l < "$count")" -le {restarts} ]; then scontrol requeue $SLURM_JOB_ID; fi ;;',
            '  0) rm -f "$count" ;;',
            "esac",
            "exit $code",
            "",
        ]
    )


def submit(text: str) -> str:
    """Queues an sbatch script; returns SLURM's id of the job.

    Raises:
      UserError: SLURM is not there, or refuses it.
    """
    return _slurm("sbatch", "--parsable", stdin=text).strip().partition(";")[0]


def _queue(form: str) -> list[str] | None:
    """A line for each job of this user that waits or runs; None where SLURM does not answer."""
    asked = subprocess.run(
        ["squeue", "--noheader", f"--user={os.getuid()}", f"--format={form}"], capture_output=True, text=True
    )
    return asked.stdout.split("\n")[:-1] if asked.returncode == 0 else None


def _slurm(*words: str, stdin: str | None = None) -> str:
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(f"{words[0]} is not installed: SLURM's commands are on the login nodes of a cluster") from None
    if done.returncode:
        raise UserError(f"{words[0]}: {done.stderr.strip()}")
    return done.stdout
