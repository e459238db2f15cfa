"""`jaxvision study`: the runs of a study, and then its analysis.

A study is a file experiments/NAME/study.py with

    PRESETS   names of its presets, such as sizes; the first is the default
    runs(preset, data_dir) -> [Run(name, config, tags), ...]
    get_config(arg) -> the config of the run that "PRESET/NAME" names, see `config_of`
    analyse(rows, out, preset) -> text to print; writes tables and figures to `out`

and, for a preset with results that need no run, such as the numbers of a paper,

    published(preset) -> their rows, which follow those of the runs

where a row holds the tags and the results of a run; `records(out, run)` has its learning curves. Other files of the
study are imported with `sibling`. Each run is a command that a person can type, too:

    jaxvision train --config=experiments/NAME/study.py:PRESET/RUN --workdir=OUT/runs/RUN

The rows are enough to make the report again, see `study_results`: an analysis reads nothing else of the runs.
"""

import functools
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.table import Table

from jaxvision import checks, inputs, launch, outputs, path_names, programs, scripts, shipped, storage
from jaxvision import config as configs
from jaxvision import experiment as experiments
from jaxvision import workdir as workdirs
from jaxvision.commands import evaluate, study_results, train
from jaxvision.commands.study_jobs import Jobs
from jaxvision.commands.study_results import records as records  # for studies
from jaxvision.commands.study_runs import FAILED, Row, Run, finished_row, row_of, started, workdir
from jaxvision.errors import UserError, nearest, shown, some, unknown
from jaxvision.locks import LockHeldError
from jaxvision.parallel.distributed import any_process, is_main
from jaxvision.progress import track
from jaxvision.reading import is_file, is_folder
from jaxvision.sections import DataSection
from jaxvision.storage import output_folder
from jaxvision.train import metrics
from jaxvision.train.progress import console, duration, words
from jaxvision.train.watch import Preempted, StopSignal


def run_study(
    name: str,
    out: str | Path,
    *,
    preset: str | None = None,
    data_dir: str | None = None,
    launcher: str | None = None,
    parallel: int = 1,
    dry_run: bool = False,
    source: str | Path | None = None,
) -> str:
    """Does the runs of a study that are not done yet, and analyses all; or analyses rows of finished runs.

    Args:
      name: Name of a folder of experiments/, or path of a folder with a study.py, or of a Python file.
      out: Folder of the study, for runs/, results.*, curves.* and the files of the analysis.
      preset: Preset of the study; None for its first.
      data_dir: Folder of the data set, which the study receives.
      launcher: Spec of a launcher that runs each as a process of its own, such as "local" (see `jaxvision.launch`);
        None does them in this process, one after the other.
      parallel: Number of runs at once, under a launcher.
      dry_run: True to only print the runs and what they cost.
      source: Folder with results.* and curves.* of all runs, or the path of results.csv or results.parquet; nothing is
        run then, and nothing else is read. None to do the runs.

    Returns:
      The text of the analysis, which is also printed.

    Raises:
      UserError: Runs failed: the others are done, and nothing is analysed. Or the rows are not those of the preset.
      Preempted: A signal stopped the study; the same call resumes it.
    """
    study, out = load_study(name), storage.local(out, "--out", "a study has locks, tables and a cache of programs")
    preset = preset or study.PRESETS[0]
    if preset not in study.PRESETS:
        raise unknown(f"preset of study {name!r}", preset, study.PRESETS)
    say: Callable[..., None] = console().print if is_main() else lambda *_, **__: None
    if source is not None:
        if dry_run or launcher is not None:
            raise UserError("--from does no runs: leave out --dry_run and --launcher")
        report = study_results.remake(study, source, out, preset, data_dir)
        say(report, markup=False)
        return report
    planned, published = study.runs(preset, data_dir), study_results.published(study, preset)
    others = f"; {len(published)} results are published elsewhere" if published else ""

    def tell(runs: list[Run]) -> None:
        done = f" ({len(planned) - len(runs)} are done already)" if len(runs) < len(planned) else ""
        cost = _cost(runs, say if dry_run else None, launcher, parallel) if runs else "no runs"
        say(f"study {name}, preset {preset}: {cost}{done}{others}; in {out}/", highlight=False)

    first = [one for one in planned if not one.fill and (dry_run or not row_of(one, out))]
    if data_dir is not None and first and (launcher is None or launcher.startswith("local")):
        _check_there(data_dir)  # a cluster may have another view of the files
    if dry_run:
        for line in _absent(planned):
            say(line, markup=False)
        tell(planned)
        return ""
    if launcher is None:
        _check(first)
    if not (out / "runs").is_dir():  # no study has written there yet
        outputs.claim(out, (*study_results.FILES, *study_results.REPORTS), "--out")
    output_folder(out, "--out")
    _cache_compilations(out)  # first, because the estimate compiles the steps
    tell([one for one in planned if not workdirs.results(workdir(out, one.name))])
    do: _Here | Jobs = _Here(out, say)
    if launcher is not None:
        leave, made = launcher.partition("(")[0] != "local", launch.make_launcher(launcher)
        if planned:
            do = Jobs(f"{study.__file__}:{preset}", out, made, parallel, leave=leave, say=say)
    rows = do([one for one in planned if not one.fill])
    rows += do([_filled(one, overrides) for one in planned if one.fill and (overrides := one.fill(rows, out))])
    order = {one.name: i for i, one in enumerate(planned)}
    rows = sorted(rows, key=lambda row: order[row["run"]])
    measures = {one.name: one.measures for one in planned}
    rows = [row | _measured(workdir(out, row["run"]), measures[row["run"]]) for row in rows]
    rows += [{"run": one.name, **one.tags} for one in published]
    if not is_main():
        return ""
    report = study.analyse(study_results.write(rows, planned + published, out), out, preset)
    say(report, markup=False)
    return report


