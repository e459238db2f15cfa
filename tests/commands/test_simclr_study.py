"""The study experiments/simclr: its runs, and what it makes of results that are known beforehand."""

import json

import pytest
from made_up_runs import judged
from shrinking import shrink

from jaxvision import config as configs
from jaxvision import experiment as experiments
from jaxvision.commands import study, train
from jaxvision.errors import UserError

PRESETS = ("laptop", "cifar10", "cifar10_heads", "paper")


@pytest.fixture(scope="module")
def simclr():
    return study.load_study("simclr")


@pytest.fixture(scope="module")
def presets(simclr):
    return study.sibling(simclr.__file__, "presets").PRESETS


def rows_of(planned, top1, contrastive):
    """A row for each run, as if it had ended with these values; a seed moves them all alike, and each run a little."""
    rows = []
    for i, one in enumerate(planned):
        value = top1(one.tags) + 0.01 * one.tags["seed"] + 0.001 * (i % 3)
        metrics = {"val/probe_lbfgs/top1": value, "val/probe_lbfgs_projection/top1": value - 0.05}
        if one.tags["length"]:
            metrics |= {"contrastive_top1": contrastive(one.tags) + 0.001 * (i % 3), "effective_rank": 8.0}
        rows.append({"run": one.name, **one.tags, **metrics})
    return rows


def as_in_the_paper(tags):
    """Crop and colour together are best, a nonlinear head too, and a random network is worst."""
    if not tags["length"]:
        return 0.3
    both = {"crop", "colour"} <= set(tags["ops"].split("+"))
    return 0.35 + 0.05 * both + 0.02 * tags["layers"]


def easier_without_colour(tags):
    return 0.5 if "colour" in tags["ops"] else 0.8


@pytest.mark.parametrize("preset", ["laptop", "paper"])
def test_what_the_paper_saw_meets_the_criteria(simclr, presets, preset, tmp_path):
    rows = rows_of(simclr.runs(preset, "DIR"), as_in_the_paper, easier_without_colour)
    report = simclr.analyse(rows, tmp_path, preset)
    met = json.loads((tmp_path / "summary.json").read_text())["criteria"]
    assert met == dict.fromkeys(["crop alone", "colour alone", "head", "learns", "inversion"], True)
    assert (tmp_path / "report.html").read_text().count("data:image/png;base64,") == report.count("figures/")
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".png", ".svg"}


def test_the_heads_alone_are_judged_by_their_criteria(simclr, tmp_path):
    rows = rows_of(simclr.runs("cifar10_heads", "DIR"), as_in_the_paper, easier_without_colour)
    assert len(rows) == 20
    report = simclr.analyse(rows, tmp_path, "cifar10_heads")
    assert json.loads((tmp_path / "summary.json").read_text())["criteria"] == {"head": True, "learns": True}
    assert "nonlinear minus linear head" in report
    assert "Pairs of transformations" not in report


def test_where_nothing_matters_nothing_is_claimed(simclr, tmp_path):
    report = simclr.analyse(rows_of(simclr.runs("laptop", None), lambda t: 0.4, lambda t: 0.5), tmp_path, "laptop")
    assert report.count("**FAILED**") == 5


def test_the_inversion_needs_the_probe_too(simclr, tmp_path):
    rows = rows_of(simclr.runs("laptop", None), lambda tags: 0.4, easier_without_colour)
    assert judged("inversion", simclr.analyse(rows, tmp_path, "laptop")) == "FAILED"


def test_the_contrastive_accuracy_is_that_of_the_last_record_of_training(simclr, tmp_path):
    rows = rows_of(simclr.runs("laptop", None), as_in_the_paper, easier_without_colour)
    crop = next(row for row in rows if row["run"] == "crop/seed0")
    del crop["contrastive_top1"], crop["effective_rank"]
    folder = study.workdir(tmp_path, "crop/seed0")
    folder.mkdir(parents=True)
    lines = [{"step": s, "contrastive_top1": v, "effective_rank": 2.0} for s, v in ((135, 0.5), (150, 0.8))]
    lines.append({"step": 150, "val/probe_lbfgs/top1": 0.1})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert judged("inversion", simclr.analyse(rows, tmp_path, "laptop")) == "met"


