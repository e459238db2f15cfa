"""The figure is drawn from what it is given."""

import matplotlib.image
import numpy as np

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
