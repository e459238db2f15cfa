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
    data = dataset.make(source, host="decode", augment="", batch_size=16, mesh=mesh(devices))
    result = multilabel.make(task=ReadsPixels(), data=data)(jnp.float32(2.0))
    naive = [naive_average_precision(source.scores[:, k], source.true[:, k] > 0) for k in range(3)]
    assert result["map"] == pytest.approx(np.mean(naive))
    logits = 2.0 * source.scores / 255
    loss = np.log1p(np.exp(logits)) - source.true * logits
    assert result["loss"] == pytest.approx(loss.sum(1).mean(), rel=1e-5)
    assert result["examples"] == N


def test_each_evaluator_refuses_the_other_kind_of_set(mesh):
    source = Coded()
    make = lambda: dataset.make(source, host="decode", augment="", batch_size=8, mesh=mesh(1))
    with pytest.raises(UserError, match="use the evaluator 'multilabel'"):
        classify.make(task=ReadsPixels(), data=make())
    source.info = source.info._replace(multi_label=False)
    with pytest.raises(UserError, match="use the evaluator 'classify'"):
        multilabel.make(task=ReadsPixels(), data=make())
