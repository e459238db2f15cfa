"""The cost of a run before it starts, against counts by hand and against what the run then has."""

import jax
import pytest
from ml_collections import ConfigDict

from jaxvision import estimate as estimates
from jaxvision import experiment as experiments
from jaxvision.errors import UserError
from jaxvision.estimate import estimate, words
from jaxvision.train.throughput import flops_of


@pytest.fixture(autouse=True)
def known_speed(monkeypatch):
    """A machine of 1 GFLOP/s at matrix products, all of which training reaches."""
    monkeypatch.setattr(estimates, "matmul_flops", lambda precision: 1e9)
    monkeypatch.setattr(estimates, "UTILISATION", {"cpu": 1.0})
    monkeypatch.setattr(estimates, "_costs", {})


def config(**changes):
    c = ConfigDict()
    c.data = dict(name="absent", split="train", batch_size=8, classes=10, examples=100, image_size=16)
    c.augment = "normalize(0.5, 0.5)"
    c.model = dict(name="vit", variant="Ti/4", width=8, depth=2, mlp_dim=16, num_heads=2, pool="gap", posemb="sincos2d")
    c.task = dict(name="supervised")
    c.optimizer = dict(name="adamw", learning_rate=1e-3, weight_decay=0.1)
    c.train = dict(total="2 epochs")
    with c.unlocked():
        c.update_from_flattened_dict(changes)
    return c


def test_a_vit_counted_by_hand():
    """Per image, with 16 tokens of width 8; a gradient is two products of the size of the forward one, but the first
    layer needs none with respect to the pixels."""
    n, d, hidden, k = 16, 8, 16, 10
    patches = n * (4 * 4 * 3) * d
    block = 4 * n * d * d + 2 * n * n * d + 2 * n * d * hidden
    one = estimate(config())
    assert one.flops_per_step == 2 * 8 * (2 * patches + 3 * (2 * block + d * k))


def test_lengths_parameters_and_time():
    one = estimate(config())
    assert (one.steps, one.examples) == (25, 200)
    assert one.flops == 25 * one.flops_per_step
    assert one.seconds == pytest.approx(one.flops / 1e9)
    state = experiments.build(config(), training_data="ignored").abstract_state()
    assert one.parameters == sum(leaf.size for leaf in jax.tree.leaves(state.params))


@pytest.mark.parametrize("wanted", [dict(examples=40), dict(per_class=4)])
def test_a_subset_shortens_an_epoch(wanted):
    subset = estimate(config(**{"data.subset": dict(wanted, seed=0)}))
    assert subset.steps == 10


def test_what_cannot_change_the_cost_is_not_traced_again(monkeypatch):
    first = estimate(config())
    monkeypatch.setattr(experiments, "build", None)
    other = estimate(config(**{"optimizer.learning_rate": 0.1, "train.total": "50 steps", "seed": 3}))
    assert (other.flops_per_step, other.steps) == (first.flops_per_step, 50)


@pytest.mark.parametrize("change", [{"model.depth": 3}, {"data.batch_size": 16}, {"data.image_size": 32}])
def test_what_changes_the_cost_is_counted_anew(change):
    assert estimate(config(**change)).flops_per_step > estimate(config()).flops_per_step


def test_parts_of_an_accumulated_batch_cost_as_much_as_the_whole():
    whole, parts = (estimate(config(**{"data.batch_size": 16, "train.accumulate": n})) for n in (1, 2))
    assert parts.flops_per_step == whole.flops_per_step


def test_near_the_count_of_xla():
    """Which adds element-wise work, and leaves out taps on padding."""
    experiment = experiments.build(config(), training_data="ignored")
    xla = flops_of(experiment.trace(experiment.step()))
    assert 0.7 < estimate(config()).flops_per_step / xla < 1


def test_a_misspelt_key_is_named():
    with pytest.raises(UserError, match="weight_decoy"):
        estimate(config(**{"optimizer.weight_decoy": 1}))


def test_runs_in_words():
    one = estimates.Estimate(parameters=1, flops_per_step=2e12, steps=1_000, examples=1, seconds=30.4)
    assert words([one]) == "1 run, 2 petaFLOPs, about 30s on this CPU"
    assert words([one, one]).startswith("2 runs, 4 petaFLOPs, about 1m01s")


def test_speed_of_matrix_products_is_measured_once(monkeypatch):
    monkeypatch.undo()
    speed = estimates.matmul_flops("float32")
    assert 1e8 < speed < 1e15
    assert estimates.matmul_flops("float32") == speed
