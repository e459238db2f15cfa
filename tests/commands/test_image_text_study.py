"""The study experiments/image_text: its runs, and what it makes of results that are known beforehand."""

import json
from pathlib import Path

import pytest
from made_up_runs import judged

from jaxvision import config as configs
from jaxvision import experiment as experiments
from jaxvision.commands import study, train
from jaxvision.data.text import prompts
from jaxvision.errors import UserError

SINGLE = ("prompt_mean", "photo")  # in the keys of results of single prompts
PRESETS = ("laptop", "cifar10", "cifar10_prompts", "ucm")


@pytest.fixture(scope="module")
def image_text():
    return study.load_study("image_text")


@pytest.fixture(scope="module")
def presets(image_text):
    return study.sibling(image_text.__file__, "presets").PRESETS


def rows_of(planned, p, value, spread=0.0):
    """A row for each run; `value(arm, key)`, which a seed moves a little, alike for all arms, and `spread` the results
    of `softmax` alone, those of ensembles against those of single prompts."""
    keys = {*p.reported, *(key for of in p.criteria.values() for key in of)}
    rows = []
    for one in planned:
        arm, seed = one.tags["arm"], 0.01 * one.tags["seed"]
        swing = spread * (-1) ** one.tags["seed"] if arm == "softmax" else 0.0
        moved = lambda key, seed=seed, swing=swing: seed + (-swing if any(name in key for name in SINGLE) else swing)
        metrics = {"val/top1": 0.6} if arm == "labels" else {key: value(arm, key) + moved(key) for key in keys}
        rows.append({"run": one.name, **one.tags, **metrics})
    return rows


def as_hoped(arm, key):
    ensemble = 0.05 if "top1" in key and "clip80" in key else 0.0
    return 0.1 if arm == "shuffled" else 0.5 + ensemble


@pytest.mark.parametrize("preset", PRESETS)
def test_runs_that_learn_from_pairs_meet_the_criteria(image_text, presets, preset, tmp_path):
    p = presets[preset]
    rows = rows_of(image_text.runs(preset, "DIR"), p, as_hoped)
    report = image_text.analyse(rows, tmp_path, preset)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["criteria"] == dict.fromkeys(p.criteria, True)
    assert f"| batch {p.full.batch_size} |" in report
    figures = 1 if preset in ("laptop", "cifar10") else 0  # there are no records, and the others have two batch sizes
    assert (tmp_path / "report.html").read_text().count("data:image/png;base64,") == figures
    assert report.count("*Not drawn: ") == 1
    if preset == "cifar10_prompts":
        assert "the ensemble minus the prompt that CLIP takes by default: 5.0 ± 0.0 points" in report
        assert "80 prompts minus one prompt (not a criterion)" not in report
    if preset == "cifar10":
        assert "the ensemble minus the mean of its single prompts: 5.0 ± 0.0 points" in report
        assert "| tower, locked | 55.0" in report


def test_claims_that_do_not_show_are_published_as_failed(image_text, presets, tmp_path):
    rows = rows_of(image_text.runs("ucm", "DIR"), presets["ucm"], lambda arm, key: 0.3 if arm == "shuffled" else 0.45)
    report = image_text.analyse(rows, tmp_path, "ucm")
    assert judged("pairs", report) == "met"
    assert judged("far", report) == "FAILED"


@pytest.mark.parametrize(
    ("preset", "criterion"),
    [
        (preset, name)
        for preset, of in dict(laptop=3, cifar10=3, cifar10_prompts=3, ucm=2).items()
        for name in range(of)
    ],
)
def test_a_gain_that_its_interval_does_not_carry_fails(image_text, presets, preset, criterion, tmp_path):
    """The means are above every bar, the lower ends are not."""
    p = presets[preset]
    name = list(p.criteria)[criterion]
    rows = rows_of(image_text.runs(preset, "DIR"), p, as_hoped, spread=0.8)
    image_text.analyse(rows, tmp_path, preset)
    assert json.loads((tmp_path / "summary.json").read_text())["criteria"][name] is False


def test_batch_sizes_are_compared_on_the_same_seeds(image_text, presets, tmp_path):
    rows = rows_of(image_text.runs("laptop", None), presets["laptop"], as_hoped)
    report = image_text.analyse(rows, tmp_path, "laptop")
    assert "| softmax | 50.0 | 50.0 | 50.0 |" in report  # seed 0 everywhere; the mean over seeds is 51.0
    assert "| pairs that were seen | 51.0" in report


@pytest.mark.parametrize(
    ("file", "run", "others"),
    [
        ("shapes", "laptop/softmax", ()),
        ("shapes:sigmoid", "laptop/batch/sigmoid/64", ()),
        ("cifar10_class_names", "cifar10/softmax", ("data.name", "data.split", "evals.val.split", "evals.val.every")),
    ],
)
def test_the_small_configs_are_runs_of_the_study(image_text, file, run, others):
    name, _, argument = file.partition(":")
    path = Path(__file__).parents[2] / "configs" / "image_text" / f"{name}.py"
    small = configs.load(f"{path}:{argument}" if argument else str(path))
    with small.unlocked():
        small.train.total = small.train.total.replace("_", "")
        defaults = dict(image_projection="linear", scale=1 / 0.07, bias=None)  # which the study spells out
        small.model.update({key: value for key, value in defaults.items() if key not in small.model})
    changed = {line.split(":")[0] for line in configs.differences(small, image_text.get_config(f"{run}/seed0"))}
    allowed = {"data.data_dir", "data.image_size", "train.log_every", "train.checkpoint_every", *others}
    assert {key for key in changed - allowed if not key.startswith("evals.captions")} == set()


