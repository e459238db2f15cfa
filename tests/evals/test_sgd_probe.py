"""The evaluator `sgd_probe` against SGD written out, and that it augments what it trains on."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.data import order
from jaxvision.data.sources import Info, Source
from jaxvision.errors import UserError
from jaxvision.evals import dataset, sgd_probe

K = 3


class Sided(Source):
    """Images whose left pixel is the colour of their class, with noise; the right one is black."""

    def __init__(self, n, seed, mirrored=False):
        rng = np.random.default_rng(seed)
        self.true = rng.integers(0, K, n)
        self.images = np.zeros((n, 1, 2, 3), np.uint8)
        noise = rng.integers(0, 60, (n, 3))
        self.images[:, 0, int(mirrored)] = 180 * np.eye(K, dtype=int)[self.true] + noise
        self.info = Info("sided", "test" if seed else "train", n, (), K)

    def __len__(self):
        return len(self.true)

    def __getitem__(self, i):
        return {"image": self.images[i], "label": int(self.true[i])}


class Pixels(NamedTuple):
    def outputs(self, variables, batch):
        return {"features": variables * batch["image"].reshape(len(batch["image"]), -1), "map": batch["image"]}


def open_set(source, mesh):
    return dataset.EvalSet(source, host="decode", augment="", batch_size=16, mesh=mesh)


def written_out(x, y, epochs, batch, rate, momentum, seed):
    """Nesterov SGD with a cosine from the first step, in float64."""
    x = np.hstack([x, np.ones((len(x), 1))])
    w, v = np.zeros((x.shape[1], K)), np.zeros((x.shape[1], K))
    steps = epochs * len(x) // batch
    for step in range(steps):
        rows = order.indices(seed, len(x), step * batch, (step + 1) * batch)
        p = np.exp(x[rows] @ w)
        p /= p.sum(1, keepdims=True)
        g = x[rows].T @ (p - np.eye(K)[y[rows]]) / batch
        v = momentum * v + g
        w -= rate * 0.5 * (1 + np.cos(np.pi * step / steps)) * (g + momentum * v)
    return w


@pytest.mark.parametrize(
    ("devices", "options"),  # from kept features, and from images whose normalisation follows what augments them
    [(1, {}), (8, {}), (1, dict(train_host="decode")), (8, dict(train_augment="flip_lr(0.0)"))],
)
def test_the_classifier_is_that_of_sgd_written_out(mesh, devices, options):
    train, test = Sided(60, 0), Sided(33, 1)
    normalised = dict(host="decode", augment="normalize(0.3, 0.5)", batch_size=16, mesh=mesh(devices))
    metrics = sgd_probe.make_sgd_probe(
        task=Pixels(),
        data=dataset.EvalSet(test, **normalised),
        train=dataset.EvalSet(train, **normalised),
        epochs=3,
        train_batch_size=16,
        learning_rate=2.0,
        momentum=0.8,
        seed=5,
        **options,
    )(jnp.float32(2.0))
    x, queries = (2.0 * (s.images.reshape(len(s), -1) / 255 - 0.3) / 0.5 for s in (train, test))
    w = written_out(x, train.true, 3, 16, 2.0 * 16 / 256, 0.8, seed=5)
    logits = np.hstack([queries, np.ones((33, 1))]) @ w
    loss = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(33), test.true])
    name = "probe_sgd3_augmented" if options else "probe_sgd3"
    assert metrics[f"{name}/loss"] == pytest.approx(loss, rel=1e-4)
    assert metrics[f"{name}/top1"] == pytest.approx(np.mean(logits.argmax(1) == test.true))
    assert set(metrics) == {f"{name}/loss", f"{name}/top1", "examples"}


def test_images_are_augmented_anew_while_it_trains(mesh):
    # All mirrored images are black where the training images have their colour, unless those are flipped.
    sets = dict(data=open_set(Sided(40, 1, mirrored=True), mesh(1)), train=open_set(Sided(64, 0), mesh(1)))
    options = dict(epochs=40, train_batch_size=16, learning_rate=5.0)
    plain = sgd_probe.make_sgd_probe(task=Pixels(), **sets, **options)(jnp.float32(1.0))
    flipped = sgd_probe.make_sgd_probe(task=Pixels(), **sets, **options, train_augment="flip_lr")(jnp.float32(1.0))
    assert plain["probe_sgd40/top1"] < 0.7
    assert flipped["probe_sgd40_augmented/top1"] == 1


def test_a_set_that_is_streamed_gives_what_one_in_memory_does(mesh, monkeypatch):
    sets = lambda: dict(data=open_set(Sided(40, 1), mesh(8)), train=open_set(Sided(64, 0), mesh(8)))
    options = dict(epochs=2, train_batch_size=16, train_augment="flip_lr")
    kept = sgd_probe.make_sgd_probe(task=Pixels(), **sets(), **options)(jnp.float32(1.0))
    monkeypatch.setattr(dataset, "RESIDENT_BYTES", 0)
    assert sgd_probe.make_sgd_probe(task=Pixels(), **sets(), **options)(jnp.float32(1.0)) == pytest.approx(kept)


def test_layers_share_nothing_but_the_pass(mesh):
    sets = dict(data=open_set(Sided(40, 1), mesh(1)), train=open_set(Sided(64, 0), mesh(1)))
    options = dict(epochs=2, train_batch_size=16, train_augment="flip_lr")
    together = sgd_probe.make_sgd_probe(task=Pixels(), **sets, **options, layers=("features", "map"))(jnp.float32(1.0))
    for layer in ("features", "map"):
        alone = sgd_probe.make_sgd_probe(task=Pixels(), **sets, **options, layers=(layer,))(jnp.float32(1.0))
        for name, value in alone.items():
            assert together[name] == pytest.approx(value), name
    assert "probe_sgd2_augmented_map/top1" in together


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(epochs=0), "epochs must be"),
        (dict(learning_rate=0), "learning_rate must be above 0"),
        (dict(momentum=1.0), "learning_rate must be above 0 and momentum in"),
        (dict(train_batch_size=12), "does not divide over 8 devices"),
        (dict(train_augment="flip"), "did you mean 'flip_"),
        (dict(train_batch_size=128), "train_batch_size is 128, but train of .* has only 64 images"),
    ],
)
def test_options_that_make_no_sense(mesh, options, message):
    sets = dict(data=open_set(Sided(40, 1), mesh(8)), train=open_set(Sided(64, 0), mesh(8)))
    with pytest.raises(UserError, match=message):
        sgd_probe.make_sgd_probe(task=Pixels(), **sets, **options)


def test_variables_are_only_read(mesh):
    sets = dict(data=open_set(Sided(40, 1), mesh(1)), train=open_set(Sided(64, 0), mesh(1)))
    variables = jax.random.normal(jax.random.key(0), (6,))
    before = np.array(variables)
    sgd_probe.make_sgd_probe(task=Pixels(), **sets, epochs=1, train_batch_size=16, train_augment="flip_lr")(variables)
    np.testing.assert_array_equal(variables, before)
