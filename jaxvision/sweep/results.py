"""The table of a sweep: one row for each run, read from the workdirs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from jaxvision import storage
from jaxvision import workdir as workdirs
from jaxvision.reading import read_record
from jaxvision.step_costs import step_cost
from jaxvision.sweep import space as spaces
from jaxvision.sweep.records import RunRecord, TrialRecord
from jaxvision.sweep.spec import Sweep
from jaxvision.train import divergence, metrics

PARAMETER = "param."  # prefix of the columns of the space
DIVERGED = "diverged: "  # prefix of the error of a run that diverged


def collect(sweep: Sweep, trials: Sequence[TrialRecord]) -> pa.Table:
    """Reads the runs of all trials into a table.

    Columns, in this order:
      trial, seed: int64.
      state: "complete", "pruned", "failed", "running" or "waiting".
      value: float64, the objective; NaN if the run has none.
      param.KEY: one for each key of the space, null where it is inactive. If a key takes values of several types, or
        tuples, they are text.
      the results of the run, float64, under their own names.
      steps, seconds, flops: its steps so far, the duration of its last launch if it ended, the FLOPs of its steps.
      attempts: number of submissions.
      workdir: path of the workdir.
      error: reason why a run failed; see `error`.

    Args:
      sweep: Sweep whose trials they are.
      trials: Records of the trials.
    """
    rows = [_row(sweep, trial, seed, run) for trial in trials for seed, run in sorted(trial.runs.items())]
    names = sorted({name for _, results, _ in rows for name in results})
    parameters = {PARAMETER + key: _typed([row[0][PARAMETER + key] for row in rows]) for key in sweep.space}
    columns = {
        **{name: pa.array([row[0][name] for row in rows], kind) for name, kind in _HEAD.items()},
        **parameters,
        **{name: pa.array([row[1].get(name) for row in rows], pa.float64()) for name in names},
        **{name: pa.array([row[2][name] for row in rows], kind) for name, kind in _TAIL.items()},
    }
    return pa.table(columns)


_HEAD = {"trial": pa.int64(), "seed": pa.int64(), "state": pa.string(), "value": pa.float64()}
_TAIL = {
    "steps": pa.int64(),
    "seconds": pa.float64(),
    "flops": pa.float64(),
    "attempts": pa.int64(),
    "workdir": pa.string(),
    "error": pa.string(),
}


def write(table: pa.Table, out: Path) -> None:
    """Writes results.parquet and results.csv to `out`, each atomically.

    Args:
      table: Table of `collect`.
      out: Folder of the sweep.
    """
    for name, save in (("results.parquet", pyarrow.parquet.write_table), ("results.csv", pyarrow.csv.write_csv)):
        with storage.file(out / name) as made:
            save(table, made)


def error(workdir: Path) -> str:
    """Explains why a run failed: the error in failed.json, that it diverged, or the last line of its output.

    Args:
      workdir: Workdir of the run.

    Returns:
      The reason; it begins with "diverged: " if the run diverged.
    """
    mark, log = read_record(workdir / "failed.json", error=str), workdir / "launch" / "output.log"
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    reason = mark["error"] if mark else lines[-1].strip() if lines else ""
    if divergence.tells(reason):
        return f"{DIVERGED}{reason}"
    if not mark and (why := divergence.of_workdir(workdir, (workdirs.results(workdir) or {}).get("results"))):
        return f"{DIVERGED}{why}"
    return reason or "no output"


def _row(sweep: Sweep, trial: TrialRecord, seed: int, run: RunRecord) -> tuple[dict, Mapping[str, float], dict]:
    """The head with the parameters, the results, and the tail of a run's row."""
    done = workdirs.results(run.workdir) or {}
    results = done.get("results", {})
    lines = metrics.read(run.workdir / "metrics.jsonl")
    steps = done.get("steps") or max((line["step"] for line in lines), default=0)
    value = float(results.get(sweep.objective, math.nan)) if run.state == "complete" else math.nan
    worthless = run.state == "complete" and not math.isfinite(value)
    state = "failed" if worthless else run.state
    head = {"trial": trial.number, "seed": seed, "state": state, "value": math.nan if worthless else value}
    fixed = {key: value for key, value in sweep.space.items() if not spaces.is_domain(value)}
    head |= {PARAMETER + key: (fixed | trial.params).get(key) for key in sweep.space}
    failed = run.state == "failed"
    counted = steps and (run.workdir / "config.json").is_file()
    tail = {
        "steps": steps,
        "seconds": done.get("seconds"),
        "flops": steps * step_cost(workdirs.saved_config(run.workdir)).flops if counted else None,
        "attempts": run.attempts,
        "workdir": str(run.workdir),
        "error": f"its {sweep.objective} is not finite" if worthless else error(run.workdir) if failed else None,
    }
    return head, results, tail


def _typed(values: Sequence[Any]) -> pa.Array:
    """A column of one type: integers, floats, booleans, or else text."""
    kinds = {type(value) for value in values if value is not None}
    for kind, accepted in ((pa.int64(), {int}), (pa.float64(), {int, float}), (pa.bool_(), {bool})):
        if kinds and kinds <= accepted:
            return pa.array(values, kind)
    return pa.array([None if value is None else str(value) for value in values], pa.string())
