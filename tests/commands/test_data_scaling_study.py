"""The study experiments/data_scaling: its runs, and what it makes of results that are known beforehand."""

import json
import math

import pytest
from made_up_runs import judged
from shrinking import shrink

from jaxvision import config as configs
from jaxvision import experiment as experiments
from jaxvision.commands import study, train
from jaxvision.errors import UserError

PRESETS = ("laptop", "cifar10", "cifar10_large", "imagenet", "imagenet21k", "jft300m")


@pytest.fixture(scope="module")
def scaling():
    return study.load_study("data_scaling")


@pytest.fixture(scope="module")
def presets():
    return study.sibling(study.load_study("data_scaling").__file__, "presets").PRESETS


def rows_of(planned, top1):
    """A row for each run that `fill` leaves, with `top1(tags)` and what the other measures might be."""
    rows = []
    for one in planned:
        if one.tags["protocol"] == "tuned" and one.fill(rows, None) is None:
            continue
        value = top1(one.tags)
        few = {f"fewshot/{s}shot_ridge1024": value / 2 for s in (1, 5, 10, 25)}
        found = {"val/top1": value, "val/loss": -math.log(value), "train/top1": min(1.0, value + 0.3), **few}
        rows.append({"run": one.name, **one.tags, **found})
    return rows


def power_law(tags, meets=1e7):
    """Errors that fall as n^-0.2 for ResNets and faster for ViTs, which meet at so many examples; a seed moves both."""
    n, vit = tags["examples"] or meets, tags["arm"].startswith("ViT")
    error = 0.8 * (n / meets) ** (-0.05 if vit else -0.02) * 0.6
    best = {None: 0.0, 1e-3: 0.0, 8e-4: 0.0, 3e-3: 0.02}.get(tags.get("learning_rate"), -0.02)
    return 1 - error + 0.003 * math.sin(7 * tags["seed"] + len(tags["arm"]) + math.log(n)) + best


LARGE = [pytest.param(preset, marks=pytest.mark.slow) for preset in PRESETS[2:]]


@pytest.mark.parametrize("preset", [*PRESETS[:2], *LARGE])
def test_a_gap_that_shrinks_meets_the_criteria(scaling, presets, preset, tmp_path):
    p = presets[preset]
    rows = rows_of(scaling.runs(preset, "DIR"), lambda tags: power_law(tags, meets=100 * p.sizes[-1]))
    report = scaling.analyse(rows, tmp_path, preset)
    verdicts = json.loads((tmp_path / "summary.json").read_text())["criteria"]
    met = {name for name, is_met in verdicts[", ".join(p.pairs[0][:2])].items() if is_met}
    assert met >= {"positive", "shrinks", "shrinks, odds", "needs more data"}, report
    assert "No crossing from" in report
    assert (tmp_path / "report.html").read_text().count("data:image/png;base64,") == report.count("figures/")
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".png", ".svg"}
    told = "cannot tell a floor" in report
    assert told == any(len(pair.sizes) < 5 for pair in p.pairs), "fits that cannot be told apart are not made"


def test_under_fitting_is_told_apart_from_a_lack_of_data(scaling, presets, tmp_path):
    """Gaps that grow in points, because the ViT fits ever less of more data, and shrink at equal training loss."""
    p, rows = presets["laptop"], []
    for row in rows_of(scaling.runs("laptop", None), lambda tags: 0.5):
        vit, order = row["arm"].startswith("ViT"), p.sizes.index(row["examples"])
        last_loss = (0.5 + 0.5 * order) if vit else 0.1
        top1 = (0.3, 0.35, 0.4)[order] if vit else (0.5, 0.7, 0.9)[order]
        # A ResNet passes the loss of the ViT on its way, with 0.2, 0.1 and 0 points more than the ViT has there.
        passed = [(600, last_loss, top1)] if vit else [(600, 0.5 + 0.5 * order, (0.5, 0.45, 0.4)[order])]
        top1 += 0.001 * row["seed"]
        lines = [(60, 1.6, 0.2), *passed, (1_200, last_loss, top1)]
        folder = tmp_path / "runs" / row["run"]
        folder.mkdir(parents=True)
        lines = [{"step": s, "loss": loss, "val/top1": value} for s, loss, value in lines]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        rows.append(row | {"val/top1": top1})
    report = scaling.analyse(rows, tmp_path, "laptop")
    assert judged("shrinks", report) == "FAILED"
    assert judged("shrinks, loss", report) == "met"
    assert "**met**; gap at 200 examples minus gap at 5,000: 20.0" in report
    assert "20.0 ± 0.2 at 0.50 nats" in report or "20.0 ± 0.0 at 0.50 nats" in report, report


def test_a_gap_that_grows_is_published_as_failed(scaling, tmp_path):
    grows = {"BiT-8": 0.2, "ResNet-8": 0.2, "ViT-64": 0.05}
    rows = rows_of(
        scaling.runs("laptop", None),
        lambda tags: 0.1 + grows[tags["arm"]] * math.log10(max(tags["examples"], 100)) * (1 + 0.001 * tags["seed"]) / 2,
    )
    report = scaling.analyse(rows, tmp_path, "laptop")
    assert judged("positive", report) == "met"
    assert judged("shrinks", report) == "FAILED"
    assert "the ResNet's lead grows" in report


