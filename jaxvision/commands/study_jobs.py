"""The runs of a study as command lines that a launcher keeps running."""

import time
from collections.abc import Callable
from pathlib import Path

from jaxvision import config as configs
from jaxvision import workdir as workdirs
from jaxvision.commands.study_runs import FAILED, Row, Run, row_of, workdir
from jaxvision.errors import UserError
from jaxvision.exits import EXIT_HUNG, EXIT_PREEMPTED
from jaxvision.launch.base import Launcher
from jaxvision.reading import read_record
from jaxvision.sweep import results, runs
from jaxvision.sweep.controller import SAVING_SECONDS, locked
from jaxvision.train.progress import words
from jaxvision.train.watch import Preempted, StopSignal


class Jobs:
    """Does runs as processes, up to `parallel` at once. It finds the processes of a caller that died.

    Args:
      config: Config of the study, "FILE:PRESET".
      out: Folder of the study.
      launcher: Launcher of the processes.
      parallel: Number of processes at once.
      leave: True if the runs continue when a signal stops this process; False if they are asked to save and end.
      say: Function that prints a line.
      seconds: Seconds between two polls of the runs.
    """

    def __init__(
        self,
        config: str,
        out: Path,
        launcher: Launcher,
        parallel: int,
        *,
        leave: bool,
        say: Callable,
        seconds: float = 1.0,
    ):
        self._config, self._out, self._launcher, self._parallel = config, out, launcher, parallel
        self._leave, self._say, self._seconds = leave, say, seconds

    def __call__(self, planned: list[Run]) -> list[Row]:
        """Does the runs and returns their rows, in their order.

        Args:
          planned: Runs to do; those that are done already are not repeated.

        Raises:
          UserError: Runs failed; all others have ended.
          Preempted: A signal stopped this process.
        """
        with locked(self._out), StopSignal() as stop:
            done = {one.name: row for one in planned if (row := row_of(one, self._out))}
            jobs = {one.name: self._job(one) for one in planned if one.name not in done}
            self._say(f"{len(done)} of {len(planned)} runs are already done")
            for job in jobs.values():
                job.adopt(self._launcher)
            while True:
                self._look(jobs)
                if stop.received:
                    self._leave_off(jobs, stop.received)
                alive = sum(job.alive for job in jobs.values())
                for job in [job for job in jobs.values() if job.due][: max(self._parallel - alive, 0)]:
                    job.submit(self._launcher)
                if all(job.ended for job in jobs.values()):
                    break
                self._wait(stop)
        failed = {one.name: jobs[one.name] for one in planned if one.name in jobs and jobs[one.name].state == "failed"}
        for one in planned:
            if one.name in failed and one.may_fail:
                folder = failed.pop(one.name).workdir
                workdirs.write_json(folder / FAILED, {"error": results.error(folder)})
        if failed:
            lines = "\n  ".join(f"{name}: {results.error(job.workdir)}" for name, job in failed.items())
            count = f"{len(failed)} of {len(planned)} runs failed"
            raise UserError(f"{count}, so nothing is analysed. Run the same command to try them again:\n  {lines}")
        rows = [done.get(one.name) or row_of(one, self._out) for one in planned]
        return [row for row in rows if row is not None]

    def _job(self, one: Run) -> runs.TrialRun:
        folder = workdir(self._out, one.name)
        if not one.may_fail and _failed(folder / "launch"):
            (folder / "launch" / "command.json").unlink()  # each call tries it again; attempts are counted from 0
        name = f"{self._out.resolve().name}-{one.name.replace('/', '-')}"
        return runs.TrialRun(folder, command_of(self._config, one, folder), name)

    def _look(self, jobs: dict[str, runs.TrialRun]) -> None:
        alive = {job.job: name for name, job in jobs.items() if job.alive and job.job is not None}
        if not alive:
            return
        for job, status in self._launcher.poll({job: jobs[name].launch for job, name in alive.items()}).items():
            name, one = alive[job], jobs[alive[job]]
            before = one.state
            one.update(status)
            if one.due:
                self._say(f"{name}: {one.news}; it resumes from its checkpoint", markup=False)
            elif one.state != before and one.state == "complete":
                numbers = (workdirs.results(one.workdir) or {"results": {}})["results"]
                text = words({key: value for key, value in numbers.items() if key.startswith("val/")})
                left = sum(not job.ended for job in jobs.values())
                self._say(f"{name}  {text}  {left} left", markup=False)
            elif one.state != before:
                self._say(f"{name}: {one.state} {one.news}".rstrip(), markup=False)

    def _leave_off(self, jobs: dict[str, runs.TrialRun], received: str) -> None:
        alive = [job for job in jobs.values() if job.alive]
        if self._leave:
            raise Preempted(f"stopped by {received}; {len(alive)} runs continue without this process")
        for job in alive:
            if job.job is not None:
                self._launcher.cancel(job.job, job.launch)
        until = time.monotonic() + SAVING_SECONDS
        while any(job.alive for job in alive) and time.monotonic() < until:
            time.sleep(min(self._seconds, 0.2))
            self._look(jobs)
        raise Preempted(f"stopped by {received}; {len(alive)} runs were asked to save and end")

    def _wait(self, stop: StopSignal) -> None:
        until = time.monotonic() + self._seconds
        while time.monotonic() < until and not stop.received:
            time.sleep(min(self._seconds, 0.2))


def command_of(config: str, one: Run, folder: Path) -> list[str]:
    """Returns the command line of a run. Values that `get_config` of its study does not set become overrides.

    Args:
      config: Config of the study, "FILE:PRESET".
      one: Run of the study.
      folder: Workdir of the run.
    """
    named = f"{config}/{one.name}"
    base, mine = configs.flatten(configs.load(named)), configs.flatten(one.config)
    return runs.command(named, {key: value for key, value in mine.items() if base.get(key) != value}, folder)


def _failed(launch: Path) -> bool:
    """Whether the last process of this run failed: it ended, and neither finished nor can be resumed."""
    record = read_record(launch / "exit.json", code=int)
    return record is not None and record["code"] not in (0, EXIT_PREEMPTED, EXIT_HUNG)
