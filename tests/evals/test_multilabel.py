"""The evaluator `multilabel` against a plain loop over thresholds."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.data.sources import Info, Source
from jaxvision.errors import UserError
from jaxvision.evals import classify, dataset, multilabel

N, K = 37, 4


class Coded(Source):
    """Images whose first pixels are the logits; the last class never occurs."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.scores = rng.permutation(N * K).reshape(N, K).astype(np.uint8)
        self.true = (rng.random((N, K)) < [0.5, 0.2, 0.9, 0.0]).astype(np.float32)
        self.info = Info("coded", "validation", N, (), K, multi_label=True)

    def __len__(self):
        return N

    def __getitem__(self, i):
        image = np.zeros((2, 2, 3), np.uint8)
        image.reshape(-1)[:K] = self.scores[i]
        return {"image": image, "label": self.true[i]}


class ReadsPixels(NamedTuple):
    def outputs(self, variables, batch):
        return {"logits": variables * batch["image"].reshape(len(batch["image"]), -1)[:, :K]}


def naive_average_precision(scores, positive):
    precisions = [positive[scores >= s].mean() for s in scores[positive]]
    return np.mean(precisions)


@pytest.mark.parametrize("devices", [1, 8])
def test_map_equals_a_plain_loop(mesh, devices):
    source = Coded()
    data = dataset.EvalSet(source, host="decode", augment="", batch_size=16, mesh=mesh(devices))
    result = multilabel.make_multilabel(task=ReadsPixels(), data=data)(jnp.float32(2.0))
    naive = [naive_average_precision(source.scores[:, k], source.true[:, k] > 0) for k in range(3)]
    assert result["map"] == pytest.approx(np.mean(naive))
    logits = 2.0 * source.scores / 255
    loss = np.log1p(np.exp(logits)) - source.true * logits
    assert result["loss"] == pytest.approx(loss.sum(1).mean(), rel=1e-5)
    assert result["examples"] == N
    assert result["classes"] == 3  # the last never occurs


def test_each_evaluator_refuses_the_other_kind_of_set(mesh):
    source = Coded()
    make = lambda: dataset.EvalSet(source, host="decode", augment="", batch_size=8, mesh=mesh(1))
    with pytest.raises(UserError, match="use the evaluator 'multilabel'"):
        classify.make_classify(task=ReadsPixels(), data=make())
    source.info = source.info._replace(multi_label=False)
    with pytest.raises(UserError, match="use the evaluator 'classify'"):
        multilabel.make_multilabel(task=ReadsPixels(), data=make())


def test_equal_scores_share_one_precision():
    first, last = np.arange(20) < 2, np.arange(20) >= 18
    for positive in (first, last):  # by position these would be 1 and 0.08
        assert multilabel.average_precision(np.full(20, 0.3), positive) == pytest.approx(0.1)
    assert multilabel.average_precision(np.array([2.0, 1.0, 1.0, 0.0]), np.array([1, 0, 1, 1]) > 0) == pytest.approx(
        (1 + 2 / 3 + 3 / 4) / 3
    )


def test_scores_that_are_no_numbers_find_nothing():
    positive = np.array([True, True, False])
    assert multilabel.average_precision(np.full(3, np.nan), positive) == 0
    assert multilabel.average_precision(np.array([1.0, np.nan, 0.0]), positive) == 0.5
    assert multilabel.average_precision(np.array([1.0, 0.5, np.nan]), positive) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert multilabel.average_precision(np.array([-np.inf, -np.inf, 0.0]), positive) == pytest.approx(2 / 3)


@pytest.mark.parametrize("levels", [1, 2, 5, 1000])
def test_average_precision_equals_scikit_learns_and_torchmetrics_in_any_order(levels):
    rng = np.random.default_rng(levels)
    scores = rng.integers(0, levels, (60, 5)) / levels
    labels = rng.random((60, 5)) < [0.02, 0.1, 0.3, 0.5, 0.9]
    labels[7] = True
    precisions = [multilabel.average_precision(scores[:, k], labels[:, k]) for k in range(5)]
    for order in (rng.permutation(60), np.argsort(labels[:, 2]), np.argsort(~labels[:, 2])):
        again = [multilabel.average_precision(scores[order, k], labels[order, k]) for k in range(5)]
        np.testing.assert_allclose(again, precisions, rtol=1e-12)
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed (extra visualize)")
    np.testing.assert_allclose(precisions, metrics.average_precision_score(labels, scores, average=None), rtol=1e-12)
    torch = pytest.importorskip("torch", reason="torch is not installed (extra parity)")
    from torchvision_shim import allow_torchvision  # of benchmarks/; torchmetrics imports torchvision

    allow_torchvision()
    torchmetrics = pytest.importorskip(
        "torchmetrics.functional.classification", reason="torchmetrics is not installed (extra parity)"
    )
    theirs = torchmetrics.multilabel_average_precision(
        torch.tensor(scores), torch.tensor(labels.astype(int)), 5, average=None
    )
    np.testing.assert_allclose(precisions, theirs, rtol=1e-5)


def test_a_split_without_labels(mesh):
    source = Coded()
    source.true = np.zeros_like(source.true)
    data = dataset.EvalSet(source, host="decode", augment="", batch_size=8, mesh=mesh(1))
    with pytest.raises(UserError, match="no image of coded validation has a label"):
        multilabel.make_multilabel(task=ReadsPixels(), data=data)(jnp.float32(1.0))
