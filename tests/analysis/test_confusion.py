"""Counts and scores against naive loops, and the figure against its matrix."""

import matplotlib.image
import numpy as np
import pytest

from jaxvision.analysis import confusion


def drawn(n=300, k=7, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(k - 1, size=n), rng.integers(k, size=n), k  # the last class has no examples


def test_counts_and_scores_are_those_of_loops():
    labels, predicted, k = drawn()
    matrix = confusion.confusion_matrix(labels, predicted, k)
    scores = confusion.class_scores(matrix)
    for i in range(k):
        for j in range(k):
            assert matrix[i, j] == sum((a, b) == (i, j) for a, b in zip(labels, predicted))
        hits = sum(a == b == i for a, b in zip(labels, predicted))
        assert scores.examples[i] == sum(labels == i)
        assert scores.precision[i] == pytest.approx(hits / sum(predicted == i))
        if sum(labels == i):
            recall = hits / sum(labels == i)
            assert scores.recall[i] == pytest.approx(recall)
            assert scores.f1[i] == pytest.approx(2 / (1 / recall + 1 / scores.precision[i]))
        else:
            assert np.isnan(scores.recall[i])


def test_scores_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    labels, predicted, k = drawn()
    scores = confusion.class_scores(confusion.confusion_matrix(labels, predicted, k))
    expected = metrics.precision_recall_fscore_support(labels, predicted, labels=range(k), zero_division=np.nan)
    for mine, theirs in zip(
        (scores.precision[:-1], scores.recall[:-1], scores.f1[:-1], scores.examples[:-1]), expected
    ):
        np.testing.assert_allclose(mine, theirs[:-1])


def test_the_pairs_are_all_errors_and_the_largest_come_first():
    labels, predicted, k = drawn()
    pairs = confusion.confused_pairs(confusion.confusion_matrix(labels, predicted, k), most=1000)
    assert sum(pair.examples for pair in pairs) == sum(labels != predicted)
    assert [pair.examples for pair in pairs] == sorted((pair.examples for pair in pairs), reverse=True)
    assert all(pair.share == pair.examples / sum(labels == pair.true) for pair in pairs)
    assert confusion.confused_pairs(np.eye(3, dtype=int)) == []


@pytest.mark.parametrize("classes", [3, confusion.MOST_CLASSES])
def test_the_figure_is_dark_where_the_matrix_is_large(tmp_path, classes):
    confusion.draw_matrix(np.eye(classes, dtype=int), ["US$ x$", *map(str, range(1, classes))], tmp_path / "a.png")
    image = matplotlib.image.imread(tmp_path / "a.png")[..., :3]
    dark = np.abs(image - np.array([8, 48, 107]) / 255).max(-1) < 0.02  # the end of the colours
    matrix = dark[:, : int(image.shape[1] * 0.8)]  # without the colour bar
    rows, columns = np.nonzero(matrix)
    assert abs(np.corrcoef(rows, columns)[0, 1] - 1) < 0.15  # the diagonal, in blocks
