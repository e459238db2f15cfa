"""The table of a sweep, from workdirs as runs leave them."""

import csv
import json
import math

import pyarrow.parquet
import pytest

from jaxvision.step_costs import StepCost
from jaxvision.sweep import Sweep, choice, log_uniform, results, uniform, when
from jaxvision.sweep.records import RunRecord, TrialRecord
from jaxvision.sweep.runs import TrialRun

SWEEP = Sweep(
    config="base.py",
    space={
        "optimizer.learning_rate": log_uniform(1e-4, 1),
        "optimizer.name": choice("sgd", "adamw"),
        "optimizer.momentum": when("optimizer.name", "sgd", uniform(0, 1)),
        "train.total": "8 steps",
    },
    trials=4,
    seeds=(0, 1),
)


@pytest.fixture(autouse=True)
def flops(monkeypatch):
    monkeypatch.setattr(results, "step_cost", lambda config: StepCost(1, 1e6, 3e5, 1, 0.0))


def run(folder, state="complete", attempts=1, top1=None, steps=(), log="", failed=None):
    """A workdir."""
    (folder / "launch").mkdir(parents=True)
    config = {name: {} for name in ("data", "model", "task", "optimizer", "train")}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"step": s, "loss": 1.0}) + "\n" for s in steps))
    (folder / "launch" / "output.log").write_text(log)
    if top1 is not None:
        metrics = {"val/top1": top1, "val/loss": 1 - top1}
        (folder / "results.json").write_text(json.dumps({"steps": 8, "seconds": 2.5, "results": metrics}))
    if failed:
        (folder / "failed.json").write_text(json.dumps({"error": failed, "step": 3}))
    return RunRecord(folder, attempts, state)


@pytest.fixture
def table(tmp_path):
    sgd = {"optimizer.learning_rate": 0.1, "optimizer.name": "sgd", "optimizer.momentum": 0.9}
    adamw = {"optimizer.learning_rate": 0.01, "optimizer.name": "adamw"}
    trials = [
        TrialRecord(
            0, sgd, "complete", {1: run(tmp_path / "01", attempts=3, top1=0.75), 0: run(tmp_path / "00", top1=0.5)}
        ),
        TrialRecord(
            1, adamw, "pruned", {0: run(tmp_path / "10", "pruned", steps=(2, 4)), 1: run(tmp_path / "11", "waiting")}
        ),
        TrialRecord(
            2,
            adamw,
            "failed",
            {
                0: run(tmp_path / "20", "failed", attempts=2, log="Traceback\n  at line 3\nValueError: no\n\n"),
                1: run(tmp_path / "21", "failed", log="going well\n", failed="the loss is nan at step 3"),
            },
        ),
        TrialRecord(3, adamw, "waiting", {0: RunRecord(tmp_path / "none", 0, "waiting")}),
    ]
    return results.collect(SWEEP, trials)


def column(table, name):
    return table[name].to_pylist()


def test_one_row_a_run(table):
    assert column(table, "trial") == [0, 0, 1, 1, 2, 2, 3]
    assert column(table, "seed") == [0, 1, 0, 1, 0, 1, 0]
    assert column(table, "state") == ["complete"] * 2 + ["pruned", "waiting", "failed", "failed", "waiting"]
    assert column(table, "attempts") == [1, 3, 1, 1, 2, 1, 0]


def test_the_objective_and_all_other_results(table):
    assert column(table, "value")[:2] == [0.5, 0.75]
    assert all(math.isnan(v) for v in column(table, "value")[2:])
    assert column(table, "val/loss") == [0.5, 0.25] + [None] * 5


def test_parameters_fixed_ones_and_inactive_ones(table):
    assert column(table, "param.optimizer.learning_rate") == [0.1, 0.1] + [0.01] * 5
    assert column(table, "param.optimizer.momentum") == [0.9, 0.9] + [None] * 5
    assert column(table, "param.train.total") == ["8 steps"] * 7


