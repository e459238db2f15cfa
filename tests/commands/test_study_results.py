"""The rows of a study: they keep every value, and make the report of every study again without its runs."""

import math

import pytest
from made_up_runs import EXPERIMENTS, STUDIES, finish_all

from jaxvision import workdir as workdirs
from jaxvision.commands import row_tables, study

# Their reports take seconds: fits with bootstraps, or many runs.
SLOW_NAMES = ("architecture_search", "data_scaling", "random_search", "rotation")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in SLOW_NAMES]
QUICK = [name for name in STUDIES if name not in {param.values[0] for param in SLOW}]


def files(folder):
    """The bytes of all files that are neither tables nor of runs."""
    kept = [f for f in folder.rglob("*") if f.is_file() and f.relative_to(folder).parts[0] not in ("runs", "compiled")]
    return {str(f.relative_to(folder)): f.read_bytes() for f in kept if not f.name.startswith(".")}


def test_every_study_is_tested_here():
    assert {str(file.parent.relative_to(EXPERIMENTS)) for file in EXPERIMENTS.rglob("study.py")} == set(STUDIES)


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_the_rows_alone_make_the_report_of_the_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "_cost", lambda *_: "")
    monkeypatch.setattr(study, "_cache_compilations", lambda out: None)
    monkeypatch.setattr(workdirs, "git_commit", lambda: "commit")  # the tree may change between two reports
    preset, keys, recorded = STUDIES[name]
    path = str(EXPERIMENTS / name)
    this = study.load_study(path)
    finish_all(this, preset, tmp_path / "out", keys, recorded)
    report = study.run_study(path, tmp_path / "out", preset=preset, data_dir="DIR")
    made = files(tmp_path / "out")
    (tmp_path / "kept").mkdir()
    tables = [name for name in ("results.csv", "curves.parquet") if name in made]  # a table of its own has no curves
    assert len(tables) == (2 if this.runs(preset, "DIR") else 1)
    for kept in tables:
        (tmp_path / "kept" / kept).write_bytes(made[kept])
    assert study.run_study(path, tmp_path / "again", preset=preset, source=tmp_path / "kept") == report.replace(
        str(tmp_path / "out"), str(tmp_path / "again")
    )
    again = files(tmp_path / "again")
    assert again.keys() == made.keys()
    assert [file for file in made if made[file] != again[file]] == []
    assert files(tmp_path / "kept") == {kept: made[kept] for kept in tables}


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
