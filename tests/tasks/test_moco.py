"""MoCo: loss, teacher and queue against a loop in plain JAX, on eight devices, in parts, and where all is equal."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.errors import UserError
from jaxvision.losses.pairs import unit
from jaxvision.parallel.mesh import replicate, shard_batch
from jaxvision.tasks import get_task
from jaxvision.tasks.task import in_training
from jaxvision.train import state as states
from jaxvision.train.step import make_train_step

STEPS, RATE, T, M, N = 3, 0.1, 0.3, 0.6, 12
make = partial(
    get_task("moco"), projection_dim=8, projection_hidden=8, queue_size=N, temperature=T, momentum=M, norm_splits=2
)


@pytest.fixture(scope="module")
def batch():
    return {"image": jax.random.normal(jax.random.key(1), (8, 2, 8, 8, 3))}


@pytest.fixture(scope="module")
def variables(vit, batch):
    """Variables of a task without BatchNorm; the teacher is another network than the student."""
    variables = jax.jit(make(model=vit).init)(jax.random.key(0), batch)
    # A head that is not so near to 0 that what it gives has no direction in float32.
    variables["params"]["projection"] = jax.tree.map(lambda x: 20 * x, variables["params"]["projection"])
    other = jax.tree.map(lambda x: x + 0.05, {"params": variables["params"]})
    return {**variables, "teacher": other}


def run(task, variables, batch, steps=STEPS, **options):
    tx = optax.sgd(RATE)
    state = states.initializer(task._replace(init=lambda *_: variables), tx, batch, 0, False)()
    step = jax.jit(make_train_step(task, lambda rng, batch: batch, tx, seed=0, **options))
    for _ in range(steps):
        state, metrics = step(state, batch)
    return jax.device_get(state), metrics


def close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **(tolerance or dict(rtol=1e-4, atol=1e-6))), a, b)


@pytest.mark.parametrize("symmetric", [False, True])
def test_loss_teacher_and_queue_are_those_of_a_loop_by_hand(vit, variables, batch, symmetric):
    """He et al. 2020, alg. 1, whose teacher moves before the keys, so after the step before."""
    state, metrics = run(make(model=vit, symmetric=symmetric), variables, batch)
    backbone, images = vit(None), batch["image"]
    params, teacher, queue = variables["params"], variables["teacher"]["params"], list(variables["queue"]["rows"])

    def project(params, images):
        inner = {name: x for name, x in params.items() if name != "projection"}
        head = params["projection"]
        x = backbone.apply({"params": inner}, images, False)[0]
        x = jax.nn.relu(x @ head["dense_0"]["kernel"] + head["dense_0"]["bias"])
        return unit(x @ head["dense_1"]["kernel"] + head["dense_1"]["bias"])

    def loss(params, keys, queue):
        total = 0.0
        for mine, k in zip((0, 1), keys):
            q = project(params, images[:, mine])
            logits = jnp.concatenate([(q * k).sum(1, keepdims=True), q @ queue.T], axis=1) / T
            total -= jax.nn.log_softmax(logits)[:, 0].mean()
        return total

    slope, project = jax.jit(jax.value_and_grad(loss)), jax.jit(project)
    for _ in range(STEPS):
        keys = [project(teacher, images[:, view]) for view in ((1, 0) if symmetric else (1,))]
        value, grads = slope(params, keys, jnp.stack(queue))
        params = jax.tree.map(lambda p, g: p - RATE * g, params, grads)
        teacher = jax.tree.map(lambda t, p: M * t + (1 - M) * p, teacher, params)
        queue = [*queue, *jnp.stack(keys, 1).reshape(-1, 8)][-N:]
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-4)
    close(state.params, params)
    close(state.model_state["teacher"]["params"], teacher)
    held = lambda rows: np.asarray(sorted(np.asarray(rows).tolist()))
    close(held(state.model_state["queue"]["rows"]), held(jnp.stack(queue)), rtol=1e-3, atol=1e-5)


def test_two_microbatches_leave_what_the_whole_batch_leaves(vit, variables, batch):
    whole, parts = (run(make(model=vit), variables, batch, accumulate=n)[0] for n in (1, 2))
    close(whole, parts, rtol=1e-4, atol=1e-5)


def test_a_step_on_eight_devices_equals_one(nin, batch, mesh, random_variables):
    """The parts of BatchNorm, the shuffle and the queue do not depend on the devices."""
    task, tx = make(model=nin), optax.sgd(RATE)
    start = random_variables(task.init, batch)
    start["queue"] = {"rows": unit(start["queue"]["rows"]), "seen": jnp.zeros((), jnp.int32)}
    step = jax.jit(make_train_step(task, lambda rng, batch: batch, tx, seed=0))

    def after_a_step(devices):
        state = states.initializer(task._replace(init=lambda *_: start), tx, batch, 0, False)()
        return step(replicate(state, devices), shard_batch(jax.device_get(batch), devices))

    close(after_a_step(mesh()), after_a_step(mesh(devices=1)), rtol=2e-3, atol=2e-5)


def test_each_part_of_the_batch_has_its_own_statistics_and_keys_take_no_gradient(nin, batch, random_variables):
    task = make(model=nin)
    start = random_variables(task.init, batch)
    mine = {name: {k: x for k, x in start[name].items() if k != "projection"} for name in ("params", "batch_stats")}
    apply = jax.jit(lambda half: in_training(nin(None), mine, half, rng=jax.random.key(0))[1]["batch_stats"])
    halves = [apply(batch["image"][half, 0]) for half in (slice(4), slice(4, 8))]

    def loss(teacher):
        value, (_, updates, keys) = task.loss({**start, "teacher": teacher}, batch, jax.random.key(3))
        return value, (updates, keys)

    slopes, (updates, keys) = jax.jit(jax.grad(loss, has_aux=True))(start["teacher"])
    close(updates["batch_stats"], jax.tree.map(lambda a, b: (a + b) / 2, *halves))
    assert keys.shape == (8, 1, 8)
    assert not any(np.any(x) for x in jax.tree.leaves(slopes))


def test_shuffled_keys_come_back_to_their_queries(vit, variables, batch):
    """A teacher that equals the network, and views that are equal: each key is its query."""
    same = {**variables, "teacher": {"params": variables["params"]}}
    twice = {"image": batch["image"][:, [0, 0]]}
    _, (metrics, _, _) = jax.jit(make(model=vit).loss)(same, twice, jax.random.key(0))
    np.testing.assert_allclose(metrics["similarity"], 1, rtol=1e-5)
    assert metrics["contrastive_top1"] == 1


def test_a_collapse_shows(vit, variables, batch):
    """A head whose output does not depend on the image, after the queue was filled with it."""
    head = {**variables["params"]["projection"], "dense_1": {"kernel": jnp.zeros((8, 8)), "bias": jnp.ones(8)}}
    params = {**variables["params"], "projection": head}
    queue = {**variables["queue"], "rows": jnp.full((N, 8), 8**-0.5)}
    collapsed = {"params": params, "teacher": {"params": params}, "queue": queue}
    loss, (metrics, _, _) = jax.jit(make(model=vit).loss)(collapsed, batch, jax.random.key(0))
    np.testing.assert_allclose(loss, np.log(N + 1), rtol=1e-5)
    assert metrics["contrastive_top1"] == 0
    np.testing.assert_allclose(metrics["embedding_std"], 0, atol=1e-6)
    np.testing.assert_allclose(metrics["similarity"], 1, rtol=1e-5)


def test_mistakes_are_named(vit, variables, batch):
    with pytest.raises(UserError, match=r"arrays of 8x8x3: set augment to \"views\(2"):
        make(model=vit).init(jax.random.key(0), {"image": jnp.zeros((2, 8, 8, 3))})
    with pytest.raises(UserError, match="task.norm_splits=3 does not divide 8 images: set it to a divisor, or to 1"):
        make(model=vit, norm_splits=3).loss(variables, batch, jax.random.key(0))
