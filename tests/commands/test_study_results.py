"""The rows of a study: they keep every value, and make the report of every study again without its runs."""

import json
import math
import random
from pathlib import Path

import pytest

from jaxvision import config as configs
from jaxvision.commands import row_tables, study
from jaxvision.commands.study_runs import FAILED
from jaxvision.evals import features

EXPERIMENTS = Path(study.__file__).parents[2] / "experiments"


def of_scaling(this, one):
    return ["val/top1", "val/loss", "train/top1", *(f"fewshot/{n}shot_ridge1024" for n in (1, 5, 10, 25))]


def of_pairs(this, one):
    p = study.sibling(this.__file__, "presets").PRESETS["laptop"]
    return [*p.reported, *(key for keys in p.criteria.values() for key in keys)]


def of_rotation(this, one):
    by_stage = [f"probe/{features.protocol_name('probe_lbfgs', f'stages.{i}')}/top1" for i in range(4)]
    return ["val/top1"] if one.tags["protocol"] == "labels" else by_stage


def of_simclr(this, one):
    return ["val/probe_lbfgs/top1", "val/probe_lbfgs_projection/top1"]


# Study -> preset, (module, run) -> names of its results, and names of what it records during training.
STUDIES = {
    "data_scaling": ("laptop", of_scaling, ["val/top1"]),
    "image_text": ("laptop", of_pairs, ["seen/zeroshot_plain1/top1"]),
    "own_parts/width": ("laptop", lambda this, one: ["val/mean_iou"], []),
    "random_search": ("laptop", lambda this, one: ["val/top1"], []),
    "rotation": ("laptop", of_rotation, ["rotation_top1"]),
    "simclr": ("laptop", of_simclr, ["contrastive_top1", "effective_rank"]),
    "transfer": ("fashion", lambda this, one: ["test/top1"], []),
}


def finish(one, folder, results, recorded, draw):
    """Writes the workdir of a run as if it had ended with made-up results."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(configs.to_json(one.config))
    lines = [{"step": step, "loss": draw(), "data_wait": 0.1} | {k: draw() for k in recorded} for step in (5, 10)]
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in [*lines, {"step": 10, "x": None}])
    )
    record = {"steps": 10, "seconds": 1.0, "results": {key: draw() for key in results}}
    (folder / "results.json").write_text(json.dumps(record))


def finish_all(this, preset, out, keys, recorded):
    """Finishes all runs of a preset; of those that may fail, one fails."""
    draw, rows = random.Random(0).random, []
    planned = this.runs(preset, "DIR")
    for one in sorted(planned, key=lambda one: one.fill is not None):
        if one.fill:
            overrides = one.fill(rows, out)
            if overrides is None:
                continue
            one = study._filled(one, overrides)
        folder = study.workdir(out, one.name)
        if one.may_fail and not any("error" in row for row in rows):
            folder.mkdir(parents=True)
            (folder / FAILED).write_text('{"error": "the loss of step 3 is \\"nan\\", not finite"}')
        else:
            finish(one, folder, keys(this, one), recorded, draw)
        rows.append(study.row_of(one, out))


def files(folder):
    """The bytes of all files that are neither tables nor of runs."""
    kept = [f for f in folder.rglob("*") if f.is_file() and f.relative_to(folder).parts[0] not in ("runs", "compiled")]
    return {str(f.relative_to(folder)): f.read_bytes() for f in kept if not f.name.startswith(".")}


# Their reports take seconds: fits with bootstraps, or many runs.
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("data_scaling", "random_search", "rotation")]
QUICK = [name for name in STUDIES if name not in {param.values[0] for param in SLOW}]


def test_every_study_is_tested_here():
    assert {str(file.parent.relative_to(EXPERIMENTS)) for file in EXPERIMENTS.rglob("study.py")} == set(STUDIES)


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_the_rows_alone_make_the_report_of_the_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "_cost", lambda planned, say: "")
    monkeypatch.setattr(study, "_cache_compilations", lambda out: None)
    preset, keys, recorded = STUDIES[name]
    path = str(EXPERIMENTS / name)
    this = study.load_study(path)
    finish_all(this, preset, tmp_path / "out", keys, recorded)
    report = study.run_study(path, tmp_path / "out", preset=preset, data_dir="DIR")
    made = files(tmp_path / "out")
    (tmp_path / "kept").mkdir()
    for kept in ("results.csv", "curves.parquet"):
        (tmp_path / "kept" / kept).write_bytes(made[kept])
    assert study.run_study(path, tmp_path / "again", preset=preset, source=tmp_path / "kept") == report.replace(
        str(tmp_path / "out"), str(tmp_path / "again")
    )
    again = files(tmp_path / "again")
    assert again.keys() == made.keys()
    assert [file for file in made if made[file] != again[file]] == []
    assert files(tmp_path / "kept") == {kept: made[kept] for kept in ("results.csv", "curves.parquet")}


ROWS = [
    {"run": "a/1", "seed": 2**53 + 1, "rate": 0.1 + 0.2, "whole": 1.0, "mixed": 1, "flag": True, "error": None},
    {"run": '1,"x"\n', "seed": 0, "rate": 5e-324, "whole": 2.0, "mixed": 0.5, "flag": None, "error": ""},
    {"run": "007", "seed": -1, "rate": math.inf, "whole": None, "mixed": None, "late": None},
]


@pytest.mark.parametrize("suffix", row_tables.SUFFIXES)
def test_a_table_keeps_every_value_and_its_type(tmp_path, suffix):
    table = row_tables.make(ROWS)
    row_tables.write(table, tmp_path, "t")
    read = row_tables.read(tmp_path / f"t{suffix}", {"run", "error"}).to_pylist()
    assert read == table.to_pylist()
    for row, was in zip(read, ROWS):
        assert {key: was.get(key) for key in row} == row
        assert [type(row[key]) for key in ("run", "seed", "rate")] == [str, int, float]
    assert [type(row["whole"]) for row in read[:2]] == [float, float]
    assert math.isnan(row_tables.make([{"x": math.nan}, {"x": None}]).to_pylist()[0]["x"])


def test_a_csv_can_be_written_again_without_a_change(tmp_path):
    row_tables.write(row_tables.make(ROWS), tmp_path, "t")
    (tmp_path / "again").mkdir()
    row_tables.write(row_tables.read(tmp_path / "t.csv", {"run", "error"}), tmp_path / "again", "t")
    assert (tmp_path / "t.csv").read_bytes() == (tmp_path / "again" / "t.csv").read_bytes()
    assert (tmp_path / "t.parquet").read_bytes() == (tmp_path / "again" / "t.parquet").read_bytes()


def test_a_column_of_several_types_is_text():
    assert row_tables.make([{"x": 1}, {"x": "a"}, {"x": None}]).to_pylist() == [{"x": "1"}, {"x": "a"}, {"x": None}]
    assert row_tables.make([{"x": (1, 2)}]).to_pylist() == [{"x": "(1, 2)"}]
