"""The study experiments/pretraining: equal compute, and what it makes of results that are known beforehand."""

import csv
import json

import pytest
from made_up_runs import judged
from shrinking import shrink

from jaxvision import augment
from jaxvision import config as configs
from jaxvision.commands import study, train
from jaxvision.errors import UserError

PRESETS = ("laptop", "cifar10", "gpu", "imagenet")
KEYS = ("knn/knn20_t0.07/top1", "probe/probe_lbfgs/top1", "few/probe_lbfgs/top1")


@pytest.fixture(scope="module")
def pretraining():
    return study.load_study("pretraining")


def rows_of(planned, top1):
    """A row for each run, as if it had ended with these values; a seed moves them all alike, and each run a little."""
    return [
        {"run": one.name, **one.tags}
        | {key: top1(one.tags["arm"]) + 0.01 * one.tags["seed"] + 0.001 * ((i + one.tags["seed"]) % 3) for key in KEYS}
        for i, one in enumerate(planned)
    ]


def test_methods_between_random_weights_and_labels_meet_the_criteria(pretraining, tmp_path):
    planned = pretraining.runs("laptop", None)
    rows = rows_of(planned, lambda arm: {"random": 0.3, "supervised": 0.6}.get(arm, 0.4))
    report = pretraining.analyse(rows, tmp_path, "laptop")
    methods = {one.name.rpartition("/")[0] for one in planned if one.tags["arm"] not in ("random", "supervised")}
    met = json.loads((tmp_path / "summary.json").read_text())["criteria"]
    assert met == dict.fromkeys(methods, True)
    assert {"resnet/simclr", "resnet/byol", "resnet/swav", "vit/simclr"} <= methods
    assert "- resnet/swav minus resnet/simclr: " in report
    assert "- resnet/simclr minus resnet/simclr" not in report
    assert (tmp_path / "report.html").read_text().count("data:image/png;base64,") == report.count("figures/") == 1


def test_one_method_that_is_no_better_is_published_as_failed(pretraining, tmp_path):
    rows = rows_of(pretraining.runs("laptop", None), lambda arm: {"random": 0.3, "byol": 0.3}.get(arm, 0.4))
    report = pretraining.analyse(rows, tmp_path, "laptop")
    assert judged("resnet/byol", report) == "FAILED"
    assert judged("resnet/swav", report) == "met"


def test_the_spread_is_that_of_the_last_record_of_training(pretraining, tmp_path):
    rows = rows_of(pretraining.runs("laptop", None), lambda arm: 0.4)
    folder = study.workdir(tmp_path, "resnet/swav/seed0")
    folder.mkdir(parents=True)
    lines = [{"step": step, "embedding_std": value} for step, value in ((40, 0.5), (46, 0.77))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"step": 46, "x": 1}]))
    report = pretraining.analyse(rows, tmp_path, "laptop")
    [line] = [line for line in report.splitlines() if line.startswith("| swav on resnet") and line.endswith(" 0.77 |")]
    assert "| 0.77 |" in line


@pytest.mark.parametrize("preset", PRESETS)
def test_all_arms_get_the_same_compute_and_both_baselines(pretraining, preset):
    p = pretraining.presets.PRESETS[preset]
    planned = [one for one in pretraining.runs(preset, "DIR") if one.tags["seed"] == p.seeds[0]]
    budget = p.steps * pretraining.costs.flops(preset, p.reference)
    for one in planned:
        steps, cost = one.tags["steps"], pretraining.costs.flops(preset, one.name.rpartition("/")[0])
        assert one.config.train.total == f"{steps} steps"
        assert one.tags["images"] == steps * one.config.data.batch_size
        if one.tags["arm"] == "random":
            assert steps == 0
        else:
            assert abs(one.tags["flops"] - budget) <= cost / 2
    for backbone in ("resnet", "vit"):
        arms = {one.tags["arm"] for one in planned if one.tags["backbone"] == backbone}
        assert {"random", "supervised", "simclr"} <= arms


@pytest.mark.slow  # pytest -m slow tests/commands/test_pretraining_study.py
def test_the_flops_are_those_of_a_trace(pretraining):
    check_flops(pretraining, PRESETS)


def test_the_flops_of_an_arm_are_those_of_a_trace(pretraining):
    check_flops(pretraining, ["laptop"], first=1)


def check_flops(pretraining, presets, first=None):
    with pretraining.costs.FILE.open(newline="") as file:
        arms = {(row["preset"], row["arm"]) for row in csv.DictReader(file)}
    assert arms == {(preset, name) for preset, p in pretraining.presets.PRESETS.items() for name in p.arms}
    for preset in presets:
        for name in [*pretraining.presets.PRESETS[preset].arms][:first]:
            counted = pretraining.costs.counted(preset, name)
            assert pretraining.costs.flops(preset, name) == pytest.approx(counted, rel=1e-6), (
                f"{preset}/{name}: run `python experiments/pretraining/costs.py`"
            )


def test_an_arm_without_flops_names_the_command_that_counts_them(pretraining):
    with pytest.raises(UserError, match=r"flops.csv has no FLOPs of the arm 'resnet/mine' .*pretraining/costs.py"):
        pretraining.costs.flops("laptop", "resnet/mine")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_run_has_a_name_for_the_command_line(pretraining, preset):
    planned = pretraining.runs(preset, "DIR")
    assert len({one.name for one in planned}) == len(planned)
    for one in planned[:: len(planned) // 4]:
        named = configs.load(f"{pretraining.__file__}:{preset}/{one.name}")
        assert {line.split(":")[0] for line in configs.differences(named, one.config)} <= {"data.data_dir"}


def test_arms_are_evaluated_alike(pretraining):
    for one in pretraining.runs("cifar10", "DIR"):
        evals = one.config.evals.to_dict()
        assert {entry["augment"] for entry in evals.values()} == {"normalize(0.5, 0.5)"}
        assert {entry["train_subset"]["seed"] for entry in evals.values()} == {one.config.seed}
        assert evals["few"]["train_subset"]["examples"] == 450


@pytest.mark.parametrize("preset", PRESETS)
def test_every_evaluation_sees_images_that_are_normalised_alone(pretraining, preset):
    for one in pretraining.runs(preset, "DIR"):
        assert len({entry["augment"] for entry in one.config.evals.to_dict().values()}) == 1
        assert {entry["train_split"] for entry in one.config.evals.to_dict().values()} == {"train"}
        seen = one.config.evals.knn.augment
        augment.make_augmentation(seen)
        assert seen == (augment.evaluation(seen) or "none")  # draws nothing
        assert "normalize" in seen or one.name.split("/")[1] in ("simclr", "nnclr"), seen


def test_names_and_folders_that_are_not_there(pretraining):
    with pytest.raises(UserError, match="did you mean 'resnet/swav/seed0'"):
        pretraining.get_config("laptop/resnet/swaw/seed0")
    with pytest.raises(UserError, match="make_cifar10_folder.py"):
        pretraining.runs("cifar10", None)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["resnet/swav", "vit/random"])
def test_its_runs_train(pretraining, arm, tmp_path):
    named = pretraining.get_config(f"laptop/{arm}/seed0")
    config = shrink(named, {}, steps=2 * (arm != "vit/random"), size=16)
    changes = {"optimizer.warmup": 0, "evals.knn.k": (3,), "evals.few.l2": (1.0,)}
    results = train.run_train(configs.override(config, changes), tmp_path, quiet=True)
    assert all(0 <= results[key.replace("knn20", "knn3")] <= 1 for key in KEYS)
