"""Figures that hold no information are left out by one rule, and the report says so."""

import pytest
from PIL import Image

from jaxvision.analysis import documents
from jaxvision.analysis.gallery import LEAST, NOTHING, WHY, Gallery, informative, informative_panels


@pytest.mark.parametrize(
    ("curves", "drawn"),
    [([], False), ([[]], False), ([{200: [0.1], 5_000: [0.2]}], False), ([{1: [0.1]}, {1: 0, 2: 0, 3: 0}], True)],
)
def test_a_figure_needs_a_curve_of_three_points(curves, drawn, tmp_path):
    gallery = Gallery(tmp_path)
    path = gallery.place("curve", "accuracy against images", "Accuracy over images.", curves)
    assert (path is not None) == drawn == informative(curves)
    [line] = gallery.lines
    if drawn:
        assert path == tmp_path / "figures" / "curve"
        assert line == "![accuracy against images](figures/curve.png)\n*Accuracy over images.*\n"
    else:
        assert line == f"*Not drawn: accuracy against images; {WHY if any(map(len, curves)) else NOTHING}.*\n"
        assert str(LEAST) in WHY


def test_panels_are_left_out_one_by_one():
    panels = {"steps": {"a": [1, 2, 3]}, "batch size": {"a": [1, 2], "b": [1]}}
    assert informative_panels(panels) == {"steps": {"a": [1, 2, 3]}}


def test_figures_may_lie_beside_the_report_and_have_captions_in_the_page(tmp_path):
    gallery = Gallery(tmp_path, folder="")
    path = gallery.place("curve", "what `it` shows", "Dots are seeds.", [[1, 2, 3]])
    Image.new("L", (2, 2)).save(path.with_suffix(".png"))
    page = documents.page("\n".join(gallery.lines), tmp_path, "t")
    assert "<figure><img" in page
    assert "<figcaption>Dots are seeds.</figcaption></figure>" in page.replace("\n", "")
    assert page.count("<p>") == 0
