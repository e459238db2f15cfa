"""`jaxvision sweep`: real runs as processes of this machine, and what is left of them."""

import json
import runpy

import pytest

from jaxvision import cli
from jaxvision.commands import sweep
from jaxvision.errors import UserError

pytest.importorskip("optuna")

SWEEP = """
from jaxvision.sweep import Sweep, grid

def get_sweep(trials=None):
    return Sweep(
        config={config!r},
        space={{
            "optimizer.learning_rate": grid(0.1, 0.05),
            "model.variant": grid("8"),
            "train.total": "2 steps",
        }},
        search="grid",
        trials=int(trials) if trials else None,
    )
"""


@pytest.fixture
def sweep_file(config_file, tmp_path):
    path = tmp_path / "sweep.py"
    path.write_text(SWEEP.format(config=str(config_file)))
    return path


def test_two_trials_are_trained_and_reported(sweep_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    out = tmp_path / "out"
    cli.main(["jaxvision", "sweep", f"--sweep={sweep_file}", f"--out={out}", "--parallel=1"])
    output = capsys.readouterr().out
    assert "trial 1: complete, val/top1" in output
    for number, rate in enumerate((0.1, 0.05)):
        workdir = out / "trials" / f"{number:04d}" / "seed0"
        config = json.loads((workdir / "config.json").read_text())
        assert (config["optimizer"]["learning_rate"], config["train"]["total"]) == (rate, "2 steps")
        assert json.loads((workdir / "results.json").read_text())["steps"] == 2
        assert json.loads((workdir / "launch" / "command.json").read_text())["attempts"] == 1
    for name in ("sweep.json", "journal.log", "results.parquet", "results.csv", "report.md", "report.html", "best.py"):
        assert (out / name).is_file(), name
    best = runpy.run_path(str(out / "best.py"))["get_config"]()
    assert best.train.total == "2 steps"
    assert best.optimizer.learning_rate in (0.1, 0.05)
    cli.main(["jaxvision", "sweep", f"--sweep={sweep_file}", f"--out={out}"])  # nothing is left to do
    assert json.loads((out / "trials/0001/seed0/run.json").read_text())["launches"][1:] == []


def test_a_dry_run_lists_the_runs_and_writes_nothing(sweep_file, tmp_path, capsys):
    cli.main(["jaxvision", "sweep", f"--sweep={sweep_file}", "--dry_run"])
    output = capsys.readouterr().out
    assert "0.05" in output
    assert "2 runs" in output
    assert "FLOPs" in output
    assert list(tmp_path.iterdir()) == [sweep_file]


@pytest.mark.slow
def test_a_population_is_trained_in_this_process(sweep_file, tmp_path):
    out = tmp_path / "out"
    sweep.run_sweep(f"{sweep_file}:1", out, launcher="population", size=2)
    sweep.run_sweep(str(sweep_file), out, launcher="population", size=2)  # one more trial
    rows = (out / "results.csv").read_text().splitlines()
    assert len(rows) == 3
    assert all('"complete"' in row for row in rows[1:])
    assert not list(out.glob("trials/*/seed0/launch"))


def test_mistakes_leave_nothing_behind(sweep_file, tmp_path):
    for options, message in [
        (dict(launcher="locall"), "did you mean 'local'"),
        (dict(parallel=0, launcher="local(slots=1)"), "--parallel must be at least 1"),
        (dict(launcher="population", size=0), "--size must be at least 1"),
    ]:
        with pytest.raises(UserError, match=message):
            sweep.run_sweep(str(sweep_file), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("launcher", ["local", "population"])
def test_what_every_trial_would_be_refused_for_is_found_before_the_first(launcher, sweep_file, config_file, tmp_path):
    (tmp_path / "base.py").write_text(config_file.read_text().replace('split="validation"', 'split="validatoin"'))
    sweep_file.write_text(sweep_file.read_text().replace(str(config_file), str(tmp_path / "base.py")))
    with pytest.raises(UserError, match="validatoin"):
        sweep.run_sweep(str(sweep_file), tmp_path / "out", launcher=launcher)
    assert not (tmp_path / "out").exists()
