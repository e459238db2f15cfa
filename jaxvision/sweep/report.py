"""The report of a sweep in words, its figures, and the best config as a file."""

import json
import math
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from jaxvision import storage
from jaxvision import workdir as workdirs
from jaxvision.analysis import documents, plots, sweep_plots
from jaxvision.analysis.criteria import opening
from jaxvision.analysis.gallery import Gallery
from jaxvision.analysis.statistics import Interval, paired_difference, t_interval
from jaxvision.analysis.words import code, plain, table_row
from jaxvision.estimate import flops_words
from jaxvision.sweep import importance
from jaxvision.sweep import space as spaces
from jaxvision.sweep.results import DIVERGED, PARAMETER
from jaxvision.sweep.spec import Sweep
from jaxvision.train.progress import duration

SHOWN = 10  # most trials in the table


class TrialSummary(NamedTuple):
    """All runs of one point of the space.

    Attributes:
      number: Number of the trial.
      state: "complete" if all its runs are, else "failed", "pruned", "running" or "waiting".
      params: Value by key; an inactive key is missing.
      values: Value of the objective by seed.
      workdir: Workdir of its first run.
    """

    number: int
    state: str
    params: dict[str, Any]
    values: dict[int, float]
    workdir: Path

    @property
    def mean(self) -> float:
        """Mean of the values over the seeds; NaN if one is missing."""
        return sum(self.values.values()) / len(self.values)


def write(sweep: Sweep, table: pa.Table, out: Path) -> str:
    """Writes report.md, report.html, figures (.png and .svg) and best.py to `out`.

    Figures and best.py need a complete trial with a value.

    Args:
      sweep: Sweep that was run.
      table: Table of `results.collect`.
      out: Folder of the sweep.

    Returns:
      The result in words.
    """
    trials = _trials(sweep, table)
    maximize = sweep.direction == "maximize"
    judged = [trial for trial in trials if trial.state == "complete" and math.isfinite(trial.mean)]
    judged.sort(key=lambda trial: trial.mean, reverse=maximize)
    summary = _summary(trials, table)
    parts = [
        f"# {plain(sweep.config)}: the search for {'high' if maximize else 'low'} {plain(sweep.objective)}",
        *map(str.strip, opening(*_answer(sweep, judged, len(trials)))),
        "## The search",
        _searched(sweep),
        summary,
    ]
    if judged:
        best = judged[0]
        _write_best(sweep, best, len(judged), out / "best.py")
        parts += _best(sweep, best, len(judged), out / "best.py")
        parts += ["## The best trials", _ranking(sweep, judged)]
        parts += _figures(sweep, trials, judged, out)
    parts += _failures(table)
    documents.write("\n\n".join(parts) + "\n", out / "report.md", f"sweep of {sweep.config}")
    if not judged:
        return f"{summary}\nNo trial is complete with a value of {sweep.objective}; see {out}/report.md"
    chosen = "\n".join(f"  {key} = {value!r}" for key, value in best.params.items())
    return (
        f"{summary}\nBest: trial {best.number}, {sweep.objective} {_interval(best)}\n{chosen}\n"
        f"It was chosen by this value, which is therefore optimistic: {out}/report.md says how to check it.\n"
        f"written to {out}/: report.md, report.html, best.py, results.csv, results.parquet, figures"
    )


