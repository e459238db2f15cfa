"""BYOL: the loss and the teacher against a loop in plain JAX, its schedule value by value, and what a run leaves."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from jaxvision import experiment as experiments
from jaxvision.commands import train
from jaxvision.errors import UserError
from jaxvision.tasks import get_task
from jaxvision.train import state as states
from jaxvision.train.saved import Saved
from jaxvision.train.step import make_train_step

STEPS, RATE = 4, 0.1
make = partial(get_task("byol"), total_steps=STEPS, projection_dim=8, hidden=16)


@pytest.fixture(scope="module")
def batch():
    return {"image": jax.random.normal(jax.random.key(1), (4, 2, 8, 8, 3))}


@pytest.fixture(scope="module")
def without_norm(vit, batch):
    """A task without BatchNorm anywhere, and its variables, the teacher being another network than the student."""
    task = make(model=vit, norm=False, momentum=0.5)
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    # Heads that are not so near to 0 that what they give has no direction in float32.
    for name in ("projection", "predictor"):
        variables["params"][name] = jax.tree.map(lambda x: 20 * x, variables["params"][name])
    other = jax.tree.map(lambda x: x + 0.1, variables["teacher"])
    return task, {**variables, "teacher": other}


def run(task, variables, batch, rate=RATE, **options):
    """The states after each step of SGD."""
    tx = optax.sgd(rate)
    init = task._replace(init=lambda rng, batch: variables)
    state, seen = states.initializer(init, tx, batch, 0, False)(), []
    step = jax.jit(make_train_step(task, lambda rng, batch: batch, tx, seed=0, **options))
    for _ in range(STEPS):
        state, metrics = step(state, batch)
        seen.append((jax.device_get(state), metrics))
    return seen


def close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **(tolerance or dict(rtol=1e-4, atol=1e-6))), a, b)


def mlp(params, x):
    hidden = jax.nn.relu(x @ params["dense_0"]["kernel"] + params["dense_0"]["bias"])
    return hidden @ params["dense_1"]["kernel"] + params["dense_1"]["bias"]


def test_loss_and_teacher_are_those_of_a_loop_by_hand(without_norm, vit, batch):
    """Grill et al. 2020, eq. 2 and 3 and alg. 1, the teacher updated from the parameters that the step has made."""
    task, variables = without_norm
    steps = run(task, variables, batch)
    backbone, params, teacher = vit(None), variables["params"], variables["teacher"]["params"]

    def project(params, images):
        inner = {name: x for name, x in params.items() if name not in ("projection", "predictor")}
        return mlp(params["projection"], backbone.apply({"params": inner}, images, False)[0])

    def loss(params, teacher):
        total = 0.0
        for mine, other in ((0, 1), (1, 0)):
            q = mlp(params["predictor"], project(params, batch["image"][:, mine]))
            z = project(teacher, batch["image"][:, other])
            q, z = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (q, z))
            total += jnp.square(q - z).sum(-1).mean()
        return total

    slope = jax.jit(jax.value_and_grad(loss))
    for step, (state, metrics) in enumerate(steps):
        value, grads = slope(params, teacher)
        params = jax.tree.map(lambda p, g: p - RATE * g, params, grads)
        tau = 1 - (1 - 0.5) * (math.cos(math.pi * step / STEPS) + 1) / 2
        online = {name: x for name, x in params.items() if name != "predictor"}
        teacher = jax.tree.map(lambda t, p, tau=tau: tau * t + (1 - tau) * p, teacher, online)
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
        close(state.params, params)
        close(state.model_state["teacher"]["params"], teacher)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_momentum_of_every_step_is_that_of_the_equation(vit, batch, schedule):
    """While the network stands still, the teacher's distance to it shrinks by the momentum of the step."""
    task = make(model=vit, norm=False, momentum=0.9, schedule=schedule)
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    variables["teacher"] = jax.tree.map(lambda x: x + 1.0, variables["teacher"])
    distance, momenta = 1.0, []
    for state, _ in run(task, variables, batch, rate=0.0):
        teacher, online = (
            of["projection"]["dense_0"]["bias"] for of in (state.model_state["teacher"]["params"], state.params)
        )
        after = float(np.mean(teacher - online))
        momenta.append(after / distance)
        distance = after
    cosines = [1 - 0.1 * (math.cos(math.pi * k / STEPS) + 1) / 2 for k in range(STEPS)]
    np.testing.assert_allclose(momenta, cosines if schedule == "cosine" else [0.9] * STEPS, rtol=1e-5)


