"""The figure of PCA and t-SNE."""

import numpy as np
import pytest

from jaxvision.analysis import embedding_plots
from jaxvision.explain.embedding import Embedding


@pytest.fixture(scope="module")
def embedded():
    points = np.random.default_rng(0).normal(size=(2, 90, 2))
    return Embedding(points[0], np.array([0.5, 0.25]), points[1], perplexity=10.0, seed=0)


def test_the_figure_names_classes_variance_perplexity_and_seed(embedded, tmp_path):
    embedding_plots.draw(embedded, np.arange(90) % 3, ["cat", "dog", "owl"], tmp_path / "few.svg")
    text = (tmp_path / "few.svg").read_text()
    for words in ("cat", "owl", "50.0 %", "25.0 %", "perplexity 10, seed 0"):
        assert words in text
    assert "others" not in text


def test_of_many_classes_some_have_a_colour(embedded, tmp_path):
    embedding_plots.draw(embedded, np.arange(90) % 60, [f"class{k}" for k in range(60)], tmp_path / "many.svg")
    text = (tmp_path / "many.svg").read_text()
    assert sum(f"<!-- class{k} -->" in text for k in range(60)) == embedding_plots.COLOURED
    assert "40 others" in text
    assert "#d9d9d9" in text
