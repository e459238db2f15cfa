"""The controller of a sweep: asks for points, submits their runs, looks after them, tells what came of them.

It remembers nothing that is not on disk: the points and what was told stand in the journal (Optuna's), the submissions
and what came of them in the workdirs (`sweep.runs`). A trial is asked once and told once, in the order

    journal: trial, parameters -> command.json -> job -> command.json with its id -> results.json -> journal: value

and a controller that starts again after a death at any point of it goes on there. So `Controller.run` may be killed,
and called again, as often as one likes.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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
from jaxvision.sweep.runs import Run
from jaxvision.sweep.spec import Sweep
from jaxvision.train.watch import Preempted, StopSignal

# Beside sweep.json.
WRITTEN = (
    "journal.log",
    "trials",
    "population",
    "results.csv",
    "results.parquet",
    "report.md",
    "report.html",
    "best.py",
)
SAVING_SECONDS = 300  # that runs have to save when the controller is told to stop


class Trial:
    """A point of the space with its runs.

    Attributes:
      number, params, runs: as in `TrialRecord`.
      state: "running", or what was told: "complete", "pruned" or "failed".
      value: that was told; None where there is none.
      handle: of Optuna; None where it was told before this controller started.
      reported: steps that pruning has seen.
    """

    def __init__(self, number: int, params: dict[str, Any], runs: dict[int, Run], handle: Any = None):
        self.number, self.params, self.runs, self.handle = number, params, runs, handle
        self.state, self.value = "running", None
        self.reported: set[int] = set()

    @property
    def record(self) -> TrialRecord:
        """For the table of results; what an ended trial did not complete is as the trial is."""
        records = {seed: run.record for seed, run in self.runs.items()}
        if self.state in ("pruned", "failed"):
            left = {seed: one for seed, one in records.items() if one.state not in ("complete", "failed")}
            records |= {seed: one._replace(state=self.state) for seed, one in left.items()}
        state = self.state
        if state == "running" and not any(run.state != "waiting" for run in self.runs.values()):
            state = "waiting"
        return TrialRecord(self.number, self.params, state, records)


class Controller:
    """Runs a sweep in a folder.

    Args:
      sweep: what to do.
      out: the folder of the sweep.
      launcher: where runs go.
      parallel: runs at once.
      steps: of a run of the base config, for pruning.
      leave: whether runs go on when the controller is told to stop; else they are told to save, and end.
      seconds: between two looks at the runs.
      command: `(config, values, workdir) -> words` of a run.
      show: called after each look with this controller.
      say: called with a line about what happened.
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
        base = sweep.base()
        self._seeded = "seed" in base
        self._fixed = {key: value for key, value in sweep.space.items() if not spaces.is_domain(value)}
        self._search = searches.of(sweep.search)

    def run(self) -> list[TrialRecord]:
        """Does what is left to do.

        Raises:
          UserError: another sweep lies in the folder, another controller works there, or no run gives the objective.
          Preempted: told to stop; the same call goes on.
        """
        with locked(self.out), StopSignal() as stop:
            claim(self.out, self.sweep)
            self._open()
            while True:
                self._look()
                for trial in self.trials:
                    self._judge(trial)
                if stop.received:
                    self._leave_off(stop.received)
                self._submit()
                self._show(self)
                if self.finished:
                    return self.records()
                self._wait(stop)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        told = all(trial.state != "running" for trial in self.trials)
        return told and len(self.trials) >= self.budget and not self.alive

    @property
    def alive(self) -> list[Run]:
        """Runs of which a job waits or runs."""
        return [run for trial in self.trials for run in trial.runs.values() if run.alive]

    @property
    def best(self) -> Trial | None:
        """The complete trial of the best value so far; never one that diverged."""
        ended = (trial for trial in self.trials if trial.state == "complete" and math.isfinite(trial.value))
        complete = [trial for trial in ended if not any(run.diverged for run in trial.runs.values())]
        pick = max if self.sweep.direction == "maximize" else min
        return pick(complete, key=lambda trial: trial.value, default=None)

    def records(self) -> list[TrialRecord]:
        """All trials so far."""
        return [trial.record for trial in self.trials]

    def _open(self) -> None:
        """Reads the journal and finds the jobs that are there."""
        self._study = searches.open_journal(self.out / "journal.log", self.sweep.direction)
        if self.sweep.pruning:
            self._study.pruner = searches.pruning_of(self.sweep.pruning)(self.steps)
        self.trials = []
        told = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
        for frozen in self._study.get_trials(deepcopy=False):
            if frozen.state.name not in told:
                self._add(searches.ask(self._study, self._search, self.sweep.space, frozen))
                self.trials[-1].reported = set(frozen.intermediate_values)
            else:
                self._add(frozen)
                trial = self.trials[-1]
                trial.state, trial.value, trial.handle = told[frozen.state.name], frozen.value, None
        for trial in self.trials:
            for run in trial.runs.values():
                run.adopt(self._launcher)
                if trial.state == "pruned":
                    run.prune(self._launcher)

    def _add(self, handle: Any) -> None:
        params = searches.point_of(handle, self.sweep.space)
        folder = self.out / "trials" / f"{handle.number:04d}"
        found = {}
        for seed in self.sweep.seeds:
            values = {**self._fixed, **params, **({"seed": seed} if self._seeded else {})}
            workdir = folder / f"seed{seed}"
            words = self._command(self.sweep.config, values, workdir)
            found[seed] = Run(workdir, words, f"{self.out.resolve().name}-{handle.number:04d}-{seed}")
        self.trials.append(Trial(handle.number, params, found, handle))

    def _look(self) -> None:
        """Asks the launcher for all its jobs at once."""
        alive = {run.job: (trial, seed) for trial in self.trials for seed, run in trial.runs.items() if run.alive}
        found = self._launcher.poll({job: t.runs[seed].launch for job, (t, seed) in alive.items()}) if alive else {}
        for job, status in found.items():
            trial, seed = alive[job]
            run = trial.runs[seed]
            before = run.state
            run.update(status)
            if run.due:
                self._say(f"trial {trial.number} seed {seed}: {run.news}; it goes on from its checkpoint")
            elif run.state == "failed":
                self._say(f"trial {trial.number} seed {seed}: failed: {run.news}")
            elif run.state == "running" and before != "running":
                self._say(f"trial {trial.number} seed {seed}: running, attempt {run.attempts}")

    def _judge(self, trial: Trial) -> None:
        """Tells the journal of a trial that has ended, or prunes it."""
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
        """Tells the value of a trial whose runs are complete; none where one of them diverged."""
        values = [self._objective(run) for run in trial.runs.values()]
        why = next(filter(None, (run.diverged for run in trial.runs.values())), "")
        if why:
            self._tell(trial, "failed", why=f"diverged: {why}")
        elif not all(map(math.isfinite, values)):
            self._tell(trial, "failed", why=f"its {self.sweep.objective} is not finite")
        else:
            self._tell(trial, "complete", statistics.fmean(values))

    def _should_prune(self, trial: Trial) -> bool:
        """By the metrics of its first seed; its other seeds start when that one is complete."""
        first = next(iter(trial.runs.values()))
        if first.state == "complete":
            return False
        for step, value in sorted(first.values(self.sweep.objective).items()):
            if step in trial.reported or step >= self.steps:
                continue
            trial.handle.report(value, step)
            trial.reported.add(step)
            if trial.handle.should_prune():
                return True
        return False

    def _tell(self, trial: Trial, state: str, value: float | None = None, why: str = "") -> None:
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        self._study.tell(trial.handle, value, states[state])
        trial.state, trial.value = state, value
        shown = "" if value is None else f", {self.sweep.objective} {value:.4g}; best so far {self.best.value:.4g}"
        self._say(f"trial {trial.number}: {state}{shown}{why and f', {why}'}")

    def _objective(self, run: Run) -> float:
        results = workdirs.results(run.workdir)["results"]
        if self.sweep.objective not in results:
            raise UserError(
                f"the results of {run.workdir} have no {self.sweep.objective!r}, the objective of the sweep, but "
                f"{listed(self.sweep.objective, results)}. Correct the sweep and give it another --out"
            )
        return results[self.sweep.objective]

    def _submit(self) -> None:
        """Fills the free places: first with runs that were interrupted, then with new ones."""
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

    def _due(self, trial: Trial) -> list[Run]:
        first = next(iter(trial.runs.values()))
        wanted = list(trial.runs.values()) if first.state == "complete" or not self.sweep.pruning else [first]
        return [run for run in wanted if run.due]

    def _wait(self, stop: StopSignal) -> None:
        until = time.monotonic() + self._seconds
        while time.monotonic() < until and not stop.received:
            time.sleep(min(self._seconds, 0.2))

    def _leave_off(self, received: str) -> None:
        if self._leave:
            raise Preempted(f"{received}: {len(self.alive)} runs go on without the controller")
        stopped = self.alive
        for run in stopped:
            self._launcher.cancel(run.job, run.launch)
        until = time.monotonic() + SAVING_SECONDS
        while self.alive and time.monotonic() < until:
            time.sleep(min(self._seconds, 0.2))
            self._look()
        for trial in self.trials:
            self._judge(trial)
        raise Preempted(f"{received}: {len(stopped)} runs were told to save")


def claim(out: Path, sweep: Sweep) -> None:
    """Makes `out` the folder of a sweep, or goes on with the same one, of which `trials` may have changed.

    Raises:
      UserError: another sweep lies there, and what differs is named; or files that no sweep wrote.
    """
    path, new = out / "sweep.json", spec.to_json(sweep)
    if path.is_file():
        saved = read_record(path, sweep=dict, config=dict)
        check_fields(saved["sweep"], path, space=dict)
        changed = spec.differences(saved, new)
        if changed:
            raise UserError(
                f"{out} holds another sweep. It differs in (there -> here):\n  " + "\n  ".join(changed) + "\n"
                "Only `trials` may change; another --out starts anew."
            )
    elif found := [name for name in WRITTEN if (out / name).exists()]:
        raise UserError(
            f"{out} holds {', '.join(found)}, but no sweep.json: no sweep wrote that, and this one would overwrite it. "
            "Give another --out"
        )
    workdirs.write_json(path, new)


def locked(out: Path) -> Lock:
    """Holds the folder for one controller while entered; see `jaxvision.locks`."""
    output_folder(out, "--out")
    return Lock(out, "the folder", wait=0)
