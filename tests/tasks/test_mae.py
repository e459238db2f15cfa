"""MAE: its loss by hand, on many devices and in parts, its sign of learning nothing, and what a run leaves."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision import models, paths, transfer
from jaxvision.errors import UserError
from jaxvision.layout import Layout
from jaxvision.models import weights
from jaxvision.models.masked import MaskedAutoencoder, plain_vit
from jaxvision.models.patches import patchify
from jaxvision.parallel.mesh import replicate, shard_batch
from jaxvision.tasks import get_task
from jaxvision.tasks.masked import Masking, make_masked
from jaxvision.train.state import TrainState
from jaxvision.train.step import make_train_step

SMALL = dict(decoder_width=16, decoder_depth=1, decoder_heads=2)
make = partial(get_task("mae"), **SMALL)


@pytest.fixture(scope="module")
def batch():
    return {"image": jax.random.normal(jax.random.key(1), (8, 16, 16, 3))}


@pytest.fixture(scope="module")
def task(vit):
    return make(model=partial(vit, pool="token"))


@pytest.fixture(scope="module")
def variables(task, batch, random_variables):
    return random_variables(task.init, batch)


@pytest.fixture(scope="module")
def fixed(vit):
    """The task, but the first four patches are visible, whatever the key."""
    encoder = plain_vit("mae", vit(None, pool="token"))
    draw = lambda rng, b, grid: jnp.broadcast_to(jnp.arange(4), (b, 4))
    return make_masked(Masking("mae", draw, MaskedAutoencoder(encoder, 16, 1, 2), encoder, 2, True))


def run(task, variables, batch, augment=lambda rng, batch: batch, put=lambda x: x, **options):
    tx = optax.sgd(0.1)
    state = TrainState(np.int32(0), variables["params"], {}, tx.init(variables["params"]), None)
    return jax.jit(make_train_step(task, augment, tx, seed=0, **options))(put(state), batch)


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), a, b)


@pytest.mark.parametrize("normalized", [True, False])
def test_the_loss_is_that_of_a_loop_over_masked_patches(vit, batch, variables, normalized):
    """He et al. 2022, sec. 3: mean squared error per patch, averaged over the masked ones."""
    model = partial(vit, pool="token")
    task = make(model=model, normalized=normalized)
    rng = jax.random.key(2)
    value, (metrics, updates) = jax.jit(task.loss)(variables, batch, rng)
    assert set(metrics) == set(task.progress) == {"loss_over_chance"}
    assert not updates
    kept = jnp.argsort(jax.random.uniform(jax.random.split(rng)[0], (8, 16)))[:, :4]
    network = MaskedAutoencoder(model(None), 16, 1, 2)
    predictions = np.asarray(jax.jit(network.apply)(variables, batch["image"], kept))
    patches = np.asarray(patchify(batch["image"], 4)).reshape(8, 16, 48)
    errors, targets = [], []
    for i, n in np.ndindex(8, 16):
        if n not in kept[i]:
            target = patches[i, n]
            if normalized:
                target = (target - target.mean()) / np.sqrt(target.var(ddof=1) + 1e-6)
            errors.append(np.square(predictions[i, n] - target).mean())
            targets.append(target)
    assert len(errors) == 8 * 12
    np.testing.assert_allclose(value, np.mean(errors), rtol=1e-5)
    blind = np.square(np.array(targets) - np.mean(targets, axis=0)).mean()
    np.testing.assert_allclose(metrics["loss_over_chance"], np.mean(errors) / blind, rtol=1e-5)


def test_a_prediction_without_looking_is_at_chance(fixed, batch, variables):
    """A decoder whose last layer is constant at its best value: the ratio is 1."""
    patches = np.asarray(patchify(batch["image"], 4)).reshape(8, 16, 48)[:, 4:].reshape(-1, 48)
    mean, deviation = patches.mean(1, keepdims=True), patches.std(1, keepdims=True, ddof=1)
    blind = {"kernel": np.zeros((16, 48)), "bias": ((patches - mean) / deviation).mean(0)}
    params = variables["params"]
    params = {**params, "decoder": {**params["decoder"], "prediction": blind}}
    _, (metrics, _) = jax.jit(fixed.loss)({"params": params}, batch, jax.random.key(0))
    np.testing.assert_allclose(metrics["loss_over_chance"], 1, rtol=1e-4)


def test_a_step_on_eight_devices_equals_one(task, variables, batch, mesh):
    def after_a_step(devices):
        return run(task, variables, shard_batch(batch, devices), put=lambda state: replicate(state, devices))

    (eight, metrics), (one, expected) = after_a_step(mesh()), after_a_step(mesh(devices=1))
    close(eight.params, one.params)
    close(metrics, expected)


def test_two_parts_make_the_step_of_the_whole_batch(fixed, variables, batch):
    whole, parts = (run(fixed, variables, batch, accumulate=n) for n in (1, 2))
    close(parts[0].params, whole[0].params)
    np.testing.assert_allclose(parts[1]["loss"], whole[1]["loss"], rtol=1e-5)


def test_other_images_and_steps_have_other_masks(task, variables, batch):
    same = {"image": jnp.broadcast_to(batch["image"][:1], batch["image"].shape)}
    draw = jax.jit(task.pictures.draw)
    seen = [np.asarray(draw(variables, same, jax.random.key(i))["masked"]) for i in (0, 1)]
    patches = [patchify(x, 4).reshape(8, 16, 48) for x in seen]
    masked = [np.isclose(x.std(axis=-1), x[..., :3].std(axis=-1), atol=1e-4) for x in patches]  # one colour
    assert [x.sum(axis=1).tolist() for x in masked] == [[12] * 8] * 2
    assert len({row.tobytes() for x in masked for row in x}) > 8


def test_pictures_show_what_was_seen_and_what_is_predicted(fixed, variables, batch):
    drawn = jax.device_get(jax.jit(fixed.pictures.draw)(variables, batch, jax.random.key(0)))
    np.testing.assert_array_equal(drawn["image"], batch["image"])
    np.testing.assert_array_equal(drawn["masked"][:, :4], batch["image"][:, :4])
    np.testing.assert_array_equal(drawn["with the patches seen"][:, :4], batch["image"][:, :4])
    np.testing.assert_array_equal(drawn["with the patches seen"][:, 4:], drawn["prediction"][:, 4:])
    # On the scale of the images: a patch that is predicted as flat has the mean of the true one.
    params = variables["params"]
    flat = jax.tree.map(np.zeros_like, params["decoder"]["prediction"])
    flat = {"params": {**params, "decoder": {**params["decoder"], "prediction": flat}}}
    drawn = jax.jit(fixed.pictures.draw)(flat, batch, jax.random.key(0))["prediction"]
    means = lambda x: np.asarray(patchify(x, 4)).mean(axis=-1)
    np.testing.assert_allclose(means(drawn), means(batch["image"]), atol=1e-5)


def test_features_are_those_of_the_encoder_on_all_patches(vit, task, variables, batch):
    out = jax.jit(task.outputs)(variables, batch)
    inner = {name: x for name, x in variables["params"].items() if name != "decoder"}
    features, _ = jax.jit(vit(None, pool="token").apply)({"params": inner}, batch["image"])
    np.testing.assert_allclose(out["features"], features, atol=1e-6)
    assert out["tokens"].shape == (8, 16, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(model=partial(models.build, "resnet", variant="8")), r"config.model is a ResNet: set config.model.name"),
        (dict(model=partial(models.build, "vit", pool="map")), r"leave pool='map' out"),
        (dict(model=partial(models.build, "vit", fc_norm=True)), r"leave fc_norm out"),
        (dict(model=partial(models.build, "vit", patch_dropout=0.5)), r"hides patches itself"),
        (dict(decoder_width=20, decoder_heads=3), r"a multiple of 4 and of task.decoder_heads, 3, not 20"),
    ],
)
def test_what_does_not_fit_is_refused(vit, options, message):
    with pytest.raises(UserError, match=message):
        make(**{"model": vit, **options})


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 2, 16, 16, 3), r"arrays of 2x16x16x3: take `views` out of augment"),
        ((2, 18, 16, 3), r"images of 18x16 pixels cannot be cut into patches of 4x4"),
        ((2, 4, 4, 3), r"task.ratio masks none of the 1 patches"),
    ],
)
def test_images_that_do_not_fit_are_refused(task, shape, message):
    with pytest.raises(UserError, match=message):
        jax.eval_shape(task.init, jax.random.key(0), {"image": jnp.zeros(shape)})


def test_another_run_takes_the_encoder_and_leaves_the_decoder_out(vit, task, variables):
    arrays = {f"params/{name}": np.asarray(x) for name, x in paths.flatten(variables["params"]).items()}
    wanted = jax.eval_shape(vit(3, pool="token").init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    kept, others = transfer.of_model(arrays, Layout(task.parts, task.model), paths.names(wanted))
    assert {name.split("/")[1] for name in others} == {"decoder"}
    imported = weights.import_weights(kept, "jaxvision", "vit", wanted, head="new")
    params = imported.variables["params"]
    np.testing.assert_array_equal(params["embedding"]["kernel"], variables["params"]["embedding"]["kernel"])
    missing = {name for name, x in params.items() if not isinstance(jax.tree.leaves(x)[0], np.ndarray)}
    assert missing == {"head"}
