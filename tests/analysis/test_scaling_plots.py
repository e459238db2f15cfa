"""Figures of a study are drawn from what they are given, in both formats, the same each time."""

import contextlib

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes

from jaxvision.analysis import plots, scaling_plots
from jaxvision.analysis.crossing import crossing
from jaxvision.analysis.scaling_laws import evaluate, fit
from jaxvision.analysis.statistics import Interval

SIZES = (400, 2_000, 10_000, 45_000)
NOISE = np.array([-0.006, 0.001, 0.005])
ARMS = {
    arm: {n: (v + sign * np.roll(NOISE, i)).tolist() for i, (n, v) in enumerate(zip(SIZES, evaluate(law, SIZES)))}
    for arm, sign, law in (("ResNet", 1, np.array([2.2, 0, 0.25, 0.2])), ("ViT", -1, np.array([4.0, 0, 0.3, 0.15])))
}


def ink(path, colour):
    """Pixels of the picture in this colour."""
    picture = matplotlib.image.imread(path.with_suffix(".png"))[..., :3]
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return int((np.abs(picture - wanted).max(-1) < 0.05).sum())


def rows(level, steps=(0, 100, 200)):
    return [{"step": step, "val/top1": level * step / 200} for step in steps] + [{"step": 150, "loss": 1.0}]


FIGURES = {
    "accuracy_and_error": lambda path: scaling_plots.accuracy_and_error(
        ARMS, path, fits={arm: fit(curve, resamples=50) for arm, curve in ARMS.items()}
    ),
    "accuracy_and_gaps": lambda path: scaling_plots.accuracy_and_gaps(
        ARMS, {"gap": {n: Interval(0.1, 0.05, 0.15, 3) for n in next(iter(ARMS.values()))}}, path, chance=0.1
    ),
    "against_compute": lambda path: scaling_plots.against_compute(
        {n: {arm: [(4e16, curve[45_000]), (1e16, curve[10_000])] for arm, curve in ARMS.items()} for n in "ab"}, path
    ),
    "gap": lambda path: scaling_plots.gap(crossing(*ARMS.values(), resamples=50), path, ("ResNet", "ViT")),
    "residuals": lambda path: scaling_plots.residuals(
        {arm: fit(curve, "power", resamples=50) for arm, curve in ARMS.items()}, path
    ),
    "learning_curves": lambda path: scaling_plots.learning_curves(
        {arm: {n: [rows(1 - v) for v in values] for n, values in curve.items()} for arm, curve in ARMS.items()}, path
    ),
    "few_shot": lambda path: scaling_plots.few_shot({arm: {1: c, 5: c} for arm, c in ARMS.items()}, path, chance=0.1),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_written_in_both_formats_and_are_the_same_again(name, tmp_path):
    for stem in ("one", "two"):
        FIGURES[name](tmp_path / stem)
    picture = matplotlib.image.imread(tmp_path / "one.png")
    assert picture.shape[1] >= 1_200  # 6 inches at 200 dots
    assert picture[..., :3].min() < 0.2
    svg = (tmp_path / "one.svg").read_text()
    assert "<text" not in svg  # words are paths
    for kind in ("svg", "png"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()


@pytest.mark.parametrize("name", ["accuracy_and_error", "against_compute", "residuals", "few_shot"])
def test_every_arm_has_its_colour(name, tmp_path):
    FIGURES[name](tmp_path / "figure")
    assert ink(tmp_path / "figure", plots.COLOURS[0]) > 100
    assert ink(tmp_path / "figure", plots.COLOURS[1]) > 100


def test_fits_reach_beyond_the_sizes(tmp_path):
    """The longer they are extended, the further left the rest of the picture moves."""
    fits = {arm: fit(curve, resamples=50) for arm, curve in ARMS.items()}
    for name, extend in (("near", 1.01), ("far", 1_000)):
        scaling_plots.accuracy_and_error(ARMS, tmp_path / name, fits=fits, extend=extend)
    pictures = (matplotlib.image.imread(tmp_path / f"{name}.png")[..., :3] for name in ("near", "far"))
    near, far = (np.abs(picture - [0xD5 / 255, 0x5E / 255, 0]).max(-1) < 0.05 for picture in pictures)
    half = near.shape[1] // 2
    solid = lambda ink: ink[:, half:].sum(0)  # of the right panel, per column: markers and lines
    assert solid(near)[-half // 3 :].max() > solid(far)[-half // 3 :].max()  # no marker there any more


def test_a_crossing_is_marked_only_where_it_was_seen(tmp_path):
    scaling_plots.gap(crossing(*ARMS.values()), tmp_path / "crosses", ("ResNet", "ViT"))
    behind = {n: [v + 0.1 for v in values] for n, values in ARMS["ResNet"].items()}
    scaling_plots.gap(crossing(ARMS["ResNet"], behind), tmp_path / "apart", ("ResNet", "behind"))
    assert ink(tmp_path / "crosses", plots.COLOURS[2]) > 100
    assert ink(tmp_path / "apart", plots.COLOURS[2]) == 0


def test_rows_without_the_metric_are_passed_over_and_steps_are_those_of_all_seeds(tmp_path, monkeypatch):
    seeds = [rows(0.5), rows(0.6, steps=(0, 200))]
    drawn, plot = [], Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda *args, **look: drawn.append([*map(list, args[1:])]) or plot(*args, **look))
    scaling_plots.learning_curves({"ResNet": {400: seeds}}, tmp_path / "learning")
    assert drawn[-1] == [[0, 200], pytest.approx([0, 55])]  # the mean of the seeds, in per cent


@pytest.fixture
def panels(monkeypatch):
    """The axes of the figures that a test draws."""
    drawn = []
    canvas = scaling_plots.canvas

    @contextlib.contextmanager
    def remembered(*args, **options):
        with canvas(*args, **options) as axes:
            yield axes
            drawn.extend(np.atleast_1d(axes).flat)

    monkeypatch.setattr(scaling_plots, "canvas", remembered)
    return drawn


def labels(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_the_legend_has_the_sizes_that_the_last_arm_lacks(panels, tmp_path):
    curves = {"ViT": (400, 2_000, 45_000), "ResNet": (400, 45_000)}
    scaling_plots.learning_curves(
        {arm: {n: [rows(1 / n), rows(2 / n)] for n in sizes} for arm, sizes in curves.items()}, tmp_path / "x.svg"
    )
    assert labels(panels[-1]) == ["400", "2,000", "45,000"]


def test_an_arm_keeps_its_colour_where_another_is_missing(panels, tmp_path):
    pairs = [(1e15, [0.4, 0.5]), (2e15, [0.3, 0.4])]
    scaling_plots.against_compute({"400": {"ViT": pairs}, "2,000": {"BiT": pairs, "ViT": pairs}}, tmp_path / "x.svg")
    colours = [dict(zip(*axis.get_legend_handles_labels()[::-1])) for axis in panels]
    of_vit = {panel["ViT"].lines[0].get_color() for panel in colours}
    assert len(of_vit) == 1
    assert colours[1]["BiT"].lines[0].get_color() not in of_vit
    assert labels(panels[0]) == ["ViT", "BiT"]
