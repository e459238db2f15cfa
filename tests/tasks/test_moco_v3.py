"""MoCo v3: the loss and the teacher against a loop in plain JAX, on eight devices, in parts, and where all is equal."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.errors import UserError
from jaxvision.parallel.collectives import over_batch
from jaxvision.parallel.mesh import replicate, shard_batch
from jaxvision.tasks import get_task
from jaxvision.train import state as states
from jaxvision.train.step import make_train_step

STEPS, RATE, T, M = 3, 0.1, 0.3, 0.6
make = partial(get_task("moco_v3"), total_steps=STEPS, projection_dim=8, hidden=16, temperature=T, momentum=M)


@pytest.fixture(scope="module")
def batch():
    return {"image": jax.random.normal(jax.random.key(1), (8, 2, 8, 8, 3))}


@pytest.fixture(scope="module")
def variables(vit, batch, random_variables):
    return random_variables(make(model=vit, projection_layers=2).init, batch)


def stepper(task, variables, batch, **options):
    tx = optax.sgd(RATE)
    state = states.initializer(task._replace(init=lambda *_: variables), tx, batch, 0, False)()
    return state, jax.jit(make_train_step(task, lambda rng, batch: batch, tx, seed=0, **options))


def close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **(tolerance or dict(rtol=1e-3, atol=1e-5))), a, b)


def head(params, x, layers=2):
    """Chen, Xie, He 2021, alg. 1 and sec. 3: no bias, BatchNorm after each layer, the last without scale and offset."""
    for i in range(layers):
        x = x @ params[f"dense_{i}"]["kernel"]
        x = (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5)
        if i < layers - 1:
            x = jax.nn.relu(x * params[f"norm_{i}"]["scale"] + params[f"norm_{i}"]["bias"])
    return x


def test_loss_and_teacher_are_those_of_a_loop_by_hand(vit, variables, batch):
    state, step = stepper(make(model=vit, projection_layers=2), variables, batch)
    backbone, images = vit(None), batch["image"]
    params, teacher = variables["params"], variables["teacher"]["params"]
    assert set(params["projection"]) == {"dense_0", "norm_0", "dense_1"}

    def project(params, view):
        inner = {name: x for name, x in params.items() if name not in ("projection", "predictor")}
        return head(params["projection"], backbone.apply({"params": inner}, images[:, view], False)[0])

    def loss(params, teacher):
        total = 0.0
        for mine, other in ((0, 1), (1, 0)):
            q, k = head(params["predictor"], project(params, mine)), project(teacher, other)
            q, k = (x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (q, k))
            total -= 2 * T * jnp.diag(jax.nn.log_softmax(q @ k.T / T, axis=1)).mean()
        return total

    slope = jax.jit(jax.value_and_grad(loss))
    for i in range(STEPS):
        state, metrics = step(state, batch)
        value, grads = slope(params, teacher)
        params = jax.tree.map(lambda p, g: p - RATE * g, params, grads)
        m = 1 - 0.5 * (1 + math.cos(math.pi * i / STEPS)) * (1 - M)  # adjust_moco_momentum of the authors' code
        online = {name: x for name, x in params.items() if name != "predictor"}
        teacher = jax.tree.map(lambda t, p, m=m: m * t + (1 - m) * p, teacher, online)
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-4)
    close(state.params, params)
    close(state.model_state["teacher"]["params"], teacher)


def test_a_step_on_eight_devices_equals_one(vit, variables, batch, mesh):
    def after_a_step(devices):
        task = make(model=vit, projection_layers=2, over_batch=partial(over_batch, mesh=devices), chunk=1)
        state, step = stepper(task, variables, batch)
        return step(replicate(state, devices), shard_batch(jax.device_get(batch), devices))

    close(after_a_step(mesh()), after_a_step(mesh(devices=1)), rtol=2e-3, atol=2e-5)


def test_the_negatives_of_a_microbatch_are_those_of_the_whole_batch(vit, variables, batch):
    """Every image twice, once in each microbatch, so that the statistics of BatchNorm are the same."""
    twice = {"image": jnp.repeat(batch["image"][:4], 2, axis=0)}
    task = make(model=vit, projection_layers=2)
    (whole, mine), (parts, theirs) = (
        step(state, twice) for state, step in (stepper(task, variables, twice, accumulate=n) for n in (1, 2))
    )
    close(whole.params, parts.params)
    close(whole.model_state["teacher"]["params"], parts.model_state["teacher"]["params"])
    close({name: mine[name] for name in ("loss", *task.progress)}, {n: theirs[n] for n in ("loss", *task.progress)})


def test_no_gradient_reaches_the_teacher_and_each_view_is_a_batch_of_its_own(nin, batch, random_variables):
    task = make(model=nin, projection_layers=2)
    start = random_variables(task.init, batch)
    slope = jax.jit(jax.grad(lambda v: task.loss(v, batch, jax.random.key(0))[0]))(start)
    assert not any(np.any(x) for x in jax.tree.leaves(slope["teacher"]))
    # Another second view of one image changes all outputs of second views, by their statistics, and none of the first.
    other = {"image": batch["image"].at[0, 1].multiply(3.0)}
    embed = jax.jit(task.loss.embed)
    (before, _), (after, _) = (embed(start, one, jax.random.key(0)) for one in (batch, other))
    for name in before:
        close(before[name][:, 0], after[name][:, 0])
        assert np.abs(before[name][1:, 1] - after[name][1:, 1]).max() > 1e-3


def test_a_collapse_shows(vit, variables, batch):
    """All embeddings equal: chance, and no deviation."""
    same = {"predictions": jnp.ones((8, 2, 8)), "keys": jnp.ones((8, 2, 8))}
    loss, metrics = make(model=vit).loss.compare(variables, same, batch)
    np.testing.assert_allclose(loss, 2 * 2 * T * np.log(8), rtol=1e-5)
    assert metrics["contrastive_top1"] == 0
    np.testing.assert_allclose(metrics["embedding_std"], 0, atol=1e-6)
    np.testing.assert_allclose(metrics["similarity"], 1, rtol=1e-5)


def test_three_views_are_refused(vit):
    with pytest.raises(UserError, match=r"'moco_v3' needs two views .* set augment to \"views\(2"):
        make(model=vit).init(jax.random.key(0), {"image": jnp.zeros((2, 3, 8, 8, 3))})


def test_the_predictor_for_a_resnet_ends_in_a_layer_without_norm_and_bias(vit, batch):
    """As `MoCo_ResNet` in the authors' code; `MoCo_ViT` has BatchNorm there."""
    shapes = lambda **options: jax.eval_shape(make(model=vit, **options).init, jax.random.key(0), batch)
    with_norm, without = shapes(), shapes(predictor_norm=False)
    assert set(with_norm["batch_stats"]["predictor"]) == {"norm_0", "norm_1"}
    assert set(without["batch_stats"]["predictor"]) == {"norm_0"}
    assert set(without["params"]["predictor"]["dense_1"]) == {"kernel"}
    assert without["params"] == with_norm["params"]  # the norm there has neither scale nor offset
