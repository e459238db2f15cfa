"""The figure is drawn from what it is given."""

import matplotlib.image
import numpy as np
import pytest

from jaxvision.analysis import plots


def test_curves_reach_the_picture(tmp_path):
    low, high = ({"a": {100: [v, v + 0.02], 1000: [v + 0.1, v + 0.12]}} for v in (0.2, 0.6))
    plots.data_curves(low, tmp_path / "low.png", ylabel="top-1 (%)", chance=0.1)
    plots.data_curves(low | {"b": high["a"]}, tmp_path / "both.png", ylabel="top-1 (%)", chance=0.1)
    plots.data_curves(low, tmp_path / "curve.svg", ylabel="top-1 (%)")
    one, two = (matplotlib.image.imread(tmp_path / f"{n}.png")[..., :3] for n in ("low", "both"))
    orange = np.array([0xD5, 0x5E, 0x00]) / 255
    count = lambda image: int((np.abs(image - orange).max(-1) < 0.05).sum())
    assert count(one) == 0
    assert count(two) > 50
    assert "<svg" in (tmp_path / "curve.svg").read_text()


def test_histogram_bars_are_as_long_as_their_counts(tmp_path):
    plots.histogram({"cat": 10, "dog": 5, "owl": 0}, tmp_path / "classes.png", xlabel="examples")
    image = matplotlib.image.imread(tmp_path / "classes.png")[..., :3]
    blue = np.abs(image - np.array([0x00, 0x72, 0xB2]) / 255).max(-1) < 0.05
    lengths = sorted({int(n) for n in blue.sum(axis=1)} - {0})
    assert 1.9 < lengths[-1] / lengths[0] < 2.1


def test_a_histogram_of_many_classes_is_sorted_and_unnamed(tmp_path):
    plots.histogram({str(k): k % 7 + 1 for k in range(200)}, tmp_path / "many.svg", xlabel="examples")
    assert "200 classes, by falling count" in (tmp_path / "many.svg").read_text()


@pytest.mark.parametrize("name", ["$\\frac$", "a$b", "US$ x$", "$", "\\$", "x" * 5000, "a\nb", "_^{", "\\alpha$\\x"])
def test_a_name_is_no_formula(tmp_path, name):
    plots.histogram({name: 1, "b": 2}, tmp_path / "a.svg", xlabel="n", title=name)
    assert (tmp_path / "a.svg").stat().st_size < 200_000
