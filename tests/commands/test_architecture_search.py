"""experiments/architecture_search: its tables and sweeps, what its analysis says of rows that are made up."""

import json

import jax
import numpy as np
import pytest
from made_up_runs import judged

from jaxvision import models
from jaxvision.commands import study
from jaxvision.errors import UserError
from jaxvision.sweep import spec
from jaxvision.sweep.categorical import reinforce


@pytest.fixture(scope="module")
def this():
    return study.load_study("architecture_search")


@pytest.fixture(scope="module")
def net(this):
    return study.sibling(this.__file__, "supernet")


@pytest.fixture(scope="module")
def shared(this):
    return study.sibling(this.__file__, "shared_weights")


def rows(this, value):
    """A row for each network: `value(row)` on validation, and the same less one percent on test."""
    return [row | {"val/top1": value(row), "test/top1": value(row) - 0.01} for row in this.published("laptop")]


def test_the_table_has_every_architecture_with_every_seed(this):
    table = this.published("laptop")
    assert len({(row["seed"], row["number"]) for row in table}) == len(table) == 64 * 5
    for row in table:
        assert {f"model.{key}": row[key] for key in ("layer0", "layer1", "layer2")} == this.POINTS[row["number"]]
        assert 0 < row["val/top1"] < 1
    assert len(this.tables(table)) == 5


def test_a_line_of_the_table_is_that_of_its_architecture(this, net):
    tabulate, draws = study.sibling(this.__file__, "tabulate"), np.random.default_rng(0)
    images = lambda n: (draws.normal(size=(n, 16, 16, 3)).astype(np.float32), draws.integers(10, size=n))
    line = tabulate.row(6, 1, [images(64), images(50), images(50)], steps=2)
    assert (
        line.items()
        >= dict(run="seed1/06", seed=1, number=6, layer0="identity", layer1="pixel", layer2="conv3").items()
    )
    assert line["val/top1"] in np.arange(51, dtype=np.float32) / 50


@pytest.mark.parametrize("kind", ["random", "ageing_evolution", "reinforce"])
def test_its_sweeps_pass_their_checks(this, kind):
    sweep = this.get_sweep(f"{kind}/7")
    spec.check(sweep)
    assert sweep.budget == 24
    assert "seed=7" in sweep.search
    with pytest.raises(UserError, match="did you mean 'random'"):
        this.get_sweep("rndom")


@pytest.mark.parametrize("number", [0, 6, 39, 63])
def test_the_model_computes_what_the_program_of_the_table_does(this, net, number):
    """The same arrays in the Linen module of the sweeps and in the program that serves all architectures."""
    point, arrays = this.POINTS[number], net.init(jax.random.key(1))
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    module = models.build(
        "experiments.architecture_search.net:layered_net", 10, **{k.removeprefix("model."): v for k, v in point.items()}
    )
    used = net.child(arrays, point)
    params = {name.removeprefix("model."): {"kernel": kernel} for name, kernel in used.items()}
    params["head"]["bias"] = np.zeros(10)
    shapes = lambda tree: jax.tree.map(np.shape, tree)
    assert shapes(params) == shapes(module.init(jax.random.key(0), images)["params"])
    _, out = module.apply({"params": params}, images)
    assert np.allclose(out["logits"], net.logits_of(arrays, net.chosen(point), images), atol=1e-5)


def test_the_best_by_validation_is_judged_on_new_images(this):
    """A table whose test accuracy falls as validation rises: the curve of a search falls."""
    table = tuple((number / 100, 1 - number / 100) for number in range(64))
    curves = this.found("random", table, 0, 5)
    assert curves.shape == (5, 24)
    assert (np.diff(curves, axis=1) <= 0).all()


def test_a_table_with_an_order_is_searched_better_than_at_random(this, tmp_path, monkeypatch):
    monkeypatch.setattr(this, "REPEATS", 40)
    gains = {"identity": 0.0, "pixel": 0.05, "conv3": 0.1, "mean3": 0.02}

    def value(row):
        return 0.3 + sum(gains[row[f"layer{i}"]] * (i + 1) for i in range(3)) / 2 + 0.001 * row["seed"]

    report = this.analyse(rows(this, value), tmp_path, "laptop")
    assert judged("selects", report) == judged("evolution", report) == "met"
    assert "is conv3, conv3, conv3, which is right on" in report
    assert set(json.loads((tmp_path / "summary.json").read_text())["criteria"]) == {"selects", "evolution", "reinforce"}


# Shared weights


def test_architectures_that_share_an_operation_share_its_arrays(net):
    arrays = net.init(jax.random.key(0), channels=4)
    points = [("conv3", "pixel", "identity"), ("conv3", "conv3", "mean3")]
    one, two = (net.child(arrays, dict(zip(net.space(), ops))) for ops in points)
    assert one["model.layer0"] is two["model.layer0"]
    assert one["head"] is two["head"]
    assert one["stem"] is two["stem"]
    assert one["model.layer1"] is not two["model.layer1"]
    assert one.keys() == two.keys() == {"stem", "model.layer0", "model.layer1", "head"}


def test_a_step_changes_the_arrays_of_its_architecture_and_no_others(net):
    arrays = net.init(jax.random.key(0), layers=2, channels=4)
    point = dict(zip(net.space(2), ("conv3", "mean3")))
    images, labels = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32), np.arange(4)
    changed, _ = net.step(arrays, net.ADAM.init(arrays), net.chosen(point), images, labels)
    equal = jax.tree.map(lambda a, b: bool((a == b).all()), arrays, changed)
    assert not any(net.child(equal, point).values())
    assert equal["model.layer0"]["pixel"]
    assert all(equal["model.layer1"].values())


@pytest.mark.slow
def test_the_policy_finds_what_helps_with_shared_weights(net, shared):
    """The policy against uniform draws, with the same frozen arrays, on new images.

    Criterion: the policy is better with each of three seeds. It takes more than 20 seconds:
    pytest -m slow tests/commands/test_architecture_search.py
    """

    def images(seed, n):
        """Noise with a bright dot and a dark one three pixels away: the label is on which side. The stem sees three."""
        draws = np.random.default_rng(seed)
        x, labels = draws.normal(scale=0.3, size=(n, 16, 16, 3)), draws.integers(2, size=n)
        rows, columns = draws.integers(16, size=n), draws.integers(3, 13, size=n)
        x[np.arange(n), rows, columns] += 3
        x[np.arange(n), rows, columns + np.where(labels, 3, -3)] -= 3
        return x.astype(np.float32), labels

    for seed in range(3):
        found = shared.search(images(0, 2000), images(1, 1000), seed=seed, layers=2, channels=8, classes=2)
        uniform = reinforce.uniform(net.space(2)).logits
        gained = [shared.mean_accuracy(found, logits, images(2, 1000)) for logits in (found.policy.logits, uniform)]
        assert gained[0] > gained[1]
