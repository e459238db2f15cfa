"""Runs as jobs of a SLURM cluster whose nodes share a file system with the controller.

Trials are submitted with submitit. For one run over several nodes, `jaxvision launch --slurm` writes an sbatch script
of our own, because submitit's requeueing does not wait until a run has saved its state, and does not know the exit
status 85.

SLURM only says whether a job still exists (squeue; accounting may be off). The job's folder says how it ended.
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
from jaxvision.launch import job as jobs
from jaxvision.launch import options as allowed
from jaxvision.launch.base import Status, prepare, status
from jaxvision.launch.options import AMOUNT, GIGABYTES, JOB, MANY, checked
from jaxvision.registry import part

_KILLED = "|".join(str(128 + number) for number in (6, 7, 9, 11, 15))  # ABRT, BUS, KILL, SEGV, TERM
SETTLE_SECONDS = 15  # a network file system may take so long to show the exit status of a job that has left the queue


@part("launcher", "slurm")
class SlurmLauncher:
    """Queues each job separately.

    SLURM requeues none of them: the controller counts attempts, and submits preempted and lost jobs again.

    Args:
      partition: Option of sbatch; None for the cluster's default.
      minutes: Time limit in minutes. A run that reaches it saves its state, exits with 85 and is submitted again.
      gpus: Number of GPUs of each job, on one node.
      cpus: Number of CPUs of each job.
      memory_gb: Memory of each job in GiB; None for the cluster's default.
      account: Option of sbatch; None for the cluster's default.
      qos: Option of sbatch; None for the cluster's default.
      constraint: Option of sbatch; None for the cluster's default.
      save_seconds: Seconds from SIGTERM to the time limit.
      sbatch: Further options of sbatch, such as `{"exclude": "node7", "reservation": "vision"}`.

    Raises:
      UserError: submitit or SLURM is not installed.
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
            raise UserError(
                "the launcher slurm needs submitit, which is not installed: pip install 'jaxvision[slurm]'"
            ) from None
        self._submitit = submitit
        _slurm("squeue", "--version")
        self._gone: dict[str, float] = {}  # when a job was first missed
        named = dict(
            slurm_partition=partition, slurm_account=account, slurm_qos=qos, slurm_constraint=constraint,
            slurm_gpus_per_node=gpus or None, mem_gb=memory_gb,
        )  # fmt: skip
        # A trial is one process, also on several GPUs. Without this, JAX would use the GPU of its rank only.
        setup = [f"export JAX_LOCAL_DEVICE_IDS={','.join(map(str, range(gpus)))}"] if gpus > 1 else None
        self._options = dict(
            timeout_min=minutes, cpus_per_task=cpus, slurm_setup=setup, slurm_stderr_to_stdout=True,
            **{key: value for key, value in named.items() if value is not None},
        )  # fmt: skip
        # SIGTERM instead of submitit's signal, to the job's step instead of the shell around it.
        self._sbatch = {"no_requeue": True, "signal": f"TERM@{save_seconds}", **allowed.sbatch(sbatch)}

    def submit(self, command: Sequence[str], folder: Path, name: str) -> str:
        """Queues a command.

        Args:
          command: Words of the command line.
          folder: Folder of the job.
          name: Name that the queue shows.

        Returns:
          SLURM's id of the job.

        Raises:
          UserError: SLURM refuses the job, or the name or the folder has several lines.
        """
        folder = Path(folder).absolute()
        check_value("the name of a job", name, LINE)
        check_value("the folder of a job", str(folder), LINE)  # the comment by which `find` finds the job
        prepare(folder)
        executor = self._submitit.AutoExecutor(folder=folder / "slurm", cluster="slurm")
        executor.update_parameters(
            name=name, slurm_additional_parameters={**self._sbatch, "comment": str(folder)}, **self._options
        )
        where = {key: os.environ[key] for key in ("SLURM_CONF",) if key in os.environ}
        try:
            with self._submitit.helpers.clean_env():  # else a controller that is a job passes its own limits on
                os.environ.update(where)
                return executor.submit(jobs.main, [str(folder), "--", *command]).job_id
        except self._submitit.core.utils.FailedJobError as error:
            raise UserError(f"sbatch refused {name}: {error}") from None

    def find(self, folder: Path, name: str) -> str | None:
        """Finds a job in the queue.

        Args:
          folder: Folder given to `submit`, which is the comment of the job.
          name: Name given to `submit`.

        Returns:
          SLURM's id of the job, or None if it is not in the queue.
        """
        for line in _queue("%i|%j|%k") or ():
            job, job_name, comment = line.split("|", 2)
            if (job_name, comment) == (name, str(Path(folder).absolute())):
                return job
        return None

    def poll(self, jobs: Mapping[str, Path]) -> dict[str, Status]:
        """Returns the states of jobs. If SLURM does not answer, jobs without an exit status count as alive.

        Args:
          jobs: Folders of the jobs by id.
        """
        queue = _queue("%i")
        now = time.monotonic()
        states = {}
        for job, folder in jobs.items():
            if queue is None or job in queue:
                self._gone.pop(job, None)
                recent = True
            else:
                recent = now - self._gone.setdefault(job, now) < SETTLE_SECONDS
            states[job] = status(Path(folder), recent)
        return states

    def cancel(self, job: str, folder: Path) -> None:
        """Removes a waiting job from the queue, or sends SIGTERM to a running one, without a limit on its time to save.

        Args:
          job: SLURM's id of the job.
          folder: Unused folder.
        """
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
    """Returns the sbatch script of one run over several nodes, which requeues itself after preemption.

    JAX finds the coordinator and the rank of each process in SLURM's variables (`parallel.distributed.initialize`).

    Args:
      command: Words of the command line of each process.
      name: Name of the job.
      nodes: Number of nodes.
      tasks: Number of processes per node; None for one per GPU, or one without GPUs.
      gpus: Number of GPUs of a node.
      cpus: Number of CPUs of a process; None for the cluster's default.
      memory_gb: Memory of a node in GiB; None for the cluster's default.
      minutes: Time limit of one attempt in minutes.
      partition: Option of sbatch; None for the cluster's default.
      account: Option of sbatch; None for the cluster's default.
      qos: Option of sbatch; None for the cluster's default.
      constraint: Option of sbatch; None for the cluster's default.
      output: File for the output of all processes; %x is the name, %j the job's id. Later attempts append to it.
      save_seconds: Seconds from SIGTERM to the time limit, and from the exit of the first process to that of the last.
      setup: Shell line that comes first, such as "source .venv/bin/activate".
      restarts: Number of requeues after a hang (86) or a killed process (for instance, for using too much memory). The
        file slurm-JOB.restarts in the folder of the submission counts them. Preemption does not count.
      sbatch: Further options of sbatch, such as `{"exclude": "node7"}`.

    Raises:
      UserError: An option has the wrong type, is out of its range, or has several lines.

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
        "requeue": True,  # SLURM itself requeues after the loss of a node
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
            # The first process that exits must not end the others, which may still be saving.
            f"srun --kill-on-bad-exit=0 --wait={save_seconds}{each} {shlex.join(command)}",
            "code=$?",
            'count="${SLURM_SUBMIT_DIR:-.}/slurm-$SLURM_JOB_ID.restarts"',
            "case $code in",
            f"  {EXIT_PREEMPTED}) scontrol requeue $SLURM_JOB_ID ;;  # saved; the same command resumes",
            # srun returns the highest status: if a process was killed, 128 plus the signal.
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
    """Queues an sbatch script.

    Args:
      text: Script, from `script`.

    Returns:
      SLURM's id of the job.

    Raises:
      UserError: SLURM is not installed, or refuses the script.
    """
    return _slurm("sbatch", "--parsable", stdin=text).strip().partition(";")[0]


def _queue(form: str) -> list[str] | None:
    """A line for each job of this user that waits or runs; None if SLURM does not answer."""
    done = subprocess.run(
        ["squeue", "--noheader", f"--user={os.getuid()}", f"--format={form}"], capture_output=True, text=True
    )
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else None


def _slurm(*words: str, stdin: str | None = None) -> str:
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(f"{words[0]} is not installed: run this on a login node of the SLURM cluster") from None
    if done.returncode:
        raise UserError(f"{words[0]} failed: {done.stderr.strip()}")
    return done.stdout
