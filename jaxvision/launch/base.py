"""The protocol of a launcher, and how every launcher learns the state of a job.

A job is a command with a folder, started as `python -m jaxvision.launch.job FOLDER -- COMMAND`. The job itself writes
to its folder, which the controller can read:

FOLDER/output.log   standard output and error of the command, of all submissions
FOLDER/job.json     host, process and start of the job, written when it starts
FOLDER/exit.json    `{"code": n}`, written when it ends

So an exit status survives the controller and whatever the launcher remembers of the job. The launcher only has to say
whether a job without exit status is still alive.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from jaxvision.reading import read_record

JOB_FILE, EXIT_FILE, OUTPUT_FILE = "job.json", "exit.json", "output.log"


class Status(NamedTuple):
    """The state of a job.

    Attributes:
      state: "waiting" (not started), "running", "ended" (it has an exit status), or "lost" (gone without an exit
        status: the job or its node was killed, or the job was removed from the queue).
      code: Exit status of a job that has ended; -N if signal N killed the command.
    """

    state: str
    code: int | None = None


class Launcher(Protocol):
    """Runs commands on some machines. A new launcher can find all jobs of an earlier one."""

    def submit(self, command: Sequence[str], folder: Path, name: str) -> str:
        """Starts or queues a command.

        Args:
          command: Words of the command line.
          folder: Folder of the job. Files of an earlier job are removed, except for its output.
          name: Name that the queue shows.

        Returns:
          The id of the job, by which any process can ask for it.
        """
        ...

    def find(self, folder: Path, name: str) -> str | None:
        """Finds a job whose id is not known, because the process that called `submit` died.

        Args:
          folder: Folder given to `submit`.
          name: Name given to `submit`.

        Returns:
          The id of the job if it is alive, else None.
        """
        ...

    def poll(self, jobs: Mapping[str, Path]) -> dict[str, Status]:
        """Returns the state of each job, with one request to the scheduler for all.

        Args:
          jobs: Folders of the jobs by id.
        """
        ...

    def cancel(self, job: str, folder: Path) -> None:
        """Asks a job to end: a run saves its state and exits with 85, a waiting job never starts.

        It returns at once, so poll until the job has ended. It does nothing to a job that has ended.

        Args:
          job: Id of the job.
          folder: Folder of the job.
        """
        ...


def prepare(folder: Path) -> None:
    """Makes the folder of a job to submit, and removes the state of an earlier job.

    Args:
      folder: Folder of the job.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (EXIT_FILE, JOB_FILE):
        (folder / name).unlink(missing_ok=True)


def status(folder: Path, alive: bool) -> Status:
    """Returns the state of a job.

    Call it after the launcher has said whether the job is alive: a job that ends in between has written its exit
    status.

    Args:
      folder: Folder of the job.
      alive: True if the launcher says that the job is waiting or running.
    """
    if (record := read_record(folder / EXIT_FILE, code=int)) is not None:
        return Status("ended", record["code"])
    if not alive:
        return Status("lost")
    return Status("running" if (folder / JOB_FILE).exists() else "waiting")
