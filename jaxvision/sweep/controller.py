"""The controller of a sweep: it asks for points, submits their runs, watches them and records the results.

All its state is on disk: the points and their values are in the journal (Optuna's), the submissions
and their results in the workdirs (`sweep.runs`). Each trial is asked for once and its value is recorded once, in
this order:

    journal: trial, parameters -> command.json -> job -> command.json with its id -> results.json -> journal: value

If a controller is killed, the next one continues at that point. So `Controller.run` may be killed and called again
any number of times.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.trial import TrialState

from jaxvision import workdir as workdirs
from jaxvision.errors import UserError, listed
from jaxvision.launch.base import Launcher
from jaxvision.locks import Lock
from jaxvision.reading import check_fields, read_record
from jaxvision.storage import output_folder
from jaxvision.sweep import runs, searches, spec
from jaxvision.sweep import space as spaces
from jaxvision.sweep.records import TrialRecord
from jaxvision.sweep.runs import TrialRun
from jaxvision.sweep.spec import Sweep
from jaxvision.train.watch import Preempted, StopSignal

WRITTEN = (  # files and folders of a sweep, apart from sweep.json
    "journal.log",
    "trials",
    "population",
    "results.csv",
    "results.parquet",
    "report.md",
    "report.html",
    "best.py",
)
SAVING_SECONDS = 300  # time that runs have to save their state when the controller stops


class Trial:
    """A point of the space with its runs.

    Attributes:
      number: Number of the trial, from 0.
      params: Value by config key; a key whose condition does not hold is missing.
      runs: Run by seed.
      state: "running", or the recorded state: "complete", "pruned" or "failed".
      value: Recorded value of the objective; None if there is none.
      handle: Trial of Optuna; None if its value was recorded before this controller started.
      reported: Steps whose values the pruner has seen.
    """

    def __init__(
        self,
        number: int,
        params: dict[str, Any],
        runs: dict[int, TrialRun],
        handle: optuna.trial.Trial | None = None,
    ):
        self.number, self.params, self.runs, self.handle = number, params, runs, handle
        self.state = "running"
        self.value: float | None = None
        self.reported: set[int] = set()

    @property
    def record(self) -> TrialRecord:
        """The trial for the table of results. Unfinished runs of a pruned or failed trial get its state."""
        records = {seed: run.record for seed, run in self.runs.items()}
        if self.state in ("pruned", "failed"):
            unfinished = {seed: run for seed, run in records.items() if run.state not in ("complete", "failed")}
            records |= {seed: run._replace(state=self.state) for seed, run in unfinished.items()}
        state = self.state
        if state == "running" and not any(run.state != "waiting" for run in self.runs.values()):
            state = "waiting"
        return TrialRecord(self.number, self.params, state, records)


class Controller:
    """Runs a sweep in a folder.

    Args:
      sweep: Sweep to run.
      out: Folder of the sweep.
      launcher: Launcher that starts the runs.
      parallel: Number of runs at once.
      steps: Number of steps of a run of the base config, for pruning.
      leave: True to leave the runs running when the controller is asked to stop; False to ask them to save and end.
      seconds: Seconds between two checks of the runs.
      command: Function `(config, values, workdir) -> words` that makes the command of a run.
      show: Function that is called with this controller after each check.
      say: Function that is called with a line of text for each event.

    Raises:
      UserError: If `parallel` is below 1, or the config or the search of the sweep has a mistake.
    """

    def __init__(
        self,
        sweep: Sweep,
        out: Path,
        launcher: Launcher,
        *,
        parallel: int = 2,
        steps: int = 1,
        leave: bool = False,
        seconds: float = 1.0,
        command: Callable[[str, Mapping[str, Any], Path], list[str]] = runs.command,
        show: Callable[["Controller"], None] = lambda _: None,
        say: Callable[[str], None] = lambda _: None,
    ):
        if parallel < 1:
            raise UserError(f"--parallel must be at least 1, not {parallel}")
        self.sweep, self.out, self.budget, self.parallel, self.steps = sweep, out, sweep.budget, parallel, steps
        self.trials: list[Trial] = []
        self._launcher, self._leave, self._seconds = launcher, leave, seconds
        self._command, self._show, self._say = command, show, say
        self._base = sweep.base()
        self._seeded = "seed" in self._base
        self._fixed = {key: value for key, value in sweep.space.items() if not spaces.is_domain(value)}
        searches.check_space(sweep.search, sweep.space)
        self._search = searches.make_search(sweep.search)

    def run(self) -> list[TrialRecord]:
        """Runs the trials that are left, and returns the records of all trials.

        Raises:
          UserError: If the folder holds another sweep, another controller works there, or a run lacks the objective.
          Preempted: If the process was asked to stop; call it again to resume.
        """
        with locked(self.out), StopSignal() as stop:
            claim(self.out, self.sweep)
            self._open()
            while True:
                self._look()
                for trial in self.trials:
                    self._judge(trial)
                if stop.received:
                    self._stop_runs(stop.received)
                self._submit()
                self._show(self)
                if self.finished:
                    return self.records()
                self._wait(stop)

    @property
    def finished(self) -> bool:
        """True if all trials have ended and no run is alive."""
        ended = all(trial.state != "running" for trial in self.trials)
        return ended and len(self.trials) >= self.budget and not self.alive

    @property
    def alive(self) -> list[TrialRun]:
        """The runs that have a waiting or running job."""
        return [run for trial in self.trials for run in trial.runs.values() if run.alive]

    @property
    def best(self) -> Trial | None:
        """The complete trial with the best value so far, without diverged ones; None if there is none."""
        ended = (trial for trial in self.trials if trial.state == "complete" and math.isfinite(_value_of(trial)))
        complete = [trial for trial in ended if not any(run.diverged for run in trial.runs.values())]
        pick = max if self.sweep.direction == "maximize" else min
        return pick(complete, key=_value_of, default=None)

    def records(self) -> list[TrialRecord]:
        """Returns the records of all trials so far."""
        return [trial.record for trial in self.trials]

    def _open(self) -> None:
        """Reads the journal and finds the jobs of earlier controllers."""
        self._study = searches.open_journal(self.out / "journal.log", self.sweep.direction)
        if self.sweep.pruning:
            self._study.pruner = searches.make_pruning(self.sweep.pruning)(self.steps)
        self.trials = []
        ended = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
        for frozen in self._study.get_trials(deepcopy=False):
            if frozen.state.name not in ended:
                self._add(searches.ask(self._study, self._search, self.sweep.space, frozen))
                self.trials[-1].reported = set(frozen.intermediate_values)
            else:
                self._add(frozen)
                trial = self.trials[-1]
                trial.state, trial.value = ended[frozen.state.name], frozen.value
        for trial in self.trials:
            for run in trial.runs.values():
                run.adopt(self._launcher)
                if trial.state == "pruned":
                    run.prune(self._launcher)

    def _add(self, handle: optuna.trial.Trial | optuna.trial.FrozenTrial) -> None:
        params = searches.point_of(handle, self.sweep.space)
        folder = self.out / "trials" / f"{handle.number:04d}"
        seed_runs = {}
        for seed in self.sweep.seeds:
            seeded = {"seed": seed} if self._seeded else {}
            values = {**self._fixed, **params, **seeded, **self.sweep.of_fold(seed, self._base)}
            workdir = folder / f"seed{seed}"
            words = self._command(self.sweep.config, values, workdir)
            seed_runs[seed] = TrialRun(workdir, words, f"{self.out.resolve().name}-{handle.number:04d}-{seed}")
        asked = None if isinstance(handle, optuna.trial.FrozenTrial) else handle
        self.trials.append(Trial(handle.number, params, seed_runs, asked))

    def _look(self) -> None:
        """Asks the launcher for the states of all jobs at once."""
        alive = {run.job: (trial, seed) for trial in self.trials for seed, run in trial.runs.items() if run.alive}
        folders = {cast(str, job): trial.runs[seed].launch for job, (trial, seed) in alive.items()}
        statuses = self._launcher.poll(folders) if alive else {}
        for job, status in statuses.items():
            trial, seed = alive[job]
            run = trial.runs[seed]
            before = run.state
            run.update(status)
            if run.due:
                self._say(f"trial {trial.number} seed {seed}: {run.news}; it will resume from its checkpoint")
            elif run.state == "failed":
                self._say(f"trial {trial.number} seed {seed}: failed: {run.news}")
            elif run.state == "running" and before != "running":
                self._say(f"trial {trial.number} seed {seed}: running, attempt {run.attempts}")

    def _judge(self, trial: Trial) -> None:
        """Records a trial that has ended, or prunes it."""
        if trial.state != "running":
            return
        first = next(iter(trial.runs.values()))
        if first.state == "failed" and self.sweep.pruning:  # the other seeds were not started
            self._tell(trial, "failed")
        elif all(run.ended for run in trial.runs.values()):
            if all(run.state == "complete" for run in trial.runs.values()):
                self._judge_complete(trial)
            else:
                self._tell(trial, "failed")
        elif self.sweep.pruning and first.alive and (why := first.diverged):
            self._tell(trial, "failed", why=f"diverged: {why}")
            for run in trial.runs.values():
                run.prune(self._launcher)
        elif self.sweep.pruning and self._should_prune(trial):
            self._tell(trial, "pruned")
            for run in trial.runs.values():
                run.prune(self._launcher)

    def _judge_complete(self, trial: Trial) -> None:
        """Records the value of a trial whose runs are complete; a trial with a diverged run has failed."""
        values = [self._objective(run) for run in trial.runs.values()]
        why = next(filter(None, (run.diverged for run in trial.runs.values())), "")
        if why:
            self._tell(trial, "failed", why=f"diverged: {why}")
        elif not all(map(math.isfinite, values)):
            self._tell(trial, "failed", why=f"its {self.sweep.objective} is not finite")
        else:
            self._tell(trial, "complete", statistics.fmean(values))

    def _should_prune(self, trial: Trial) -> bool:
        """Decides by the metrics of the first seed; the other seeds start when that one is complete."""
        first = next(iter(trial.runs.values()))
        if first.state == "complete":
            return False
        for step, value in sorted(first.values(self.sweep.objective).items()):
            if step in trial.reported or step >= self.steps:
                continue
            assert trial.handle is not None  # the trial is running, so this controller has asked for it
            trial.handle.report(value, step)
            trial.reported.add(step)
            if trial.handle.should_prune():
                return True
        return False

    def _tell(self, trial: Trial, state: str, value: float | None = None, why: str = "") -> None:
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        assert trial.handle is not None  # the trial is running, so this controller has asked for it
        self._study.tell(trial.handle, value, states[state])
        trial.state, trial.value = state, value
        best = self.best if value is not None else None
        scores = "" if best is None else f", {self.sweep.objective} {value:.4g}; best so far {_value_of(best):.4g}"
        self._say(f"trial {trial.number}: {state}{scores}{why and f', {why}'}")

    def _objective(self, run: TrialRun) -> float:
        saved = workdirs.results(run.workdir)
        assert saved is not None  # the run is complete
        results = saved["results"]
        if self.sweep.objective not in results:
            raise UserError(
                f"the results of {run.workdir} have no {self.sweep.objective!r}, the objective of the sweep. They "
                f"have {listed(self.sweep.objective, results)}. Correct the sweep and give it another --out"
            )
        return results[self.sweep.objective]

    def _submit(self) -> None:
        """Fills the free slots: first with runs that were interrupted, then with new ones."""
        free = self.parallel - len(self.alive)
        due = [run for trial in self.trials if trial.state == "running" for run in self._due(trial)]
        due.sort(key=lambda run: run.attempts == 0)
        while free > 0:
            if not due and len(self.trials) < self.budget:
                self._add(searches.ask(self._study, self._search, self.sweep.space))
                due = self._due(self.trials[-1])
            if not due:
                return
            due.pop(0).submit(self._launcher)
            free -= 1

    def _due(self, trial: Trial) -> list[TrialRun]:
        first = next(iter(trial.runs.values()))
        wanted = list(trial.runs.values()) if first.state == "complete" or not self.sweep.pruning else [first]
        return [run for run in wanted if run.due]

    def _wait(self, stop: StopSignal) -> None:
        until = time.monotonic() + self._seconds
        while time.monotonic() < until and not stop.received:
            time.sleep(min(self._seconds, 0.2))

    def _stop_runs(self, received: str) -> None:
        if self._leave:
            raise Preempted(f"{received}: {len(self.alive)} runs keep running without the controller")
        stopped = self.alive
        for run in stopped:
            self._launcher.cancel(cast(str, run.job), run.launch)
        until = time.monotonic() + SAVING_SECONDS
        while self.alive and time.monotonic() < until:
            time.sleep(min(self._seconds, 0.2))
            self._look()
        for trial in self.trials:
            self._judge(trial)
        raise Preempted(f"{received}: {len(stopped)} runs were asked to save and stop")


def claim(out: Path, sweep: Sweep) -> None:
    """Makes `out` the folder of a sweep, or continues the same sweep; only its `trials` may have changed.

    Args:
      out: Folder of the sweep.
      sweep: Sweep to run there.

    Raises:
      UserError: If the folder holds another sweep (the message names what differs), or files that no sweep wrote.
    """
    path, new = out / "sweep.json", spec.to_json(sweep)
    if path.is_file():
        saved = read_record(path, sweep=dict, config=dict) or {}
        check_fields(saved["sweep"], path, space=dict)
        changed = spec.differences(saved, new)
        if changed:
            raise UserError(
                f"{out} holds another sweep. It differs in (there -> here):\n  " + "\n  ".join(changed) + "\n"
                "Only `trials` may change. Give another --out to start a new sweep."
            )
    elif foreign := [name for name in WRITTEN if (out / name).exists()]:
        raise UserError(
            f"{out} holds {', '.join(foreign)}, but no sweep.json: this sweep would overwrite files that no sweep "
            "wrote. Give another --out"
        )
    workdirs.write_json(path, new)


def _value_of(trial: Trial) -> float:
    assert trial.value is not None  # every complete trial has a value
    return trial.value


def locked(out: Path) -> Lock:
    """Returns a context manager that keeps other controllers out of the folder; see `jaxvision.locks`.

    Args:
      out: Folder of the sweep, made if it does not exist.
    """
    output_folder(out, "--out")
    return Lock(out, "the folder", wait=0)
