"""What a launcher is, and how every launcher reads what became of a job.

A job is a command with a folder, started as `python -m jaxvision.launch.job FOLDER -- COMMAND`. The job itself writes
into its folder, which the controller can read too:

FOLDER/output.log   standard output and error of the command, of all submissions
FOLDER/job.json     host, process and start of the job, written when it starts
FOLDER/exit.json    `{"code": n}`, written when it ends

So an exit status outlives both the controller and the launcher's own memory of the job. The launcher is only asked
whether a job without exit status is still alive.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from jaxvision.reading import read_record

JOB_FILE, EXIT_FILE, OUTPUT_FILE = "job.json", "exit.json", "output.log"


class Status(NamedTuple):
    """What became of a job.

    Attributes:
      state: "waiting" (not started), "running", "ended" (it has an exit status), or "lost" (gone without one: it was
        killed, or its node was, or it was taken out of the queue).
      code: the exit status where ended, -N where signal N killed the command.
    """

    state: str
    code: int | None = None


class Launcher(Protocol):
    """Where commands run. It keeps no state that a new one could not find again."""

    def submit(self, command: Sequence[str], folder: Path, name: str) -> str:
        """Starts or queues `command` and returns the job's id, with which another process can ask for it.

        What an earlier job left in `folder` is removed, but for its output. `name` is what people see in a queue.
        """

    def find(self, folder: Path, name: str) -> str | None:
        """The id of the job that `submit` made for this folder and name, if it is alive.

        For a caller that died before it wrote the id down.
        """

    def poll(self, jobs: Mapping[str, Path]) -> dict[str, Status]:
        """The state of each job, given its folder. One question to the scheduler, however many jobs."""

    def cancel(self, job: str, folder: Path) -> None:
        """Asks a job to end: a run saves its state and leaves with 85. A job that waits never starts.

        Nothing happens to a job that has ended. The caller polls until it has.
        """


def prepare(folder: Path) -> None:
    """Makes the folder of a job that is about to be submitted; the files that tell of an earlier job go."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (EXIT_FILE, JOB_FILE):
        (folder / name).unlink(missing_ok=True)


def status(folder: Path, alive: bool) -> Status:
    """The state of a job from its folder, and from whether its launcher says that it waits or runs.

    Ask the launcher first and call this afterwards: a job that ends in between has written its exit status.
    """
    if (found := read_record(folder / EXIT_FILE, code=int)) is not None:
        return Status("ended", found["code"])
    if not alive:
        return Status("lost")
    return Status("running" if (folder / JOB_FILE).exists() else "waiting")