def _trials(sweep: Sweep, table: pa.Table) -> list[TrialSummary]:
    """The summary of each trial, in order."""
    rows: dict[int, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        rows.setdefault(row["trial"], []).append(row)
    return [
        TrialSummary(
            number,
            _state([row["state"] for row in runs], len(sweep.seeds)),
            {key: runs[0][PARAMETER + key] for key in sweep.space if runs[0][PARAMETER + key] is not None},
            {row["seed"]: row["value"] for row in runs},
            Path(runs[0]["workdir"]),
        )
        for number, runs in sorted(rows.items())
    ]


def _answer(sweep: Sweep, judged: Sequence[TrialSummary], count: int) -> tuple[str, str]:
    """The answer in two sentences, and what to expect of it."""
    name, nothing = plain(sweep.objective), "No value was expected beforehand"
    if not judged:
        answer = f"None of {count} trials is complete with a value of {name}, so there is no best one yet."
        return answer, f"{nothing}; failed trials are listed below with their errors."
    best, rest = judged[0], len(judged) - 1
    values = ", ".join(f"{code(key)} = {_code(value)}" for key, value in best.params.items())
    found = (
        f"Trial {best.number} has the {'highest' if sweep.direction == 'maximize' else 'lowest'} {name} of the "
        f"{len(judged)} complete trials, {_interval(best)} ({_seeds(sweep)}), with {values}."
    )
    return f"{found} {_second(sweep, judged) if rest else 'No other trial is complete.'}", (
        f"{nothing}; the value of the best trial is optimistic, because it was chosen by this value."
    )


def _second(sweep: Sweep, judged: Sequence[TrialSummary]) -> str:
    """How far the second best trial is from the best, and how many trials the seeds cannot tell from it."""
    best, second = judged[:2]
    found = f"The second best, trial {second.number},"
    if len(sweep.seeds) == 1:
        return f"{found} has {_interval(second)}; one seed does not tell luck from merit."
    gaps = [_minus(sweep, trial, best) for trial in judged[1:]]
    told = sum(not gap.low <= 0 <= gap.high for gap in gaps)
    return (
        f"{found} differs from it by {gaps[0].mean:.2g} ± {gaps[0].half:.2g}, paired by seed; {len(sweep.seeds)} seeds "
        f"tell {told} of the {len(gaps)} others from the best."
    )


def _seeds(sweep: Sweep) -> str:
    return f"mean of {len(sweep.seeds)} seeds" if len(sweep.seeds) > 1 else "one seed"


def _minus(sweep: Sweep, trial: TrialSummary, best: TrialSummary) -> Interval:
    values, others = ([t.values[seed] for seed in sweep.seeds] for t in (trial, best))
    return paired_difference(values, others).interval


def _state(states: Sequence[str], wanted: int) -> str:
    if states.count("complete") == wanted:
        return "complete"
    return next((state for state in ("failed", "pruned", "running") if state in states), "waiting")


def _searched(sweep: Sweep) -> str:
    lines = [table_row([code(key), _code(value)]) for key, value in sweep.space.items()]
    pruning = f", pruning by {code(sweep.pruning)}" if sweep.pruning else ""
    seeds = f"seed {sweep.seeds[0]}" if len(sweep.seeds) == 1 else f"seeds {', '.join(map(str, sweep.seeds))}"
    return "\n".join(
        [
            f"Searched by {code(sweep.search)}{pruning}, every point with {seeds}:",
            "",
            "| key | values |",
            "|---|---|",
            *lines,
        ]
    )


def _summary(trials: Sequence[TrialSummary], table: pa.Table) -> str:
    counts = Counter(trial.state for trial in trials)
    errors = zip(table["trial"].to_pylist(), table["error"].to_pylist())
    diverged = len({trial for trial, error in errors if error and error.startswith(DIVERGED)})
    more = {"failed": f" ({diverged} diverged)" if diverged else ""}
    ended = [s for s in ("complete", "pruned", "failed", "running", "waiting") if counts[s]]
    states = ", ".join(f"{counts[s]} {s}{more.get(s, '')}" for s in ended)
    total = lambda name: sum(value for value in table[name].to_pylist() if value)
    resubmitted = sum(max(attempts - 1, 0) for attempts in table["attempts"].to_pylist())
    again = f", {resubmitted} of them submitted again" if resubmitted else ""
    runs = f"{table.num_rows} runs{again}, {flops_words(total('flops'))}, {duration(total('seconds'))} of training"
    return f"{len(trials)} trials: {states or 'none begun'} ({runs})."


def _best(sweep: Sweep, best: TrialSummary, count: int, file: Path) -> list[str]:
    new = range(max(sweep.seeds) + 1, max(sweep.seeds) + 1 + max(len(sweep.seeds), 3))
    values = "\n".join(table_row([code(key), _code(value)]) for key, value in best.params.items())
    return [
        "## The best trial",
        f"Trial {best.number}: {plain(sweep.objective)} **{_interval(best)}**. As a config: {code(file)}.",
        f"| key | value |\n|---|---|\n{values}",
        f"This value is optimistic. The trial was chosen as the best of {count} by the same numbers that are given "
        "here, so it is partly luck: more so with more trials and fewer seeds. The interval over the seeds does not "
        "include this effect. To report a number, train the config with seeds that were not used for the choice (and, "
        "if there is a test set, evaluate on it once):",
        f"    for seed in {' '.join(map(str, new))}; do\n"
        f"      jaxvision train --config={shlex.quote(str(file))} --config.seed=$seed "
        f"--workdir={shlex.quote(str(file.parent))}/best/seed$seed\n"
        "    done",
    ]


def _ranking(sweep: Sweep, judged: Sequence[TrialSummary]) -> str:
    """The table of the best trials, each compared with the first, seed by seed."""
    shown, first = judged[:SHOWN], judged[0]
    keys = list(spaces.searched(sweep.space))
    several = len(sweep.seeds) > 1
    head = [
        "trial",
        plain(sweep.objective),
        *(["by seed", "minus the best, paired"] if several else []),
        *map(code, keys),
    ]
    lines = [table_row(head), "|" + "---|" * len(head)]
    for trial in shown:
        cells = [str(trial.number), _interval(trial)]
        if several:
            gap = _minus(sweep, trial, first)
            cells += [", ".join(f"{trial.values[seed]:.4g}" for seed in sweep.seeds)]
            cells += ["" if trial is first else f"{gap.mean:.2g} ± {gap.half:.2g}"]
        lines.append(table_row([*cells, *(_code(trial.params[k]) if k in trial.params else "" for k in keys)]))
    ends = (
        "± is half a 95 % t-interval over the seeds."
        if several
        else "Each trial has one seed, so luck and merit cannot be told apart."
    )
    return "\n".join([*lines, "", ends])


def _figures(sweep: Sweep, trials: Sequence[TrialSummary], judged: Sequence[TrialSummary], out: Path) -> list[str]:
    """Draws the figures and returns their part of the report."""
    maximize = sweep.direction == "maximize"
    domains = spaces.searched(sweep.space)
    parameters = [_parameter(key, domain, judged) for key, domain in domains.items()]
    means = {trial.number: trial.mean for trial in judged}
    name, gallery = sweep.objective, Gallery(out, folder="")
    called, seeds = plain(name), f"{len(sweep.seeds)} seeds" if len(sweep.seeds) > 1 else "one seed"
    caption = f"{called} of each trial in the order of the trials (dots, {seeds} each), and the best up to each (line)."
    if path := gallery.place("best_so_far", "the best value so far against trials", caption, [judged]):
        in_order = [means.get(trial.number, math.nan) for trial in trials]
        sweep_plots.running_best(in_order, path, objective=name, maximize=maximize)
    caption = (
        f"A line is a trial, an axis one of the keys searched, the last one {called}. Dark lines are good trials, the "
        "thick one is the best."
    )
    if path := gallery.place("parallel", "parallel coordinates of all trials", caption, [judged]):
        sweep_plots.parallel_coordinates(parameters, [*means.values()], path, objective=name, maximize=maximize)
    caption = f"{called} over each of the keys searched. Dots are runs of {seeds} a trial, rings the means of a trial."
    if path := gallery.place("slices", "the objective against each parameter", caption, [judged]):
        sweep_plots.slices(parameters, [[*trial.values.values()] for trial in judged], path, objective=name)
    figures, gallery.lines = gallery.lines, []
    parts = ["## Figures", *map(str.strip, figures), "## What matters"]
    if len(judged) < importance.LEAST:
        needed = f"The importance of parameters is not estimated: that needs {importance.LEAST} complete trials"
        return [*parts, f"{needed}, there are {len(judged)}."]
    shares = importance.shares(domains, [t.params for t in judged], list(means.values()), maximize)
    words = ", ".join(f"{code(key)} {share:.0%}" for key, share in shares.items())
    caption = f"Share of each key in the importance (PED-ANOVA), from {len(judged)} complete trials."
    if path := gallery.place("importance", "importance of each key", caption, [shares]):
        plots.histogram(shares, path, xlabel="share of the importance")
    return [
        *parts,
        f"Importance of each key for being among the best trials (PED-ANOVA): {words}.",
        *map(str.strip, gallery.lines),
    ]


def _parameter(key: str, domain: spaces.Domain, judged: Sequence[TrialSummary]) -> sweep_plots.Parameter:
    values, domain = [trial.params.get(key) for trial in judged], spaces.inner(domain)
    different = {v for v in values if v is not None}
    if isinstance(domain, spaces.Choice) or any(isinstance(v, str | bool) for v in different):
        words = [None if v is None else str(v) for v in values]
        categories = [str(v) for v in spaces.samples(domain) if str(v) in words]
        return sweep_plots.Parameter(key, words, categories=categories)
    if isinstance(domain, spaces.Grid):
        log = min(different, default=0) > 0 and max(different) / min(different) >= 30
        return sweep_plots.Parameter(key, values, log=log)
    return sweep_plots.Parameter(
        key, values, log=isinstance(domain, spaces.LogUniform) or getattr(domain, "log", False)
    )


def _failures(table: pa.Table) -> list[str]:
    rows = [row for row in table.to_pylist() if row["state"] == "failed"]
    if not rows:
        return []
    lines = [
        table_row([str(row["trial"]), str(row["seed"]), str(row["attempts"]), _code(row["error"])]) for row in rows
    ]
    return ["## Failures", "\n".join(["| trial | seed | attempts | error |", "|---|---|---|---|", *lines])]


def _write_best(sweep: Sweep, best: TrialSummary, count: int, path: Path) -> None:
    """Writes a config file that loads the base config and sets the values of the best trial."""
    saved = workdirs.saved_config(best.workdir)
    base, _, arg = sweep.config.partition(":")
    lines = []
    for key in best.params:
        value: Any = saved
        for part in key.split("."):
            value = value[part]
        lines.append(f"    config.{key} = {value!r}")
    if "seed" not in saved:
        lines += ["    with config.unlocked():", "        config.seed = 0  # so that --config.seed can change it"]
    seeds = f"seeds {', '.join(map(str, best.values))}" if len(best.values) > 1 else f"seed {next(iter(best.values))}"
    text = f'''"""The best of {count} trials of {sweep.config} by {sweep.objective}: trial {best.number}.

Run:       jaxvision train --config={path} --workdir=...
Expected:  somewhat worse than {sweep.objective} {_interval(best)} ({seeds}), by which it was chosen
"""

from jaxvision import config as configs

BASE = {json.dumps(str(Path(base).absolute()))}


def get_config(arg={arg or None!r}):
    config = configs.load(f"{{BASE}}:{{arg}}" if arg else BASE)
{chr(10).join(lines)}
    return config
'''
    storage.write(path, text)


def _interval(trial: TrialSummary) -> str:
    interval: Interval = t_interval(list(trial.values.values()))
    return f"{interval.mean:.4g}" + (f" ± {interval.half:.2g}" if interval.n > 1 else "")


def _code(value: Any) -> str:
    """Formats a value as code, a float with six digits."""
    return code(f"{value:.6g}" if isinstance(value, float) else value)
