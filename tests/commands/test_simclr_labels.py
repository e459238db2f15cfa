"""The preset of few labels of experiments/simclr: its runs, and what it makes of results that are known beforehand."""

import json

import pytest

from jaxvision import config as configs
from jaxvision import experiment as experiments
from jaxvision.commands import study

PRESET = "cifar10_labels"
LEVELS = {"scratch": 0.4, "tuned": 0.5, "student": 0.52, "rates": 0.3}


@pytest.fixture(scope="module")
def simclr():
    return study.load_study("simclr")


@pytest.fixture(scope="module")
def planned(simclr):
    return {one.name: one for one in simclr.runs(PRESET, "DIR")}


def rows_of(planned, levels, swing=0.0):
    """A row for each run; a seed moves all alike, and `swing` the arms that are not from scratch to and fro."""
    rows = []
    for one in planned.values():
        arm, seed = one.tags["arm"], one.tags["seed"]
        moved = levels.get(arm, 0.0) + 0.01 * (seed % 5) + swing * (-1) ** seed * (arm != "scratch")
        rows.append({"run": one.name, **one.tags, "val/top1": moved + 0.1 * one.tags["rate"]})
    return rows


def met(simclr, rows, out):
    report = simclr.analyse(rows, out, PRESET)
    return report, json.loads((out / "summary.json").read_text())["criteria"]


def test_what_the_paper_saw_meets_the_criteria(simclr, planned, tmp_path):
    report, verdicts = met(simclr, rows_of(planned, LEVELS), tmp_path)
    assert verdicts == {f"{arm}, {share} %": True for arm in ("tuned", "student") for share in (1, 10)}
    assert "| tuned | 52.0 ± 2.0 | 52.0 ± 2.0 |" in report
    assert "| 0.5 | 35.0 | 35.0 |" in report
    assert "*Not drawn: top-1 against labelled images" in report, "two shares of the labels are no curve"


@pytest.mark.parametrize(("level", "good"), [(0.495, True), (0.485, False)])
def test_a_student_is_at_least_its_teacher_up_to_a_point(simclr, planned, level, good, tmp_path):
    _, verdicts = met(simclr, rows_of(planned, LEVELS | {"student": level}), tmp_path)
    assert verdicts["student, 1 %"] is verdicts["student, 10 %"] is good


def test_a_gain_that_its_interval_does_not_carry_fails(simclr, planned, tmp_path):
    _, verdicts = met(simclr, rows_of(planned, LEVELS, swing=0.2), tmp_path)
    assert verdicts["tuned, 1 %"] is verdicts["tuned, 10 %"] is False


def test_scratch_takes_the_best_rate_of_the_separate_seed_and_the_others_their_weights(planned, tmp_path):
    rows = rows_of(planned, LEVELS)
    best = next(row for row in rows if row["run"] == "rates/450/0.1")
    best["val/top1"] = 0.9
    runs = tmp_path / "runs"
    assert planned["scratch/450/seed0"].fill(rows, tmp_path) == {"optimizer.learning_rate": 0.1}
    assert planned["scratch/4500/seed0"].fill(rows, tmp_path) == {"optimizer.learning_rate": 0.5}
    assert planned["tuned/450/seed3"].fill(rows, tmp_path) == {"init.weights": str(runs / "pretrain/seed3")}
    assert planned["student/450/seed3"].fill(rows, tmp_path) == {"init.weights": str(runs / "tuned/450/seed3")}
    best["error"] = "diverged"
    assert planned["scratch/450/seed0"].fill(rows, tmp_path) == {"optimizer.learning_rate": 0.5}


def test_students_come_last_and_no_reported_run_has_the_seed_of_the_rates(planned):
    arms = [one.tags["arm"] for one in planned.values()]
    assert set(arms[: arms.index("student")]) == {"pretrain", "rates", "scratch", "tuned"}
    assert set(arms[arms.index("student") :]) == {"student"}
    assert {one.tags["seed"] for one in planned.values() if one.tags["arm"] != "rates"} == {0, 1, 2, 3, 4}


def test_scratch_and_tuned_differ_in_their_start_alone(planned):
    scratch, tuned = (planned[f"{arm}/450/seed0"].config for arm in ("scratch", "tuned"))
    changed = {line.split(":")[0] for line in configs.differences(scratch, tuned)}
    assert changed == {"init.weights", "init.head"} or changed == {"init"}, changed
    assert tuned.model.projection_layers == 1
    assert planned["pretrain/seed0"].config.task.projection_layers == 3


def test_every_run_has_a_name_for_the_command_line_and_its_config_builds(simclr, planned):
    for name in ("pretrain/seed0", "scratch/450/seed0", "student/4500/seed1"):
        named = configs.load(f"{simclr.__file__}:{PRESET}/{name}")
        changed = {line.split(":")[0] for line in configs.differences(named, planned[name].config)}
        assert changed <= {"data.data_dir"}
        config = named if "init" not in named else configs.override(named, {"init": None})
        experiments.build(config, training_data="ignored")
