"""Populations of a small task against the step of each member by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.data.order import indices
from jaxvision.train import feed as feeds
from jaxvision.train import population
from jaxvision.train.state import initializer
from jaxvision.train.step import make_train_step

RATES = np.array([0.03, np.inf, 0.1, 0.03], np.float32)  # the last fills up the devices
STEPS, B = 4, 2


def to_float(rng, batch):
    return {**batch, "image": batch["image"] / 255.0}


def train(task, images, mesh, *, at_once, shared, chunk=1):
    """STEPS steps of a population at RATES: the population and its metrics, name -> [STEPS]."""
    rows = lambda start, stop: indices(0, 37, start, stop)
    batch_size = B if shared else B * len(RATES)
    feed = feeds.from_arrays(images, rows, mesh, batch_size=batch_size, max_steps=chunk)
    values = {"rate": RATES}
    init = population.initializer(lambda values: state_at(task, values["rate"]), values, len(RATES))
    places = population.shardings(init, mesh)
    run = population.make_runner(
        lambda values: make_train_step(task, to_float, optax.sgd(values["rate"]), seed=0, max_skipped=0),
        feed.fetch,
        places,
        members=len(RATES),
        count=3,
        shared=shared,
        at_once=at_once,
    )
    state, metrics_of_steps = jax.jit(init, out_shardings=places)(), []
    for item in feed.items(0, [chunk] * (STEPS // chunk)):
        state, metrics = run(state, (values, feed.constants), item)
        metrics_of_steps.append(metrics)
    return state, jax.tree.map(lambda *x: np.concatenate(x), *metrics_of_steps)


def state_at(task, rate):
    batch = {"image": jax.ShapeDtypeStruct((B, 4, 4, 3), jnp.float32), "mask": jax.ShapeDtypeStruct((B,), bool)}
    return initializer(task, optax.sgd(rate), batch, 0, ema=False)()


def alone(task, images, member, shared):
    """The same of one member, by a plain loop: its state and its losses."""
    rate = float(RATES[member])
    state, losses = state_at(task, rate), []
    step = jax.jit(make_train_step(task, to_float, optax.sgd(rate), seed=0))
    for s in range(STEPS):
        start = s * B if shared else (s * len(RATES) + member) * B
        chosen = indices(0, 37, start, start + B)
        state, metrics = step(state, {"image": images["image"][chosen], "mask": np.ones(B, bool)})
        losses.append(float(metrics["loss"]))
    return state, losses


@pytest.mark.parametrize(
    ("at_once", "devices", "shared", "chunk"),
    [(True, 4, False, 1), (True, 1, True, 2), (False, 1, False, 1), (False, 1, True, 2)],
)
def test_members_take_the_steps_that_they_would_take_alone(regression, images, mesh, at_once, devices, shared, chunk):
    state, metrics = train(regression, images, mesh(devices), at_once=at_once, shared=shared, chunk=chunk)
    assert int(state.step) == STEPS
    for i in (0, 2):
        expected, losses = alone(regression, images, i, shared)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7),
            state.member(i, mesh(devices)),
            expected,
        )
        np.testing.assert_allclose(metrics[f"loss@{i}"], losses, rtol=1e-5)
    assert "loss@3" not in metrics


@pytest.mark.parametrize("at_once", [True, False])
def test_a_member_that_diverges_stays_as_it_was_before(regression, images, mesh, at_once):
    state, metrics = train(regression, images, mesh(1), at_once=at_once, shared=False)
    assert state.training.tolist() == [True, False, True, True]
    assert int(state.members.step[1]) == 1  # the first update would have made everything infinite
    assert not np.isfinite(metrics["loss@1"]).any()
    assert metrics["skipped@1"].tolist() == [1, 0, 0, 0]
    assert metrics["stopped@1"].tolist() == [1, 1, 1, 1]
    assert metrics["stopped"].tolist() == metrics["skipped"].tolist() == [0, 0, 0, 0]
    start = state_at(regression, 0.0)
    same = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5)
    jax.tree.map(same, state.member(1, mesh(1))._replace(step=0), start)
    training = [metrics["loss@0"], metrics["loss@2"]]
    np.testing.assert_allclose(metrics["loss"][1:], np.mean(training, axis=0)[1:], rtol=1e-6)


def test_the_mean_is_finite_where_no_member_is_left():
    assert population._reported({"loss": jnp.full(2, jnp.nan)}, 2)["loss"] == 0


def test_state_of_a_member_is_its_part_of_each_leaf(regression, mesh):
    init = population.initializer(lambda values: state_at(regression, values["rate"]), {"rate": RATES}, 4)
    state = init()
    np.testing.assert_array_equal(state.member(2, mesh(1)).params["w"], state.members.params["w"][2])
