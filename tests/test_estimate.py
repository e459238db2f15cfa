"""The cost of a run before it starts, against counts by hand and against what the run then has."""

import jax
import pytest
from ml_collections import ConfigDict

from jaxvision import estimate as estimates
from jaxvision import experiment as experiments
from jaxvision import input_costs, step_costs
from jaxvision.data import sources
from jaxvision.errors import UserError
from jaxvision.estimate import estimate, words
from jaxvision.sections import DataSection, TrainSection
from jaxvision.step_costs import flops_of


@pytest.fixture(autouse=True)
def known_speed(monkeypatch):
    """A machine of 1 GFLOP/s at matrix products, all of which training reaches."""
    monkeypatch.setattr(estimates, "matmul_flops", lambda precision: 1e9)
    monkeypatch.setattr(estimates, "UTILISATION", {"cpu": 1.0})
    monkeypatch.setattr(step_costs, "_costs", {})
    monkeypatch.setattr(step_costs, "_tried", {})
    monkeypatch.setattr(step_costs, "_compiled", set())


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


def test_a_probe_is_its_forward_pass_and_the_gradient_of_its_head():
    n, d, hidden, k = 16, 8, 16, 10
    block = 4 * n * d * d + 2 * n * n * d + 2 * n * d * hidden
    probe = config()
    probe.init = dict(weights="nowhere", freeze="backbone")
    assert estimate(probe).flops_per_step == 2 * 8 * (n * (4 * 4 * 3) * d + 2 * block + 2 * d * k)
    cost = step_costs.step_cost(probe)
    assert cost.forward == pytest.approx(step_costs.step_cost(config()).flops / 3)
    assert cost.forward < cost.flops < 1.2 * cost.forward  # an evaluation costs nearly what training does
    of_last = config()
    of_last.init = dict(weights="nowhere", freeze="all_but_last(1)")
    assert estimate(probe).flops_per_step < estimate(of_last).flops_per_step < estimate(config()).flops_per_step


def test_lengths_parameters_and_time():
    one = estimate(config())
    assert (one.steps, one.examples) == (25, 200)
    assert one.flops == 25 * one.flops_per_step
    assert one.seconds == pytest.approx(one.flops / 1e9)
    state = experiments.build(config(), training_data="ignored").abstract_state()
    assert one.parameters == sum(leaf.size for leaf in jax.tree.leaves(state.params))


def test_a_model_without_operations_costs_nothing():
    pixels = estimate(config(**{"model": dict(name="identity"), "train.total": "0 steps"}))
    assert (pixels.parameters, pixels.flops_per_step, pixels.evaluating) == (0, 0, 0)


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
    assert words([one]) == "1 run, 2 petaFLOPs, about 30s on this CPU (steps 30s)"
    assert words([one, one]).startswith("2 runs, 4 petaFLOPs, about 1m01s")


ONE = estimates.Estimate(1, 1e9, 10, 80, 10.0, "a", fixed=4.0, compiling=6.0, evaluating=2.0, saving=1.0)


def test_runs_that_share_a_program_compile_it_once():
    other = ONE._replace(program="b")
    spent = estimates.time_of([ONE, ONE, other])
    assert (spent.steps, spent.evaluations, spent.checkpoints) == (30.0, 6.0, 3.0)
    assert spent.starting == 3 * 4.0 + 2 * 6.0 * estimates.OTHERS
    assert spent.whole == 63.0


def test_every_other_step_is_compiled(monkeypatch):
    """Here, all but those that this process has tried; in processes of their own, all, by as many as share one."""
    mine, other = ONE._replace(step="a"), ONE._replace(step="b", compiled=False)
    here = estimates.time_of([mine, other, other])
    assert here.starting == 3 * 4.0 + (1 + estimates.OTHERS) * 6.0
    monkeypatch.setattr(estimates, "_IMPORTED", 0.0)
    monkeypatch.setattr(estimates.os, "cpu_count", lambda: 2)
    apart = estimates.time_of([mine, other], launched=True, parallel=2)
    assert apart.starting == (2 * 4.0 + (2 + 2 * estimates.OTHERS) * 6.0) / 2


