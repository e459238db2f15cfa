"""The study experiments/degradation: its runs, and what it makes of results that are known beforehand."""

import json

import pytest
from made_up_runs import judged
from shrinking import shrink

from jaxvision import config as configs
from jaxvision.commands import study, train
from jaxvision.errors import UserError

AS_IN_THE_PAPER = {("plain", 20): 0.3, ("plain", 56): 0.5, ("residual", 20): 0.28, ("residual", 56): 0.2}


@pytest.fixture(scope="module")
def degradation():
    return study.load_study("degradation")


def rows_of(planned, loss, noise=0.0):
    """A row for each run; a seed moves all losses alike, and `noise` those of the deepest networks to and fro."""
    rows = []
    for one in planned:
        kind, depth, seed = one.tags["kind"], one.tags["depth"], one.tags["seed"]
        value = loss.get((kind, depth), 0.25) + 0.01 * seed + noise * (-1) ** seed * (depth == 56)
        results = {"train_loss": value, "train_top1": 1 - value, "val/top1": 0.6, "test/top1": 0.6}
        rows.append({"run": one.name, **one.tags, **results})
    return rows


def verdicts(folder):
    return json.loads((folder / "summary.json").read_text())["criteria"]


@pytest.mark.parametrize("preset", ["laptop", "paper"])
def test_what_the_paper_saw_meets_the_criteria(degradation, preset, tmp_path):
    report = degradation.analyse(rows_of(degradation.runs(preset, None), AS_IN_THE_PAPER), tmp_path, preset)
    assert verdicts(tmp_path) == dict(degrades=True, cured=True, gains=True)
    assert "plain, 56 minus 20 layers: 0.200 ± 0.000 nats" in report
    assert "residual, 56 minus 20 layers: -0.080 ± 0.000 nats" in report
    assert "*Not drawn: training error against steps" in report, "there are no records"


def test_residual_networks_that_degrade_too_are_not_cured(degradation, tmp_path):
    both = AS_IN_THE_PAPER | {("residual", 56): 0.3}
    report = degradation.analyse(rows_of(degradation.runs("laptop", None), both), tmp_path, "laptop")
    assert verdicts(tmp_path) == dict(degrades=True, cured=False, gains=False)
    assert judged("cured", report) == "FAILED"


def test_a_difference_that_its_interval_does_not_carry_fails(degradation, tmp_path):
    rows = rows_of(degradation.runs("laptop", None), AS_IN_THE_PAPER, noise=0.3)
    degradation.analyse(rows, tmp_path, "laptop")
    assert verdicts(tmp_path)["degrades"] is False


def test_the_training_loss_is_that_of_the_last_record_of_training(degradation, tmp_path):
    rows = rows_of(degradation.runs("laptop", None), AS_IN_THE_PAPER)
    row = next(row for row in rows if row["run"] == "plain56/seed0")
    del row["train_loss"], row["train_top1"]
    folder = study.workdir(tmp_path, row["run"])
    folder.mkdir(parents=True)
    lines = [{"step": s, "loss": v, "top1": 0.5} for s, v in ((180, 2.0), (200, 0.7))] + [
        {"step": 200, "val/top1": 0.1}
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "(by seed +0.400, +0.200, +0.200;" in degradation.analyse(rows, tmp_path, "laptop")


@pytest.mark.parametrize("preset", ["laptop", "cifar10", "paper"])
def test_every_run_has_a_name_for_the_command_line(degradation, preset):
    planned = degradation.runs(preset, "DIR")
    assert len({one.name for one in planned}) == len(planned)
    for one in planned[::5]:
        named = configs.load(f"{degradation.__file__}:{preset}/{one.name}")
        assert {line.split(":")[0] for line in configs.differences(named, one.config)} <= {"data.data_dir"}


def test_the_kinds_differ_in_their_shortcuts_alone(degradation):
    plain, residual = (degradation.get_config(f"cifar10/{kind}20/seed1") for kind in ("plain", "residual"))
    changed = {line.split(":")[0] for line in configs.differences(plain, residual)}
    assert changed == {"model.shortcut", "model.zero_init_residual"}


def test_the_runs_of_the_paper_are_its_config(degradation):
    paper = configs.load("configs/supervised/resnet_cifar10.py:56")
    changed = configs.differences(paper, degradation.get_config("paper/residual56/seed0"))
    allowed = {"data.data_dir", "model.width", "train.log_every", "optimizer.warmup"}
    assert {key for line in changed if not (key := line.split(":")[0]).startswith(("evals.", "mesh."))} <= allowed


def test_names_and_folders_that_are_not_there(degradation):
    with pytest.raises(UserError, match="did you mean 'plain56/seed0'"):
        degradation.get_config("laptop/plane56/seed0")
    with pytest.raises(UserError, match="make_cifar10_folder.py"):
        degradation.runs("cifar10", None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_its_runs_train(degradation, kind, tmp_path):
    config = shrink(degradation.get_config(f"laptop/{kind}20/seed0"), dict(width=0.25), steps=2)
    results = train.run_train(config, tmp_path, quiet=True)
    assert 0 <= results["val/top1"] <= 1
