"""The study experiments/cross_validation: its runs, and what it makes of results that are known beforehand."""

import json

import pytest

from jaxvision.commands import study, train
from jaxvision.errors import UserError


@pytest.fixture(scope="module")
def cross_validation():
    return study.load_study("cross_validation")


def rows_of(this, level):
    """A row for each repeat; `level` gives the accuracy of (part, distance, k, repeat)."""
    parts = ("test", "train", *(f"fold{i}" for i in range(1, 6)))
    return [
        {"repeat": r}
        | {f"{p}_{d}/knn{k}_{d}/top1": level(p, d, k, r) + 0.001 * r for p in parts for d, k in this.SPACE}
        for r in range(5)
    ]


def test_the_training_images_choose_one_neighbour_and_the_folds_what_is_best(cross_validation, tmp_path):
    def level(part, distance, k, repeat):
        if part == "train":
            return 1.0 if k == 1 else 0.5
        return 0.3 + 0.1 * (k == 10) + 0.02 * (distance == "l1")

    rows = rows_of(cross_validation, level)
    assert {cross_validation.choose(row, "train") for row in rows} == {("l1", 1)}
    assert {cross_validation.choose(row, "folds") for row in rows} == {("l1", 10)}
    report = cross_validation.analyse(rows, tmp_path, "laptop")
    met = json.loads((tmp_path / "summary.json").read_text())["criteria"]
    assert met == dict(training=True, close=True, honest=True, folds=False, distance=True)
    assert "chosen by five folds minus on training images: 10.0 ± 0.0 points" in report
    assert "| on training images | 100.2 ± 0.2 | 32.2 ± 0.2 | L1 1, L1 1, L1 1, L1 1, L1 1 |" in report


def test_one_fold_that_is_misled_chooses_worse_than_five(cross_validation, tmp_path):
    def level(part, distance, k, repeat):
        return 0.3 + 0.1 * (k == 10) + 0.15 * (k == 50 and part == "fold1")

    rows = rows_of(cross_validation, level)
    assert {cross_validation.choose(row, "fold1") for row in rows} == {("l1", 50)}
    cross_validation.analyse(rows, tmp_path, "laptop")
    assert json.loads((tmp_path / "summary.json").read_text())["criteria"]["folds"] is True


def test_repeats_share_no_training_images_and_folds_are_parts_of_them(cross_validation):
    splits = [one.config.data.split for one in cross_validation.runs("cifar10", "DIR")]
    assert splits == [f"train[{start}:{start + 5000}]" for start in range(0, 25_000, 5000)]
    evals = cross_validation.get_config("cifar10/repeat1").evals
    judged, known = evals.fold2_l1.subset, evals.fold2_l1.train_subset
    assert (judged.fold, judged.part, known.fold, known.get("part")) == ("2/5", "held_out", "2/5", None)
    assert evals.fold2_l1.split == evals.fold2_l1.train_split == splits[1]


def test_its_runs_evaluate_the_space(cross_validation, tmp_path):
    config = cross_validation.get_config("laptop/repeat0")
    config.data.options = dict(image_size=32, train=200, validation=20, test=20)
    config.data.split, config.data.examples, config.data.batch_size = "train[0:150]", 150, 16
    config.evals = {name: config.evals[name] for name in ("train_l2", "fold2_l1", "test_l2")}
    for name, section in config.evals.items():
        section.train_split = "train[0:150]"
        section.split = "test" if name.startswith("test") else "train[0:150]"
    results = train.run_train(config, tmp_path / "run", quiet=True)
    assert results["train_l2/knn1_l2/top1"] == 1.0
    assert {key for key in results if key.endswith("top1")} == {
        f"{part}/knn{k}_{part[-2:]}/top1" for part in config.evals for k in cross_validation.KS
    }


def test_names_and_folders_that_are_not_there(cross_validation):
    with pytest.raises(UserError, match="repeat7"):
        cross_validation.get_config("laptop/repeat7")
    with pytest.raises(UserError, match="--data_dir is missing"):
        cross_validation.runs("cifar10", None)
