"""The study experiments/transfer: its preparation from small files, and its grid of runs."""

import gzip
import json
import runpy
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_up_runs import judged

from jaxvision import experiment as experiments
from jaxvision import models
from jaxvision.commands import study
from jaxvision.errors import UserError
from jaxvision.models import weights

PREPARE = Path(__file__).parents[2] / "experiments" / "transfer" / "prepare.py"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """What prepare.py makes of 1,020 training and 10 test images and random weights."""
    root = tmp_path_factory.mktemp("transfer")
    for split, n in {"train": 1020, "t10k": 10}.items():
        pixels = np.arange(n * 28 * 28).astype(np.uint8).tobytes()
        labels = (np.arange(n) % 10).astype(np.uint8).tobytes()
        size = n.to_bytes(4, "big")
        side = (28).to_bytes(4, "big")
        (root / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x03" + size + 2 * side + pixels))
        (root / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x01" + size + labels))
    model = models.build("mlperf_resnet8", 10)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    ones = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
    np.savez(root / "w.npz", **weights.export_weights(ones, "keras", "mlperf_resnet8"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["prepare.py", str(root), str(root / "w.npz"), str(root / "out")])
        runpy.run_path(str(PREPARE), run_name="__main__")
    return root / "out"


def test_prepare_makes_three_splits_and_the_weights(prepared):
    counts = {s: len(list((prepared / "fashion" / s).glob("*/*.png"))) for s in ("train", "validation", "test")}
    assert counts == {"train": 20, "validation": 1000, "test": 10}
    assert (prepared / "resnet8" / "weights.safetensors").is_file()


def test_every_run_builds_and_those_of_the_test_split_name_it(prepared):
    module = study.load_study("transfer")
    runs = module.runs("fashion", str(prepared))
    assert len({run.name for run in runs}) == len(runs) == 24
    for run in runs[:4]:
        experiment = experiments.build(run.config, training_data="ignored")
        assert (experiment.pretrained is None) == (run.tags["regime"] == "scratch")
        imported = experiment.load_pretrained()
        assert imported is None or any("head: new" in note for note in imported.notes)
    assert {run.config.evals.test.split for run in runs} == {"test"}
    assert {run.config.evals.test.split for run in module.runs("pilot", str(prepared))} == {"validation"}
    assert module.get_config("fashion/all/seed0/200/0.03").optimizer.learning_rate == 0.03
    with pytest.raises(UserError, match=r"prepare.py"):
        module.runs("fashion", None)


def test_the_report_names_what_failed(tmp_path):
    module = study.load_study("transfer")
    top1 = {"head": (0.5, 0.6), "last": (0.7, 0.8), "all": (0.6, 0.9), "scratch": (0.4, 0.5)}
    rows = [
        {"regime": regime, "examples": n, "seed": seed, "test/top1": value + 0.01 * seed * (regime == "last")}
        for regime, values in top1.items()
        for n, value in zip((200, 5_000), values)
        for seed in range(3)
    ]
    report = module.analyse(rows, tmp_path, "fashion")
    assert judged("helps", report) == "met"
    assert "last minus scratch at 200 examples: 31.0 ± 4.4 points, a 98.3 % interval" in report
    assert judged("fades", report) == "FAILED"
    assert "the best of 3 ways), and that is 31.0 ± 4.4 points more than from random weights" in report
    assert (tmp_path / "report.md").read_text().strip() == report


LEVELS = {("all", 200): 0.7, ("all", 7_000): 0.9, ("scratch", 200): 0.5, ("scratch", 7_000): 0.89}


def rows_of_longer(planned, double=0.895, swing=0.0):
    """A row for each of the longer runs; a seed moves all alike, and `swing` the pretrained ones to and fro."""
    rows = []
    for one in planned:
        arm, n, seed = (one.tags[key] for key in ("arm", "examples", "seed"))
        value = double if arm == "double" else LEVELS.get((arm, n), 0.6)
        moved = value + 0.005 * (seed % 5) + swing * (-1) ** seed * (arm == "all") + 0.1 * one.tags["rate"]
        rows.append({"run": one.name, **one.tags, "test/top1": moved})
    return rows


@pytest.mark.parametrize(
    ("options", "met"),
    [
        ({}, dict(helps=True, fades=True, converged=True)),
        (dict(double=0.91), dict(helps=True, fades=True, converged=False)),
        (dict(swing=0.3), dict(helps=False, fades=True, converged=True)),
    ],
)
def test_the_longer_runs_are_judged_by_their_intervals(options, met, tmp_path):
    module = study.load_study("transfer")
    report = module.analyse(rows_of_longer(module.runs("fashion_long", "DIR"), **options), tmp_path, "fashion_long")
    assert json.loads((tmp_path / "summary.json").read_text())["criteria"] == met
    assert "| scratch, twice the steps |  |  |" in report
    assert (tmp_path / "report.html").read_text().count("data:image/png;base64,") == 1


def test_the_longer_runs_take_the_best_rate_of_the_separate_seed(tmp_path):
    module = study.load_study("transfer")
    planned = {one.name: one for one in module.runs("fashion_long", "DIR")}
    rows = rows_of_longer(planned.values())
    rows = [{**row, "test/top1": None, "error": "diverged"} if row["run"].endswith("/0.3") else row for row in rows]
    assert planned["all/200/seed0"].fill(rows, tmp_path) == {"optimizer.learning_rate": 0.1}
    assert "| scratch, 0.3 | diverged | diverged | diverged |" in module.analyse(rows, tmp_path, "fashion_long")
    assert planned["double/7000/seed1"].config.train.total == "6000 steps"
    assert {one.config.evals.test.split for one in planned.values() if one.tags["arm"] == "rates"} == {"validation"}
    assert {one.tags["seed"] for one in planned.values() if one.tags["arm"] != "rates"} == {0, 1, 2}