def test_the_curve_over_steps_is_read_from_the_records(image_text, presets, tmp_path):
    p = presets["laptop"]
    rows = rows_of(image_text.runs("laptop", None), p, as_hoped)
    for row in rows:
        folder = study.workdir(tmp_path, row["run"])
        folder.mkdir(parents=True)
        lines = [json.dumps({"step": step, p.measure[0]: step / 10}) for step in (1, 2)]
        (folder / "metrics.jsonl").write_text("\n".join(lines))
    curves = study.sibling(image_text.__file__, "analysis")._curves(rows, tmp_path, p)
    assert curves["softmax"] == {64: [0.1] * 3, 128: [0.2] * 3}
    assert set(curves) == {"softmax", "sigmoid", "shuffled captions"}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_run_has_a_name_for_the_command_line(image_text, preset):
    planned = image_text.runs(preset, "DIR")
    assert len({one.name for one in planned}) == len(planned)
    for one in planned[::5]:
        named = configs.load(f"{image_text.__file__}:{preset}/{one.name}")
        changed = {line.split(":")[0] for line in configs.differences(named, one.config)}
        assert changed <= {"data.data_dir"}


@pytest.mark.parametrize("preset", PRESETS)
def test_all_runs_see_as_many_pairs(image_text, presets, preset):
    for one in image_text.runs(preset, "DIR"):
        steps = int(one.config.train.total.removesuffix(" steps"))
        assert steps * one.config.data.batch_size == presets[preset].images


def test_arms_differ_in_one_thing(image_text):
    config = lambda run: image_text.get_config(f"cifar10/{run}/seed0")
    changed = lambda one, other: {line.split(":")[0] for line in configs.differences(config(one), config(other))}
    assert changed("softmax", "shuffled") == {"augment"}
    assert changed("softmax", "temperature/0.02") == {"model.scale", "optimizer.freeze"}
    assert changed("tower/scratch", "tower/locked") >= {"task.locked", "init.weights"}
    assert config("temperature/0.02").model.scale == pytest.approx(50)


def test_all_prompts_of_the_ensemble_occur_in_training(image_text):
    text = "class_captions('clip80')|tokenize('bytes', 44, caption='all', captions=80)"
    assert text in image_text.get_config("cifar10_prompts/softmax/seed0").data.host
    longest = max(len(prompts.fill_template(t, "automobile")) for t in prompts.get_prompts("clip80").templates)
    assert longest + 2 <= 44, "no caption is cut"


def test_a_locked_tower_starts_from_the_labelled_run_of_its_seed(image_text, tmp_path):
    planned = {one.name: one for one in image_text.runs("cifar10", "DIR")}
    locked = planned["tower/locked/seed0"]
    assert locked.fill([], tmp_path) == {"init.weights": str(tmp_path / "runs" / "tower" / "labels" / "seed0")}
    assert planned["tower/labels/seed0"].config.data.host == "decode|resize(16)"
    assert "locked" not in planned["tower/tuned/seed0"].config.task
    assert "init" not in planned["tower/scratch/seed0"].config


@pytest.mark.parametrize("preset", PRESETS)
def test_the_configs_build_without_data(image_text, preset):
    for run in ("softmax/seed0", "shuffled/seed0"):
        config = image_text.get_config(f"{preset}/{run}")
        experiment = experiments.build(config, training_data="ignored")
        assert experiment.augmented["tokens"].shape[0] == config.data.batch_size
        assert experiment.augmented["tokens"].ndim == 2


def test_names_that_are_not_there(image_text):
    with pytest.raises(UserError, match="did you mean 'softmax/seed0'"):
        image_text.get_config("laptop/sofmax/seed0")
    with pytest.raises(UserError, match="make_cifar10_folder.py"):
        image_text.runs("cifar10", None)


@pytest.mark.slow
def test_a_run_trains(image_text, tmp_path):
    small = {"train": 48, "validation": 32, "test": 8, "image_size": 32, "text": "caption"}
    config = configs.override(
        image_text.get_config("laptop/batch/sigmoid/16/seed0"),
        {
            "train.total": "2 steps",
            "data.options": small | {"scenes": "seen"},
            "evals.seen.options": small | {"scenes": "seen", "label": "pair"},
            "evals.held_out.options": small | {"scenes": "held_out", "label": "pair"},
            "evals.seen.batch_size": 16,
            "evals.held_out.batch_size": 16,
        },
    )
    results = train.run_train(config, tmp_path, quiet=True)
    assert {key.split("/")[0] for key in results} == {"seen", "held_out"}
