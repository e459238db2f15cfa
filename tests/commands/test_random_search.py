"""experiments/random_search: its points, its curves, and what its analysis says of rows that are made up."""

import itertools
import json
import math

import numpy as np
import pytest
from made_up_runs import judged

from jaxvision.commands import study
from jaxvision.sweep import spec


@pytest.fixture(scope="module")
def this():
    return study.load_study("random_search")


@pytest.mark.parametrize("arg", ["grid/0", "random/2"])
def test_its_sweeps_pass_their_checks_and_give_its_points(this, arg):
    sweep = this.get_sweep(arg)
    spec.check(sweep)
    kind, repeat = arg.split("/")
    planned = [run for run in this.runs("laptop", None) if run.name.startswith(f"repeat{repeat}/{kind}/")]
    assert len(planned) == sweep.budget == 27
    assert [sweep.config_of({k: run.tags[k] for k in this.SPACE}, int(repeat)) for run in planned] == [
        run.config for run in planned
    ]


def test_a_grid_repeats_three_values_inside_the_box_and_random_points_none(this):
    for key, domain in this.SPACE.items():
        values = {point[key] for point in this.points("grid", 1)}
        assert len(values) == 3
        assert all(domain.low <= v <= domain.high for v in values)
        assert len({point[key] for point in this.points("random", 1)}) == 27
    rates = sorted({point["optimizer.learning_rate"] for point in this.points("grid", 1)})
    assert np.diff(np.log10(rates)) == pytest.approx([4 / 3, 4 / 3])
    assert this.points("grid", 0) != this.points("grid", 1)


def test_expected_best_is_the_mean_over_all_choices(this):
    values = [0.3, 0.1, 0.9, 0.4, 0.4]
    want = [np.mean([max(c) for c in itertools.combinations(values, k)]) for k in range(1, 6)]
    assert this.expected_best(values) == pytest.approx(want)


def rows(this, value):
    return [
        {"run": run.name, **run.tags, "val/top1": value(math.log10(run.tags["optimizer.learning_rate"]))}
        for run in this.runs("laptop", None)
    ]


def test_one_narrow_ridge_is_found_by_random_points(this, tmp_path):
    report = this.analyse(rows(this, lambda rate: 0.8 - 0.3 * abs(rate + 0.98)), tmp_path, "laptop")
    assert judged("premise", report) == "met"
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {"premise", "better", "cheaper"} == set(summary["criteria"])
    random, grid = summary["best"]["random"], summary["best"]["grid"]
    each = np.subtract(random, grid)  # 4.303 is Student's t of 2 degrees of freedom
    assert summary["criteria"]["better"] == (each.mean() > 4.303 * each.std(ddof=1) / 3**0.5)
    assert judged("better", report) == ("met" if summary["criteria"]["better"] else "FAILED")
    assert (tmp_path / "efficiency.png").is_file()


def test_where_nothing_matters_nothing_is_claimed(this, tmp_path):
    report = this.analyse(rows(this, lambda rate: 0.5), tmp_path, "laptop")
    assert judged("better", report) == judged("cheaper", report) == "FAILED"
    assert "a further condition fails (the interval is above zero)" in report
    assert "random trials saved of 27 for the grid's best: 26.0 ± 0.0" in report


def test_a_mean_over_the_repeats_is_no_finding(this, tmp_path):
    """The published best results: 41.7, 35.7, 45.2 of the grid, 44.3, 45.2, 45.0 of the random search."""
    made = rows(this, lambda rate: 0.2)
    for kind, bests in dict(grid=(0.417, 0.357, 0.452), random=(0.443, 0.452, 0.450)).items():
        for repeat, best in enumerate(bests):
            next(r for r in made if (r["search"], r["repeat"]) == (kind, repeat))["val/top1"] = best
    verdicts = this.criteria(made, "laptop")
    assert not verdicts["better"].met
    assert verdicts["better"].finding == "points of top-1, random minus grid: 4.0 ± 12.4 (by repeat +2.6, +9.5, -0.2)"


def test_a_run_that_diverged_is_worth_chance(this, tmp_path):
    made = rows(this, lambda rate: 0.5)
    for row in made:
        if row["search"] == "grid":
            row |= {"val/top1": None, "error": "the loss is not finite"}
    this.analyse(made, tmp_path, "laptop")
    assert json.loads((tmp_path / "summary.json").read_text())["best"]["grid"] == [0.1] * 3
