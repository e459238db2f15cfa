"""Curves are what they are said to be: smoothed as by a loop, a mean and a range over seeds, named in the legend."""

import matplotlib.image
import numpy as np
import pytest

from jaxvision.analysis import run_plots
from jaxvision.analysis.run_plots import Curve, Panel


def curve(name, *seeds):
    return Curve(name, tuple((np.arange(1.0, len(values) + 1), np.asarray(values, float)) for values in seeds))


def test_a_smoothed_curve_is_a_weighted_mean_of_earlier_points():
    values = np.random.default_rng(0).normal(size=100)
    weights = 0.5 ** (np.arange(100) / (run_plots.SMOOTHING * 100))
    expected = [values[: i + 1][::-1] @ weights[: i + 1] / weights[: i + 1].sum() for i in range(100)]
    np.testing.assert_allclose(run_plots.smooth(values), expected)
    np.testing.assert_array_equal(run_plots.smooth(values[:10]), values[:10])


def test_the_band_of_seeds_is_from_the_lowest_to_the_highest_where_all_have_values():
    steps, mean, low, high = run_plots.middle(curve("a", [1, 2, 3, 4], [3, 4, 5], [2, 3, 7]))
    assert steps.tolist() == [1, 2, 3]
    assert (mean.tolist(), low.tolist(), high.tolist()) == ([2, 3, 5], [1, 2, 3], [3, 4, 7])


def test_a_schedule_is_drawn_as_it_is():
    values = np.linspace(1, 0, 100)
    np.testing.assert_array_equal(run_plots.middle(curve("a", values), smoothed=False)[1], values)
    assert not np.array_equal(run_plots.middle(curve("a", values))[1], values)


@pytest.mark.parametrize(("values", "drawn"), [([1, 2, 3], True), ([1, 2], False), ([1, 1, 1], False), ([], False)])
def test_a_panel_without_information_is_not_drawn(values, drawn):
    assert run_plots.drawable(Panel("loss", (curve("a", values),))) == drawn


def pictured(path, panels, **options):
    run_plots.curves(panels, path, **options)
    return matplotlib.image.imread(path)[..., :3]


def count(image, colour):
    return int((np.abs(image - np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255).max(-1) < 0.05).sum())


def test_every_run_has_its_colour_in_all_panels(tmp_path):
    blue, orange = run_plots.COLOURS[:2]
    both = [Panel("loss", (curve("a", [1, 2, 3]), curve("b", [3, 2, 1]))), Panel("top1", (curve("b", [1, 2, 4]),))]
    image = pictured(tmp_path / "a.png", both)
    alone = pictured(tmp_path / "b.png", both[:1])
    assert count(image, blue) > 100
    assert count(image, orange) > count(alone, orange) > 100


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e7])
def test_a_tick_says_its_whole_value(tmp_path, monkeypatch, scale):
    """Where matplotlib would write the rest as "+1.23e1" or "1e7" above the axis."""
    told = []

    def tell(axis, *_):
        axis.figure.canvas.draw()
        told.append((axis.yaxis.get_offset_text().get_text(), axis.get_yticks(), axis.get_yticklabels()))

    monkeypatch.setattr(run_plots, "_legend", tell)
    values = scale * (12.3 + np.linspace(0, 1e-3, 9))
    run_plots.curves([Panel("param norm", (curve("training", values),))], tmp_path / "a.svg")
    ((offset, ticks, labels),) = told
    assert offset == ""
    assert [float(label.get_text()) for label in labels] == pytest.approx(ticks.tolist(), rel=1e-6)
    assert len({label.get_text() for label in labels}) == len(ticks) > 2


def test_of_too_many_runs_the_best_have_colours(tmp_path):
    many = tuple(curve(f"run {i}", [i, i + 1, i + 2]) for i in range(run_plots.NAMED + 6))
    run_plots.curves([Panel("loss", many)], tmp_path / "a.svg", front=["run 3", "run 4"])
    image = pictured(tmp_path / "a.png", [Panel("loss", many)], front=["run 3", "run 4"])
    assert count(image, run_plots.COLOURS[0]) > 100
    assert count(image, run_plots.COLOURS[2]) == 0
    assert count(image, "#bfbfbf") > 100


def test_the_last_values_of_seeds_are_drawn_with_their_interval(tmp_path):
    run_plots.final_values({"a": [0.1, 0.2], "US$ x$": [0.9]}, tmp_path / "a.svg", xlabel="val/top1", percent=True)
    assert (tmp_path / "a.svg").stat().st_size > 1000
