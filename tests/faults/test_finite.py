"""Numbers that are not finite, put into the loss, the gradient, the update and what it keeps, at chosen steps.

The field `fault` of a batch says where: 0 nowhere, else the index of a place of `PLACES`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.parallel.rules import shardings
from jaxvision.tasks.task import Joint, Task
from jaxvision.train import feed as feeds
from jaxvision.train import finite
from jaxvision.train import state as states
from jaxvision.train.journal import Journal
from jaxvision.train.step import make_runner, make_train_step

PLACES = ("nowhere", "image", "loss", "gradient", "params", "moments", "model state")
NUMBERS = (np.nan, np.inf, -np.inf)
B = 8


def code_of(batch):
    return jnp.max(batch["fault"])


def predict(variables, batch):
    return batch["x"] @ variables["params"]["w"] + variables["params"]["b"]


def make_task(bad=np.nan):
    """A regression; the gradient of its parameter `flag` tells the optimizer what the batch says."""

    def init(rng, batch):
        params = {"w": jnp.ones(batch["x"].shape[1]), "b": jnp.zeros(()), "flag": jnp.zeros(())}
        return {"params": params, "counter": {"n": jnp.zeros(())}}

    def finish(variables, error, batch):
        code = code_of(batch)
        at = lambda place: code == PLACES.index(place)
        value = jnp.mean(error**2) + jnp.where(at("loss"), bad, 0.0)
        value += variables["params"]["flag"] * code
        inner = jnp.where(at("gradient"), 0 * variables["params"]["b"], 1.0)
        value += jnp.where(at("gradient"), jnp.sqrt(inner), 0.0)  # its slope is 0 / 0
        return value, at("model state")

    def loss(variables, batch, rng):
        value, fault = finish(variables, predict(variables, batch) - batch["y"], batch)
        return value, ({}, {"counter": {"n": variables["counter"]["n"] + jnp.where(fault, bad, 1.0)}})

    def embed(variables, batch, rng):
        at = code_of(batch) == PLACES.index("model state")
        return predict(variables, batch), {"counter": {"n": variables["counter"]["n"] + jnp.where(at, bad, 1.0)}}

    def compare(variables, embeddings, batch):
        return finish(variables, embeddings - batch["y"], batch)[0], {}

    joint = Joint(embed, compare)
    return Task(init, loss, lambda variables, batch: {"prediction": predict(variables, batch)}), joint


def make_tx(bad=np.nan):
    """Adam, whose parameters or moments become `bad` where the gradient of `flag` says so."""
    adam = optax.adam(1e-2)

    def update(grads, state, params=None):
        at = lambda place: grads["flag"] == PLACES.index(place)
        updates, state = adam.update({**grads, "flag": jnp.zeros(())}, state, params)
        updates = {**updates, "w": updates["w"].at[0].add(jnp.where(at("params"), bad, 0.0))}
        moments = state[0]._replace(nu={**state[0].nu, "b": state[0].nu["b"] + jnp.where(at("moments"), bad, 0.0)})
        return updates, (moments, *state[1:])

    return optax.GradientTransformation(adam.init, update)


def make_batches(faults, bad=np.nan, seed=0):
    drawn = [np.random.default_rng([seed, step]).normal(size=(B, 6)) for step in range(len(faults))]
    x, y = np.split(np.stack(drawn).astype(np.float32), [5], axis=-1)
    y = y[..., 0]
    codes = np.zeros((len(faults), B), np.int32)
    for step, place in enumerate(faults):
        codes[step] = PLACES.index(place)
        if place == "image":
            x[step, 3, 2] = bad
    return {"x": x, "y": y, "fault": codes}


def run(faults, mesh, *, bad=np.nan, chunk=1, joint=False, guard=None, start=None, seed=0, transform=None, **options):
    """All steps; returns the state after each dispatch and the metrics, name -> [steps], with the last guard."""
    task, pairs = make_task(bad)
    task = task._replace(loss=pairs) if joint else task
    tx = make_tx(bad)
    batches = make_batches(faults, bad, seed)
    shapes = {k: jax.ShapeDtypeStruct(v.shape[1:], v.dtype) for k, v in batches.items()}
    init = states.initializer(task, tx, shapes, 0, options.get("ema") is not None)
    step = make_train_step(task, transform or (lambda rng, batch: batch), tx, seed=0, **options)
    runner = make_runner(
        step, feeds._as_is, shardings(jax.eval_shape(init), mesh, "replicated"), guard or finite.start()
    )
    state = states.create(init, mesh, "replicated") if start is None else jax.device_put(start)
    seen, metrics_of_steps = [], []
    for i in range(0, len(faults), chunk):
        item = feeds.shard_batch({k: v[i : i + chunk] for k, v in batches.items()}, mesh, leading=1)
        state, metrics = runner(state, {}, item)
        seen.append(jax.device_get(state))
        metrics_of_steps.append(jax.device_get(metrics))
    assert runner.run._cache_size() == 1  # one program, whatever was skipped
    metrics = jax.tree.map(lambda *x: np.concatenate(x), *metrics_of_steps)
    return seen, metrics, jax.tree.map(lambda x: x[-1], metrics["guard"])


def reference(faults, bad=np.nan, seed=0):
    """The same with the faulty steps left out, by hand."""
    task, _ = make_task(bad)
    tx = optax.adam(1e-2)
    batches = make_batches(faults, bad, seed)
    variables = task.init(None, jax.tree.map(lambda x: x[0], batches))
    params, n = variables["params"], 0
    opt_state = tx.init(params)
    for step, place in enumerate(faults):
        if place != "nowhere":
            continue
        batch = jax.tree.map(lambda x, step=step: jnp.asarray(x[step]), batches)
        grads = jax.grad(lambda p, batch=batch: jnp.mean((predict({"params": p}, batch) - batch["y"]) ** 2))(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        params, n = optax.apply_updates(params, updates), n + 1
    return params, opt_state, n


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_all_finite(tree):
    for path, x in jax.tree.leaves_with_path(tree):
        assert np.isfinite(x).all(), jax.tree_util.keystr(path)


@pytest.mark.parametrize(
    ("devices", "bad", "options"),
    [
        (1, np.nan, {}),
        (1, np.inf, {}),
        (8, -np.inf, {}),
        (1, np.nan, dict(ema=0.9)),
        (1, np.nan, dict(accumulate=2)),
        (2, np.nan, dict(accumulate=2, joint=True)),
    ],
    ids=str,
)
def test_a_skipped_step_leaves_all_but_the_step(mesh, devices, bad, options):
    """Bit for bit, wherever the fault lies; and the steps around them are those of a run without them."""
    faults = ["nowhere", *(place for name in PLACES[1:] for place in (name, "nowhere"))]
    seen, metrics, guard = run(faults, mesh(devices), bad=bad, **options)
    assert metrics["skipped"].tolist() == [float(place != "nowhere") for place in faults]
    for i, place in enumerate(faults):
        assert seen[i].step == i + 1
        assert_all_finite(seen[i])
        if place != "nowhere":
            assert_equal(seen[i - 1]._replace(step=i + 1), seen[i])
    assert (guard.in_a_row, guard.skipped) == (0, len(PLACES) - 1)
    params, opt_state, n = reference(faults, bad)
    assert_close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(assert_close, seen[-1].params, params)
    jax.tree.map(assert_close, seen[-1].opt_state[0], opt_state[0])
    assert seen[-1].model_state["counter"]["n"] == n * options.get("accumulate", 1)


def test_gradients_whose_squares_overflow_are_finite(mesh):
    """A step with a gradient of 1e22 is taken where what it makes is finite."""
    task, _ = make_task()
    tx = optax.sgd(1e-25)
    batch = jax.tree.map(lambda x: jnp.asarray(x[0]), make_batches(["nowhere"]))
    task = task._replace(loss=lambda v, b, rng: (jnp.mean(predict(v, b)) * 1e22, ({}, {})))
    state = states.initializer(task, tx, batch, 0, False)()
    after, metrics = jax.jit(make_train_step(task, lambda rng, b: b, tx, seed=0))(state, batch)
    assert np.isinf(metrics["grad_norm"])
    assert metrics["skipped"] == 0
    assert not np.array_equal(after.params["b"], state.params["b"])


@pytest.mark.parametrize(
    ("tx", "ema", "most"),
    [
        (optax.adamw(1e-3), None, 5.5),
        (optax.adamw(1e-3), 0.99, 5.5),
        (optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)), None, 8.5),
    ],
)
def test_the_check_stores_no_second_state(tx, ema, most):
    """Beside the gradient, and the clipped one, it takes a byte a parameter; a second state of Adam has twelve."""
    n = 1024
    task = Task(
        lambda rng, batch: {"params": {"w": jnp.ones((n, n))}},
        lambda variables, batch, rng: (jnp.mean(jnp.tanh(batch["x"] @ variables["params"]["w"])), ({}, {})),
        lambda variables, batch: {},
    )
    batch = {"x": jnp.ones((64, n))}
    state = jax.eval_shape(states.initializer(task, tx, batch, 0, ema is not None))
    step = jax.jit(make_train_step(task, lambda rng, b: b, tx, seed=0, ema=ema), donate_argnums=0)
    memory = step.lower(state, batch).compile().memory_analysis()
    assert 4 * n**2 <= memory.temp_size_in_bytes <= most * n**2


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lamb", "lars", "adafactor", "lion", "adagrad", "rmsprop"])
def test_no_optimizer_leaves_a_state_that_is_not_finite(optimizer):
    """With a learning rate at which all of them overflow, and one parameter frozen."""
    from jaxvision import optim

    params = {"a": {"kernel": jnp.ones((40, 40))}, "b": {"kernel": jnp.ones((40, 40)), "bias": jnp.ones(40)}}
    tx = optim.make_optimizer(
        name=optimizer,
        learning_rate=1e38,
        weight_decay=0.1,
        params=params,
        total=10,
        steps=int,
        freeze=(("^a/", True), (".*", False)),
    ).tx

    def loss(variables, batch, rng):
        p = variables["params"]
        out = batch["x"] @ p["a"]["kernel"] @ p["b"]["kernel"] + p["b"]["bias"]
        return jnp.mean(out**2), ({}, {})

    task = Task(lambda rng, batch: {"params": params}, loss, lambda v, b: {})
    batch = {"x": np.random.default_rng(0).normal(size=(4, 40)).astype(np.float32)}
    state = states.initializer(task, tx, batch, 0, False)()
    step = jax.jit(make_train_step(task, lambda rng, b: b, tx, seed=0))
    skipped = 0
    for _ in range(6):
        state, metrics = step(state, batch)
        skipped += int(metrics["skipped"])
        assert_all_finite(jax.device_get(state))
    assert skipped
    assert_equal(state.params["a"], params["a"])


@pytest.mark.parametrize("chunk", [1, 4])
def test_after_too_many_in_a_row_nothing_moves(mesh, chunk):
    """Whatever a dispatch holds; good steps behind them do not count."""
    faults = ["nowhere", "loss", "nowhere", "loss", "params", "moments", "nowhere", "nowhere"]
    seen, metrics, guard = run(faults, mesh(1), chunk=chunk, max_skipped=2)
    assert metrics["skipped"].tolist() == [0, 1, 0, 1, 1, 1, 0, 0]
    assert metrics["stopped"].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert (guard.in_a_row, guard.skipped) == (3, 4)
    last = seen[-1]
    assert last.step == 6
    assert_equal(last._replace(step=3), run(faults[:3], mesh(1), max_skipped=2)[0][-1])


def test_a_resumed_run_stops_where_the_unbroken_one_does(mesh):
    faults = ["nowhere", "loss", "loss", "loss", "nowhere"]
    whole, _, guard = run(faults, mesh(1), max_skipped=2)
    seen, _, half = run(faults[:3], mesh(1), max_skipped=2)
    batches = make_batches(faults)
    again = finite.from_json(finite.to_json(half))
    assert_equal(again, half)
    task, tx = make_task()[0], make_tx()
    step = jax.jit(make_train_step(task, lambda rng, b: b, tx, seed=0, max_skipped=2))
    state = seen[-1]
    for i in (3, 4):
        state, metrics = step(state, jax.tree.map(lambda x, i=i: x[i], batches), again)
        again = metrics["guard"]
    assert state.step == whole[-1].step == 4
    assert_equal(again, guard)


def spikes_by_hand(losses):
    """The rule in double precision: 7 deviations above the exponential average of 100 steps."""
    average, variance, count, flags = 0.0, 0.0, 0, []
    for loss in losses:
        if not np.isfinite(loss):
            flags.append(False)
            continue
        limit = average + 7 * max(variance**0.5, 0.01 * abs(average))
        flags.append(count >= 100 and loss > limit)
        value, rate = (limit if flags[-1] else loss), 1 / min(count + 1, 100)
        delta = value - average
        average, variance, count = average + rate * delta, (1 - rate) * (variance + rate * delta**2), count + 1
    return flags


def test_spikes_are_those_of_the_rule():
    rng = np.random.default_rng(0)
    losses = (1 + 0.1 * rng.normal(size=400)).astype(np.float32)
    losses[[20, 150, 260]] = 5.0  # the first is before the average is known
    losses[200] = np.nan
    losses[300:] += 3.0  # a new level: a spike at first, then the average follows

    def body(guard, loss):
        spike, guard = finite._spike(loss, guard)
        return guard, spike

    _, flags = jax.lax.scan(body, jax.tree.map(jnp.asarray, finite.start()), losses)
    flags = np.asarray(flags)
    assert flags.tolist() == spikes_by_hand(losses.astype(float))
    assert flags[[150, 260]].all()
    assert not flags[[20, 200]].any()
    assert flags[300:].any()
    assert not flags[-20:].any()


def test_spikes_are_skipped_only_where_asked(mesh):
    faults = ["nowhere"] * 3
    running = finite.start()._replace(
        count=np.int32(500), average=np.float32(1e-9), variance=np.float32(1e-20)
    )  # any loss is a spike
    for skip in (False, True):
        seen, metrics, _ = run(faults[:1], mesh(1), guard=running, skip_spikes=skip)
        assert metrics["spike"].tolist() == [1]
        assert metrics["skipped"].tolist() == [float(skip)]
        assert seen[-1].step == 1
        assert (seen[-1].model_state["counter"]["n"] == 0) == skip


def test_means_are_over_the_steps_taken():
    guard = jax.tree.map(lambda x: np.stack([x] * 3), finite.start())
    pending = [
        dict(loss=np.array([1.0, np.nan, 3.0]), grad_norm=np.array([1.0, np.nan, 1.0]), skipped=np.array([0.0, 1, 0]))
        | dict(stopped=np.zeros(3), spike=np.array([0.0, 0, 1]), guard=guard)
    ]
    journal = Journal(6)
    journal.stepped(pending[0])
    journal.settle(9)
    assert journal.stop is None
    assert journal.line(9) == {"loss": 2.0, "grad_norm": 1.0, "skipped_steps": 1.0, "loss_spikes": 1.0}


def test_of_an_interval_without_a_step_the_means_are_not_finite():
    pending = [dict(loss=np.full(2, np.inf), grad_norm=np.ones(2), skipped=np.ones(2), stopped=np.zeros(2))]
    journal = Journal(7)
    journal.stepped(pending[0] | {"spike": np.zeros(2)})
    journal.settle(9)
    values = journal.line(9)
    assert np.isnan(values["loss"])
    assert values["skipped_steps"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 8])
def test_random_faults_equal_a_run_without_those_steps(mesh, devices, record_property):
    injections = wrong = 0
    for seed in range(12):
        rng = np.random.default_rng([devices, seed])
        faults = ["nowhere" if rng.random() < 0.6 else str(rng.choice(PLACES[1:])) for _ in range(40)]
        bad = float(rng.choice(NUMBERS))
        options = [{}, dict(ema=0.9), dict(accumulate=2), dict(accumulate=2, joint=True)][seed % 4]
        chunk = 1 if devices == 8 else int(rng.choice([1, 4]))
        seen, metrics, _ = run(faults, mesh(devices), bad=bad, chunk=chunk, seed=seed, max_skipped=40, **options)
        injected = np.array([place != "nowhere" for place in faults])
        params, _, n = reference(faults, bad, seed)
        injections += int(injected.sum())
        wrong += int((metrics["skipped"].astype(bool) != injected).sum())
        assert_all_finite(seen[-1])
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), seen[-1].params, params)
        assert seen[-1].model_state["counter"]["n"] == n * options.get("accumulate", 1)
    for name, value in dict(promise="finite", injections=injections, lost=0, hung=0, wrong=wrong).items():
        record_property(name, value)
    assert wrong == 0
