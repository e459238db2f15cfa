"""`jaxvision study`: runs once, analyses all, goes on where it was left."""

import csv
import textwrap

import pytest

from jaxvision.commands import study
from jaxvision.errors import UserError
from jaxvision.train.metrics import read


@pytest.fixture
def tiny_study(tmp_path, monkeypatch, config_file):
    """A study of two runs in experiments/ of the current folder."""
    folder = tmp_path / "experiments" / "tiny"
    folder.mkdir(parents=True)
    (folder / "study.py").write_text(
        textwrap.dedent(f"""
        from jaxvision.commands.study import Run
        from jaxvision.config import load

        FILE = {str(config_file)!r}
        PRESETS = ("one", "two")

        def runs(preset, data_dir):
            rates = (0.1,) if preset == "one" else (0.1, 0.2)
            return [
                Run(f"rate{{r}}", load(FILE, {{"optimizer.learning_rate": r, "train.total": "2 steps"}}), dict(rate=r))
                for r in rates
            ]

        def analyse(rows, out, preset):
            return f"best rate {{max(rows, key=lambda r: r['val/top1'])['rate']}}"
        """)
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_runs_are_done_once(tiny_study, capsys):
    out = tiny_study / "out"
    assert study.run("tiny", out) == "best rate 0.1"
    first = (out / "runs" / "rate0.1" / "results.json").stat().st_mtime_ns
    study.run("tiny", out, preset="two")
    assert "was done" in capsys.readouterr().out
    assert (out / "runs" / "rate0.1" / "results.json").stat().st_mtime_ns == first
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert [row["rate"] for row in rows] == ["0.1", "0.2"]
    last = read(out / "runs" / "rate0.2" / "metrics.jsonl")[-1]
    assert float(rows[1]["val/top1"]) == last["val/top1"]


def test_names_that_are_not_there(tiny_study):
    with pytest.raises(UserError, match="unknown study 'tyny'; did you mean 'tiny'"):
        study.run("tyny", tiny_study / "out")
    with pytest.raises(UserError, match="unknown preset of study 'tiny' 'three'"):
        study.run("tiny", tiny_study / "out", preset="three")
