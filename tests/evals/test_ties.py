"""Metrics where scores are equal: none depends on the order of the examples judged, or of classes, but as it says."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.data.sources import Info, Source
from jaxvision.evals import class_mean, classify, dataset, fewshot, knn, linear_probe, multilabel, sgd_probe
from jaxvision.losses import contrastive, image_text

K, N = 3, 30
ONE_HOT = np.eye(K, dtype=np.uint8) * 255


class Same(Source):
    """Images that are all alike, or of few kinds, in a given order; their classes have 15, 9 and 6."""

    def __init__(self, order, split, kinds=1, multi_label=False):
        labels = np.repeat(np.arange(K), [15, 9, 6])
        self.true = labels[order]
        self.kind = (np.arange(N) % kinds)[order]
        self.info = Info("same", split, N, (), K, multi_label=multi_label)

    def __len__(self):
        return N

    def __getitem__(self, i):
        image = np.full((2, 2, 3), 100, np.uint8)
        image[0, 0] += np.uint8(20 * self.kind[i])
        label = np.eye(K, dtype=np.float32)[self.true[i]] if self.info.multi_label else int(self.true[i])
        return {"image": image, "label": label}


class Flat(NamedTuple):
    """Features are the pixels, logits are all equal."""

    def outputs(self, variables, batch):
        flat = variables * batch["image"].reshape(len(batch["image"]), -1)
        return {"features": flat, "logits": jnp.zeros((len(flat), K)) * variables}


def orders():
    rng = np.random.default_rng(0)
    return [np.arange(N), np.arange(N)[::-1], rng.permutation(N), rng.permutation(N)]


def open_set(source, mesh):
    return dataset.EvalSet(source, host="decode", augment="", batch_size=8, mesh=mesh)


def runs(mesh, factory, kinds=1, **options):
    """The results with the judged examples in several orders."""
    train = open_set(Same(np.arange(N), "train", kinds), mesh)
    for order in orders():
        data = open_set(Same(order, "test", kinds), mesh)
        yield factory(task=Flat(), data=data, train=train, **options)(jnp.float32(1.0))


def test_constant_logits_are_the_first_class_in_any_order(mesh):
    for order in orders():
        metrics = classify.make_classify(task=Flat(), data=open_set(Same(order, "test"), mesh(1)), topk=(1, 2))(
            jnp.float32(1.0)
        )
        assert (metrics["top1"], metrics["top2"]) == pytest.approx((15 / N, 24 / N))
        broken = classify.make_classify(task=Flat(), data=open_set(Same(order, "test"), mesh(1)))(jnp.float32(jnp.nan))
        assert broken["top1"] == 0


def test_constant_logits_have_the_average_precision_of_guessing(mesh):
    for order in orders():
        data = open_set(Same(order, "test", multi_label=True), mesh(1))
        assert multilabel.make_multilabel(task=Flat(), data=data)(jnp.float32(1.0))["map"] == pytest.approx(1 / K)


@pytest.mark.parametrize(
    ("factory", "options"),
    [
        (knn.make_knn, dict(k=(1, 7))),
        (class_mean.make_class_mean, {}),
        (fewshot.make_fewshot, dict(shots=(2,), draws=1)),
        (linear_probe.make_linear_probe, dict(l2=(1e-3, 1.0))),
        (sgd_probe.make_sgd_probe, dict(epochs=2, train_batch_size=8)),
    ],
    ids=lambda value: getattr(value, "__name__", "").removeprefix("make_"),
)
@pytest.mark.parametrize("kinds", [1, 2])
def test_the_order_of_the_images_judged_plays_no_part(mesh, factory, options, kinds):
    first, *others = runs(mesh(1), factory, kinds, **options)
    for other in others:
        assert other == pytest.approx(first, rel=1e-5)


def test_images_alike_are_of_the_class_that_the_protocol_says(mesh):
    metrics = next(runs(mesh(1), class_mean.make_class_mean))
    assert metrics["class_mean/top1"] == 15 / N  # the first class
    assert metrics["class_mean/map"] == pytest.approx(1 / K)  # guessing
    assert next(runs(mesh(1), fewshot.make_fewshot, shots=(2,), draws=1))["2shot_ridge1024"] == 15 / N
    metrics = next(runs(mesh(1), linear_probe.make_linear_probe, l2=(1e-3, 1.0, 10.0)))
    assert metrics["probe_lbfgs/l2"] == 10.0  # of equal accuracies the largest
    assert metrics["probe_lbfgs/top1"] == 15 / N  # the most frequent class


@pytest.mark.parametrize("devices", [1, 8])
def test_of_equal_neighbours_the_earlier_in_the_set_votes(mesh, devices):
    for order in orders():
        train = Same(order, "train")
        sets = dict(data=open_set(Same(np.arange(N), "test"), mesh(devices)), train=open_set(train, mesh(devices)))
        metrics = knn.make_knn(task=Flat(), **sets, k=(1, N), chunk=4)(jnp.float32(1.0))
        assert metrics["knn1_t0.07/top1"] == pytest.approx(
            np.mean(np.repeat(np.arange(K), [15, 9, 6]) == train.true[0])
        )
        assert metrics[f"knn{N}_t0.07/top1"] == 15 / N  # all vote: no place plays a part


def test_the_contrastive_accuracy_of_embeddings_that_are_all_equal_is_none():
    for z in (jnp.ones((4, 2, 3)), jnp.full((4, 2, 3), jnp.nan)):
        np.testing.assert_array_equal(contrastive.nt_xent(z)[1], 0)
        np.testing.assert_array_equal(contrastive.supervised_contrastive(z, jnp.array([0, 1, 0, 1]))[1], 0)
    for loss in (image_text.softmax, image_text.sigmoid):
        for x in (jnp.ones((4, 3)), jnp.full((4, 3), jnp.nan)):
            np.testing.assert_array_equal(loss(x, x, 1.0)[1], 0)


def test_a_view_as_near_to_another_image_as_to_its_own_is_not_right_wherever_it_stands():
    z = jnp.array([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [-1.0, 0.0]]])
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        correct = contrastive.nt_xent(z[jnp.array(order)])[1]
        np.testing.assert_array_equal(correct[jnp.argsort(jnp.array(order))], [[0, 0], [0, 0], [1, 1]])