def test_two_parts_leave_the_teacher_that_the_whole_batch_leaves(without_norm, batch):
    task, variables = without_norm
    whole, parts = (run(task, variables, batch, accumulate=n)[-1][0] for n in (1, 2))
    close(whole.model_state["teacher"], parts.model_state["teacher"], rtol=1e-5, atol=1e-6)
    close(whole.params, parts.params, rtol=1e-5, atol=1e-6)


def test_the_teacher_has_statistics_of_its_own_and_takes_no_gradient(nin, batch):
    task = make(model=nin)
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    close(variables["teacher"]["params"]["projection"], variables["params"]["projection"], rtol=0)
    assert "predictor" not in variables["teacher"]["params"]
    slope = jax.jit(jax.grad(lambda v: task.loss(v, batch, jax.random.key(0))[0], allow_int=True))(variables)
    assert not any(np.any(x) for x in jax.tree.leaves(slope["teacher"]))
    _, (metrics, updates) = jax.jit(task.loss)(variables, batch, jax.random.key(0))
    moved = jax.tree.leaves(jax.tree.map(np.array_equal, updates["teacher"], variables["teacher"]))
    assert not all(moved)
    close(updates["teacher"]["params"], variables["teacher"]["params"], rtol=0)
    assert set(metrics) == set(task.progress)


def test_one_view_is_refused(vit):
    with pytest.raises(UserError, match=r"arrays of 8x8x3: set augment to \"views\(2"):
        make(model=vit).init(jax.random.key(0), {"image": jnp.zeros((2, 8, 8, 3))})


def config(task, **sections):
    c = ConfigDict()
    c.seed = 0
    c.data = dict(name="shapes", options=dict(train=32, validation=16, test=8), split="train", batch_size=16)
    c.augment = "normalize(0.5, 0.5)"
    c.model = dict(name="nin", blocks=3, width=0.05)
    c.task = dict(task)
    c.optimizer = dict(name="sgd", learning_rate=0.1)
    c.train = dict(total="2 steps", checkpoint_every="0 steps")
    c.update(sections)
    return c


def test_a_run_is_the_beginning_of_another_and_so_is_its_teacher(tmp_path, monkeypatch):
    """What lies beside the model is left out by the names of the parts; no array is surplus."""
    monkeypatch.setenv("JAXVISION_DATA", str(tmp_path / "data"))
    section = dict(name="byol", hidden=16, projection_dim=8, momentum=0.5)
    train.run_train(config(section, augment="views(2, 'flip_lr')|normalize(0.5, 0.5)"), tmp_path / "byol", quiet=True)
    donated = Saved(tmp_path / "byol").variables()
    init = dict(weights=str(tmp_path / "byol"), head="new")

    def loaded(**more):
        return experiments.build(config(dict(name="supervised"), init=init | more)).load_pretrained()

    def kernel(imported):
        flat = jax.tree.leaves_with_path(imported.variables["params"])
        return next(
            (jax.tree_util.keystr(path, simple=True, separator="/"), x) for path, x in flat if "head" not in str(path)
        )

    path, mine = kernel(loaded())
    np.testing.assert_array_equal(mine, donated[f"params/{path}"])
    assert any("arrays outside the model left out, such as" in note for note in loaded().notes)
    path, theirs = kernel(loaded(from_part="teacher"))
    np.testing.assert_array_equal(theirs, donated[f"teacher/params/{path}"])
    assert not np.array_equal(mine, theirs)
    with pytest.raises(UserError, match="unknown value of init.from_part 'techer'; did you mean 'teacher'"):
        loaded(from_part="techer")
    goes_on = config(
        section, augment="views(2, 'flip_lr')|normalize(0.5, 0.5)", init=dict(weights=str(tmp_path / "byol"))
    )
    again = experiments.build(goes_on).load_pretrained().variables
    np.testing.assert_array_equal(
        again["teacher"]["params"]["projection"]["dense_1"]["bias"], donated["teacher/params/projection/dense_1/bias"]
    )
