"""Maps of features, and nearest neighbours."""

import sys

import numpy as np
import pytest

from jaxvision.analysis import embedding
from jaxvision.errors import UserError

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def groups():
    """Thirty points around each of three far corners in 20 dimensions, and the corner of each."""
    corners = np.repeat(np.arange(3), 30)
    return 10 * np.eye(20)[corners] + rng.normal(size=(90, 20)), corners


@pytest.fixture(scope="module")
def embedded(groups):
    return embedding.embed(groups[0], perplexity=10)


def test_neighbours_are_those_of_a_loop():
    values = rng.normal(size=(12, 5))
    rows, cosines = embedding.nearest(values, [3, 7], k=4)
    for query, of_query, likeness in zip((3, 7), rows, cosines):
        angles = {
            i: values[i] @ values[query] / np.sqrt((values[i] @ values[i]) * (values[query] @ values[query]))
            for i in range(12)
            if i != query
        }
        assert of_query.tolist() == sorted(angles, key=angles.get, reverse=True)[:4]
        np.testing.assert_allclose(likeness, [angles[i] for i in of_query])


def test_pca_is_of_the_covariance(groups, embedded):
    variances, axes = np.linalg.eigh(np.cov(groups[0].T))
    np.testing.assert_allclose(embedded.explained, variances[:-3:-1] / variances.sum(), rtol=1e-6)
    along = (groups[0] - groups[0].mean(0)) @ axes[:, :-3:-1]
    np.testing.assert_allclose(np.abs(embedded.pca), np.abs(along), atol=1e-8)


def test_tsne_keeps_groups_together(groups, embedded):
    distances = np.linalg.norm(embedded.tsne[:, None] - embedded.tsne[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (groups[1][distances.argmin(axis=1)] == groups[1]).all()


@pytest.mark.parametrize(
    ("examples", "perplexity", "message"),
    [(90, 30.0, "needs at least 91 images, not 90: .* at most 29.7"), (90, 0.5, "must be above 1, not 0.5")],
)
def test_a_perplexity_that_does_not_fit(examples, perplexity, message):
    with pytest.raises(UserError, match=message):
        embedding.check(examples, perplexity)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(UserError, match=r"pip install 'jaxvision\[visualize\]'"):
        embedding.check(100, 5.0)


def test_the_figure_names_classes_variance_perplexity_and_seed(embedded, tmp_path):
    points = embedded._replace(explained=np.array([0.5, 0.25]))
    embedding.draw(points, np.arange(90) % 3, ["cat", "dog", "owl"], tmp_path / "few.svg")
    text = (tmp_path / "few.svg").read_text()
    for words in ("cat", "owl", "50.0 %", "25.0 %", "perplexity 10, seed 0"):
        assert words in text
    assert "others" not in text


def test_of_many_classes_some_have_a_colour(embedded, tmp_path):
    embedding.draw(embedded, np.arange(90) % 60, [f"class{k}" for k in range(60)], tmp_path / "many.svg")
    text = (tmp_path / "many.svg").read_text()
    assert sum(f"<!-- class{k} -->" in text for k in range(60)) == embedding.COLOURED
    assert "40 others" in text
    assert "#d9d9d9" in text
