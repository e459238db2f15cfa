"""The evaluator `class_mean` against loops over classes and thresholds."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.data.sources import Info, Source
from jaxvision.errors import UserError
from jaxvision.evals import class_mean, dataset

K = 6


class Blobs(Source):
    """Images of 12 numbers around the center of their class; the last class occurs in training only."""

    def __init__(self, n, seed, names=()):
        rng = np.random.default_rng(seed)
        centers = np.random.default_rng(0).integers(40, 210, (K, 12))
        self.true = np.arange(n) % (K - bool(seed))
        self.images = np.clip(centers[self.true] + rng.normal(0, 60, (n, 12)), 0, 255).astype(np.uint8)
        self.info = Info("blobs", "test" if seed else "train", n, names, K)

    def __len__(self):
        return len(self.true)

    def __getitem__(self, i):
        return {"image": self.images[i].reshape(2, 2, 3), "label": int(self.true[i])}


class Pixels(NamedTuple):
    def outputs(self, variables, batch):
        flat = variables * batch["image"].reshape(len(batch["image"]), -1)
        return {"features": flat, "stages": (flat[:, :7],)}


def open_set(source, mesh):
    return dataset.EvalSet(source, host="decode", augment="", batch_size=16, mesh=mesh)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize(
    ("layer", "width", "name"), [("features", 12, "class_mean"), ("stages/0", 7, "class_mean_stages.0")]
)
def test_classification_and_search_are_those_of_plain_loops(mesh, devices, layer, width, name):
    train, test = Blobs(50, 0), Blobs(37, 1)
    sets = dict(data=open_set(test, mesh(devices)), train=open_set(train, mesh(devices)))
    metrics = class_mean.make_class_mean(task=Pixels(), **sets, layer=layer)(jnp.float32(2.0))
    direction = lambda v: v / np.linalg.norm(v)
    x, queries = ([direction(v[:width] / 255) for v in s.images] for s in (train, test))
    means = [direction(np.mean([v for v, y in zip(x, train.true) if y == k], axis=0)) for k in range(K)]
    cosines = np.array([[q @ m for m in means] for q in queries])
    precisions = []
    for k in range(K - 1):  # the classes that are to be found
        scores, positive = cosines[:, k], test.true == k
        precisions.append(np.mean([positive[scores >= s].mean() for s in scores[positive]]))
    ranked = np.argsort(-cosines, axis=1)
    expected = {
        f"{name}/top1": np.mean(ranked[:, 0] == test.true),
        f"{name}/top5": np.mean((ranked[:, :5] == test.true[:, None]).any(1)),
        f"{name}/map": np.mean(precisions),
        "examples": 37,
    }
    assert metrics == pytest.approx(expected, rel=1e-5)
    assert 0.4 < expected[f"{name}/map"] < 1


def test_a_class_without_a_mean(mesh):
    train = Blobs(5, 0, names=tuple("abcdef"))
    with pytest.raises(UserError, match="blobs train has no image of the class 'f'"):
        class_mean.make_class_mean(task=Pixels(), data=open_set(Blobs(37, 1), mesh(1)), train=open_set(train, mesh(1)))


def test_features_of_zeros_are_no_error(mesh):
    sets = dict(data=open_set(Blobs(12, 1), mesh(1)), train=open_set(Blobs(50, 0), mesh(1)))
    metrics = class_mean.make_class_mean(task=Pixels(), **sets)(jnp.float32(0.0))
    assert metrics["class_mean/top1"] == pytest.approx(np.mean(Blobs(12, 1).true == 0))  # all equal: the first class
