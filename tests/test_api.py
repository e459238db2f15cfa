"""The Python side: the functions that `import jaxvision` gives, against what they are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvision
from jaxvision.data import order
from jaxvision.errors import UserError
from jaxvision.models import weights

MODEL = dict(name="resnet", variant="8", width=0.25)


@pytest.fixture(scope="module")
def images():
    """Two classes, dark and bright: uint8 [32, 16, 16, 3] and int [32]."""
    labels = np.arange(32) % 2
    noise = np.random.default_rng(0).integers(0, 128, (32, 16, 16, 3))
    return (noise + 127 * labels[:, None, None, None]).astype(np.uint8), labels


@pytest.fixture(scope="module")
def trained(images):
    stream = jaxvision.batches(dict(image=images[0], label=images[1]), 16)
    training = jaxvision.create_training(
        next(stream),
        model=MODEL,
        optimizer=dict(name="adamw", learning_rate=1e-2, warmup="2 steps"),
        augment="flip_lr|normalize(0.5, 0.5)",
        classes=2,
        total=12,
    )
    state, step = training.init(), jax.jit(training.step, donate_argnums=0)
    for _ in range(12):
        state, metrics = step(state, next(stream))
    return training, state, metrics


def test_every_name_is_there_and_in_dir():
    assert set(jaxvision.__all__) <= set(dir(jaxvision))
    assert all(getattr(jaxvision, name).__doc__ for name in jaxvision.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        jaxvision.nothing  # noqa: B018


def test_training_learns_and_its_outputs_tell_the_classes(trained, images):
    training, state, metrics = trained
    assert int(state.step) == 12
    assert float(metrics["top1"]) == 1.0
    logits = jaxvision.features(training.outputs, state.variables, images[0], layer="logits", batch_size=24)
    np.testing.assert_array_equal(logits.argmax(-1), images[1])


def test_features_are_those_of_the_model_itself(trained, images):
    training, state, _ = trained
    model = jaxvision.create_model(num_classes=2, **MODEL)
    expected, _ = model.apply(state.variables, jnp.asarray(images[0]) / 127.5 - 1, train=False)
    features = jaxvision.features(training.outputs, state.variables, images[0], batch_size=7)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    floats = jaxvision.features(training.outputs, state.variables, images[0] / 255, batch_size=32)
    np.testing.assert_allclose(floats, expected, rtol=1e-4, atol=1e-5)


def test_batches_are_those_of_a_run(images):
    stream = jaxvision.batches(dict(label=np.arange(32)), 12, seed=3, start=2)
    np.testing.assert_array_equal(next(stream)["label"], order.indices(3, 32, 24, 36))
    np.testing.assert_array_equal(next(stream)["label"], order.indices(3, 32, 36, 48))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jaxvision.batches(dict(a=np.zeros(3), b=np.zeros(4)), 2), "have one length, not {'a': 3, 'b': 4}"),
        (lambda: jaxvision.batches(dict(a=np.zeros(3)), 4), "from 1 to 3, the number of examples, not 4"),
        (lambda: jaxvision.create_model("vitt"), "did you mean 'vit'"),
        (lambda: jaxvision.load("nowhere"), "nowhere"),
        (lambda: jaxvision.load_weights("a.npz", "tim", "vit"), "unknown value of init.source 'tim'"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(UserError, match=message):
        call()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(np.zeros((4, 4, 3)), r"not \[4, 4, 3\]"), (np.zeros((1, 4, 4, 3), int), "not int64")],
)
def test_images_of_another_form_are_named(trained, wrong, message):
    with pytest.raises(UserError, match=message):
        jaxvision.features(trained[0].outputs, trained[1].variables, wrong)


def test_a_layer_that_there_is_not_names_those_that_there_are(trained, images):
    with pytest.raises(UserError, match="unknown layer 'pooled'.*logits"):
        jaxvision.features(trained[0].outputs, trained[1].variables, images[0], layer="pooled")


def test_a_misspelt_key_of_a_section_is_named(images):
    batch = dict(image=images[0], label=images[1])
    with pytest.raises(UserError, match="optimizer.learning_rat"):
        jaxvision.create_training(batch, model=MODEL, optimizer=dict(name="sgd", learning_rat=0.1), classes=2, total=2)
    with pytest.raises(UserError, match="names no classes|needs labels"):
        jaxvision.create_training(batch, model=MODEL, optimizer=dict(name="sgd", learning_rate=0.1), total=2)


TINY = dict(variant="mu/8", num_classes=4, image_size=16)


def exported(path, **options):
    """A file in timm's names of a ViT drawn at random, and its variables."""
    model = jaxvision.create_model("vit", 4, variant="mu/8", pool="token", posemb="learned", **options)
    variables = jax.jit(model.init, static_argnames="train")(jax.random.key(1), jnp.zeros((1, 16, 16, 3)), train=False)
    np.savez(path, **weights.export_weights(variables, "timm", "vit"))
    return variables


OF_TIMM = dict(pool="token", posemb="learned", gelu="exact")


def test_weights_of_another_library_are_those_of_the_file(tmp_path):
    expected = exported(tmp_path / "vit.npz")
    model, variables = jaxvision.load_weights(str(tmp_path / "vit.npz"), "timm", "vit", **TINY, **OF_TIMM)
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    assert model.apply(variables, jnp.zeros((2, 16, 16, 3)), train=False)[1]["logits"].shape == (2, 4)


def test_a_model_that_computes_something_else_than_its_weights_is_refused(tmp_path):
    exported(tmp_path / "vit.npz")
    with pytest.raises(UserError, match="gelu: .* computes 'exact' .*the model here 'tanh'"):
        jaxvision.load_weights(str(tmp_path / "vit.npz"), "timm", "vit", **TINY, pool="token", posemb="learned")
