"""Steps: accumulated equals whole, scanned equals single, eight devices equal one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision import augment, models
from jaxvision.data.order import indices
from jaxvision.parallel.rules import shardings
from jaxvision.tasks import supervised
from jaxvision.tasks.task import Joint
from jaxvision.train import feed as feeds
from jaxvision.train import state as states
from jaxvision.train.step import make_runner, make_train_step


def to_float(rng, batch):
    return {**batch, "image": batch["image"] / 255.0}


def run(task, tx, arrays, mesh, steps, *, chunk=1, rules="replicated", transform=to_float, seed=0, **options):
    """Trains some steps of 8 examples; returns the state and the loss of each step."""
    order = partial(indices, seed, len(arrays["image"]))
    feed = feeds.from_arrays(arrays, order, mesh, batch_size=8, max_steps=chunk)
    raw = {k: jax.ShapeDtypeStruct((8, *v.shape[1:]), v.dtype) for k, v in arrays.items()}
    seen = jax.eval_shape(transform, jax.random.key(0), raw)
    init = states.initializer(task, tx, seen, seed, options.get("ema") is not None)
    step = make_train_step(task, transform, tx, seed=seed, **options)
    runner = make_runner(step, feed.fetch, shardings(jax.eval_shape(init), mesh, rules))
    state, losses = states.create(init, mesh, rules), []
    for item in feed.items(0, [chunk] * (steps // chunk)):
        state, metrics = runner(state, feed.constants, item)
        losses += metrics["loss"].tolist()
    return jax.device_get(state), losses


def assert_close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **(tolerance or {"rtol": 2e-5, "atol": 1e-6})), a, b)


def test_a_step_is_the_textbook_one(regression, images, mesh):
    state, losses = run(regression, optax.sgd(0.1), images, mesh(1), 1)
    raw = jax.tree.map(jnp.asarray, {"image": images["image"][:8]})
    variables = regression.init(jax.random.key(0), to_float(None, raw))
    feed = feeds.from_arrays(images, partial(indices, 0, 37), mesh(1), batch_size=8, max_steps=1)
    batch = to_float(None, {"image": next(feed.items(0, [1]))["image"][0]})
    rng = jax.random.split(jax.random.fold_in(jax.random.key(0), 0))[1]
    loss_of = lambda params: regression.loss({**variables, "params": params}, batch, rng)[0]
    value, grads = jax.value_and_grad(loss_of)(variables["params"])
    assert losses == pytest.approx([float(value)], rel=1e-5)
    assert_close(state.params, jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], grads))
    assert state.step == 1
    assert state.model_state["counter"]["n"] == 1


def test_runs_that_differ_in_seed_share_their_programs(regression, images, adam, mesh):
    """The seed is an argument of the programs, which compute what programs that contain it do."""
    programs, batch = [], {"image": images["image"][None, :8]}
    noisy = lambda rng, batch: {"image": batch["image"] / 255.0 + jax.random.normal(rng, batch["image"].shape)}
    for seed in (0, 2**40 + 7):
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], jnp.float32), batch)
        init, root = states.initializer(regression, adam, shapes, seed, False), states.root_of(seed)
        step = make_train_step(regression, noisy, adam, seed=seed)
        placed = shardings(jax.eval_shape(init), mesh(1), "replicated")
        runners = [make_runner(step, lambda constants, item: item, placed, root=r) for r in (root, None)]
        states_of = [partial(states.create, init, mesh(1), "replicated", r) for r in (root, None)]
        jax.tree.map(np.testing.assert_array_equal, *(jax.device_get(make()) for make in states_of))
        runs = [jax.device_get(runner(make(), {}, batch)) for runner, make in zip(runners, states_of)]
        assert_close(*runs, rtol=1e-6, atol=1e-7)
        programs.append((jax.jit(init).lower(root).as_text(), runners[0].lower(states_of[0](), {}, batch).as_text()))
    assert programs[0] == programs[1]


@pytest.mark.parametrize("chunk", [2, 6])
def test_scanned_equals_single_steps(regression, images, adam, mesh, chunk):
    single, losses = run(regression, adam, images, mesh(1), 12)
    scanned, scanned_losses = run(regression, adam, images, mesh(1), 12, chunk=chunk)
    assert_close(single, scanned)
    assert losses == pytest.approx(scanned_losses, rel=1e-4)


SPLIT = ((r"w$", ("fsdp",)), (r".*", "replicated"))  # these arrays are too small for the presets to split


@pytest.mark.parametrize("rules", ["replicated", SPLIT], ids=["replicated", "split"])
@pytest.mark.parametrize("axes", [dict(data=8), dict(data=2, fsdp=4), dict(data=2, fsdp=2, tensor=2)])
def test_eight_devices_equal_one(regression, images, adam, mesh, rules, axes):
    one, losses = run(regression, adam, images, mesh(1), 6)
    eight, eight_losses = run(regression, adam, images, mesh(8, **axes), 6, chunk=3, rules=rules)
    assert_close(one, eight)
    assert losses == pytest.approx(eight_losses, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit", dict(variant="Ti/4", width=32, depth=2, mlp_dim=64, num_heads=4, dropout=0.1, drop_path=0.1)),
        ("resnet", dict(variant="8", width=0.5)),
    ],
)
def test_a_real_model_on_eight_devices_equals_one(mesh, name, options):
    """With augmentation, dropout and BatchNorm: all of them see the global batch, so the split does not matter."""
    rng = np.random.default_rng(1)
    arrays = {
        "image": rng.integers(0, 256, (32, 16, 16, 3), np.uint8),
        "label": rng.integers(0, 3, 32).astype(np.int32),
    }
    task = supervised.make_supervised(model=lambda k: models.build(name, k, **options), num_classes=3)
    transform = augment.make_augmentation("random_crop(16, 2)|flip_lr|mixup(0.2)|normalize(0.5, 0.5)", num_classes=3)
    tx = optax.sgd(0.05, momentum=0.9)
    one, losses = run(task, tx, arrays, mesh(1), 3, transform=transform)
    spread = mesh(8, data=2, fsdp=2, tensor=2)
    eight, eight_losses = run(task, tx, arrays, spread, 3, transform=transform, rules="tensor")
    assert losses == pytest.approx(eight_losses, rel=1e-4)
    assert_close(one.params, eight.params, rtol=2e-3, atol=2e-5)
    assert_close(one.model_state, eight.model_state, rtol=2e-3, atol=2e-5)


def test_accumulated_equals_whole(images, mesh, regression):
    """Every leaf; without the noise, which each part draws for itself."""

    def loss(variables, batch, rng):
        error = regression.outputs(variables, batch)["prediction"] - batch["image"].mean((1, 2, 3))
        return jnp.mean(error**2), ({}, {"counter": variables["counter"]})

    exact = regression._replace(loss=loss)
    whole, losses = run(exact, optax.sgd(0.1), images, mesh(1), 2)
    parts, part_losses = run(exact, optax.sgd(0.1), images, mesh(8), 2, accumulate=4)
    assert losses == pytest.approx(part_losses, rel=1e-5)
    assert_close(whole.params, parts.params)


def test_accumulating_a_joint_loss_is_exact(images, mesh, regression):
    """A loss over all pairs of the batch, which a mean over parts cannot give."""

    def embed(variables, batch, rng):
        return regression.outputs(variables, batch)["prediction"], {"counter": variables["counter"]}

    def compare(variables, embeddings, batch):
        spread = jnp.square(embeddings[:, None] - embeddings - 0.1).mean()
        return spread * jnp.exp(variables["params"]["b"]), {"spread": spread}

    task = regression._replace(loss=Joint(embed, compare))
    whole, losses = run(task, optax.sgd(0.1), images, mesh(1), 2)
    parts, part_losses = run(task, optax.sgd(0.1), images, mesh(2), 2, accumulate=4)
    assert losses == pytest.approx(part_losses, rel=1e-5)
    assert_close(whole.params, parts.params)


def test_a_constraint_holds_after_each_step(regression, images, adam, mesh):
    limit = lambda done: {"params": {**done.variables["params"], "b": jnp.minimum(done.variables["params"]["b"], -0.5)}}
    task = regression._replace(after=limit)
    state, _ = run(task, adam, images, mesh(1), 2)
    assert state.params["b"] == -0.5


def test_model_state_passes_through_every_part(regression, images, adam, mesh):
    state, _ = run(regression, adam, images, mesh(1), 3, accumulate=4)
    assert state.model_state["counter"]["n"] == 12


def test_average_of_weights(regression, images, adam, mesh):
    """The average after three steps, by hand: decay min(0.5, (1 + t) / (10 + t))."""
    histories = [run(regression, adam, images, mesh(1), n)[0].params["w"] for n in range(4)]
    average = histories[0]
    for t in range(3):
        decay = min(0.5, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * histories[t + 1]
    state, _ = run(regression, adam, images, mesh(1), 3, ema=0.5)
    np.testing.assert_allclose(state.ema["params"]["w"], average, rtol=1e-5)
    assert state.best_variables is state.ema
    assert state.ema["counter"]["n"] > 0


def test_seeds_differ_and_repeat(regression, images, adam, mesh):
    a, again, other = (run(regression, adam, images, mesh(1), 2, seed=s)[0].params["w"] for s in (0, 0, 1))
    np.testing.assert_array_equal(a, again)
    assert not np.allclose(a, other)
