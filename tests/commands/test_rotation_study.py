"""The study experiments/rotation: its runs, and what it makes of results that are known beforehand."""

import json

import pytest
from made_up_runs import judged

from jaxvision import config as configs
from jaxvision.commands import study, train
from jaxvision.errors import UserError

PRESETS = ("laptop", "cifar10", "cifar10_task", "paper")
TINY = {
    "data.options.train": 48,
    "data.options.validation": 16,
    "data.options.test": 8,
    "data.examples": 48,
    "model.width": 0.03,
}


@pytest.fixture(scope="module")
def rotation():
    return study.load_study("rotation")


@pytest.fixture(scope="module")
def presets(rotation):
    return study.sibling(rotation.__file__, "presets").PRESETS


def rows_of(planned, third):
    """A row for each run, whose probe at the third stage is `third(arm)`; a seed moves all arms alike, and a little."""
    rows = []
    for one in planned:
        seed = 0.01 * one.tags["seed"]
        base = third(one.tags["arm"]) if one.tags["protocol"] != "labels" else 0.2 + 0.1 * (one.tags["arm"] == "tuned")
        by_stage = {f"probe/probe_lbfgs_stages.{i}/top1": base + seed - 0.05 * abs(2 - i) for i in range(4)}
        metrics = {"val/top1": base + seed} if one.tags["protocol"] == "labels" else by_stage
        rows.append({"run": one.name, **one.tags, **metrics})
    return rows


def between(arm):
    return {"random": 0.3, "supervised": 0.7, "rotation": 0.4}.get(arm, 0.35)


@pytest.mark.parametrize("preset", ["laptop", "paper"])
def test_rotation_between_random_and_supervised_meets_the_criteria(rotation, preset, tmp_path):
    report = rotation.analyse(rows_of(rotation.runs(preset, None), between), tmp_path, preset)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["criteria"] == {"learns": True, "below": True}
    assert "stage 3 25.0 ± 0.0" in report, "a quarter of the way"
    assert "- rotation: stage 4 minus stage 3: -5.0 ± 0.0 points" in report
    assert "| 0 and 180 |" in report
    assert "| tuned minus scratch | 10.0 ± 0.0 |" in report
    assert (tmp_path / "report.html").read_text().count("data:image/png;base64,") == report.count("figures/")


def test_a_claim_that_does_not_show_is_published_as_failed(rotation, tmp_path):
    rows = rows_of(rotation.runs("laptop", None), lambda arm: 0.31 if arm == "supervised" else 0.3)
    rows[0]["probe/probe_lbfgs_stages.2/top1"] += 0.1  # of one seed alone, so that the interval holds zero
    report = rotation.analyse(rows, tmp_path, "laptop")
    assert judged("learns", report) == judged("below", report) == "FAILED"
    assert "third stage, rotation minus random: 3.3 ± 14.3 points" in report


@pytest.mark.parametrize(("told", "met"), [(0.8, True), (0.76, False)])
def test_the_accuracy_on_rotations_is_judged_by_its_interval(rotation, told, met, tmp_path):
    rows = rows_of(rotation.runs("cifar10_task", "DIR"), between)
    assert {row["arm"] for row in rows} == {"rotation", "random"}
    for row in rows:
        row["rotation_top1"] = told + 0.01 * row["seed"]
    report = rotation.analyse(rows, tmp_path, "cifar10_task")
    assert json.loads((tmp_path / "summary.json").read_text())["criteria"] == {"learns": True, "task": met}
    assert "accuracy on rotations minus 75 %" in report
    assert "supervised" not in report


def test_the_accuracy_on_rotations_is_that_of_the_last_record_of_training(rotation, tmp_path):
    [row] = rows_of([one for one in rotation.runs("laptop", None) if one.name == "stages/rotation/seed0"], between)
    folder = study.workdir(tmp_path, row["run"])
    folder.mkdir(parents=True)
    lines = [{"step": step, "rotation_top1": told} for step, told in ((190, 0.5), (200, 0.6))] + [{"step": 200, "x": 1}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert study.sibling(rotation.__file__, "analysis").with_training([row], tmp_path)[0]["rotation_top1"] == 0.6


def test_a_part_of_the_study_is_analysed_too(rotation, tmp_path):
    rows = rows_of(rotation.runs("laptop", None), between)
    some = [row for row in rows if row["protocol"] == "stages" or row["seed"] == 0]
    assert "| 0 and 180 | 64 |  | 25.0 |" in rotation.analyse(some, tmp_path / "some", "laptop")
    stages = [row for row in rows if row["protocol"] == "stages"]
    assert "Angles" not in rotation.analyse(stages, tmp_path / "stages", "laptop")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_run_has_a_name_for_the_command_line(rotation, preset):
    planned = rotation.runs(preset, "DIR")
    assert len({one.name for one in planned}) == len(planned)
    for one in planned[::5]:
        named = configs.load(f"{rotation.__file__}:{preset}/{one.name}")
        changed = {line.split(":")[0] for line in configs.differences(named, one.config)}
        assert changed <= {"data.data_dir"}


def test_a_random_network_is_that_of_the_rotation_run_before_its_first_step(rotation):
    random, trained = (rotation.get_config(f"cifar10/stages/{arm}/seed1") for arm in ("random", "rotation"))
    [difference] = configs.differences(random, trained)
    assert difference.startswith("train.total: '0 steps'")


@pytest.mark.parametrize("preset", PRESETS[:3])
def test_all_arms_send_as_many_images_through_the_network(rotation, presets, preset):
    for one in rotation.runs(preset, "DIR"):
        task = one.config.task
        if one.tags["protocol"] != "labels":
            times = len(task.angles) if task.get("each") == "all" else 1
            assert times * one.config.data.batch_size == 128


def test_training_with_few_labels_starts_from_the_rotation_run_of_its_seed(rotation, tmp_path):
    planned = {one.name: one for one in rotation.runs("cifar10", "DIR")}
    one = planned["labels/frozen/seed2/100"]
    assert one.fill([], tmp_path) == {"init.weights": str(tmp_path / "runs" / "stages" / "rotation" / "seed2")}
    assert one.config.init.freeze == "backbone"
    assert one.config.data.subset.to_dict() == dict(examples=100, seed=2)
    assert "init" not in planned["labels/scratch/seed2/100"].config


def test_names_that_are_not_there(rotation):
    with pytest.raises(UserError, match="did you mean 'stages/random/seed0'"):
        rotation.get_config("laptop/stages/randm/seed0")
    with pytest.raises(UserError, match="make_cifar10_folder.py"):
        rotation.runs("cifar10", None)


@pytest.mark.slow
def test_its_runs_train_and_those_with_labels_start_from_others(rotation, tmp_path):
    probe = {"evals.probe.l2": (1.0,), "evals.probe.train_subset.examples": 32, "evals.probe.batch_size": 16}
    steps = {"train.total": "2 steps", "data.batch_size": 8}
    for arm, more in (("random", {}), ("rotation", steps)):
        named = rotation.get_config(f"laptop/stages/{arm}/seed0")
        results = train.run_train(configs.override(named, TINY | probe | more), tmp_path / arm, quiet=True)
        assert 0 <= results["probe/probe_lbfgs_stages.3/top1"] <= 1
    named = rotation.get_config("laptop/labels/frozen/seed0/100")
    start = {"init.weights": str(tmp_path / "rotation"), "data.subset.examples": 20, "evals.val.batch_size": 16}
    results = train.run_train(configs.override(named, TINY | steps | start), tmp_path / "frozen", quiet=True)
    assert 0 <= results["val/top1"] <= 1
