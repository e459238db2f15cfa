"""A step computes no gradient of frozen parameters, and trains the others as if it did."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.analysis.accounting import macs
from jaxvision.layout import module_pattern
from jaxvision.tasks.task import Joint, Player, Task
from jaxvision.train import state as states
from jaxvision.train.step import make_train_step

B, D, K = 8, 6, 3
BATCH = {"x": np.random.default_rng(0).normal(size=(B, D)).astype(np.float32)}
FROZEN = {"backbone": {"v": True, "w": True}, "head": {"w": False}}
PARTS = {name: module_pattern(name) for name in FROZEN}


def init(rng, batch):
    draw = lambda i, *shape: jax.random.normal(jax.random.fold_in(rng, i), shape)
    return {"params": {"backbone": {"v": draw(0, D, D), "w": draw(1, D, D)}, "head": {"w": draw(2, D, K)}}}


def logits_of(params, batch):
    return jnp.tanh(jnp.tanh(batch["x"] @ params["backbone"]["v"]) @ params["backbone"]["w"]) @ params["head"]["w"]


def loss(variables, batch, rng):
    return jnp.mean(logits_of(variables["params"], batch) ** 2), ({}, {})


JOINT = Joint(
    lambda variables, batch, rng: (logits_of(variables["params"], batch), {}),
    lambda variables, z, batch: (jnp.mean((z @ z.T) ** 2), {}),
)
outputs = lambda variables, batch: {}
MEAN_TASK, JOINT_TASK = (Task(init, of, outputs, parts=PARTS) for of in (loss, JOINT))
PLAYERS = Task(init, None, outputs, parts=PARTS, players={name: Player(name, loss) for name in PARTS})
HALF = {"backbone": {"v": True, "w": False}, "head": {"w": False}}


def transform(frozen):
    return optax.selective_transform(optax.adam(0.1), freeze_mask=frozen)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    ("task", "tx", "frozen"),
    [
        (MEAN_TASK, transform(FROZEN), FROZEN),
        (JOINT_TASK, transform(FROZEN), FROZEN),
        (PLAYERS, {name: transform({name: HALF[name]}) for name in HALF}, HALF),
    ],
    ids=["mean", "joint", "players"],
)
def test_the_rest_is_trained_as_with_all_gradients_for_less_work(task, tx, frozen, accumulate):
    state = states.initializer(task, tx, BATCH, 0, False)()
    make = lambda **options: make_train_step(
        task, lambda rng, batch: batch, tx, seed=0, accumulate=accumulate, **options
    )
    every, fewer = make(), make(frozen=frozen)
    (after, metrics), (expected, of_all) = jax.jit(fewer)(state, BATCH), jax.jit(every)(state, BATCH)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), after.params, expected.params)
    held = jax.tree.map(lambda x, y, f: bool(jnp.array_equal(x, y)) == f, after.params, state.params, frozen)
    assert all(jax.tree.leaves(held))
    assert 0 < metrics["grad_norm"] < of_all["grad_norm"]
    assert macs(fewer, state, BATCH) < macs(every, state, BATCH)


def test_the_norm_is_that_of_the_trained_parameters_and_the_work_that_of_the_last_layer():
    tx = transform(FROZEN)
    state = states.initializer(MEAN_TASK, tx, BATCH, 0, False)()
    step = make_train_step(MEAN_TASK, lambda rng, batch: batch, tx, seed=0, frozen=FROZEN)
    grads = jax.grad(lambda params: loss({"params": params}, BATCH, None)[0])(state.params)
    assert jax.jit(step)(state, BATCH)[1]["grad_norm"] == pytest.approx(float(jnp.linalg.norm(grads["head"]["w"])))
    forward, gradient = B * (2 * D * D + D * K), B * D * K
    assert macs(step, state, BATCH) == forward + gradient
