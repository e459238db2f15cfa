"""Figures of a search, looked at through the lines that they draw."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection

from jaxvision.analysis import sweep_plots
from jaxvision.analysis.sweep_plots import Parameter, parallel_coordinates, running_best, slices

PARAMETERS = [
    Parameter("optimizer.learning_rate", [1e-4, 1e-2, 1.0], log=True),
    Parameter("optimizer.name", ["sgd", "adamw", "sgd"], categories=["sgd", "adamw", "lion"]),
    Parameter("optimizer.momentum", [0.5, None, 0.9]),
]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    yield figures
    monkeypatch.undo()
    plt.close("all")


def test_lines_cross_the_axes_at_their_values(tmp_path, drawn):
    parallel_coordinates(PARAMETERS, [0.2, 0.6, 0.4], tmp_path / "p", objective="val/top1", maximize=True)
    [lines] = [c for c in drawn[0].axes[0].collections if isinstance(c, LineCollection)]
    heights = [segment[:, 1].tolist() for segment in lines.get_segments()]
    assert heights == [
        pytest.approx([0, 0, 0, 0]),
        pytest.approx([1, 0, 1, 0.5]),
        pytest.approx([0.5, 0.5, sweep_plots._INACTIVE, 1]),
    ]
    assert list(lines.get_linewidths()) == sorted(lines.get_linewidths())


def test_the_lowest_value_is_the_best_where_it_is_wanted(tmp_path, drawn):
    parallel_coordinates(PARAMETERS, [0.2, 0.6, 0.4], tmp_path / "p", objective="val/loss", maximize=False)
    [lines] = [c for c in drawn[0].axes[0].collections if isinstance(c, LineCollection)]
    assert lines.get_segments()[-1][:, 1] == pytest.approx([0, 0, 0, 0])


def test_a_slice_shows_every_seed_and_the_mean(tmp_path, drawn):
    slices(PARAMETERS, [[0.1, 0.3], [0.5, 0.7], [0.4, 0.4]], tmp_path / "s", objective="val/top1")
    rate, name, momentum = drawn[0].axes
    assert (rate.get_xscale(), momentum.get_xscale()) == ("log", "linear")
    *dots, means = rate.lines
    assert sorted(y for line in dots for y in line.get_ydata()) == [0.1, 0.3, 0.4, 0.4, 0.5, 0.7]
    assert means.get_ydata() == pytest.approx([0.2, 0.6, 0.4])
    assert [t.get_text() for t in name.get_xticklabels()] == ["sgd", "adamw", "lion"]
    assert list(momentum.lines[-1].get_xdata()) == [0.5, 0.9]


@pytest.mark.parametrize(("maximize", "want"), [(True, [1, 1, 3, 3]), (False, [1, 1, 1, 0])])
def test_the_best_so_far_passes_over_trials_without_a_value(tmp_path, drawn, maximize, want):
    running_best([1, np.nan, 3, 0], tmp_path / "b", objective="x", maximize=maximize)
    assert list(drawn[0].axes[0].lines[1].get_ydata()) == want


def test_both_formats_are_written(tmp_path):
    running_best([1.0, 2.0], tmp_path / "best", objective="x", maximize=True)
    assert "<svg" in (tmp_path / "best.svg").read_text()
    assert (tmp_path / "best.png").read_bytes().startswith(b"\x89PNG")


def test_constant_values_can_be_drawn(tmp_path):
    same = [Parameter("a", [0.1, 0.1], log=True), Parameter("b", ["x", "x"])]
    parallel_coordinates(same, [0.5, 0.5], tmp_path / "p", objective="x", maximize=True)
    slices(same, [[0.5], [0.5]], tmp_path / "s", objective="x")
