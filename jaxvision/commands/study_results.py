"""The results of a study as rows, which are enough to make its report again.

results.csv, results.parquet   a row for each run: its name, its tags, its results, or an error
curves.csv, curves.parquet     a row for each line of metrics.jsonl, in order: the run, the step, the numbers

`analyse` of a study gets the rows of results, and takes curves from `records`.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
from ml_collections import ConfigDict

from jaxvision import outputs, storage
from jaxvision.commands import row_tables
from jaxvision.commands.study_runs import Row, Run, workdir
from jaxvision.errors import UserError, nearest, shown, some
from jaxvision.train import metrics

RESULTS, CURVES = "results", "curves"
FILES = tuple(f"{name}{suffix}" for name in (RESULTS, CURVES) for suffix in row_tables.SUFFIXES)
REPORTS = ("report.md", "report.html")
SPEEDS = ("examples_per_second", "data_wait", "mfu")  # numbers of the machine, which no curve has


def records(out: Path, run: str) -> list[dict[str, Any]]:
    """Returns what a run recorded: one dict for each line of its metrics.jsonl, in order.

    They come from the workdir of the run while it exists, and else from curves.parquet or curves.csv in `out`. Numbers
    that are not finite, and those of `SPEEDS`, are left out.

    Args:
      out: Folder of the study.
      run: Name of the run.

    Returns:
      Dicts with the key "step" and numbers by name; none if there are no records.
    """
    file = workdir(out, run) / "metrics.jsonl"
    if file.exists():
        lines = metrics.read(file)
        return [{key: v for key, v in line.items() if v is not None and key not in SPEEDS} for line in lines]
    curves = row_tables.find(out, CURVES)
    return [dict(line) for line in _by_run(curves, curves.stat().st_mtime_ns).get(run, ())] if curves else []


def published(study: ModuleType, preset: str) -> list[Run]:
    """Returns the results of a preset that need no run, as runs without a config whose tags are the whole row.

    Args:
      study: Module of the study.
      preset: Name of the preset.
    """
    rows = study.published(preset) if hasattr(study, "published") else []
    return [Run(row["run"], ConfigDict(), {key: v for key, v in row.items() if key != "run"}) for row in rows]


def write(rows: Sequence[Row], planned: Sequence[Run], out: Path) -> list[Row]:
    """Writes results.* and curves.* of the runs of a study.

    Args:
      rows: Rows of all runs.
      planned: Runs of the preset, and its published results.
      out: Folder of the study.

    Returns:
      The rows as the files have them, so that a report of these rows is that of the files.
    """
    results = row_tables.make(rows)
    row_tables.write(results, out, RESULTS)
    curves = [{"run": row["run"]} | line for row in rows for line in records(out, row["run"])]
    if curves:
        row_tables.write(row_tables.make(curves), out, CURVES)
    return _rows(results, planned)


def remake(study: ModuleType, source: str | Path, out: str | Path, preset: str, data_dir: str | None) -> str:
    """Makes the report of a study again from its rows alone, without runs, data and workdirs.

    Args:
      study: Module of the study.
      source: Folder with results.csv or results.parquet, or the path of one of them; curves.* is beside it.
      out: Folder to write to.
      preset: Preset of the rows.
      data_dir: Folder of the data set, for a study that lists its runs from it.

    Returns:
      The report.

    Raises:
      UserError: The rows are not those of the preset, or the folder would not be left as it is.
    """
    file, out = _file(storage.local(source, "--from")), storage.local(out, "--out")
    if file.parent.resolve() == out.resolve():
        raise UserError(f"--out={out} is the folder of --from, where nothing is written: give another folder")
    if (out / "runs").exists():
        raise UserError(f"--out={out} holds the runs of a study, whose records would be mixed in: give an empty folder")
    planned = _planned(study, preset, data_dir) + published(study, preset)
    texts = {key for one in planned for key, v in one.tags.items() if not isinstance(v, int | float | None)}
    results = row_tables.read(file, {"run", "error", *texts})
    what = f"of preset {preset!r}"
    _check_columns(results.column_names, planned, f"{file} has", what)
    rows = _rows(results, planned)
    _check_runs(rows, planned, out, f"{file} has", what)
    order = {one.name: i for i, one in enumerate(planned)}
    rows = sorted(rows, key=lambda row: order[row["run"]])
    curves = row_tables.find(file.parent, CURVES)
    lines = row_tables.read(curves, {"run"}) if curves else None
    if lines is not None and (strange := set(lines["run"].to_pylist()) - {row["run"] for row in rows}):
        raise UserError(f"{curves} has {_list(strange)}, which {file.name} has not: take both files from one study")
    outputs.claim(out, (*FILES, *REPORTS), "--out")
    row_tables.write(results, out, RESULTS)
    for suffix in row_tables.SUFFIXES:  # of an earlier call with other rows
        (out / f"{CURVES}{suffix}").unlink(missing_ok=True)
    if lines is not None:
        row_tables.write(lines, out, CURVES)
    return study.analyse(rows, out, preset)


def _file(source: Path) -> Path:
    """Returns the file of results that --from names."""
    file = source if source.suffix in row_tables.SUFFIXES else row_tables.find(source, RESULTS)
    if file is None or not file.is_file():
        raise UserError(f"--from={shown(str(source))} holds no results: give a folder with results.csv, or such a file")
    return file


def _planned(study: ModuleType, preset: str, data_dir: str | None) -> list[Run]:
    """Returns the runs of a preset; their names and tags do not depend on where the data are."""
    try:
        return study.runs(preset, data_dir)
    except UserError:
        if data_dir is not None:
            raise
        return study.runs(preset, "DIR")


def _rows(results: pa.Table, planned: Sequence[Run]) -> list[Row]:
    """Returns the rows of a table: all tags, and the results that a run has."""
    tags: dict[str, Mapping[str, Any]] = {one.name: one.tags for one in planned}
    rows = []
    for row in results.to_pylist():
        mine = tags.get(row["run"], {})
        rows.append({key: v for key, v in row.items() if v is not None or key in mine})
    return rows


def _check_columns(columns: Sequence[str], planned: Sequence[Run], has: str, what: str) -> None:
    """Checks that every column is a tag or a result of the runs, and that no tag is missing."""
    tags = dict.fromkeys(key for one in planned for key in one.tags)
    evals = {name for one in planned for section in (one.config.get("evals"), one.measures) for name in section or ()}
    needed = dict.fromkeys(key for one in planned if not one.fill for key in one.tags)
    if absent := [key for key in ("run", *needed) if key not in columns]:
        raise UserError(f"{has} no column {_list(absent)}, which the rows {what} need")
    unknown = [key for key in columns if key not in ("run", "error", *tags) and key.partition("/")[0] not in evals]
    if unknown:
        columns_of_runs = [*tags, *(f"{name}/..." for name in evals)]
        close = nearest(unknown[0].partition("/")[0], [*tags, *evals])
        raise UserError(
            f"{has} the column {_list(unknown)}, which is unknown{close}; the runs {what} have {_list(columns_of_runs)}"
        )


def _check_runs(rows: Sequence[Row], planned: Sequence[Run], out: Path, has: str, what: str) -> None:
    """Checks that the rows are those of the runs, each once, with their tags."""
    names, plan = [row["run"] for row in rows], {one.name: one for one in planned}
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{has} {_list(twice)} twice: keep one row for each run")
    if strange := [name for name in names if name not in plan]:
        raise UserError(f"{has} {_list(strange)}, which is no run {what}: give the --preset of the rows")
    present = list(rows)
    absent = [one.name for one in planned if one.name not in names and not one.fill]
    if not absent:
        absent = [one.name for one in planned if one.name not in names and one.fill and one.fill(present, out)]
    if absent:
        raise UserError(f"{has} no row of {len(absent)} runs {what}: {_list(absent)}")
    for row in rows:
        for key, value in plan[row["run"]].tags.items():
            if row[key] != value and str(row[key]) != str(value):
                raise UserError(
                    f"{has} {key} {shown(str(row[key]))} for {row['run']}, and the study {value!r}: "
                    "the rows are of another version of it"
                )


def _list(names: Any) -> str:
    return some(sorted(map(shown, names)))


@functools.lru_cache(maxsize=4)
def _by_run(curves: Path, changed: int) -> dict[str, list[dict[str, Any]]]:
    """Returns the lines of a file of curves by run; `changed` is the time of its last change."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in row_tables.read(curves, {"run"}).to_pylist():
        run = row.pop("run")
        lines.setdefault(run, []).append({key: value for key, value in row.items() if value is not None})
    return lines
