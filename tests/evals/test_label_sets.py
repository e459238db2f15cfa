"""Accuracy where an image has several right answers, or none."""

import json

import numpy as np
import pytest
from coded import Coded, ReadsPixels

from jaxvision.errors import UserError
from jaxvision.evals import dataset
from jaxvision.evals.label_sets import make_label_sets, read_sets, set_accuracy

SETS = [[0, 3], [], [6], [1, 2, 4], [5]] * 4 + [[]]


class Named(Coded):
    def place(self, index):
        return "", f"folder/{index // 2}/IMG_{index}.jpg"

    def describe(self, index):
        return self.place(index)[1]


class Several(Coded):
    """Images with several labels of their own."""

    def __init__(self, n):
        super().__init__(n)
        self.info = self.info._replace(multi_label=True)

    def __getitem__(self, i):
        label = np.zeros(7, np.float32)
        label[SETS[i]] = 1
        return super().__getitem__(i) | {"label": label}


def accuracy(source, mesh, devices=1, **options):
    data = dataset.EvalSet(source, host="decode", augment="", batch_size=8, mesh=mesh(devices))
    return make_label_sets(task=ReadsPixels(7), data=data, **options)({"scale": np.float32(2.0)})


@pytest.mark.parametrize("devices", [1, 8])
def test_a_prediction_in_the_set_counts_and_empty_sets_are_left_out(mesh, tmp_path, devices):
    source, file = Coded(21), tmp_path / "real.json"
    file.write_text(json.dumps(SETS))
    predicted = source.scores.argmax(axis=1)
    right = [k in SETS[i] for i, k in enumerate(predicted) if SETS[i]]
    want = {"top1": np.mean(right), "without_label": 5.0, "examples": 16.0}
    assert accuracy(source, mesh, devices, sets=str(file)) == pytest.approx(want)
    assert accuracy(Several(21), mesh, devices) == pytest.approx(want)


def test_sets_of_one_label_are_the_ordinary_accuracy(mesh, tmp_path):
    source, file = Coded(21), tmp_path / "one.json"
    file.write_text(json.dumps([[int(k)] for k in source.true]))
    top1 = np.mean(source.scores.argmax(axis=1) == source.true)
    assert accuracy(source, mesh, sets=str(file))["top1"] == pytest.approx(top1)


def test_labels_by_the_names_of_files(tmp_path):
    source, file = Named(21), tmp_path / "real.json"
    file.write_text(json.dumps({f"IMG_{i}.jpg": labels for i, labels in reversed(list(enumerate(SETS)))}))
    assert [np.flatnonzero(row).tolist() for row in read_sets(str(file), source, 7)] == SETS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([[0]] * 20, "labels for 20 images, and the split 21"),
        ([[7]] * 21, r"labels of image 0, \[7\], must be a list of numbers below 7"),
        ([3] * 21, "labels of image 0, 3, must be a list"),
        ({"IMG_0.jpg": [0]}, "no labels for 20 of 21 images: IMG_1.jpg"),
    ],
)
def test_files_that_do_not_fit(tmp_path, content, message):
    (tmp_path / "real.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        read_sets(str(tmp_path / "real.json"), Named(21), 7)


def test_nothing_to_judge(mesh):
    with pytest.raises(UserError, match="use the evaluator 'classify', or set 'sets'"):
        accuracy(Coded(5), mesh)
    with pytest.raises(UserError, match="no image has a label"):
        set_accuracy(np.array([0]), np.zeros((1, 3), bool))
    assert set_accuracy(np.array([-1]), np.ones((1, 3), bool))["top1"] == 0.0  # a NaN
