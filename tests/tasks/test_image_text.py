"""The task image_text: its loss, what is locked, its outputs, many devices, accumulation, and whether it learns."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.losses import image_text as losses
from jaxvision.parallel.collectives import over_batch
from jaxvision.parallel.mesh import replicate, shard_batch
from jaxvision.tasks import get_task
from jaxvision.tasks.task import After
from jaxvision.train import accumulation

VIT = dict(name="vit", variant="mu/8", depth=1, width=16, num_heads=2)
TEXT = dict(name="text_transformer", variant="mu", depth=1, width=16, num_heads=2, vocab_size=9, length=4)
RESNET = dict(name="resnet", variant="8", width=0.25)
MODEL = dict(image=VIT, text=TEXT, embedding=8)


def make(model=MODEL, **options):
    return get_task("image_text")(model=partial(models.build, "two_towers", **model), **options)


def of(task):
    """Loss, metrics and gradients, jitted."""

    def loss(params, rest, batch, rng):
        return task.loss({"params": params, **rest}, batch, rng)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def split(variables):
    rest = dict(variables)
    return rest.pop("params"), rest


def close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **(tolerance or dict(rtol=1e-4, atol=1e-6))), a, b)


@pytest.fixture(scope="module")
def batch():
    images = jax.random.normal(jax.random.key(1), (8, 16, 16, 3))
    tokens = jax.random.randint(jax.random.key(2), (8, 4), 1, 9)
    return {"image": images, "tokens": tokens, "label": jnp.arange(8) % 3, "mask": jnp.ones(8, bool)}


@pytest.fixture(scope="module")
def variables(batch):
    return jax.jit(make(MODEL | dict(bias=-2.0)).init)(jax.random.key(0), batch)


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_the_loss_is_that_of_the_embeddings(loss, batch, variables):
    task = make(MODEL | dict(bias=-2.0), loss=loss, chunk=3)
    value, (metrics, _) = jax.jit(task.loss)(variables, batch, jax.random.key(0))
    out = jax.jit(task.outputs)(variables, batch)
    each_loss, correct = losses.LOSSES[loss](out["image_embedding"], out["text_embedding"], 1 / 0.07, -2.0)
    np.testing.assert_allclose(value, each_loss.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["contrastive_top1"], correct.mean())
    np.testing.assert_allclose(metrics["loss_over_chance"], each_loss.mean() / losses.chance_loss(loss, 8), rtol=1e-5)
    np.testing.assert_allclose(metrics["scale"], 1 / 0.07, rtol=1e-5)
    assert metrics["bias"] == -2


def test_a_new_model_guesses(batch):
    """The softmax of B texts costs ln B at first; a large scale makes guesses firm, and dearer."""
    task = make(MODEL | dict(scale=1.0))
    variables = jax.jit(task.init)(jax.random.key(3), batch)
    value, (metrics, _) = jax.jit(task.loss)(variables, batch, jax.random.key(0))
    np.testing.assert_allclose(value, np.log(8), rtol=0.1)
    np.testing.assert_allclose(metrics["loss_over_chance"], value / np.log(8), rtol=1e-5)


def test_where_pairs_are_left_out_the_loss_of_guessing_is_not_told(batch):
    task = make(mask_equal="tokens")
    _, (metrics, _) = jax.eval_shape(
        task.loss, jax.eval_shape(task.init, jax.random.key(0), batch), batch, jax.random.key(0)
    )
    assert set(metrics) == {"contrastive_top1", "scale"}


def test_limits_of_the_scale_follow_the_loss():
    params = {"logit_scale": jnp.log(150.0)}
    limited = make(MODEL | dict(bias=-10.0), loss="softmax").after(After(0, {"params": params}, None, None))["params"]
    np.testing.assert_allclose(jnp.exp(limited["logit_scale"]), 100, rtol=1e-5)
    assert make(MODEL | dict(bias=-10.0), loss="sigmoid").after is None
    with pytest.raises(UserError, match=r"model.scale=120 is above task.max_scale=100"):
        make(MODEL | dict(scale=120.0))


def test_outputs_of_images_of_texts_and_of_several_texts(batch):
    task = make()
    variables = jax.eval_shape(task.init, jax.random.key(0), batch)
    images = jax.eval_shape(task.outputs, variables, {"image": batch["image"]})
    texts = jax.eval_shape(task.outputs, variables, {"tokens": jnp.zeros((8, 3, 4), int)})
    assert images["features"].shape == (8, 16)
    assert images["image_embedding"].shape == (8, 8)
    assert "stages" in images
    assert "text_embedding" not in images
    assert texts["text_embedding"].shape == (8, 3, 8)
    assert texts["text_features"].shape == (8, 3, 16)
    assert "features" not in texts


def test_embeddings_have_length_one(batch, variables):
    out = jax.jit(make(MODEL | dict(bias=-2.0)).outputs)(variables, batch)
    for name in ("image_embedding", "text_embedding"):
        np.testing.assert_allclose(jnp.linalg.norm(out[name], axis=-1), 1, rtol=1e-5)


def test_the_scale_is_cut_down_to_its_limit():
    def after(params):
        return make().after(After(0, {"params": params}, None, None))["params"]

    params = {"logit_scale": jnp.log(150.0), "logit_bias": jnp.zeros(())}
    np.testing.assert_allclose(after(params)["logit_scale"], np.log(100), rtol=1e-6)
    assert make(max_scale=None).after is None
    small = {"logit_scale": jnp.log(3.0)}
    assert after(small)["logit_scale"] == small["logit_scale"]


@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize("loss", losses.LOSSES)
def test_eight_devices_equal_one(loss, ring, batch, variables, mesh):
    devices = mesh()
    task = partial(make, MODEL | dict(bias=-2.0), loss=loss, mask_equal="label")
    params, rest = split(variables)
    expected = of(task())(params, rest, batch, jax.random.key(2))
    spread = task(over_batch=partial(over_batch, mesh=devices), ring=ring)
    got = of(spread)(replicate(params, devices), rest, shard_batch(batch, devices), jax.random.key(2))
    close(got, expected, rtol=2e-3, atol=1e-5)


def test_a_locked_tower_takes_no_gradient_and_is_applied_as_in_evaluation(batch):
    model = MODEL | dict(image=RESNET)
    task = make(model, locked=("image_tower",))
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    params, rest = split(variables)
    (value, (_, updates)), gradients = of(task)(params, rest, batch, jax.random.key(0))
    assert not any(g.any() for g in jax.tree.leaves(gradients["image_tower"]))
    assert any(g.any() for g in jax.tree.leaves(gradients["text_tower"]))
    close(updates, rest, rtol=0)
    out = jax.jit(task.outputs)(variables, batch)
    expected = losses.softmax(out["image_embedding"], out["text_embedding"], 1 / 0.07)[0].mean()
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert task.frozen == ("image_tower_projection", "image_tower")


@pytest.mark.parametrize("loss", [pytest.param("softmax", marks=pytest.mark.slow), "sigmoid"])
def test_accumulated_gradients_are_those_of_the_whole_batch_in_every_leaf(loss, batch):
    """Temperature and bias too, with the dropout masks that the parts draw: the whole batch embedded in these parts."""
    model = MODEL | dict(bias=-2.0, image=VIT | dict(dropout=0.5), text=TEXT | dict(dropout=0.5))
    task = make(model, loss=loss, mask_equal="label")
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    params, rest = split(variables)
    rng = jax.random.key(5)

    def direct(params):
        embedded = []
        for i in range(4):
            part = {name: x[i::4] for name, x in batch.items()}
            embedded.append(task.loss.embed({"params": params}, part, jax.random.fold_in(rng, i))[0])
        together = jax.tree.map(lambda *x: jnp.stack(x, 1).reshape(8, -1), *embedded)
        return task.loss.compare({"params": params}, together, batch)

    (value, metrics), expected = jax.jit(jax.value_and_grad(direct, has_aux=True))(params)
    gradients, _, metrics_of_batch, _ = jax.jit(accumulation.cached(task.loss, 4))(params, rest, batch, rng)
    close(gradients, expected, rtol=1e-4, atol=1e-6)
    close(metrics_of_batch, {"loss": value, **metrics}, rtol=1e-5)
    assert abs(gradients["logit_scale"]) > 1e-3


def test_accumulation_carries_the_statistics_of_every_part(batch):
    task = make(MODEL | dict(image=RESNET))
    params, rest = split(jax.jit(task.init)(jax.random.key(0), batch))
    _, state, _, _ = jax.jit(accumulation.cached(task.loss, 2))(params, rest, batch, jax.random.key(0))
    expected = rest
    for i in range(2):
        part = {name: x[i::2] for name, x in batch.items()}
        expected = jax.jit(task.loss.embed)({"params": params, **expected}, part, jax.random.key(0))[1]
    close(state, expected)


def test_equal_texts_can_be_masked(batch):
    same = {**batch, "tokens": batch["tokens"].at[4:].set(batch["tokens"][:4])}
    variables = jax.jit(make().init)(jax.random.key(0), batch)
    out = jax.jit(make().outputs)(variables, same)
    of_task = lambda **options: jax.jit(make(**options).loss)(variables, same, jax.random.key(0))[0]
    expected = losses.softmax(out["image_embedding"], out["text_embedding"], 1 / 0.07, ids=jnp.arange(8) % 4)[0]
    np.testing.assert_allclose(of_task(mask_equal="tokens"), expected.mean(), rtol=1e-5)
    assert of_task(mask_equal="tokens") < of_task()


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_it_learns_which_text_belongs_to_which_image(loss, batch):
    task = make(MODEL | dict(bias="batch", scale=10.0), loss=loss)
    params, _ = split(jax.jit(task.init)(jax.random.key(0), batch))
    tx = optax.adam(3e-3)

    @jax.jit
    def step(params, state):
        (_, (metrics, _)), gradients = jax.value_and_grad(task.loss, has_aux=True)(
            {"params": params}, batch, jax.random.key(0)
        )
        moves, state = tx.update(gradients["params"], state)
        params = optax.apply_updates(params, moves)
        return task.after(After(0, {"params": params}, None, None))["params"] if task.after else params, state, metrics

    state, records = tx.init(params), []
    for _ in range(60):
        params, state, metrics = step(params, state)
        records.append(jax.device_get(metrics))
    assert records[-1]["contrastive_top1"] == 1
    assert records[-1]["loss_over_chance"] < 0.5 < records[0]["loss_over_chance"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(loss="sigmod"), "unknown value of task.loss 'sigmod'; did you mean 'sigmoid'"),
        (dict(loss="sigmoid"), "needs a bias: set model.bias"),
        (dict(max_scale=0.0), "task.max_scale must be above 0"),
        (dict(locked=("image",)), "unknown value of task.locked 'image'; did you mean 'image_tower'"),
        (dict(locked="image_tower"), "task.locked must be a tuple"),
        (dict(locked=("image_tower", "text_tower")), "nothing is left to train"),
        (dict(chunk=0), "task.chunk must be"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError, match=message):
        make(**options)


def test_batches_that_are_no_pairs_are_an_error_when_the_run_is_built(batch):
    init = lambda batch: jax.eval_shape(make().init, jax.random.key(0), batch)
    with pytest.raises(UserError, match=r"needs tokens with the images: set data.fields"):
        init({"image": batch["image"]})
    with pytest.raises(UserError, match="one view and one text for each image"):
        init({**batch, "tokens": batch["tokens"][:, None]})
    variables = jax.eval_shape(make().init, jax.random.key(0), batch)
    with pytest.raises(UserError, match="unknown value of task.mask_equal 'token'"):
        jax.eval_shape(make(mask_equal="token").loss, variables, batch, jax.random.key(0))


def test_another_model_is_an_error():
    model = partial(models.build, "lenet")
    with pytest.raises(UserError, match="set model.name to 'two_towers'"):
        get_task("image_text")(model=model)