def test_arms_that_were_not_run_are_left_out(simclr, tmp_path):
    rows = rows_of(simclr.runs("cifar10", "DIR"), as_in_the_paper, easier_without_colour)
    kept = [row for row in rows if "/" not in row["run"].replace("/seed", "") or "/0.1/" in row["run"]]
    report = simclr.analyse(kept, tmp_path, "cifar10")
    assert "| 0.1 | 4" in report
    assert "| 0.05 |" not in report


@pytest.mark.parametrize("preset", PRESETS)
def test_every_run_has_a_name_for_the_command_line(simclr, preset):
    planned = simclr.runs(preset, "DIR")
    assert len({one.name for one in planned}) == len(planned)
    for one in planned[:: len(planned) // 6]:
        named = configs.load(f"{simclr.__file__}:{preset}/{one.name}")
        assert {line.split(":")[0] for line in configs.differences(named, one.config)} <= {"data.data_dir"}


def test_no_run_is_done_twice(simclr):
    planned = simclr.runs("paper", None)
    kinds = [json.dumps(json.loads(configs.to_json(one.config)), sort_keys=True) for one in planned]
    assert len(set(kinds)) == len(kinds)


def test_runs_of_the_criteria_come_first_and_the_grid_last(simclr):
    names = [one.name for one in simclr.runs("cifar10", "DIR")]
    assert {name.split("/")[0] for name in names[:18]} == {
        "full",
        "crop",
        "colour",
        "no_head",
        "linear_head",
        "random",
    }
    assert [name.endswith("/seed0") for name in names[:7]] == [True] * 6 + [False]
    assert all(name.startswith("grid/") for name in names[-7:])


def test_names_and_folders_that_are_not_there(simclr):
    with pytest.raises(UserError, match="unknown preset 'desktop'"):
        simclr.get_config("desktop/full/seed0")
    with pytest.raises(UserError, match="did you mean 'full/seed0'"):
        simclr.get_config("laptop/ful/seed0")
    with pytest.raises(UserError, match="make_cifar10_folder.py"):
        simclr.runs("cifar10", None)


def test_the_rules_agree_at_the_batch_of_the_full_arm(presets):
    p = presets["paper"]
    rates = {
        (size, rule): p.learning_rate(p.full._replace(batch_size=size, rule=rule))
        for size in (1_024, 4_096)
        for rule in ("linear", "sqrt")
    }
    assert rates[4_096, "linear"] == rates[4_096, "sqrt"] == pytest.approx(4.8)  # app. B.1 of the paper
    assert rates[1_024, "linear"] == pytest.approx(1.2)
    assert rates[1_024, "sqrt"] == pytest.approx(2.4)


def test_views_hold_what_the_arm_names(simclr):
    of = {one.name: one.config.augment for one in simclr.runs("paper", None)}
    assert of["crop/seed0"] == "views(2, 'random_resized_crop(224)|flip_lr')"
    assert of["grid/blur/seed0"] == "views(2, 'central_crop(224)|gaussian_blur(p=0.5)')"
    assert "color_jitter(0.2, 0.2, 0.2, 0.05, p=0.8)|grayscale(0.2)" in of["strength/0.25/seed0"]


def test_the_full_arm_of_the_paper_is_its_config(simclr):
    paper = configs.load("configs/self_supervised/simclr_resnet50_imagenet2012.py:100")
    mine = simclr.get_config("paper/full/seed0")
    changed = {line.split(":")[0] for line in configs.differences(paper, mine)}
    assert {key for key in changed if not key.startswith(("evals.", "mesh."))} == {
        "augment",  # without the blur
        "train.total",  # the same in steps
        "train.log_every",
        "optimizer.warmup",  # the same in percent, so that no step is none of warm-up either
    }
    full, random = (
        experiments.build(simclr.get_config(f"paper/{arm}/seed0"), training_data="ignored")
        for arm in ("full", "random")
    )
    assert (full.total, random.total) == (round(100 * 1_281_167 / 4_096), 0)


@pytest.mark.slow
@pytest.mark.parametrize(("arm", "steps"), [("random", 0), ("no_head", 2)])
def test_its_runs_train_and_the_random_network_takes_no_step(simclr, arm, steps, tmp_path):
    config = shrink(simclr.get_config(f"laptop/{arm}/seed0"), dict(width=0.25), steps=steps)
    results = train.run_train(configs.override(config, {"optimizer.warmup": 0}), tmp_path, quiet=True)
    assert 0 <= results["val/probe_lbfgs/top1"] <= 1
    assert "val/probe_lbfgs_projection/top1" in results
