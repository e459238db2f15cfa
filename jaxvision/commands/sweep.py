"""`jaxvision sweep`: the trials of a sweep file, and then its report."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from rich.table import Table

from jaxvision import estimate, launch, storage
from jaxvision.launch.local import visible_gpus
from jaxvision.progress import track
from jaxvision.sweep import report, results, searches, spec
from jaxvision.sweep import space as spaces
from jaxvision.sweep.controller import Controller
from jaxvision.sweep.spec import Sweep
from jaxvision.sweep.together import Together
from jaxvision.sweep.view import View
from jaxvision.train.progress import console

POPULATION = "population"  # value of --launcher that starts no processes: all trials train in this one
LOCAL_SECONDS, CLUSTER_SECONDS = 1.0, 10.0  # seconds between two polls of the runs
SHOWN = 50  # number of runs that --dry_run lists


def run_sweep(
    path: str,
    out: str | Path,
    *,
    launcher: str = "local",
    parallel: int = 2,
    size: int = 16,
    dry_run: bool = False,
) -> str:
    """Does the trials of a sweep that are not done yet, and writes tables, figures and a report.

    Args:
      path: Sweep file, "FILE.py" or "FILE.py:ARG".
      out: Folder of the sweep; the same call resumes a sweep in it.
      launcher: Spec of a launcher (see `jaxvision.launch`), or "population".
      parallel: Number of runs at once.
      size: Number of trials at once in a population.
      dry_run: True to only print the runs and what they cost; writes nothing.

    Returns:
      The text of the report, which is also printed.

    Raises:
      UserError: The sweep has a mistake, or the folder holds another sweep.
      Preempted: A signal stopped the sweep. Local runs were asked to save; runs on a cluster continue. The same call
        resumes the sweep.
    """
    sweep, out = spec.load(path), storage.local(out, "--out", "a sweep has a lock and a journal")
    if launcher != POPULATION and not dry_run:
        jax.config.update("jax_platforms", "cpu")  # for this process: the runs need the accelerators' memory
    steps = spec.check_experiments(sweep, here=not dry_run and launcher.startswith((POPULATION, "local")))
    say = console().print
    if dry_run:
        _plan(sweep, say, launcher, parallel)
        return ""
    with View(table=launcher != POPULATION) as view:
        common: dict[str, Any] = dict(steps=steps, show=view, say=view.say)
        controller: Controller
        if launcher == POPULATION:
            controller = Together(sweep, out, size, **common)
        else:
            local = launcher.startswith("local")
            controller = Controller(
                sweep,
                out,
                launch.make_launcher(_with_slots(launcher, parallel)),
                parallel=parallel,
                leave=not local,
                seconds=LOCAL_SECONDS if local else CLUSTER_SECONDS,
                **common,
            )
        trials = controller.run()
    table = results.collect(sweep, trials)
    results.write(table, out)
    words = report.write(sweep, table, out)
    say(words, highlight=False, markup=False)
    return words


def _with_slots(launcher: str, parallel: int) -> str:
    """The launcher "local" with a slot for each run, if there are no GPUs: runs then share the CPUs."""
    slots = min(parallel, os.cpu_count() or 1)
    return f"local(slots={slots})" if launcher == "local" and not visible_gpus() else launcher


def _plan(sweep: Sweep, say: Callable, launcher: str, parallel: int) -> None:
    """Prints the cost of all runs, and the runs if they are known in advance."""
    point = searches.make_search(sweep.search).point
    count = sweep.budget * len(sweep.seeds)
    if point is None:
        say(
            f"{sweep.budget} trials of {len(sweep.seeds)} runs each; {sweep.search} chooses each from the results of "
            "earlier ones"
        )
        costs = [estimate.estimate(sweep.base(), tried=True)] * count
    else:
        points = [point(sweep.space, number) for number in range(sweep.budget)]
        keys = list(spaces.searched(sweep.space))
        table = Table("trial", "seed", *keys)
        rows = [(number, seed, params) for number, params in enumerate(points) for seed in sweep.seeds]
        for number, seed, params in rows[:SHOWN]:
            table.add_row(str(number), str(seed), *(str(params.get(key, "")) for key in keys))
        say(table)
        if count > SHOWN:
            say(f"and {count - SHOWN} more")
        each = track(rows, "estimating what the runs cost", unit="runs")
        costs = [estimate.estimate(sweep.config_of(params, seed), tried=True) for _, seed, params in each]
    saved = ", less what pruning saves" if sweep.pruning else ""
    at_once = parallel if launcher.startswith("local") else 1
    cost = estimate.words(costs, launched=launcher != POPULATION, parallel=at_once)
    say(f"{cost}, {f'{at_once} at once' if at_once > 1 else 'one after the other'}{saved}", highlight=False)
