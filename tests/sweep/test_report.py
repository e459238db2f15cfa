"""The report says what the table holds; the best config is one that trains."""

import math

import numpy as np
import pyarrow as pa
import pytest

from jaxvision import config as configs
from jaxvision.sweep import Sweep, choice, importance, log_uniform, report, uniform, when
from jaxvision.sweep.results import PARAMETER

CONFIG = """
from ml_collections import ConfigDict

def get_config(depth="2"):
    model = dict(depth=int(depth), pool="gap", sides=(4, 4))
    others = dict(data={}, task={}, train={})  # sections that every run has
    return ConfigDict(dict(seed=0, model=model, optimizer=dict(rate=1.0, decay=0.0), **others))
"""
SPACE = {
    "optimizer.rate": log_uniform(1e-4, 1),
    "model.pool": choice("gap", "token"),
    "optimizer.decay": when("model.pool", "gap", uniform(0, 1)),
    "model.depth": 3,
}


@pytest.fixture
def base(tmp_path):
    (tmp_path / "base.py").write_text(CONFIG)
    return tmp_path / "base.py"


def make_table(folder, count, seeds, value, states=None):
    """A table in which trial i has rate 10**(-4 i / (count - 1)) and `value(i, seed)`."""
    rows = []
    for i in range(count):
        params = {"optimizer.rate": 10 ** (-4 * i / max(count - 1, 1)), "model.pool": ("gap", "token")[i % 2]}
        params |= {"optimizer.decay": None if i % 2 else i / count, "model.depth": 3}
        state = (states or {}).get(i, "complete")
        workdir = folder / f"{i}"
        workdir.mkdir()
        saved = configs.override(
            configs.load(f"{folder}/base.py:7"), {k: v for k, v in params.items() if v is not None}
        )
        (workdir / "config.json").write_text(configs.to_json(saved))
        for seed in seeds:
            row = {"trial": i, "seed": seed, "state": state} | {PARAMETER + k: v for k, v in params.items()}
            row["value"] = value(i, seed) if state == "complete" else math.nan
            row |= {"flops": 1e12, "seconds": 30.0, "attempts": 1 + (i == 1), "workdir": str(workdir)}
            rows.append(row | {"error": "ValueError: a | b" if state == "failed" else None})
    return pa.Table.from_pylist(rows)


def sweep_of(base, **changes):
    return Sweep(f"{base}:7", SPACE, trials=30, **{"seeds": (0, 1, 2), **changes})


def test_best_trial_is_that_of_the_highest_mean(base, tmp_path):
    values = {0: (0.1, 0.2, 0.3), 1: (0.9, 0.1, 0.2), 2: (0.5, 0.6, 0.7)}
    table = make_table(tmp_path, 3, (0, 1, 2), lambda i, seed: values[i][seed])
    words = report.write(sweep_of(base), table, tmp_path)
    assert "Best: trial 2, val/top1 0.6 ± 0.25" in words  # 4.303 * 0.1 / sqrt(3)
    text = (tmp_path / "report.md").read_text()
    assert "Trial 2: val/top1 **0.6 ± 0.25**" in text
    assert text.index("| 2 | 0.6") < text.index("| 1 | 0.4") < text.index("| 0 | 0.2")
    assert "--config.seed=$seed" in text
    assert "for seed in 3 4 5" in text


def test_low_values_win_where_they_are_wanted(base, tmp_path):
    table = make_table(tmp_path, 3, (0,), lambda i, seed: i)
    words = report.write(sweep_of(base, seeds=(0,), direction="minimize", objective="val/loss"), table, tmp_path)
    assert "Best: trial 0, val/loss 0\n" in words
    assert "luck and merit cannot be told apart" in (tmp_path / "report.md").read_text()