def test_how_far_a_run_came(table):
    assert column(table, "steps") == [8, 8, 4, 0, 0, 0, 0]
    assert column(table, "flops") == [8e6, 8e6, 4e6, None, None, None, None]
    assert column(table, "seconds") == [2.5, 2.5] + [None] * 5


def test_failed_runs_say_why(table):
    assert column(table, "error") == [None] * 4 + ["ValueError: no", "the loss is nan at step 3", None]


@pytest.mark.parametrize(
    ("end", "final", "message"),
    [
        ({"loss": 6e29}, {"val/top1": 0.9}, "diverged: its loss rose from 2.3 to 6e+29"),
        ({"loss": None}, {"val/top1": 0.9}, "diverged: its loss is not finite"),
        ({"loss": 1.0}, {"val/top1": 0.9, "val/loss": math.inf}, "diverged: its val/loss is not finite"),
        ({"loss": 1.0}, {"val/top1": math.inf}, "its val/top1 is not finite"),
        ({"loss": 1.0}, {"val/top1": 0.9, "val/loss": 5.0}, None),  # overfitted, not diverged
    ],
)
def test_a_run_that_ended_with_worthless_numbers_has_failed(tmp_path, end, final, message):
    """As the controller's `TrialRun` and the table show it; the other run is fine."""
    for name, lines, values in (("a", [], {"val/top1": 0.5}), ("b", [{"step": 4} | end], final)):
        run(tmp_path / name)
        text = "".join(json.dumps(line) + "\n" for line in [{"step": 1, "loss": 2.3}, *lines])
        (tmp_path / name / "metrics.jsonl").write_text(text)
        (tmp_path / name / "results.json").write_text(json.dumps({"steps": 4, "seconds": 1.0, "results": values}))
    runs = {seed: TrialRun(tmp_path / name, [], name).record for seed, name in enumerate("ab")}
    table = results.collect(SWEEP, [TrialRecord(0, {}, "complete", runs)])
    assert column(table, "error") == [None, message]
    assert column(table, "state") == ["complete", "failed" if message else "complete"]
    assert column(table, "value")[0] == 0.5
    assert math.isnan(column(table, "value")[1]) == bool(message)


def test_a_loss_that_was_not_finite_is_told_as_diverged(tmp_path):
    text = "jaxvision: the loss of step 4 is nan. A lower optimizer.learning_rate may help"
    run(tmp_path / "own", log=f"step 3\n{text}\n")
    run(tmp_path / "member", failed="the loss, gradient or update of step 5 is not finite")
    assert results.error(tmp_path / "own") == f"diverged: {text}"
    assert results.error(tmp_path / "member") == "diverged: the loss, gradient or update of step 5 is not finite"


def test_values_of_several_types_stand_as_text(tmp_path):
    sweep = SWEEP._replace(space={"a": choice(1, "one"), "b": choice((1, 2), (3, 4)), "c": choice(1, 0.5)})
    trials = [
        TrialRecord(i, dict(a=a, b=b, c=c), "waiting", {0: RunRecord(tmp_path, 0, "waiting")})
        for i, (a, b, c) in enumerate([(1, (1, 2), 1), ("one", (3, 4), 0.5)])
    ]
    table = results.collect(sweep, trials)
    assert [column(table, f"param.{key}") for key in "abc"] == [["1", "one"], ["(1, 2)", "(3, 4)"], [1.0, 0.5]]


def test_both_files_hold_the_table(table, tmp_path):
    results.write(table, tmp_path)
    assert pyarrow.parquet.read_table(tmp_path / "results.parquet").schema == table.schema
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == table.column_names
    assert [row["val/top1"] for row in rows[:3]] == ["0.5", "0.75", ""]
    assert rows[4]["error"] == "ValueError: no"
    assert not list(tmp_path.glob("*.tmp"))


def test_a_sweep_that_has_not_begun_has_an_empty_table(tmp_path):
    table = results.collect(SWEEP, [])
    results.write(table, tmp_path)
    assert (table.num_rows, "param.optimizer.name" in table.column_names) == (0, True)
