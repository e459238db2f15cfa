"""The controller of a sweep that trains several trials at once, as one program in this process."""

from pathlib import Path
from typing import Any, cast

import optuna

from jaxvision import workdir as workdirs
from jaxvision.errors import UserError
from jaxvision.launch.base import Launcher
from jaxvision.sweep import population, searches
from jaxvision.sweep.controller import Controller
from jaxvision.sweep.runs import TrialRun
from jaxvision.sweep.spec import Sweep


class Together(Controller):
    """Asks for `size` points, trains them under all seeds with `population.train`, records them, and repeats.

    Args:
      sweep: Sweep to run.
      out: Folder of the sweep.
      size: Number of trials at once.
      **options: Further arguments of `Controller`.

    Raises:
      UserError: If the sweep prunes (the members of a program end together), or `size` is below 1.
    """

    def __init__(self, sweep: Sweep, out: Path, size: int, **options: Any):
        if sweep.pruning:
            raise UserError(f"the launcher 'population' does not prune ({sweep.pruning!r}): its trials end together")
        if size < 1:
            raise UserError(f"--size must be at least 1, not {size}")
        super().__init__(sweep, out, launcher=cast(Launcher, _Nowhere()), seconds=0.0, **options)
        self._size = size

    def _add(self, handle: optuna.trial.Trial | optuna.trial.FrozenTrial) -> None:
        super()._add(handle)
        for run in self.trials[-1].runs.values():
            run.attempts = _launches(run)

    def _submit(self) -> None:
        running = [trial for trial in self.trials if trial.state == "running"]
        while len(running) < self._size and len(self.trials) < self.budget:
            self._add(searches.ask(self._study, self._search, self.sweep.space))
            running.append(self.trials[-1])
        chosen = [(trial, seed, run) for trial in running for seed, run in trial.runs.items() if not run.ended]
        if not chosen:
            return
        members = [population.Member(self.sweep.config_of(t.params, seed), run.workdir) for t, seed, run in chosen]
        population.train(members, self.out / "population")
        for _, _, run in chosen:
            run.read_end()
            run.attempts = _launches(run)


class _Nowhere:
    """A launcher without jobs: the runs are trained in this process."""

    def find(self, folder: Path, name: str) -> None:
        return None


def _launches(run: TrialRun) -> int:
    return len(workdirs.launches(run.workdir))