def test_counts_costs_and_failures(base, tmp_path):
    table = make_table(tmp_path, 4, (0, 1, 2), lambda i, seed: i + seed, states={1: "failed", 2: "pruned"})
    words = report.write(sweep_of(base), table, tmp_path)
    assert words.startswith(
        "4 trials: 2 complete, 1 pruned, 1 failed (12 runs, 3 of them submitted again, 12 teraFLOPs, 6m00s"
    )
    text = (tmp_path / "report.md").read_text()
    assert text.count(r"`ValueError: a \| b`") == 3
    assert "that needs 20 complete trials, there are 2" in text


def test_trials_that_diverged_are_counted(base, tmp_path):
    table = make_table(tmp_path, 4, (0, 1), lambda i, seed: i + seed, states={1: "failed", 3: "failed"})
    errors = table["error"].to_pylist()
    errors = [
        "diverged: its loss rose" if trial == 3 else error for trial, error in zip(table["trial"].to_pylist(), errors)
    ]
    table = table.set_column(table.column_names.index("error"), "error", pa.array(errors))
    words = report.write(sweep_of(base, seeds=(0, 1)), table, tmp_path)
    assert words.startswith("4 trials: 2 complete, 2 failed (1 diverged) (")
    assert "Best: trial 2" in words


def test_a_trial_without_all_its_seeds_is_not_judged(base, tmp_path):
    table = make_table(tmp_path, 2, (0, 1, 2), lambda i, seed: i)
    words = report.write(sweep_of(base), table.slice(0, 5), tmp_path)
    assert "Best: trial 0" in words


def test_nothing_complete_is_said_and_leaves_no_best_config(base, tmp_path):
    table = make_table(tmp_path, 2, (0,), lambda i, seed: 0, states={0: "failed", 1: "failed"})
    words = report.write(sweep_of(base, seeds=(0,)), table, tmp_path)
    assert "No trial is complete" in words
    assert (tmp_path / "report.html").is_file()
    assert not (tmp_path / "best.py").exists()


def test_the_best_config_is_that_of_the_trial(base, tmp_path, monkeypatch):
    table = make_table(tmp_path, 5, (0, 1, 2), lambda i, seed: i)
    report.write(sweep_of(base), table, tmp_path)
    monkeypatch.chdir("/")
    best = configs.load(str(tmp_path / "best.py"))
    assert best.to_dict() == configs.from_json((tmp_path / "4" / "config.json").read_text()).to_dict()
    assert configs.fingerprint(best) == configs.fingerprint(
        configs.from_json((tmp_path / "4" / "config.json").read_text())
    )
    assert best.model.sides == (4, 4)


def test_a_base_config_without_a_seed_gets_one(base, tmp_path):
    base.write_text(CONFIG.replace("seed=0, ", ""))
    report.write(sweep_of(base, seeds=(0,)), make_table(tmp_path, 2, (0,), lambda i, seed: i), tmp_path)
    assert configs.load(str(tmp_path / "best.py"), {"seed": 4}).seed == 4


def test_figures_are_in_the_page(base, tmp_path):
    report.write(sweep_of(base), make_table(tmp_path, 24, (0, 1, 2), lambda i, seed: i + seed), tmp_path)
    names = ("best_so_far", "parallel", "slices", "importance")
    assert all((tmp_path / f"{name}.{suffix}").is_file() for name in names for suffix in ("png", "svg"))
    assert (tmp_path / "report.html").read_text().count("data:image/png;base64,") == 4
    assert "(PED-ANOVA): `optimizer.rate` " in (tmp_path / "report.md").read_text()


def test_the_parameter_that_decides_has_the_largest_share():
    rng = np.random.default_rng(0)
    points = [
        {"rate": float(10 ** rng.uniform(-4, 0)), "decay": float(rng.uniform()), "pool": "ab"[i % 2]} for i in range(60)
    ]
    values = [-((np.log10(point["rate"]) + 2) ** 2) for point in points]
    domains = {"rate": log_uniform(1e-4, 1), "decay": uniform(0, 1), "pool": choice("a", "b")}
    shares = importance.shares(domains, points, values, maximize=True)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["rate"] > 0.7
    flipped = importance.shares(domains, points, [-v for v in values], maximize=False)
    assert flipped == pytest.approx(shares)