def test_arms_that_cross_are_told_with_the_place(scaling, presets, tmp_path):
    sizes = presets["cifar10"].sizes
    rows = rows_of(scaling.runs("cifar10", "DIR"), lambda tags: power_law(tags, meets=sizes[2]))
    assert "ViT-64 overtakes BiT-8 at" in scaling.analyse(rows, tmp_path, "cifar10")


def test_the_best_rate_is_filled_in_where_it_is_another(scaling):
    planned = {one.name: one for one in scaling.runs("cifar10", "DIR")}
    tried = {1e-3: 0.4, 3e-3: 0.6, 1e-2: None}
    tags = dict(protocol="rates", arm="ViT-64", examples=400, seed=100)
    rows = [
        dict(tags, learning_rate=rate, error=None if v else "diverged", **{"val/top1": v}) for rate, v in tried.items()
    ]
    fill = planned["tuned/ViT-64/seed0/400"].fill
    assert fill(rows, None) == {"optimizer.learning_rate": 3e-3}
    assert fill(rows[:1], None) is None, "the run of `fixed` is the tuned one"
    with pytest.raises(UserError, match="every learning rate that was tried for ViT-64 on 400 examples diverged"):
        fill(rows[2:], None)


def test_a_fine_tuning_starts_from_the_run_of_its_seed(scaling, tmp_path):
    planned = {one.name: one for one in scaling.runs("cifar10", "DIR")}
    overrides = planned["transfer/ViT-64/seed1/45000"].fill([], tmp_path)
    assert overrides == {"init.weights": str(tmp_path / "runs" / "fixed" / "ViT-64" / "seed1" / "45000")}
    assert "init" not in planned["transfer/ViT-64/seed1/scratch"].config


@pytest.mark.parametrize("preset", PRESETS)
def test_every_run_has_a_name_for_the_command_line(scaling, preset):
    planned = scaling.runs(preset, "DIR")
    assert len({one.name for one in planned}) == len(planned)
    for one in planned[:: max(len(planned) // 6, 1)]:
        named = configs.load(f"{scaling.__file__}:{preset}/{one.name}")
        changed = {line.split(":")[0] for line in configs.differences(named, one.config)}
        assert changed <= {"data.data_dir"}


def test_names_that_are_not_there(scaling):
    with pytest.raises(UserError, match="unknown preset 'desktop'"):
        scaling.get_config("desktop/fixed/ViT-64/seed0/1000")
    with pytest.raises(UserError, match="did you mean 'fixed/ViT-64/seed0/1000'"):
        scaling.get_config("laptop/fixed/ViT-64/seed0/100")
    with pytest.raises(UserError, match="make_cifar10_folder.py"):
        scaling.runs("cifar10", None)


def test_subsets_are_nested_and_the_training_accuracy_is_of_them(scaling):
    for one in scaling.runs("cifar10", "DIR"):
        if one.tags["protocol"] == "fixed":
            subset, seen = one.config.data.subset, one.config.evals.train.subset
            assert subset.seed == seen.seed == one.tags["seed"]
            assert seen.examples == min(subset.examples, 5_000)


def test_the_arms_of_a_matched_pair_cost_about_the_same(scaling, presets):
    from jaxvision.estimate import estimate

    planned = {(one.tags["arm"], one.tags["protocol"]): one.config for one in scaling.runs("cifar10_large", "DIR")}
    flops = {arm: estimate(config).flops_per_step for (arm, protocol), config in planned.items() if protocol == "fixed"}
    for pair in presets["cifar10_large"].pairs:
        ratio = flops[pair.vit] / flops[pair.resnet]
        assert (abs(ratio - 1) < 0.2) == pair.matched, (pair, ratio)


@pytest.mark.parametrize("preset", ["imagenet", pytest.param("imagenet21k", marks=pytest.mark.slow)])
def test_presets_of_large_sets_build_and_train_when_shrunk(scaling, presets, preset, tmp_path):
    p = presets[preset]
    for arm in p.pairs[0][:2]:
        config = scaling.get_config(f"{preset}/fixed/{arm}/seed0/{p.sizes[0]}")
        experiment = experiments.build(config, training_data="ignored")
        assert experiment.total == p.steps
        small = shrink(config, p.arms[arm].small)
        results = train.run_train(small, tmp_path / arm, quiet=True)
        assert 0 <= results["val/top1"] <= 1


def test_the_sweep_of_a_cell_is_the_rates_of_the_study(scaling, presets):
    sweep = scaling.get_sweep("cifar10/ViT-64/400@DIR")
    planned = {one.name: one.config for one in scaling.runs("cifar10", "DIR")}
    assert sweep.budget == len(presets["cifar10"].rates)
    for rate in presets["cifar10"].rates:
        same = planned[f"rates/ViT-64/400/{rate:g}"]
        assert not configs.differences(same, sweep.config_of({"optimizer.learning_rate": rate}, seed=100))
    with pytest.raises(UserError, match="unknown preset with a sweep 'laptop'"):
        scaling.get_sweep("laptop/ViT-64/250")