def load_study(name: str) -> ModuleType:
    """Loads the module of a study.

    Args:
      name: Name of a folder in experiments/ of the current folder or of this project (see `shipped`), or path of a
        folder with a study.py, or of a Python file.

    Raises:
      UserError: There is no such study, or its file raises an error or lacks something.
    """
    name = shipped.find(name)
    inside = os.path.join(name, "study.py")
    if path := name if name.endswith(".py") and is_file(name) else inside if "/" in name and is_file(inside) else None:
        file = Path(path).resolve()
        return _checked(file)
    places = shipped.places("experiments")
    for place in places if re.fullmatch(r"\w[\w.-]{0,100}", name) else ():
        if (place / name / "study.py").is_file():
            return _checked(place / name / "study.py")
    names = sorted({f.parent.name for place in places for f in place.glob("*/study.py")})
    if not names:
        raise UserError(f"no study {shown(name)} in {' or '.join(map(str, places))}: give the path of one's folder")
    raise UserError(f"{unknown('study', name, names)}; or the path of a folder with a study.py")


def _checked(file: Path) -> ModuleType:
    """Returns the module of a file, if it defines what a study needs."""
    study = _module(file)
    for needed in ("PRESETS", "runs", "get_config", "analyse"):
        if not hasattr(study, needed):
            names = [name for name in vars(study) if not name.startswith("_")]
            raise UserError(f"{file} is not a study: it defines no {needed}{nearest(needed, names)}")
    presets = study.PRESETS
    if not isinstance(presets, tuple | list) or not presets or not all(isinstance(name, str) for name in presets):
        raise UserError(f'PRESETS of {file} must be a tuple of names, such as ("laptop",), not {shown(presets)}')
    return study


def sibling(file: str, name: str) -> ModuleType:
    """Imports a module in the folder of a study, from whatever folder the study is started.

    Args:
      file: `__file__` of the module that imports.
      name: Name of the other module, without its suffix.
    """
    return _module(Path(file).resolve().with_name(f"{name}.py"))


@functools.cache
def _module(file: Path) -> ModuleType:
    return scripts.run_file(file, f"study_{file.parent.name}_{file.stem}")


def config_of(arg: str, presets: Sequence[str], runs: Callable[[str, str | None], list[Run]]) -> ConfigDict:
    """Returns the config of the run "PRESET/NAME", for `get_config` of a study.

    The config has neither the values that `fill` would set nor a --data_dir.

    Args:
      arg: Argument of `get_config`, "PRESET/NAME".
      presets: `PRESETS` of the study.
      runs: Function `runs` of the study.

    Raises:
      UserError: There is no such preset, or no such run in it.
    """
    preset, _, name = arg.partition("/")
    if preset not in presets:
        raise unknown("preset", preset, presets)
    by_name = {one.name: one.config for one in runs(preset, None)}
    if name not in by_name:
        raise unknown(f"run of the preset {preset!r}", name, by_name)
    return by_name[name]


def check_dir(preset: str, needed: str, data_dir: str | None) -> None:
    """Checks that --data_dir is given if a preset needs it.

    Args:
      preset: Name of the preset.
      needed: Description of the data that the preset reads from --data_dir; empty if it reads none.
      data_dir: Value of --data_dir.

    Raises:
      UserError: It is needed, and not given.
    """
    if needed and not data_dir:
        raise UserError(f"the preset {preset!r} reads {needed}, but --data_dir is missing: add --data_dir=DIR")