def test_what_one_core_does_happens_at_once(monkeypatch):
    monkeypatch.setattr(estimates, "_IMPORTED", 3.0)
    monkeypatch.setattr(estimates.os, "cpu_count", lambda: 2)
    spent = estimates.time_of([ONE, ONE], launched=True, parallel=4)
    compiled = (1 + estimates.OTHERS) * 6.0  # by both runs, which begin at the same time
    assert (spent.steps, spent.starting) == (20.0, (2 * (4.0 + 3.0) + 2 * compiled) / 2)


EVALS = dict(val=dict(name="classify", split="validation", every="10 steps"))


def test_evaluations_and_checkpoints_count():
    options = dict(image_size=32, train=100, validation=40, test=8)
    shapes = {"data.name": "shapes", "data.options": options, "data.image_size": 32, "data.host": "decode|resize(16)"}
    plain, evaluated = (estimate(config(**shapes, **more)) for more in ({}, {"evals": EVALS}))
    assert plain.evaluating == 0.0
    step = evaluated.seconds / evaluated.steps
    assert evaluated.evaluating == pytest.approx(3 * 40 / 8 * step / 3)  # at steps 10, 20 and 25
    every = estimate(config(**{"train.checkpoint_every": "5 steps"}))
    assert every.saving == pytest.approx(5 * estimates.CHECKPOINT)


def test_an_evaluation_of_an_absent_set_is_left_out():
    assert estimate(config(evals=EVALS)).evaluating == 0.0


def test_reading_the_data_counts(monkeypatch, tmp_path):
    """A set that is held in memory is read once in a run, another at each step."""
    monkeypatch.setenv("JAXVISION_DATA", str(tmp_path))
    options = dict(image_size=32, train=100, validation=40, test=8)
    shapes = {"data.name": "shapes", "data.options": options, "data.image_size": 32, "data.host": "decode|resize(16)"}
    monkeypatch.setattr(step_costs, "try_step", lambda config: step_costs.Tried(0.0, 1.0))
    held = estimate(config(**shapes), tried=True)  # not rendered, and not rendered for it
    assert held.fixed - step_costs.step_cost(config(**shapes)).building == pytest.approx(
        estimates.STARTING + 100 * input_costs._RENDERED
    )
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(input_costs, "_readings", {})
    monkeypatch.setattr(input_costs, "_measured", lambda data, train: input_costs.Reading(0.5, held=False))
    assert estimate(config(**shapes), tried=True).seconds == 25 * (1.0 + 8 * 0.5)


def test_a_set_that_is_here_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXVISION_DATA", str(tmp_path))
    monkeypatch.setattr(input_costs, "_readings", {})
    options = dict(image_size=32, train=12, validation=4, test=4)
    data = DataSection("shapes", "train", 4, options=options)
    sources.open_source("shapes", "train", options=options)
    reading = input_costs.measure_reading(data, TrainSection("1 steps"))
    assert 0 < reading.seconds < 1
    assert reading.held
    assert reading.seconds != input_costs._RENDERED


def test_a_step_is_tried_once_for_configs_that_cost_the_same():
    """But the run compiles that of another learning rate, which is a constant of the program."""
    first = step_costs.try_step(config())
    assert first.seconds > 0
    other = config(**{"optimizer.learning_rate": 0.5})
    assert step_costs.try_step(other) is first
    costs = [estimate(one, tried=True) for one in (config(), config(seed=1), other, other)]
    assert costs[0].seconds == pytest.approx(25 * first.seconds)
    assert [one.compiled for one in costs] == [True, True, False, False]
    spent = sum(one.fixed for one in costs) + (1 + estimates.OTHERS) * first.compiling
    assert estimates.time_of(costs).starting == pytest.approx(spent)


def test_after_some_steps_the_nearest_stands_for_others(monkeypatch):
    first = step_costs.try_step(config())
    monkeypatch.setattr(step_costs, "MOST_TRIED", 1)
    ratio = step_costs.step_cost(config(**{"model.depth": 4})).flops / step_costs.step_cost(config()).flops
    assert step_costs.try_step(config(**{"model.depth": 4})).seconds == pytest.approx(ratio * first.seconds)


def test_speed_of_matrix_products_is_measured_once(monkeypatch):
    monkeypatch.undo()
    speed = estimates.matmul_flops("float32")
    assert 1e8 < speed < 1e15
    assert estimates.matmul_flops("float32") == speed
