"""The simclr task: what it computes, on which backbones, on how many devices, and whether it learns."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision import augment, models
from jaxvision.errors import UserError
from jaxvision.fields import Field
from jaxvision.losses import representation
from jaxvision.losses.contrastive import nt_xent, supervised_contrastive
from jaxvision.models.heads import Projection
from jaxvision.optim import optimizers
from jaxvision.parallel.collectives import over_batch
from jaxvision.parallel.mesh import replicate, shard_batch
from jaxvision.tasks import get_task
from jaxvision.train.state import TrainState
from jaxvision.train.step import make_train_step


@pytest.fixture
def make(nin):
    """`make(**options)`: the task of the smallest network with BatchNorm."""
    return lambda **options: get_task("simclr")(**{"model": nin, "num_classes": None, "projection_dim": 8, **options})


@pytest.fixture(scope="module")
def batch():
    return {"image": jax.random.normal(jax.random.key(1), (8, 2, 8, 8, 3))}


@pytest.fixture(scope="module")
def variables(nin, batch, random_variables):
    return random_variables(get_task("simclr")(model=nin, projection_dim=8).init, batch)


@pytest.fixture(scope="module")
def embedded(nin, batch, variables):
    """Embeddings [B, V, D] and new statistics of backbone and head, applied by hand to both views at once."""

    @jax.jit
    def embed(variables, images):
        (h, _), backbone = nin(None).apply(variables, images, train=True, mutable=["batch_stats"])
        head = {name: collection["projection"] for name, collection in variables.items()}
        (_, z), projection = Projection(2, out=8).apply(head, h, train=True, mutable=["batch_stats"])
        return z, {**backbone["batch_stats"], "projection": projection["batch_stats"]}

    z, statistics = embed(variables, batch["image"].reshape(16, 8, 8, 3))
    return z.reshape(8, 2, 8), statistics


def test_the_loss_is_that_of_both_views_in_one_pass_in_training_mode(make, batch, variables, embedded):
    """So BatchNorm sees both views of all images, as in the authors' code."""
    z, statistics = embedded
    loss, (metrics, updates) = jax.jit(make(temperature=0.5, chunk=3).loss)(variables, batch, jax.random.key(2))
    expected, correct = nt_xent(z, 0.5)
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics.pop("contrastive_top1"), correct.mean(), rtol=1e-6)
    spread = {name: getattr(representation, name) for name in ("uniformity", "embedding_std")}
    spread["effective_rank"] = partial(representation.effective_rank, order=2)
    np.testing.assert_allclose(metrics.pop("alignment"), representation.alignment(z), rtol=1e-4)
    assert set(metrics) == set(spread)
    for name, measure in spread.items():
        np.testing.assert_allclose(metrics[name], measure(z[:, 0]), rtol=1e-3)
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    jax.tree.map(same, updates["batch_stats"], statistics)


def test_the_supervised_loss_is_that_of_the_labels(make, batch, variables, embedded):
    labels = jnp.arange(8) % 3
    task = make(num_classes=3, loss="supervised_contrastive", temperature=0.3)
    loss, _ = jax.jit(task.loss)(variables, {**batch, "label": labels}, jax.random.key(2))
    np.testing.assert_allclose(loss, supervised_contrastive(embedded[0], labels, 0.3)[0].mean(), rtol=1e-5)


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_outputs_of_ordinary_images(make, trunk, layers, batch):
    task = make(model=trunk, projection_layers=layers)
    variables = jax.eval_shape(task.init, jax.random.key(0), batch)
    out = jax.eval_shape(task.outputs, variables, {"image": batch["image"][:, 0]})
    assert out["features"].shape == (8, 16)
    assert out["projection"].shape == (8, 8 if layers else 16)
    assert [x.shape for x in out["projections"]] == [(8, 16)] * (layers - 1) + [(8, 8)] * (layers > 0)
    assert "stages" in out
    assert "logits" not in out


