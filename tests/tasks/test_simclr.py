"""The simclr task: what it computes, on which backbones, on how many devices, and whether it learns."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.losses import representation
from jaxvision.losses.contrastive import nt_xent, supervised_contrastive
from jaxvision.models.heads import Projection
from jaxvision.parallel.collectives import over_batch
from jaxvision.parallel.mesh import replicate, shard_batch
from jaxvision.tasks import get

BACKBONES = {
    "resnet": partial(models.build, "resnet", variant="8", width=0.25),
    "vit": partial(models.build, "vit", variant="mu/8", depth=1, width=16),
}


def make(backbone="resnet", num_classes=None, **options):
    return get("simclr")(model=BACKBONES[backbone], num_classes=num_classes, projection_dim=8, **options)


@pytest.fixture(scope="module")
def batch():
    images = jax.random.normal(jax.random.key(1), (8, 2, 16, 16, 3))
    return {"image": images, "label": jnp.arange(8) % 3, "mask": jnp.ones(8, bool)}


@pytest.fixture(scope="module")
def variables(batch):
    return jax.jit(make().init)(jax.random.key(0), batch)


def test_the_loss_is_that_of_both_views_in_one_pass_in_training_mode(batch, variables):
    """So BatchNorm sees both views of all images, as in the authors' code."""
    loss, (metrics, updates) = jax.jit(make(temperature=0.5, chunk=3).loss)(variables, batch, jax.random.key(2))

    @jax.jit
    def embed(variables, images):
        (h, _), stats = BACKBONES["resnet"](None).apply(variables, images, train=True, mutable=["batch_stats"])
        head = {name: collection["projection"] for name, collection in variables.items()}
        (_, z), _ = Projection(2, out=8).apply(head, h, train=True, mutable=["batch_stats"])
        return z.reshape(8, 2, 8), stats

    z, stats = embed(variables, batch["image"].reshape(16, 16, 16, 3))
    expected, correct = nt_xent(z, 0.5)
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["contrastive_top1"], correct.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["alignment"], representation.alignment(z), rtol=1e-4)
    np.testing.assert_allclose(metrics["uniformity"], representation.uniformity(z[:, 0]), rtol=1e-4)
    np.testing.assert_allclose(metrics["embedding_std"], representation.embedding_std(z[:, 0]), rtol=1e-4)
    np.testing.assert_allclose(metrics["effective_rank"], representation.effective_rank(z[:, 0], 2), rtol=1e-3)
    np.testing.assert_allclose(
        updates["batch_stats"]["stem_norm"]["mean"], stats["batch_stats"]["stem_norm"]["mean"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_outputs_of_ordinary_images(backbone, layers, batch):
    task = make(backbone, projection_layers=layers)
    variables = jax.eval_shape(task.init, jax.random.key(0), batch)
    out = jax.eval_shape(task.outputs, variables, {"image": batch["image"][:, 0]})
    assert out["features"].shape == (8, 16)
    assert out["projection"].shape == (8, 8 if layers else 16)
    assert [x.shape for x in out["projections"]] == [(8, 16)] * (layers - 1) + [(8, 8)] * (layers > 0)
    assert "stages" in out
    assert "logits" not in out


def test_labels_change_the_supervised_loss_alone(batch, variables):
    other = {**batch, "label": jnp.zeros(8, jnp.int32)}
    loss = lambda task, batch: jax.jit(task.loss)(variables, batch, jax.random.key(2))[0]
    unsupervised, supervised = make(), make(num_classes=3, loss="supervised_contrastive")
    assert loss(unsupervised, batch) == loss(unsupervised, other)
    assert loss(supervised, batch) != loss(supervised, other)


def test_the_supervised_loss_is_that_of_the_labels(batch, variables):
    expected = lambda fn: lambda z, labels: (supervised_contrastive(z, labels, 0.3)[0], jnp.ones(1), jnp.ones(1))
    options = dict(num_classes=3, loss="supervised_contrastive", temperature=0.3)
    of = lambda task: jax.jit(task.loss)(variables, batch, jax.random.key(2))[0]
    np.testing.assert_allclose(of(make(**options)), of(make(**options, over_batch=expected)), rtol=1e-6)


def test_eight_devices_equal_one_in_loss_gradients_and_statistics(batch, variables, mesh):
    """Which global BatchNorm and negatives from all devices are needed for."""

    def of(task):
        def loss(params, batch):
            return task.loss({**variables, "params": params}, batch, jax.random.key(2))

        return jax.jit(jax.value_and_grad(loss, has_aux=True))

    devices = mesh()
    expected = of(make())(variables["params"], batch)
    got = of(make(over_batch=partial(over_batch, mesh=devices)))(
        replicate(variables["params"], devices), shard_batch(batch, devices)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4), got, expected)


def test_it_learns_to_tell_images_apart():
    """Views so noisy that an untrained network rarely finds the other one; it overfits them in a few steps."""
    rng = np.random.default_rng(0)
    views = rng.normal(size=(16, 1, 8, 8, 3)) + 3 * rng.normal(size=(16, 2, 8, 8, 3))
    batch = {"image": jnp.asarray(views, jnp.float32)}
    vit = partial(models.build, "vit", variant="mu/8", depth=1, width=32)
    task = get("simclr")(model=vit, num_classes=None, projection_dim=16)
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
def test_images_without_views_are_an_error_when_the_run_is_built(image):
    with pytest.raises(UserError, match=r"set augment to \"views\(2"):
        jax.eval_shape(make().init, jax.random.key(0), {"image": jnp.zeros(image)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(loss="nt_xnet"), "unknown value of task.loss 'nt_xnet'; did you mean 'nt_xent'"),
        (dict(loss="supervised_contrastive"), "needs a data set with one class for each image"),
        (dict(loss="supervised_contrastive", num_classes=3, multi_label=True), "one class for each image"),
        (dict(temperature=0.0), "task.temperature must be above 0, not 0.0"),
        (dict(projection_layers=-1), "task.projection_layers must be a whole number of at least 0, not -1"),
        (dict(chunk=0), "task.chunk must be a whole number of at least 1, or None, not 0"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError, match=message):
        make(**options)
