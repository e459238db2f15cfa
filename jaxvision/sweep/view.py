"""The display of a running sweep: a table on a terminal, lines elsewhere."""

import time
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table

from jaxvision import workdir as workdirs
from jaxvision.sweep.controller import Controller, Trial
from jaxvision.sweep.runs import TrialRun
from jaxvision.train.progress import console, duration

ROWS = 20  # most rows of the table: the running trials, and the latest that ended
MARKS = {"complete": "green", "failed": "red", "pruned": "yellow", "running": "cyan", "waiting": "dim"}


class View:
    """Shows the controller that it is called with. Use it as a context manager around `Controller.run`.

    Args:
      table: True to show a table on a terminal; False for lines only.
    """

    def __init__(self, table: bool = True):
        self._console = console()
        live = table and self._console.is_terminal
        self._live = Live(console=self._console, auto_refresh=False) if live else None

    def __enter__(self) -> "View":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, controller: Controller) -> None:
        if self._live:
            self._live.update(Group(_table(controller), _summary(controller)), refresh=True)

    def say(self, text: str) -> None:
        """Prints a line about an event.

        Args:
          text: Line to print, without markup.
        """
        self._console.print(f"{time.strftime('%H:%M:%S')} {text}", markup=False)


def _table(controller: Controller) -> Table:
    keys = [key for key in controller.sweep.space if any(key in trial.params for trial in controller.trials)]
    table = Table("trial", "state", "step", *(key.rpartition(".")[2] for key in keys), controller.sweep.objective)
    running = [trial for trial in controller.trials if trial.state == "running"]
    ended = [trial for trial in controller.trials if trial.state != "running"][-max(ROWS - len(running), 3) :]
    for trial in [*ended, *running]:
        state = trial.record.state
        best = trial is controller.best
        value = "" if trial.value is None else f"{trial.value:.4g}{' (best)' if best else ''}"
        params = [_word(trial.params[key]) if key in trial.params else "" for key in keys]
        table.add_row(
            str(trial.number), f"[{MARKS[state]}]{state}[/]", _steps(controller, trial), *params, value,
            style="bold" if best else None,
        )  # fmt: skip
    return table


def _steps(controller: Controller, trial: Trial) -> str:
    """The step of each seed's run."""
    if trial.state == "complete":
        return ""
    return " ".join(f"{run.step()}/{controller.steps}" for run in trial.runs.values())


def _summary(controller: Controller) -> str:
    states = [trial.state for trial in controller.trials]
    counts = (
        ", ".join(f"{states.count(s)} {s}" for s in ("complete", "pruned", "failed") if s in states) or "none ended"
    )
    text = f"{len(states)} of {controller.budget} trials begun, {counts}; {len(controller.alive)} runs alive"
    left = seconds_left(controller)
    return text if left is None else f"{text}; left {duration(left)}"


def seconds_left(controller: Controller) -> float | None:
    """Estimates the remaining time, from the duration of complete runs and the steps of the others.

    Args:
      controller: Controller of the sweep.

    Returns:
      Seconds; None before a run is complete.
    """
    runs = [run for trial in controller.trials for run in trial.runs.values()]
    took = [_seconds(run) for run in runs if run.state == "complete"]
    if not took:
        return None
    begun = sum(max(1 - run.step() / controller.steps, 0) for run in runs if not run.ended)
    ahead = begun + (controller.budget - len(controller.trials)) * len(controller.sweep.seeds)
    return sum(took) / len(took) * ahead / controller.parallel


def _seconds(run: TrialRun) -> float:
    """The duration of a whole complete run, from the steps and seconds of its last launch."""
    done = workdirs.results(run.workdir)
    assert done is not None  # the run is complete
    launches = workdirs.launches(run.workdir)
    start = launches[-1]["start_step"] if launches else 0
    return done["seconds"] * done["steps"] / max(done["steps"] - start, 1)


def _word(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