def test_a_train_step_on_eight_devices_equals_one(make, variables, mesh):
    """Views, loss in chunks, BatchNorm and LARS: all of them see the global batch."""
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
    views = augment.make_augmentation("views(2, 'random_crop(8, 2)|flip_lr')")
    lars = dict(name="lars", learning_rate=0.1, weight_decay=0.01, trust_coefficient=1.0, total=3, steps=int)
    tx = optimizers.make_optimizer(params=variables["params"], **lars).tx

    def after_a_step(devices):
        task = make(over_batch=partial(over_batch, mesh=devices), chunk=1)
        params, statistics = variables["params"], {"batch_stats": variables["batch_stats"]}
        state = TrainState(np.int32(0), params, statistics, tx.init(params), None)
        step = jax.jit(make_train_step(task, views, tx, seed=0))
        return step(replicate(state, devices), shard_batch({"image": images}, devices))

    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)
    jax.tree.map(same, after_a_step(mesh()), after_a_step(mesh(devices=1)))


def test_it_learns_to_tell_images_apart(vit):
    """Views so noisy that an untrained network rarely finds the other one; it overfits them in a few steps."""
    rng = np.random.default_rng(0)
    views = rng.normal(size=(16, 1, 8, 8, 3)) + 3 * rng.normal(size=(16, 2, 8, 8, 3))
    batch = {"image": jnp.asarray(views, jnp.float32)}
    task = get_task("simclr")(model=vit, projection_dim=16)
    tx = optax.adam(1e-2)

    @jax.jit
    def step(variables, state):
        of = jax.value_and_grad(lambda p: task.loss({**variables, "params": p}, batch, jax.random.key(0)), has_aux=True)
        (loss, (metrics, updates)), gradients = of(variables["params"])
        change, state = tx.update(gradients, state)
        variables = {**variables, **updates, "params": optax.apply_updates(variables["params"], change)}
        return variables, state, {"loss": loss, **metrics}

    variables = jax.jit(task.init)(jax.random.key(1), batch)
    state, records = tx.init(variables["params"]), []
    for _ in range(60):
        variables, state, metrics = step(variables, state)
        records.append(jax.device_get(metrics))
    assert records[0]["contrastive_top1"] < 0.6
    assert records[-1]["contrastive_top1"] > 0.9
    assert records[-1]["loss"] < records[0]["loss"] / 2
    assert records[-1]["alignment"] < records[0]["alignment"]
    assert records[-1]["effective_rank"] > 3


@pytest.mark.parametrize("image", [(4, 16, 16, 3), (4, 1, 16, 16, 3)])
def test_images_without_views_are_an_error_when_the_run_is_built(make, image):
    with pytest.raises(UserError, match=r"set augment to \"views\(2"):
        jax.eval_shape(make().init, jax.random.key(0), {"image": jnp.zeros(image)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(model=partial(models.build, "nin", projection_layers=1)), "remove projection_layers from config.model"),
        (dict(loss="nt_xnet"), "unknown value of task.loss 'nt_xnet'; did you mean 'nt_xent'"),
        (dict(loss="supervised_contrastive"), "needs a data set with one class for each image"),
        (dict(loss="supervised_contrastive", num_classes=3, multi_label=True), "one class for each image"),
        (dict(temperature=0.0), "task.temperature must be a number above 0, not 0.0"),
        (dict(projection_layers=-1), "task.projection_layers must be a whole number of at least 0, not -1"),
        (dict(projection_dim=0), "task.projection_dim must be a whole number of at least 1, not 0"),
        (dict(projection_hidden=0.5), "task.projection_hidden must be a whole number of at least 1, or None, not 0.5"),
        (dict(chunk=0), "task.chunk must be a whole number of at least 1, or None, not 0"),
    ],
)
def test_mistakes_are_named(make, options, message):
    with pytest.raises(UserError, match=message):
        make(**options)


def test_clips_are_no_views(make):
    clips = {"image": Field("image", (2, 16, 16, 3), "float32")}
    with pytest.raises(UserError, match=r"set augment to \"views\(2"):
        jax.eval_shape(make(fields=clips).init, jax.random.key(0), {"image": jnp.zeros((4, 2, 16, 16, 3))})
