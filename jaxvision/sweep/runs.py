"""One run of a sweep and its submissions. All that is known of it lies on disk:

WORKDIR/launch/command.json   the command, its job, how often it was submitted: written before and after a submission
WORKDIR/launch/job.json       written by the job when it starts
WORKDIR/launch/exit.json      written by the job when it ends
WORKDIR/results.json          written by `jaxvision train` at its end

So a controller that was killed at any point finds the run again, and starts no second process in its workdir.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxvision import literals
from jaxvision import workdir as workdirs
from jaxvision.exits import EXIT_HUNG, EXIT_PREEMPTED
from jaxvision.launch.base import Launcher, Status, status
from jaxvision.reading import read_record, read_text
from jaxvision.sweep.records import RunRecord
from jaxvision.train import divergence, metrics

MOST_LOST = 3  # jobs of a run that may vanish or be killed before it counts as failed
SIGNALLED = 128  # exit statuses above it, and negative ones, are of a process that a signal killed


def command(config: str, values: Mapping[str, Any], workdir: Path) -> list[str]:
    """The command line of a run, as a person would type it.

    >>> command("/c/tiny.py:8", {"model.width": 0.5}, Path("/runs/a"))[1:]
    ['-m', 'jaxvision', 'train', '--config=/c/tiny.py:8', '--workdir=/runs/a', '--config.model.width=0.5']
    """
    file, colon, arg = config.partition(":")
    words = [f"--config={Path(file).absolute()}{colon}{arg}", f"--workdir={workdir.absolute()}"]
    words += [f"--config.{key}={literals.write(value)}" for key, value in values.items()]
    return [sys.executable, "-m", "jaxvision", "train", *words]


class Run:
    """One run, read from its workdir.

    Attributes:
      workdir: of `jaxvision train`.
      launch: the launcher's folder in it.
      job: its latest job, where one is known.
      attempts: how often it was submitted.
      state: "waiting", "running", "complete", "failed" or "pruned".
      alive: whether a job of it waits or runs.
      news: why it was submitted again or failed, in words; for a person.
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
        """Whether it should be submitted."""
        return self.state == "waiting" and not self.alive

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.state in ("complete", "failed", "pruned") and not self.alive

    @property
    def diverged(self) -> str:
        """Why its numbers, so far or at its end, say that it diverged; empty where they do not."""
        if self.state != "complete":
            return divergence.of_workdir(self.workdir)
        if self._diverged is None:
            self._diverged = divergence.of_workdir(self.workdir, workdirs.results(self.workdir)["results"])
        return self._diverged

    @property
    def record(self) -> RunRecord:
        """For the table of results, where a run that diverged has failed."""
        failed = self.state == "complete" and self.diverged
        return RunRecord(self.workdir, self.attempts, "failed" if failed else self.state)

    def read_end(self) -> None:
        """Takes note of results in its workdir, or of failed.json, which a population leaves of a diverged member."""
        if workdirs.results(self.workdir):
            self.state, self.alive = "complete", False
        elif (self.workdir / "failed.json").is_file():
            self.state, self.alive = "failed", False

    def adopt(self, launcher: Launcher) -> None:
        """Finds the job of a submission in whose middle the controller died."""
        if not self.alive or self.job is not None:
            return
        self.job = launcher.find(self.launch, self._job_name)
        if self.job is not None:
            self._save()
        elif _text(self.launch / "job.json") not in (None, self._before):
            self.update(status(self.launch, alive=False))  # it started, and has ended since
        else:
            self.attempts, self.alive = self.attempts - 1, False  # it was never submitted

    def submit(self, launcher: Launcher) -> None:
        """Starts the command, which goes on from its latest checkpoint."""
        self.launch.mkdir(parents=True, exist_ok=True)
        self.attempts, self.job, self._before = self.attempts + 1, None, _text(self.launch / "job.json")
        self._save()
        self.job = launcher.submit(self._words, self.launch, self._job_name)
        self._save()
        self.alive, self.news = True, ""

    def update(self, found: Status) -> None:
        """Takes note of what became of its job."""
        if found.state in ("waiting", "running"):
            self.state = self.state if self.state == "pruned" else found.state
            return
        self.alive = False
        if workdirs.results(self.workdir):
            self.state = "complete"
        elif self.state == "pruned":
            return
        elif found.state == "ended" and found.code == EXIT_PREEMPTED:
            self.state, self.news = "waiting", "preempted"
        elif found.state == "ended" and 0 <= found.code <= SIGNALLED and found.code != EXIT_HUNG:
            self.state = "failed"
            self.news = f"exit status {found.code}" if found.code else "it ended without results"
        else:
            self._lost += 1
            ended = "it hung" if found.code == EXIT_HUNG else f"killed, {found.code}"
            self.news = ended if found.state == "ended" else "lost"
            self.state = "waiting" if self._lost <= MOST_LOST else "failed"

    def prune(self, launcher: Launcher) -> None:
        """Ends it for good, unless it is complete."""
        if self.state != "complete":
            self.state = "pruned"
            if self.alive:
                launcher.cancel(self.job, self.launch)

    def step(self) -> int:
        """Its latest step of which numbers were written."""
        return max((line["step"] for line in metrics.read(self.workdir / "metrics.jsonl")), default=0)

    def values(self, name: str) -> dict[int, float]:
        """Value of a metric by step, so far."""
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
