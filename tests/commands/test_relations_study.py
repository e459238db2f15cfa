"""The preset `relations` of experiments/data_scaling: its criteria on results that are known beforehand."""

import json
import math

import pytest
from made_up_runs import judged
from shrinking import shrink

from jaxvision.commands import study, train
from jaxvision.estimate import estimate


@pytest.fixture(scope="module")
def scaling():
    return study.load_study("data_scaling")


@pytest.fixture(scope="module")
def preset(scaling):
    return study.sibling(scaling.__file__, "presets").PRESETS["relations"]


def rows_of(scaling, top1):
    """A row for each run, with `top1(arm is a ViT, examples)` and a scatter of one point over seeds."""
    rows = []
    for one in scaling.runs("relations", None):
        tags = one.tags
        value = top1(tags["arm"].startswith("ViT"), tags["examples"]) + 0.005 * math.sin(7 * tags["seed"])
        value += 0.005 * math.cos(3 * tags["seed"] + tags["examples"] + len(tags["arm"]))
        rows.append(
            {"run": one.name, **tags, "val/top1": value, "val/loss": -math.log(value), "train/top1": (1 + value) / 2}
        )
    return rows


def verdicts(scaling, preset, top1, out):
    report = scaling.analyse(rows_of(scaling, top1), out, "relations")
    found = json.loads((out / "summary.json").read_text())["criteria"]
    assert len(found) == len(preset.pairs)
    return report, found[", ".join(preset.pairs[0][:2])]


def rising(few, many, preset):
    """Accuracies that rise with log n from `few` at the smallest size to `many` at the largest, by ViT or not."""
    first, *_, last = preset.sizes
    share = lambda n: math.log(n / first) / math.log(last / first)
    return lambda vit, n: few[vit] + (many[vit] - few[vit]) * share(n)


def test_arms_that_cross_meet_the_criteria(scaling, preset, tmp_path):
    report, found = verdicts(scaling, preset, rising((0.5, 0.4), (0.6, 0.8), preset), tmp_path)
    assert found == {"few": True, "many": True, "inside": True}
    assert f"{preset.pairs[0].vit} overtakes {preset.pairs[0].resnet} at" in report
    assert "few-shot" not in report
    assert "## Transfer" not in report


@pytest.mark.parametrize(
    ("few", "many", "failed"),
    [
        ((0.5, 0.4), (0.8, 0.7), {"many", "inside"}),  # the ResNet leads throughout
        ((0.4, 0.5), (0.6, 0.8), {"few", "inside"}),  # the ViT leads throughout
        ((0.5, 0.4), (0.7, 0.7001), {"many", "inside"}),  # equal within the scatter of the seeds
    ],
)
def test_arms_that_do_not_cross_fail_them(scaling, preset, few, many, failed, tmp_path):
    report, found = verdicts(scaling, preset, rising(few, many, preset), tmp_path)
    assert {name for name, met in found.items() if not met} == failed
    assert all(judged(name, report) == "FAILED" for name in failed)


def test_the_arms_cost_about_the_same(scaling, preset):
    flops = {
        arm: estimate(scaling.get_config(f"relations/fixed/{arm}/seed0/{preset.sizes[0]}")).flops_per_step
        for pair in preset.pairs
        for arm in pair[:2]
    }
    for pair in preset.pairs:
        assert abs(flops[pair.vit] / flops[pair.resnet] - 1) < 0.2


@pytest.mark.slow
def test_a_run_trains_when_shrunk(scaling, preset, tmp_path):
    for arm in preset.arms:
        config = scaling.get_config(f"relations/fixed/{arm}/seed0/{preset.sizes[0]}")
        results = train.run_train(shrink(config, preset.arms[arm].small), tmp_path / arm, quiet=True)
        assert 0 <= results["val/top1"] <= 1
