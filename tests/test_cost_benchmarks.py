"""The benchmarks of steps, evaluations and checkpoints run, at a size where their times mean nothing."""

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize(
    ("name", "rows"),
    [("evaluation", ("forward", "classify", "together", "each alone")), ("checkpoints", ("async", "sync", "begin"))],
)
def test_a_benchmark_prints_its_table(name, rows, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--tiny"])
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    assert [next(line for line in printed if line.startswith(row)) for row in rows]


def test_the_benchmark_of_steps_runs_without_torch(monkeypatch, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(sys, "argv", ["train_step", "--tiny", "--implementations", "jaxvision"])
    monkeypatch.setattr(sys.stdout, "reconfigure", lambda **options: None, raising=False)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    runpy.run_path(str(BENCHMARKS / "train_step.py"), run_name="__main__")
    assert "GFLOP a step" in capsys.readouterr().out