def _cost(planned: list[Run], say: Callable | None, launcher: str | None, parallel: int) -> str:
    """The cost of the runs in words; with `say`, it also prints the cost of each."""
    from jaxvision import estimate

    each = track(planned, "estimating what the runs cost", unit="runs")
    estimates = [estimate.estimate(one.config, tried=True) for one in each]
    if say:
        table = Table("run", "parameters", "steps", "FLOPs", "time, about")
        for one, cost in zip(planned, estimates):
            flops, seconds = estimate.flops_words(cost.flops), duration(cost.whole)
            table.add_row(one.name, f"{cost.parameters:,}", f"{cost.steps:,}", flops, seconds)
        say(table)
    here = launcher is not None and launcher.startswith("local")
    return estimate.words(estimates, launched=launcher is not None, parallel=parallel if here else 1)


def _check_there(data_dir: str) -> None:
    """Checks that the folder of --data_dir exists."""
    folder = path_names.expanded(data_dir, "--data_dir")
    if not is_folder(folder):
        kind = "is a file, not a folder" if is_file(folder) else "does not exist"
        raise UserError(f"--data_dir={data_dir} {kind}: give the folder of the data set")


def _absent(planned: list[Run]) -> list[str]:
    """Says which runs would fail for lack of their training set, a line for each set that is not here."""
    reasons: dict[str, str] = {}
    runs: dict[str, list[str]] = {}
    for one in planned:
        data = configs.call(DataSection, one.config.data, "data")
        reads = configs.fingerprint(ConfigDict({"data": data._replace(subset=None, batch_size=1)._asdict()}))
        if reads not in reasons:
            reasons[reads] = inputs.open_or_describe(data, "optional")[2]
        if reasons[reads]:
            runs.setdefault(reasons[reads], []).append(one.name)
    return [
        f"warning: the training set of {len(names):,} of {len(planned):,} runs ({some(names, most=3)}) is not here, "
        f"and they would fail: {why}. Prepare it, or name its folder with --data_dir"
        for why, names in runs.items()
    ]


def _check(planned: list[Run]) -> None:
    """Opens the data and evaluations of all runs before the first one starts, once for runs that read the same.

    Raises:
      UserError: A run would refuse them; the message names it.
    """
    seen = set()
    for one in planned:
        data = {key: value for key, value in one.config.data.items() if key != "subset"}
        reads = configs.fingerprint(ConfigDict({"data": data, "evals": one.config.get("evals", {})}))
        if reads not in seen:
            seen.add(reads)
            try:
                checks.check_run(experiments.build(one.config, training_data="optional"))
            except UserError as error:
                raise UserError(f"{one.name}: {error}") from error


def _filled(one: Run, overrides: dict[str, Any]) -> Run:
    return one._replace(config=configs.override(one.config, overrides), fill=None)


class _Here:
    """Does runs in this process, one after the other."""

    def __init__(self, out: Path, say: Callable):
        self._out, self._say = out, say

    def __call__(self, planned: list[Run]) -> list[Row]:
        rows, began, ran = [], time.perf_counter(), 0
        with StopSignal() as stop:
            for i, one in enumerate(planned):
                if any_process(stop.received is not None):
                    raise Preempted(f"stopped by {stop.received} after run {i} of {len(planned)}")
                done = row_of(one, self._out)
                rows.append(done or self._train(one))
                ran += not done
                left = (time.perf_counter() - began) / max(ran, 1) * (len(planned) - i - 1)
                result = rows[-1].get("error") or words({k: v for k, v in rows[-1].items() if k.startswith("val/")})
                state = "already done" if done else f"{duration(left)} left"
                self._say(f"[{i + 1}/{len(planned)}] {one.name}  {result}  {state}", markup=False)
        return rows

    def _train(self, one: Run) -> Row:
        folder = workdir(self._out, one.name)
        try:
            results = train.run_train(one.config, folder, quiet=True)
        except UserError as error:
            if isinstance(error, LockHeldError) or not (one.may_fail and started(one, folder)):
                raise UserError(f"{one.name}: {error}") from error
            if is_main():
                workdirs.write_json(folder / FAILED, {"error": str(error)})
            return {"run": one.name, **one.tags, "error": str(error)}
        return finished_row(one, folder, results)


def _measured(folder: Path, measures: Mapping[str, Any] | None) -> dict[str, float]:
    """The results of further evaluations of a finished run; those that an earlier call made are read."""
    if not measures or not workdirs.results(folder):
        return {}
    wanted = json.loads(json.dumps(measures))
    for line in metrics.read(folder / "evaluations.jsonl"):
        if line.get("evals") == wanted:
            return {key: value for key, value in line.items() if "/" in key}
    return evaluate.run_evaluate(folder, evals=measures)


def _cache_compilations(out: Path) -> None:
    """Makes runs of a study that differ in numbers only share their compiled steps, through a cache on disk.

    The cache is in the folder of the study, because the machines of a launcher may have no other folder in common.
    """
    folder = str((out / "compiled").absolute())
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder  # for the processes that a launcher starts
    jax.config.update("jax_compilation_cache_dir", folder)
    programs.keep()
