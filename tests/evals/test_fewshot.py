"""The evaluator `fewshot` against naive regression, and the images that it draws."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.data.sources import Info, Source
from jaxvision.errors import UserError
from jaxvision.evals import dataset, fewshot

K = 4


class Colours(Source):
    """Images of noise around the colour of their class."""

    def __init__(self, n, seed, classes=K, names=()):
        rng = np.random.default_rng(seed)
        self.true = np.arange(n) % classes
        centers = np.random.default_rng(0).integers(60, 190, (classes, 12))
        noise = rng.normal(0, 40, (n, 12))
        self.images = np.clip(centers[self.true] + noise, 0, 255).astype(np.uint8).reshape(n, 2, 2, 3)
        self.info = Info("colours", "test" if seed else "train", n, names, classes)

    def __len__(self):
        return len(self.true)

    def __getitem__(self, i):
        return {"image": self.images[i], "label": int(self.true[i])}


class Pixels(NamedTuple):
    def outputs(self, variables, batch):
        features = variables * batch["image"].reshape(len(batch["image"]), -1)
        return {"features": features, "stages": (batch["image"],)}


def open_set(source, mesh):
    return dataset.EvalSet(source, host="decode", augment="", batch_size=16, mesh=mesh)


def naive(x, y, x_test, y_test, l2):
    """big_vision's fewshot_lsr, written out: standardise, a column of 100, targets of -1 and 1, eigenvectors."""
    mean, std = x.mean(0), x.std(0) + 1e-5
    widen = lambda a: np.hstack([(a - mean) / std, 100 * np.ones((len(a), 1))])
    a, targets = widen(x), 2.0 * np.eye(K)[y] - 1.0
    values, vectors = np.linalg.eigh(a.T @ a)
    w = vectors @ np.diag(1 / (values + l2)) @ vectors.T @ a.T @ targets
    scores = widen(x_test) @ w
    return scores, np.mean(scores.argmax(1) == y_test)


@pytest.mark.parametrize("devices", [1, 8])
def test_accuracy_of_every_draw_is_that_of_a_naive_regression(mesh, devices):
    train_set, test_set = Colours(80, 0), Colours(61, 1)
    run = fewshot.make_fewshot(
        task=Pixels(),
        data=open_set(test_set, mesh(devices)),
        train=open_set(train_set, mesh(devices)),
        shots=(1, 2, 10),  # fewer examples than features, and more
        draws=2,
    )
    metrics = run(jnp.float32(1.0))
    x, x_test = (s.images.reshape(len(s), -1) / 255.0 for s in (train_set, test_set))
    for shots in (1, 2, 10):
        accuracies = []
        for seed in range(2):
            rng = np.random.default_rng(seed)
            rows = np.concatenate([rng.permutation(np.where(train_set.true == k)[0])[:shots] for k in range(K)])
            accuracies.append(naive(x[rows], train_set.true[rows], x_test, test_set.true, 1024.0)[1])
        name = f"{shots}shot_ridge1024"
        assert [metrics[f"{name}_draw0"], metrics[f"{name}_draw1"]] == pytest.approx(accuracies)
        assert metrics[name] == pytest.approx(np.mean(accuracies))
        assert metrics[f"{name}_sd"] == pytest.approx(np.std(accuracies, ddof=1))
    assert metrics["10shot_ridge1024"] > 0.5  # a quarter by chance
    assert metrics["examples"] == 61


@pytest.mark.parametrize("n", [8, 60])  # fewer examples than the 13 unknowns, and more
@pytest.mark.parametrize("l2", [1e-3, 1024.0])
def test_scores_are_those_of_the_normal_equations(n, l2):
    rng = np.random.default_rng(n)
    x, y, x_test = rng.normal(3, 2, (n, 12)).astype(np.float32), rng.integers(0, K, n), rng.normal(3, 2, (9, 12))
    weights, bias = fewshot.fit_ridge(x, y, K, l2)
    expected, _ = naive(x.astype(np.float64), y, x_test, 0, l2)
    np.testing.assert_allclose(x_test @ weights + bias, expected, rtol=1e-5, atol=1e-6)


def test_a_feature_that_never_varies_changes_nothing():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.integers(0, K, 20)
    weights, bias = fewshot.fit_ridge(x, y, K, 10.0)
    wider, same = fewshot.fit_ridge(np.hstack([x, np.full((20, 1), 7.0)]), y, K, 10.0)
    np.testing.assert_allclose(wider[:3], weights, atol=1e-10)
    np.testing.assert_allclose(same + 7.0 * wider[3], bias, atol=1e-10)


def test_scores_that_are_no_numbers_are_not_right():
    x, labels = np.full((6, 2), np.nan), np.zeros(6, int)
    assert fewshot.accuracy(np.eye(2), np.zeros(2), x, labels) == 0.0
    assert fewshot.accuracy(*fewshot.fit_ridge(x, labels, 2, 1.0), x, labels) == 0.0  # of a model that diverged


def test_draws_are_balanced_nested_and_differ():
    labels = np.random.default_rng(0).integers(0, K, 200)
    by_class = [np.flatnonzero(labels == k) for k in range(K)]
    five, ten = (fewshot.draw_shots(by_class, shots, seed=3) for shots in (5, 10))
    assert np.bincount(labels[five]).tolist() == [5] * K
    assert len(np.unique(ten)) == 10 * K
    assert set(five) < set(ten)
    assert set(ten) != set(fewshot.draw_shots(by_class, 10, seed=4))


def test_only_drawn_images_are_read_for_the_regression(mesh):
    source = Colours(400, 0)
    source.labels = source.true.astype(np.int32)  # known without reading
    read, original = [], Colours.__getitem__
    source_reads = lambda self, i: read.append(int(i)) or original(self, i)
    Reading = type("Reading", (Colours,), {"__getitem__": source_reads})
    source.__class__ = Reading
    run = fewshot.make_fewshot(
        task=Pixels(), data=open_set(Colours(8, 1), mesh(1)), train=open_set(source, mesh(1)), shots=(2,)
    )
    run(jnp.float32(1.0))
    assert len(set(read)) <= 2 * K * 3 + 2  # and the first two, whose shapes are compared


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(shots=(1, 30)), "30 shots: the class 'a' of colours train has 20 examples and 3 other classes"),
        (dict(shots=()), "shots must be"),
        (dict(shots=(0,)), "shots must be"),
        (dict(draws=0), "draws must be"),
        (dict(l2=0), "l2 must be positive"),
    ],
)
def test_options_that_make_no_sense(mesh, options, message):
    sets = [open_set(Colours(80, seed, names=tuple("abcd")), mesh(1)) for seed in (1, 0)]
    with pytest.raises(UserError, match=message):
        fewshot.make_fewshot(task=Pixels(), data=sets[0], train=sets[1], **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(num_classes=None), "names no classes"),
        (dict(multi_label=True), "needs one label"),
        (dict(num_classes=5), "colours train has 5 classes, colours test has 4"),
    ],
)
def test_sets_that_do_not_fit(mesh, change, message):
    source = Colours(80, 0)
    source.info = source.info._replace(**change)
    with pytest.raises(UserError, match=message):
        fewshot.make_fewshot(task=Pixels(), data=open_set(Colours(80, 1), mesh(1)), train=open_set(source, mesh(1)))
