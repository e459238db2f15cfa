"""One run of a trial and its submissions. Its whole state is on disk:

WORKDIR/launch/command.json   the command, its job and the number of submissions: written before and after a submission
WORKDIR/launch/job.json       written by the job when it starts
WORKDIR/launch/exit.json      written by the job when it ends
WORKDIR/results.json          written by `jaxvision train` at its end

So a controller that was killed at any point finds the run again, and does not start a second process in its workdir.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from jaxvision import literals, shipped
from jaxvision import workdir as workdirs
from jaxvision.exits import EXIT_HUNG, EXIT_PREEMPTED
from jaxvision.launch.base import Launcher, Status, status
from jaxvision.reading import read_record, read_text
from jaxvision.sweep.records import RunRecord
from jaxvision.train import divergence, metrics

MOST_LOST = 3  # jobs of a run that may vanish or be killed before the run counts as failed
SIGNALLED = 128  # an exit status above it, or a negative one, means that a signal killed the process


def command(config: str, values: Mapping[str, Any], workdir: Path) -> list[str]:
    """Returns the command line of a run, in the form in which a person would type it.

    Args:
      config: Config file, "FILE.py" or "FILE.py:ARG".
      values: Value by dotted config key.
      workdir: Workdir of the run.

    >>> command("/c/tiny.py:8", {"model.width": 0.5}, Path("/runs/a"))[1:]
    ['-m', 'jaxvision', 'train', '--config=/c/tiny.py:8', '--workdir=/runs/a', '--config.model.width=0.5']
    """
    file, colon, arg = config.partition(":")
    words = [f"--config={Path(shipped.find(file)).absolute()}{colon}{arg}", f"--workdir={workdir.absolute()}"]
    words += [f"--config.{key}={literals.write(value)}" for key, value in values.items()]
    return [sys.executable, "-m", "jaxvision", "train", *words]


class TrialRun:
    """One run, read from its workdir.

    Attributes:
      workdir: Workdir of `jaxvision train`.
      launch: Folder of the launcher in the workdir.
      job: Id of the latest job; None if it is unknown.
      attempts: Number of submissions.
      state: "waiting", "running", "complete", "failed" or "pruned".
      alive: True if it has a waiting or running job.
      news: Reason why it was submitted again or failed, for a person; else empty.

    Args:
      workdir: Workdir of `jaxvision train`.
      words: Command line of the run.
      name: Name of its jobs, to which the number of the submission is added.
    """

    def __init__(self, workdir: Path, words: Sequence[str], name: str):
        self.workdir, self.launch = workdir, workdir / "launch"
        self._words, self._name = list(words), name
        text = (str, type(None))
        saved = read_record(self.launch / "command.json", job=text, attempts=int, lost=int, before=text) or {}
        self.job: str | None = saved.get("job")
        self.attempts: int = saved.get("attempts", 0)
        self._lost: int = saved.get("lost", 0)
        self._before: str | None = saved.get("before")
        self.state, self.news = "waiting", ""
        self.alive = self.attempts > 0
        self._diverged: str | None = None
        self.read_end()

    @property
    def due(self) -> bool:
        """True if it should be submitted."""
        return self.state == "waiting" and not self.alive

    @property
    def ended(self) -> bool:
        """True if nothing is left to do for it."""
        return self.state in ("complete", "failed", "pruned") and not self.alive

    @property
    def diverged(self) -> str:
        """The reason why its metrics, so far or at its end, show that it diverged; empty if they do not."""
        if self.state != "complete":
            return divergence.of_workdir(self.workdir)
        if self._diverged is None:
            saved = workdirs.results(self.workdir)
            assert saved is not None  # the run is complete
            self._diverged = divergence.of_workdir(self.workdir, saved["results"])
        return self._diverged

    @property
    def record(self) -> RunRecord:
        """The run for the table of results, in which a diverged run has failed."""
        failed = self.state == "complete" and self.diverged
        return RunRecord(self.workdir, self.attempts, "failed" if failed else self.state)

    def read_end(self) -> None:
        """Updates the state from the files in its workdir.

        These are results.json, or failed.json, which a population writes for a diverged member.
        """
        if workdirs.results(self.workdir):
            self.state, self.alive = "complete", False
        elif (self.workdir / "failed.json").is_file():
            self.state, self.alive = "failed", False

    def adopt(self, launcher: Launcher) -> None:
        """Finds the job of a submission during which the controller was killed.

        Args:
          launcher: Launcher of the job.
        """
        if not self.alive or self.job is not None:
            return
        self.job = launcher.find(self.launch, self._job_name)
        if self.job is not None:
            self._save()
        elif _text(self.launch / "job.json") not in (None, self._before):
            self.update(status(self.launch, alive=False))  # it started and has already ended
        else:
            self.attempts, self.alive = self.attempts - 1, False  # it was never submitted

    def submit(self, launcher: Launcher) -> None:
        """Submits the command, which resumes from its latest checkpoint.

        Args:
          launcher: Launcher that starts it.
        """
        self.launch.mkdir(parents=True, exist_ok=True)
        self.attempts, self.job, self._before = self.attempts + 1, None, _text(self.launch / "job.json")
        self._save()
        self.job = launcher.submit(self._words, self.launch, self._job_name)
        self._save()
        self.alive, self.news = True, ""

    def update(self, status: Status) -> None:
        """Updates the state from that of its job.

        Args:
          status: State of the job.
        """
        if status.state in ("waiting", "running"):
            self.state = self.state if self.state == "pruned" else status.state
            return
        code = status.code or 0
        self.alive = False
        if workdirs.results(self.workdir):
            self.state = "complete"
        elif self.state == "pruned":
            return
        elif status.state == "ended" and code == EXIT_PREEMPTED:
            self.state, self.news = "waiting", "preempted"
        elif status.state == "ended" and 0 <= code <= SIGNALLED and code != EXIT_HUNG:
            self.state = "failed"
            self.news = f"exit status {code}" if code else "it ended without results"
        else:
            self._lost += 1
            ended = "it hung" if code == EXIT_HUNG else f"killed, {code}"
            self.news = ended if status.state == "ended" else "lost"
            self.state = "waiting" if self._lost <= MOST_LOST else "failed"

    def prune(self, launcher: Launcher) -> None:
        """Ends the run for good, unless it is complete.

        Args:
          launcher: Launcher of its job.
        """
        if self.state != "complete":
            self.state = "pruned"
            if self.alive:
                launcher.cancel(cast(str, self.job), self.launch)

    def step(self) -> int:
        """Returns the latest step for which metrics were written; 0 if none were."""
        return max((line["step"] for line in metrics.read(self.workdir / "metrics.jsonl")), default=0)

    def values(self, name: str) -> dict[int, float]:
        """Returns the values of a metric so far, by step.

        Args:
          name: Name of the metric.
        """
        lines = metrics.read(self.workdir / "metrics.jsonl")
        return {line["step"]: line[name] for line in lines if line.get(name) is not None}

    @property
    def _job_name(self) -> str:
        return f"{self._name}-{self.attempts}"

    def _save(self) -> None:
        saved = dict(command=self._words, job=self.job, attempts=self.attempts, lost=self._lost, before=self._before)
        workdirs.write_json(self.launch / "command.json", saved)


def _text(path: Path) -> str | None:
    return read_text(path) if path.is_file() else None
