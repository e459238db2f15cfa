"""SwAV: a step against a loop by hand, the queue, devices, microbatches, and what a collapse looks like."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.errors import UserError
from jaxvision.fields import Field
from jaxvision.parallel.mesh import replicate, shard_batch
from jaxvision.tasks import get_task
from jaxvision.train import state as states
from jaxvision.train.state import TrainState
from jaxvision.train.step import make_train_step

RATE, K = 0.5, 5


def make(**options):
    sizes = dict(prototypes=K, projection_dim=8, hidden=16, steps=lambda duration: int(str(duration).split()[0]))
    return get_task("swav")(**dict(model=lambda num_classes: Colours()) | sizes | options)


class Colours(nn.Module):
    """A backbone for images of any size, without BatchNorm: the mean of a layer over all pixels."""

    dtype = jnp.float32

    @nn.compact
    def __call__(self, images, train=False):
        features = nn.relu(nn.Dense(16, name="stem")(images)).mean((1, 2))
        return features, {}


@pytest.fixture(scope="module")
def batch():
    """Noise of another colour in each image."""
    rng = np.random.default_rng(1)
    colour = 2 * rng.normal(size=(8, 1, 1, 1, 3))
    shapes = {"image": (8, 2, 8, 8, 3), "local_image": (8, 3, 4, 4, 3)}
    return {name: jnp.asarray(colour + rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def without_norm(batch):
    """The variables of a task without BatchNorm, with a head whose outputs have directions."""
    variables = jax.jit(make(norm=False).init)(jax.random.key(0), batch)
    variables["params"]["projection"] = jax.tree.map(lambda x: 20 * x, variables["params"]["projection"])
    return variables


def run(task, variables, batches, rate=RATE, **options):
    """The state and the metrics after each step of SGD."""
    tx = optax.sgd(rate)
    state, seen = states.initializer(task._replace(init=lambda rng, batch: variables), tx, batches[0], 0, False)(), []
    step = jax.jit(make_train_step(task, lambda rng, batch: batch, tx, seed=0, **options))
    for batch in batches:
        state, metrics = step(state, batch)
        seen.append((jax.device_get(state), jax.device_get(metrics)))
    return seen


def close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **(tolerance or dict(rtol=1e-4, atol=1e-6))), a, b)


def codes(scores, epsilon=0.05):
    """Assignments by Sinkhorn's iterations as in the paper's listing, in float64."""
    q = np.exp(np.asarray(scores, np.float64) / epsilon).T  # k n
    for _ in range(3):
        q /= q.sum(1, keepdims=True)
        q /= q.sum(0)
    return q.T


@jax.jit
def features(params, batch):
    """z of all views, [v, b, d], those of `image` first."""
    head, z = params["projection"], []
    for images in (batch["image"], batch["local_image"]):
        h = jax.nn.relu(images @ params["stem"]["kernel"] + params["stem"]["bias"]).mean((2, 3))
        h = jax.nn.relu(h @ head["dense_0"]["kernel"] + head["dense_0"]["bias"])
        h = h @ head["dense_1"]["kernel"] + head["dense_1"]["bias"]
        z.append(jnp.moveaxis(h / jnp.linalg.norm(h, axis=-1, keepdims=True), 1, 0))
    return jnp.concatenate(z)


def test_steps_are_those_of_a_loop_by_hand(without_norm, batch):
    """Caron et al. 2020, the listing of app. A: codes from scores without gradient, prototypes of length 1 after it."""
    params = without_norm["params"]

    def loss(params, q):
        z, total = features(params, batch), 0.0
        for i in range(2):
            for v in set(range(5)) - {i}:
                p = jax.nn.log_softmax(z[v] @ params["prototypes"]["kernel"] / 0.1)
                total -= (q[i] * p).sum(-1).mean() / (2 * 4)
        return total

    slope = jax.jit(jax.value_and_grad(loss))
    for state, metrics in run(make(norm=False), without_norm, [batch] * 2):
        q = [codes(z @ params["prototypes"]["kernel"]) for z in features(params, batch)[:2]]
        value, grads = slope(params, jnp.asarray(q, jnp.float32))
        params = jax.tree.map(lambda p, g: p - RATE * g, params, grads)
        kernel = params["prototypes"]["kernel"]
        params["prototypes"] = {"kernel": kernel / np.linalg.norm(kernel, axis=0)}
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
        close(state.params, params)


def test_the_queue_begins_and_takes_part_as_in_the_authors_loop(without_norm, batch):
    """Two batches of 8 are pushed from step 1 on, so 16 rows are full before step 3; until then the batch is alone."""
    task = make(norm=False, queue=16, queue_starts="1 step")
    variables = {**without_norm, "queue": jax.jit(task.init)(jax.random.key(0), batch)["queue"]}
    batches = [jax.tree.map(lambda x, i=i: jnp.roll(x, i, 0) * (1 + i), batch) for i in range(4)]
    z = [np.asarray(features(variables["params"], some)) for some in batches]  # v b d
    kernel, expected = np.asarray(variables["params"]["prototypes"]["kernel"]), []
    for step, new in enumerate(z):
        earlier = np.concatenate(z[1:3], axis=1) if step == 3 else np.zeros((5, 0, 8))
        q = [codes(np.concatenate([earlier[i], new[i]]) @ kernel)[-8:] for i in range(2)]
        logs = jax.nn.log_softmax(new @ kernel / 0.1)
        pairs = [-(q[i] * logs[v]).sum(-1).mean() for i in range(2) for v in range(5) if v != i]
        expected.append(np.mean(pairs))
    steps = run(task, variables, batches, rate=0.0)
    np.testing.assert_allclose([metrics["loss"] for _, metrics in steps], expected, rtol=1e-5)
    assert [int(state.model_state["queue"]["seen"]) for state, _ in steps] == [0, 8, 16, 16 + 8]
    close(np.concatenate(z[1:3], 1)[:2], np.moveaxis(steps[2][0].model_state["queue"]["rows"].reshape(16, 2, 8), 0, 1))


def test_microbatches_give_the_step_of_the_whole_batch(without_norm, batch):
    task = make(norm=False, queue=8, queue_starts=0)
    variables = {**without_norm, "queue": jax.jit(task.init)(jax.random.key(0), batch)["queue"]}
    whole, parts = (run(task, variables, [batch] * 2, accumulate=n)[-1] for n in (1, 2))
    close(parts[0].params, whole[0].params, rtol=1e-4, atol=1e-5)
    close(parts[0].model_state, whole[0].model_state, rtol=1e-4, atol=1e-5)
    close(parts[1], whole[1], rtol=1e-4, atol=1e-5)


def test_a_train_step_on_eight_devices_equals_one(batch, random_variables, mesh):
    """Assignments, the full queue and the BatchNorm of the head see the global batch."""
    task = make(queue=16, queue_starts=0)
    variables = random_variables(task.init, batch)
    variables["queue"] = {"rows": np.float32(np.random.default_rng(0).normal(size=(16, 16))), "seen": np.int32(16)}
    params = variables.pop("params")
    tx = optax.sgd(0.1)
    state = TrainState(np.int32(0), params, variables, tx.init(params), None)
    step = jax.jit(make_train_step(task, lambda rng, batch: batch, tx, seed=0))
    one, eight = (step(replicate(state, m), shard_batch(batch, m)) for m in (mesh(devices=1), mesh()))
    close(eight, one, rtol=2e-3, atol=2e-5)


def test_metrics_of_a_collapse(without_norm, batch):
    task = make(norm=False)
    head = {name: jax.tree.map(jnp.zeros_like, x) for name, x in without_norm["params"]["projection"].items()}
    head["dense_1"]["bias"] = jnp.arange(8.0)
    collapsed = {**without_norm, "params": {**without_norm["params"], "projection": head}}
    loss = jax.jit(task.loss)
    metrics, healthy = (loss(v, batch, jax.random.key(0))[1][0] for v in (collapsed, without_norm))
    close({name: float(metrics[name]) for name in ("prototypes_used", "assignment_entropy", "embedding_std")},
          {"prototypes_used": 1.0, "assignment_entropy": 1.0, "embedding_std": 0.0}, atol=1e-3)  # fmt: skip
    assert healthy["prototypes_used"] > 1.5
    assert healthy["assignment_entropy"] < 0.9
    assert healthy["embedding_std"] > 0.1
    assert set(task.progress) < set(metrics)


def test_it_learns_to_predict_assignments(batch):
    task = make(norm=False, hidden=32)
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    tx = optax.adam(1e-2)
    state = states.initializer(task, tx, batch, 0, False)()
    step = jax.jit(make_train_step(task, lambda rng, batch: batch, tx, seed=0))
    records = []
    for _ in range(60):
        state, metrics = step(state, batch)
        records.append(jax.device_get(metrics))
    assert records[-1]["loss"] < 0.8 * records[0]["loss"]
    assert records[-1]["prototypes_used"] > 3
    lengths = np.linalg.norm(state.params["prototypes"]["kernel"], axis=0)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)
    assert not np.allclose(state.params["prototypes"]["kernel"], variables["params"]["prototypes"]["kernel"], atol=0.01)


def test_outputs_are_those_of_whole_images(batch, without_norm):
    out = jax.eval_shape(make(norm=False).outputs, without_norm, {"image": batch["image"][:, 0]})
    assert out["features"].shape == (8, 16)
    assert out["projection"].shape == (8, 8)


def test_one_view_is_refused():
    fields = {"image": Field("image", (None, None, 3), "float32")}
    with pytest.raises(UserError, match=r"'swav' needs several views of each image, .* arrays of 8x8x3"):
        make(fields=fields).init(jax.random.key(0), {"image": jnp.zeros((2, 8, 8, 3))})
