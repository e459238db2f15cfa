"""NNCLR: the loss by its pseudocode in NumPy, where gradients flow, the queue, eight devices, and microbatches."""

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
from jaxvision.tasks.task import After
from jaxvision.train.state import TrainState
from jaxvision.train.step import make_train_step

B, D, QUEUE = 16, 8, 24
OPTIONS = dict(projection_dim=D, hidden=16, predictor_hidden=16, queue_size=QUEUE, temperature=0.2)


@pytest.fixture(scope="module")
def batch():
    return {"image": jax.random.normal(jax.random.key(1), (B, 2, 8, 8, 3))}


@pytest.fixture(scope="module")
def task(vit):
    return get_task("nnclr")(model=vit, **OPTIONS)


@pytest.fixture(scope="module")
def variables(task, batch):
    return jax.jit(task.init)(jax.random.key(0), batch)


@pytest.fixture(scope="module")
def embeddings():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(B, 2, D)).astype(np.float32) for name in ("projection", "prediction")}


def normalize(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **(tolerance or dict(rtol=1e-3, atol=1e-5))), a, b)


def test_the_loss_is_the_pseudocode(task, variables, embeddings):
    """Dwibedi et al. 2021: neighbours of one view against predictions of the other, and the mean of both ways."""
    queue, t = np.asarray(variables["queue"]["rows"]), OPTIONS["temperature"]
    z, p = (normalize(embeddings[name]) for name in ("projection", "prediction"))
    total, correct, cosines = 0.0, [], []
    for mine, other in ((0, 1), (1, 0)):
        for i in range(B):
            distances = [np.sum((z[i, mine] - row) ** 2) for row in queue]
            neighbour = queue[int(np.argmin(distances))]
            logits = np.array([neighbour @ p[k, other] / t for k in range(B)])
            total += -np.log(np.exp(logits[i]) / np.exp(logits).sum()) / B / 2
            correct.append(logits.argmax() == i)
            cosines.append(neighbour @ z[i, mine])
    value, metrics, rows = task.loss.compare(variables, embeddings, {})
    np.testing.assert_allclose(value, total, rtol=1e-5)
    np.testing.assert_allclose(metrics["contrastive_top1"], np.mean(correct))
    np.testing.assert_allclose(metrics["neighbour_similarity"], np.mean(cosines), rtol=1e-5)
    np.testing.assert_allclose(rows, z[:, 0], rtol=1e-5)


def test_gradients_flow_through_predictions_only(task, variables, embeddings):
    slope = jax.grad(lambda v, e: task.loss.compare(v, e, {})[0], argnums=(0, 1), allow_int=True)
    of_variables, of_embeddings = jax.jit(slope)(variables, embeddings)
    assert not np.any(of_variables["queue"]["rows"])
    assert not np.any(of_embeddings["projection"])
    assert np.abs(np.asarray(of_embeddings["prediction"])).min() > 0


def test_a_new_queue_holds_directions_and_then_the_first_views(task, variables, embeddings):
    np.testing.assert_allclose(np.linalg.norm(variables["queue"]["rows"], axis=1), 1, rtol=1e-5)
    rows = task.loss.compare(variables, embeddings, {})[2]
    queue = task.after(After(jnp.int32(0), variables, rows, None))["queue"]
    np.testing.assert_allclose(queue["rows"][:B], normalize(embeddings["projection"][:, 0]), rtol=1e-5)
    np.testing.assert_array_equal(queue["rows"][B:], variables["queue"]["rows"][B:])
    assert queue["seen"] == B


def after_two_steps(task, variables, batch, **options):
    tx = optax.sgd(0.1)
    state = {name: x for name, x in variables.items() if name != "params"}
    state = TrainState(jnp.int32(0), variables["params"], state, tx.init(variables["params"]), None)
    step = jax.jit(make_train_step(task, lambda rng, batch: batch, tx, seed=0, **options))
    for _ in range(2):
        state, metrics = step(state, batch)
    metrics.pop("guard", None)
    return {"params": state.params, "queue": state.model_state["queue"], "metrics": metrics}


@pytest.fixture(scope="module")
def twice(batch):
    """Each image twice in a row: both microbatches (rows 0, 2, ... and 1, 3, ...) have the statistics of the batch."""
    return {"image": jnp.repeat(batch["image"][: B // 2], 2, axis=0)}


@pytest.fixture(scope="module")
def expected(task, variables, twice):
    """What two steps leave on one device; the second looks for neighbours in the queue that the first one left."""
    state = after_two_steps(task, variables, twice)
    assert state["queue"]["seen"] == QUEUE + 2 * B % QUEUE
    return state


def test_two_steps_on_eight_devices_equal_one(vit, variables, twice, expected, mesh):
    devices = mesh()
    task = get_task("nnclr")(model=vit, over_batch=partial(over_batch, mesh=devices), chunk=1, **OPTIONS)
    close(after_two_steps(task, replicate(variables, devices), shard_batch(twice, devices)), expected)


def test_microbatches_are_compared_as_one_batch(task, variables, twice, expected):
    close(after_two_steps(task, variables, twice, accumulate=2), expected)


def test_a_collapse_is_seen(task, variables):
    one = {name: jnp.ones((B, 2, D)) for name in ("projection", "prediction")}
    value, metrics, _ = task.loss.compare(variables, one, {})
    np.testing.assert_allclose(value, np.log(B), rtol=1e-5)
    assert metrics["contrastive_top1"] == 0
    np.testing.assert_allclose(metrics["embedding_std"], 0, atol=1e-6)


def test_outputs_parts_and_views(task, variables, batch):
    out = jax.eval_shape(task.outputs, variables, {"image": batch["image"][:, 0]})
    assert out["projection"].shape == out["prediction"].shape == (B, D)
    assert {"queue", "predictor", "projection"} < set(task.parts)
    with pytest.raises(UserError, match="'nnclr' needs two views"):
        task.init(jax.random.key(0), {"image": batch["image"][:, 0]})
