"""Evaluators of one step that read the same split share one forward pass, and their numbers stay the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.data.sources import Info, Source
from jaxvision.evals import class_mean, classify, dataset, fewshot, knn, linear_probe, multilabel, views
from jaxvision.evals import store as stores
from jaxvision.evals.predictions import make_predictions
from jaxvision.evals.store import Store
from jaxvision.parallel.mesh import replicate
from jaxvision.tasks.supervised import make_supervised

CLASSES, N, BATCH = 3, 37, 16
NETWORKS = {
    "resnet": ("resnet", {"variant": "8"}),
    "vit": ("vit", {"variant": "mu/4", "depth": 2}),
    "bfloat16": ("vit", {"variant": "mu/4", "depth": 2, "dtype": jnp.bfloat16}),
}
MAKERS = {
    "classify": lambda task, data, train: classify.make_classify(task=task, data=data),
    "knn": lambda task, data, train: knn.make_knn(task=task, data=data, train=train, k=(5,)),
    "probe": lambda task, data, train: linear_probe.make_linear_probe(
        task=task, data=data, train=train, l2=(0.1,), layers=("stages/0", "features")
    ),
    "means": lambda task, data, train: class_mean.make_class_mean(task=task, data=data, train=train),
    "few": lambda task, data, train: fewshot.make_fewshot(task=task, data=data, train=train, shots=(1,), draws=1),
}


class Noise(Source):
    """Images whose brightness tells of their class."""

    def __init__(self, n=N, multi_label=False):
        rng = np.random.default_rng(n)
        self.true = np.arange(n) % CLASSES
        self.images = (
            rng.integers(0, 128, (n, 8, 8, 3)).astype(np.uint8) + (40 * self.true).astype(np.uint8)[:, None, None, None]
        )
        self.info = Info("noise", "test", n, (), CLASSES, multi_label=multi_label)

    def __len__(self):
        return len(self.true)

    @property
    def labels(self):
        return self.true

    def __getitem__(self, i):
        several = np.eye(CLASSES, dtype=np.float32)[self.true[i]]
        return {"image": self.images[i], "label": several if self.info.multi_label else int(self.true[i])}


class Step:
    """Evaluators that share a store and two splits, as `evaluations.make_evaluations` opens them."""

    def __init__(self, task, mesh, makers=MAKERS, source=None):
        options = dict(host="decode", augment="normalize(0.5, 0.5)", batch_size=BATCH, mesh=mesh)
        self.store = Store()
        self.splits = [
            dataset.EvalSet(one, **options, store=self.store, identity={"split": split})
            for split, one in (("test", source or Noise()), ("train", Noise(29)))
        ]
        self.own = {name: [split.for_evaluator() for split in self.splits] for name in makers}
        self.runs = {name: make(task, *self.own[name]) for name, make in makers.items()}
        for split in (split for splits in self.own.values() for split in splits):
            split.plan()

    def run(self, variables, names=None, announced=True):
        """The results of the evaluators of those names, by name."""
        names = self.runs if names is None else names
        for split in (split for name in names for split in self.own[name] if announced):
            split.expect(variables)
        return {name: self.runs[name](variables) for name in names}


@pytest.fixture
def seen(monkeypatch):
    """The number of examples of each batch that goes through a network."""
    counts = []
    apply = views.averaged_outputs

    def counting(task, variables, batch, *rest):
        jax.debug.callback(lambda mask: counts.append(int(np.sum(mask))), batch["mask"])
        return apply(task, variables, batch, *rest)

    monkeypatch.setattr(views, "averaged_outputs", counting)

    def taken():
        jax.effects_barrier()
        total = sum(counts)
        counts.clear()
        return total

    return taken


def network(name, mesh):
    kind, options = NETWORKS[name]
    task = make_supervised(model=lambda k: models.build(kind, k, **options), num_classes=CLASSES)
    batch = {"image": jnp.zeros((1, 8, 8, 3)), "label": jnp.zeros(1, jnp.int32)}
    return task, replicate(jax.jit(task.init)(jax.random.key(0), batch), mesh)


ALONE = [pytest.param(name, 1, marks=pytest.mark.slow) for name in ("resnet", "vit")]  # pytest -m slow tests/evals


@pytest.mark.parametrize(("name", "devices"), [*ALONE, ("resnet", 8), ("bfloat16", 1)])
def test_one_pass_over_each_split_gives_the_numbers_of_each_evaluator_alone(mesh, seen, name, devices):
    task, variables = network(name, mesh(devices))
    makers = {one: MAKERS[one] for one in ("classify", "knn", "probe")}
    together = Step(task, mesh(devices), makers).run(variables)
    assert seen() == N + 29
    for one, make in makers.items():
        assert Step(task, mesh(devices), {one: make}).run(variables) == {one: together[one]}, one
    assert seen() == N + 2 * (N + 29)


def test_any_order_and_any_company(mesh, seen):
    task, variables = network("vit", mesh(1))
    step = Step(task, mesh(1))
    expected = step.run(variables)
    images = N + 29 + CLASSES  # of the few shots
    assert seen() == images
    copies = [jax.tree.map(jnp.copy, variables) for _ in range(4)]
    assert step.run(copies[0], list(reversed(MAKERS))) == {name: expected[name] for name in reversed(MAKERS)}
    assert seen() == images
    for one, examples in (("classify", N), ("probe", N + 29)):  # as where a run is resumed that stopped between them
        assert step.run(copies[1], [one]) == {one: expected[one]}
        assert seen() == examples
    assert step.run(copies[2], announced=False) == expected
    assert seen() == images + 2 * N + 29  # features are shared, but a layer that is missing takes another pass
    for split in step.splits:
        assert split._passes._apply._cache_size() == 1  # so numbers cannot depend on who is due


def test_alone_nothing_is_kept(mesh):
    task, variables = network("vit", mesh(1))
    step = Step(task, mesh(1))
    step.run(variables, ["classify"])
    assert not step.store._kept
    assert not step.splits[0]._passes._awaited
    step.run(variables)
    assert not any(split._passes._awaited for split in step.splits)


def test_what_memory_cannot_take_is_computed_when_it_is_read(mesh, seen, monkeypatch):
    task, variables = network("vit", mesh(1))
    expected = Step(task, mesh(1)).run(variables)
    seen()
    step = Step(task, mesh(1))
    monkeypatch.setattr(stores, "MEMORY_BYTES", 0)
    assert step.run(variables) == expected
    assert seen() == N + 4 * N + 3 * 29 + CLASSES
    assert not step.store._kept


def test_other_variables_do_not_share(mesh, seen):
    task, variables = network("vit", mesh(1))
    step = Step(task, mesh(1), {one: MAKERS[one] for one in ("classify", "knn")})
    averaged = jax.tree.map(lambda x: x * 0.5, variables)
    expected = [step.run(some) for some in (variables, averaged)]
    seen()
    variables, averaged = (jax.tree.map(jnp.copy, some) for some in (variables, averaged))
    for own, some in (("classify", variables), ("knn", averaged)):
        for split in step.own[own]:
            split.expect(some)
    assert step.runs["classify"](variables) == expected[0]["classify"]
    assert step.runs["knn"](averaged) == expected[1]["knn"]
    assert seen() == N + N + 29


def test_an_evaluation_that_did_not_come_is_forgotten_with_its_variables(mesh):
    task, variables = network("vit", mesh(1))
    step = Step(task, mesh(1), {one: MAKERS[one] for one in ("classify", "knn")})
    renewed = jax.tree.map(jnp.copy, variables)
    for name in ("classify", "knn"):
        for split in step.own[name]:
            split.expect(renewed)
    step.runs["knn"](renewed)
    assert [one.result is not None for one in step.splits[0]._passes._awaited] == [True]  # for `classify`
    del renewed
    step.splits[0].expect(variables)
    assert not step.splits[0]._passes._awaited
    assert not step.store._kept


def test_columns_of_logits_are_shared_too(mesh, seen):
    task, variables = network("vit", mesh(1))
    source = Noise(multi_label=True)
    makers = {
        "labels": lambda task, data, train: multilabel.make_multilabel(task=task, data=data),
        "again": lambda task, data, train: multilabel.make_multilabel(task=task, data=data),
    }
    together = Step(task, mesh(1), makers, source).run(variables)
    assert seen() == N
    assert together["labels"] == together["again"] == Step(task, mesh(1), makers, source).run(variables)["labels"]


def test_predictions_are_the_logits_that_classify_counts(mesh, seen):
    task, variables = network("resnet", mesh(1))
    makers = {
        "classify": MAKERS["classify"],
        "whole": lambda task, data, train: make_predictions(task=task, data=data, variables=variables),
    }
    together = Step(task, mesh(1), makers).run(variables)
    assert seen() == N
    assert np.mean(together["whole"].logits.argmax(1) == together["whole"].labels) == together["classify"]["top1"]
    np.testing.assert_array_equal(together["whole"].rows, np.arange(N))
