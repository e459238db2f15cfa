"""The evaluator against plain NumPy, on sizes that do not divide and on several devices."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.data.sources import Info, Source
from jaxvision.errors import UserError
from jaxvision.evals import classify, dataset, get_evaluator


class Coded(Source):
    """Images whose first pixels are the logits and whose label is known: the right answers are plain."""

    def __init__(self, n, k=7):
        rng = np.random.default_rng(n)
        self.scores = rng.integers(0, 256, (n, k)).astype(np.uint8)
        self.true = rng.integers(0, k, n)
        self.info = Info("coded", "validation", n, (), k)

    def __len__(self):
        return len(self.true)

    def __getitem__(self, i):
        image = np.zeros((3, 3, 3), np.uint8)
        image.reshape(-1)[: self.scores.shape[1]] = self.scores[i]
        return {"image": image, "label": int(self.true[i])}


class ReadsPixels(NamedTuple):
    """A task whose logits are the first pixels."""

    k: int

    def outputs(self, variables, batch):
        return {"logits": variables["scale"] * batch["image"].reshape(len(batch["image"]), -1)[:, : self.k]}


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("n", [5, 16, 37])
def test_every_example_counts_once(mesh, devices, n):
    source = Coded(n)
    data = dataset.EvalSet(source, host="decode", augment="", batch_size=16, mesh=mesh(devices))
    run = classify.make_classify(task=ReadsPixels(7), data=data, topk=(1, 3, 50))
    for _ in range(2):  # the second time from what stayed on the devices
        result = run({"scale": jnp.float32(3.0)})
        logits = source.scores / 255 * 3.0
        order = np.argsort(-logits, axis=1, kind="stable")
        ranks = np.argmax(order == source.true[:, None], axis=1)
        exp = np.exp(logits)
        loss = -np.log(exp[np.arange(n), source.true] / exp.sum(1))
        want = {"top1": np.mean(ranks < 1), "top3": np.mean(ranks < 3), "loss": loss.mean(), "examples": n}
        assert result.keys() == want.keys()  # 50 classes are more than there are: no top50
        for name, value in want.items():
            assert result[name] == pytest.approx(value, rel=1e-5), name


def test_constant_and_broken_logits_are_not_right():
    labels = jnp.array([0, 1, 2])
    assert classify.rank(jnp.zeros((3, 3)), labels).tolist() == [0, 1, 2]
    assert classify.rank(jnp.full((3, 3), jnp.nan), labels).tolist() == [3, 3, 3]
    assert classify.rank(jnp.array([[jnp.nan, 1.0, 9.0]] * 3), labels).tolist() == [3, 3, 3]


def test_a_set_without_classes(mesh):
    source = Coded(5)
    source.info = source.info._replace(num_classes=None)
    data = dataset.EvalSet(source, host="decode", augment="", batch_size=8, mesh=mesh(1))
    with pytest.raises(UserError, match="names no classes"):
        classify.make_classify(task=ReadsPixels(7), data=data)


def test_unknown_evaluator():
    with pytest.raises(UserError, match="did you mean 'classify'"):
        get_evaluator("clasify")
