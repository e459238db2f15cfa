"""What is said of predictions, for few and for many classes, without training."""

import csv
import types

import numpy as np
import pytest
from PIL import Image

from jaxvision.commands import class_page
from jaxvision.errors import UserError
from jaxvision.evals.classify import rank
from jaxvision.evals.predictions import Predictions


class Pictures:
    """A source whose images tell their row."""

    def __getitem__(self, row):
        return {"image": np.full((8, 8, 3), row % 256, np.uint8)}

    def describe(self, row):
        return f"file {row}"


def judgement(logits, labels, names):
    data = types.SimpleNamespace(
        host="none", source=Pictures(), info=types.SimpleNamespace(name="made up", split="validation")
    )
    predictions = Predictions(np.asarray(logits, np.float32), np.asarray(labels), np.arange(len(labels)))
    return class_page.Judgement("val", 7, data, "image", tuple(names), predictions)


def drawn(n, k, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, k)), rng.integers(k, size=n)


def test_many_classes_are_told_by_their_largest_errors(tmp_path):
    logits, labels = drawn(400, 50)
    text = "\n".join(class_page.whole(judgement(logits, labels, [f"class {k}" for k in range(50)]), tmp_path))
    assert "A matrix of 50 classes cannot be read as a figure" in text
    assert not list(tmp_path.glob("confusion.*"))
    assert "the 20 lowest and highest of 50; classes.csv has all" in text
    assert len((tmp_path / "classes.csv").read_text().splitlines()) == 51
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 401


def test_probabilities_and_losses_are_those_of_the_logits():
    logits, labels = drawn(20, 3)
    mine = judgement(logits * 300, labels, "abc").predictions.log_probabilities  # far beyond what exp can hold
    expected = [[x - max(row) - np.log(sum(np.exp(row - max(row)))) for x in row] for row in np.float32(logits * 300)]
    np.testing.assert_allclose(mine, expected, rtol=1e-6, atol=1e-4)


def test_a_class_without_images_and_a_perfect_classifier(tmp_path):
    text = "\n".join(class_page.whole(judgement(np.eye(3)[[0, 0, 1]] * 9, [0, 0, 1], ["a|b", "<i>", "c"]), tmp_path))
    assert "100.00% are right; the mean over classes is 100.00%" in text
    assert "No image is wrong." in text
    assert r"a\|b" in text
    assert "| c |" not in text


def test_nothing_right_leaves_out_the_surest(tmp_path):
    text = "\n".join(class_page.whole(judgement([[1.0, 0.0]] * 3, [1, 1, 1], "ab"), tmp_path))
    assert "surest.png" not in text
    assert not (tmp_path / "surest.png").exists()


def test_the_surest_are_one_of_each_class_in_turn():
    labels = np.array([0, 0, 0, 1, 1, 2])
    right = np.array([True, True, True, True, False, True])
    sure = np.array([0.5, 0.9, 0.8, 0.6, 0.99, 0.7])
    assert class_page._surest(labels, right, sure).tolist() == [1, 5, 3, 2, 0]


def test_the_worst_come_first(tmp_path):
    logits = np.array([[5.0, 0.0], [0.0, 1.0], [9.0, 0.0]])
    class_page.whole(judgement(logits, [0, 0, 1], "ab"), tmp_path)
    with Image.open(tmp_path / "worst.png") as sheet:
        pixels = np.asarray(sheet)
    grey = pixels[26 + class_page.SIDE // 2, 6 + class_page.SIDE // 2]
    assert grey.tolist() == [2, 2, 2]  # row 2: class 1, with nearly no probability


def test_a_run_without_classes_has_no_predictions(monkeypatch, tmp_path):
    monkeypatch.setattr(class_page, "restore", lambda *_: (types.SimpleNamespace(evals=()), None, None))
    with pytest.raises(UserError, match="has no evaluation 'classify'"):
        class_page.judge(tmp_path)


def test_logits_that_are_not_finite_are_judged_as_in_the_results(tmp_path):
    nan, inf = np.nan, np.inf
    rows = [[nan, 0, 0], [nan, nan, nan], [0, nan, 9], [0, inf, 0], [0, -inf, 1], [3, 0, 0], [0, 4, 0], [1, 1, 1]]
    logits, labels = np.float32(rows), np.array([0, 0, 2, 1, 2, 1, 1, 0])
    text = "\n".join(class_page.whole(judgement(logits, labels, "abc"), tmp_path))
    right = np.asarray(rank(logits, labels)) == 0
    assert right.tolist() == [False, False, False, True, True, False, True, True]
    assert "50.00% are right" in text
    assert "The logits of 5 images are not finite. The 3 of these with a logit that is not a number" in text
    assert "| a | not a number | 2 |" in text
    assert "nan" not in text
    with (tmp_path / "predictions.csv").open() as file:
        images = list(csv.DictReader(file))
    assert [one["true"] == one["predicted"] for one in images] == right.tolist()
    with (tmp_path / "classes.csv").open() as file:
        assert [(one["class"], one["images"]) for one in csv.DictReader(file)] == [("a", "3"), ("b", "3"), ("c", "2")]


def test_nothing_but_nan_is_all_wrong_and_shown_first(tmp_path):
    text = "\n".join(class_page.whole(judgement(np.full((3, 2), np.nan), [0, 0, 1], "ab"), tmp_path))
    assert "0.00% are right; the mean over classes is 0.00%. predictions.csv" in text
    logits = np.array([[5.0, 0.0], [0.0, 1.0], [np.nan, 0.0]])
    class_page.whole(judgement(logits, [0, 0, 0], "ab"), tmp_path)
    with Image.open(tmp_path / "worst.png") as sheet:
        assert np.asarray(sheet)[26 + class_page.SIDE // 2, 6 + class_page.SIDE // 2].tolist() == [2, 2, 2]
