"""SimMIM: its blocks, its loss by hand, on many devices, and the token that a later run leaves out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.errors import UserError
from jaxvision.layout import Layout
from jaxvision.models.masked import MaskedPrediction
from jaxvision.models.patches import patchify
from jaxvision.parallel.mesh import replicate, shard_batch
from jaxvision.tasks import get_task
from jaxvision.tasks.simmim import kept_in_blocks
from jaxvision.train.state import TrainState
from jaxvision.train.step import make_train_step

make = partial(get_task("simmim"), block=8)


@pytest.fixture(scope="module")
def batch():
    return {"image": jax.random.normal(jax.random.key(1), (8, 24, 24, 3))}


@pytest.fixture(scope="module")
def task(vit):
    return make(model=vit)


@pytest.fixture(scope="module")
def variables(task, batch, random_variables):
    return random_variables(task.init, batch)


def test_whole_blocks_stay_and_as_many_are_masked_as_in_the_authors_code():
    """Their number of masked blocks is ceil(ratio n): 30 of 7 x 7 for 0.6, with 2 x 2 patches of 16 pixels in each."""
    kept = np.asarray(kept_in_blocks(jax.random.key(0), 6, (14, 14), 2, 0.6))
    counts = count(kept, (14, 14))
    assert set(counts.ravel().tolist()) == {0, 4}
    assert (counts == 0).sum(axis=(1, 2)).tolist() == [30] * 6
    assert len({image.tobytes() for image in counts}) == 6
    wide = count(np.asarray(kept_in_blocks(jax.random.key(0), 1, (2, 6), 2, 0.6)), (2, 6))
    assert sorted(wide.ravel().tolist()) == [0, 0, 4]


def count(kept, grid):
    """Number of visible patches in each block of 2 x 2."""
    visible = np.zeros((len(kept), grid[0] * grid[1]), int)
    np.add.at(visible, (np.arange(len(kept))[:, None], kept), 1)
    assert visible.max() == 1
    return visible.reshape(-1, grid[0] // 2, 2, grid[1] // 2, 2).sum(axis=(2, 4))


def test_the_loss_is_the_mean_absolute_error_of_masked_pixels(vit, task, batch, variables):
    """Xie et al. 2022, eq. 1."""
    rng = jax.random.key(2)
    value, (metrics, _) = jax.jit(task.loss)(variables, batch, rng)
    kept = np.asarray(kept_in_blocks(jax.random.split(rng)[0], 8, (6, 6), 2, 0.6))
    predictions = np.asarray(jax.jit(MaskedPrediction(vit(None)).apply)(variables, batch["image"], kept))
    patches = np.asarray(patchify(batch["image"], 4)).reshape(8, 36, 48)
    places = [(i, n) for i, n in np.ndindex(8, 36) if n not in kept[i]]
    assert len(places) == 8 * 6 * 4
    want = np.mean([np.abs(predictions[at] - patches[at]).mean() for at in places])
    np.testing.assert_allclose(value, want, rtol=1e-5)
    mean = np.mean([patches[at] for at in places], axis=0)
    blind = np.mean([np.abs(mean - patches[at]).mean() for at in places])
    np.testing.assert_allclose(metrics["loss_over_chance"], want / blind, rtol=1e-5)


def test_a_step_on_eight_devices_equals_one(task, variables, batch, mesh):
    tx = optax.sgd(0.1)

    def after_a_step(devices):
        state = TrainState(np.int32(0), variables["params"], {}, tx.init(variables["params"]), None)
        step = jax.jit(make_train_step(task, lambda rng, batch: batch, tx, seed=0))
        state, metrics = step(replicate(state, devices), shard_batch(batch, devices))
        return state.params, metrics

    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    jax.tree.map(same, after_a_step(mesh()), after_a_step(mesh(devices=1)))


def test_the_mask_token_and_the_linear_layer_are_outside_the_model(task, variables):
    layout = Layout(task.parts, task.model)
    outside = {name for name in variables["params"] if not layout.in_model(f"params/{name}")}
    assert outside == {"mask_token", "decoder"}


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (6, r"a multiple of the ViT's patch, 4 pixels, not 6"),
        (16, r"images of 24x24 pixels cannot be cut into blocks"),
        (24, r"an image of 24x24 pixels is one block"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(vit, batch, block, message):
    with pytest.raises(UserError, match=message):
        jax.eval_shape(make(model=vit, block=block).init, jax.random.key(0), batch)


def test_features_are_those_of_the_vit_without_masks(vit, task, variables, batch):
    out = jax.jit(task.outputs)(variables, batch)
    inner = {name: x for name, x in variables["params"].items() if name not in ("decoder", "mask_token")}
    features, _ = jax.jit(vit(None).apply)({"params": inner}, batch["image"])
    np.testing.assert_allclose(out["features"], features, atol=1e-6)
    assert jnp.shape(out["map"]) == (8, 6, 6, 16)
