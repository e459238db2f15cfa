"""Principal components, t-SNE with its perplexity, and nearest neighbours."""

import sys

import numpy as np
import pytest

from jaxvision.errors import UserError
from jaxvision.explain import embedding

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def groups():
    """Thirty points around each of three far corners in 20 dimensions, and the corner of each."""
    corners = np.repeat(np.arange(3), 30)
    return 10 * np.eye(20)[corners] + rng.normal(size=(90, 20)), corners


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


@pytest.mark.parametrize("shape", [(90, 20), (12, 40)], ids=["tall", "wide"])
def test_principal_components_are_orthonormal_with_the_eigenvalues_as_variances(shape):
    values = rng.normal(size=shape) * np.linspace(1, 3, shape[1]) + 5
    found = embedding.principal_components(values, 6)
    np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(6), atol=1e-12)
    eigenvalues, axes = np.linalg.eigh(np.cov(values.T))
    np.testing.assert_allclose(found.variances, eigenvalues[:-7:-1])
    np.testing.assert_allclose(found.points.var(axis=0, ddof=1), eigenvalues[:-7:-1])
    np.testing.assert_allclose(found.explained, eigenvalues[:-7:-1] / eigenvalues.sum())
    np.testing.assert_allclose(np.abs((found.directions * axes[:, :-7:-1].T).sum(axis=1)), 1)
    np.testing.assert_allclose(found.points, (values - values.mean(axis=0)) @ found.directions.T)


def test_all_principal_components_keep_the_examples(groups):
    values = groups[0]
    found = embedding.principal_components(values, 20)
    np.testing.assert_allclose(found.points @ found.directions + values.mean(axis=0), values, atol=1e-12)
    assert found.explained.sum() == pytest.approx(1)


def test_principal_components_are_those_of_scikit_learn(groups):
    decomposition = pytest.importorskip("sklearn.decomposition")
    theirs = decomposition.PCA(4, svd_solver="full").fit(groups[0])
    found = embedding.principal_components(groups[0], 4)
    np.testing.assert_allclose(found.directions, theirs.components_, atol=1e-10)
    np.testing.assert_allclose(found.explained, theirs.explained_variance_ratio_)


def test_tsne_keeps_groups_together_and_its_divergence_falls(groups):
    pytest.importorskip("sklearn")
    values = embedding.principal_components(groups[0], embedding.KEPT).points
    _, early = embedding.tsne(values, perplexity=10, steps=300)
    points, late = embedding.tsne(values, perplexity=10)
    assert 0 < late < early
    assert right_neighbours(points, groups[1]) == 1


def right_neighbours(points, labels):
    """The share of the points whose nearest neighbour has the same label."""
    distances = np.square(points[:, None] - points[None]).sum(axis=-1)
    np.fill_diagonal(distances, np.inf)
    return np.mean(labels[distances.argmin(axis=1)] == labels)


@pytest.mark.parametrize("perplexity", [5.0, 29.0])
def test_the_neighbours_of_each_image_have_the_asked_perplexity(groups, perplexity):
    """In the search that t-SNE of scikit-learn calls, over as many neighbours as it takes."""
    search = pytest.importorskip("sklearn.manifold._utils")._binary_search_perplexity
    distances = np.square(groups[0][:, None] - groups[0][None]).sum(axis=-1)
    near = np.sort(distances, axis=1)[:, 1 : 1 + int(3 * perplexity + 1)].astype(np.float32)
    rows = search(near, perplexity, 0)
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
    entropies = -(rows * np.log2(np.maximum(rows, 1e-300))).sum(axis=1)
    np.testing.assert_allclose(2**entropies, perplexity, atol=1e-3)


@pytest.mark.slow  # a minute: pytest -m slow tests/explain/test_embedding.py
def test_of_the_neighbours_of_digits_in_the_plane_95_in_100_are_right():
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    found = embedding.embed(digits.data)
    assert right_neighbours(found.tsne, digits.target) > 0.95
    assert right_neighbours(found.pca, digits.target) < 0.8  # a plane of PCA is not enough


@pytest.mark.parametrize(
    ("examples", "perplexity", "message"),
    [
        (90, 30.0, "needs at least 91 images, not 90: .*--examples.* at most 29.6"),
        (4, 30.0, r"needs at least 91 images, not 4: take more of them \(--examples\)$"),
        (90, 0.5, "must be above 1, not 0.5"),
    ],
)
def test_a_perplexity_that_does_not_fit(examples, perplexity, message):
    with pytest.raises(UserError, match=message):
        embedding.check(examples, perplexity)


def test_the_largest_perplexity_that_a_message_names_is_accepted():
    pytest.importorskip("sklearn")
    for examples in range(90, 60, -1):
        said = embedding.obstacle(examples, 30.0, "--examples")
        embedding.check(examples, float(said.split()[-1]))


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(UserError, match=r"pip install 'jaxvision\[visualize\]'"):
        embedding.check(100, 5.0)
