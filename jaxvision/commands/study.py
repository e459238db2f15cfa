"""`jaxvision study`: the runs of a study, and then its analysis.

A study is a file experiments/NAME/study.py with

    PRESETS   names of its sizes, the default first
    runs(preset, data_dir) -> [Run(name, config, tags), ...]
    analyse(rows, out, preset) -> text for the person who waits; writes tables and figures to `out`

where a row is the tags of a run and its results.
"""

import csv
import importlib.util
import time
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

import jaxvision
from jaxvision import workdir as workdirs
from jaxvision.commands import train
from jaxvision.errors import UserError, unknown
from jaxvision.parallel.distributed import is_main
from jaxvision.train.progress import console, duration, words
from jaxvision.train.watch import Preempted, StopSignal


class Run(NamedTuple):
    """One run of a study: its name (a relative path), its config, and what tells it from the others."""

    name: str
    config: ConfigDict
    tags: dict[str, Any]


def run(name: str, out: str | Path, *, preset: str | None = None, data_dir: str | None = None) -> str:
    """Does the runs that are not yet done, one after the other, and analyses all.

    Args:
      name: a folder of experiments/.
      out: holds runs/, results.csv, and what the analysis writes.
      preset: a size of the study; its default if None.
      data_dir: handed to the study.

    Returns:
      The analysis in words, which is also printed.

    Raises:
      Preempted: told to stop; the same call goes on.
    """
    study, out = load(name), Path(out)
    preset = preset or study.PRESETS[0]
    if preset not in study.PRESETS:
        raise unknown(f"preset of study {name!r}", preset, study.PRESETS)
    planned = study.runs(preset, data_dir)
    _cache_compilations(out)
    say = console().print if is_main() else lambda *_: None
    say(f"study {name}, preset {preset}: {len(planned)} runs in {out}/")
    began, rows, ran = time.perf_counter(), [], 0
    with StopSignal() as stop:
        for i, one in enumerate(planned):
            done = workdirs.results(out / "runs" / one.name)
            results = train.run(one.config, out / "runs" / one.name, quiet=True)
            rows.append({**one.tags, **results})
            ran += not done
            left = (time.perf_counter() - began) / max(ran, 1) * (len(planned) - i - 1)
            state = "was done" if done else f"left {duration(left)}"
            say(f"[{i + 1}/{len(planned)}] {one.name}  {words(results)}  {state}")
            if stop.received:
                raise Preempted(f"stopped by {stop.received} after run {i + 1} of {len(planned)}")
    if is_main():
        _write_csv(out / "results.csv", rows)
        report = study.analyse(rows, out, preset)
        say(report)
        return report
    return ""


def load(name: str) -> ModuleType:
    """The study of that name, from experiments/ of the current folder or of this source tree."""
    places = list(dict.fromkeys([Path.cwd() / "experiments", Path(jaxvision.__file__).parents[1] / "experiments"]))
    for place in places:
        file = place / name / "study.py"
        if file.is_file():
            spec = importlib.util.spec_from_file_location(f"study_{name}", file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    known = sorted({f.parent.name for place in places for f in place.glob("*/study.py")})
    if not known:
        raise UserError(f"no studies in {' or '.join(map(str, places))}")
    raise unknown("study", name, known)


def _cache_compilations(out: Path) -> None:
    """Runs of a study that differ only in numbers share their compiled steps through a cache on disk."""
    jax.config.update("jax_compilation_cache_dir", str((out / "compiled").absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
