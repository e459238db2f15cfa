"""The evaluator `linear_probe` against Newton's method in float64 and an exhaustive choice of the regularisation."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.data.sources import Info, Source
from jaxvision.errors import UserError
from jaxvision.evals import dataset, linear_probe

K, D = 3, 6


class Noisy(Source):
    """Images of 6 numbers whose classes overlap; the first three are of no use."""

    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.true = rng.integers(0, K, n)
        self.images = rng.integers(0, 256, (n, D)).astype(np.uint8)
        self.images[:, 3:] = np.clip(self.images[:, 3:] / 2 + 90 * np.eye(K)[self.true], 0, 255)
        self.info = Info("noisy", "test" if seed else "train", n, (), K)

    def __len__(self):
        return len(self.true)

    def __getitem__(self, i):
        return {"image": self.images[i].reshape(2, 1, 3), "label": int(self.true[i])}


class Pixels(NamedTuple):
    def outputs(self, variables, batch):
        flat = variables * batch["image"].reshape(len(batch["image"]), -1)
        return {"features": flat, "stages": (flat[:, :3], batch["image"])}


def open_set(source, mesh):
    return dataset.EvalSet(source, host="decode", augment="", batch_size=16, mesh=mesh)


def newton(x, y, l2):
    """Regularised logistic regression on scaled features, solved by Newton's method on all unknowns at once."""
    mean, scale = x.mean(0), x.std(0) + 1e-5
    z = np.hstack([(x - mean) / scale, np.ones((len(x), 1))])
    d = z.shape[1]
    decay = np.diag(np.tile(np.r_[np.full(d - 1, l2), 1e-9], K))  # the bias is free; the sum over classes is too
    w = np.zeros(d * K)
    for _ in range(50):
        p = np.exp(z @ w.reshape(K, d).T)
        p /= p.sum(1, keepdims=True)
        gradient = ((p - np.eye(K)[y]).T @ z).ravel() + decay @ w
        hessian = decay.copy()
        for i in range(len(z)):
            hessian += np.kron(np.diag(p[i]) - np.outer(p[i], p[i]), np.outer(z[i], z[i]))
        w -= np.linalg.solve(hessian, gradient)
    assert np.abs(gradient).max() < 1e-6
    return lambda q: np.hstack([(q - mean) / scale, np.ones((len(q), 1))]) @ w.reshape(K, d).T


def loss_and_accuracy(logits, y):
    logits = logits - logits.max(1, keepdims=True)
    return np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]), np.mean(logits.argmax(1) == y)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("l2", [0.1, 30.0])
def test_the_optimum_is_that_of_newtons_method(mesh, devices, l2, monkeypatch):
    monkeypatch.setattr(linear_probe, "ROWS", 24)  # several chunks, the last one not full
    train, test = Noisy(83, 0), Noisy(41, 1)
    sets = dict(data=open_set(test, mesh(devices)), train=open_set(train, mesh(devices)))
    metrics = linear_probe.make_linear_probe(task=Pixels(), **sets, l2=(l2,))(jnp.float32(3.0))
    logits = newton(3.0 / 255 * train.images, train.true, l2)(3.0 / 255 * test.images)
    loss, top1 = loss_and_accuracy(logits, test.true)
    assert metrics["probe_lbfgs/loss"] == pytest.approx(loss, abs=1e-4)
    assert metrics["probe_lbfgs/top1"] == pytest.approx(top1)
    assert metrics["probe_lbfgs/l2"] == l2
    assert top1 > 0.5  # a third by chance
    assert metrics["examples"] == 41


def test_l2_is_the_best_on_held_out_training_images(mesh):
    train, test = Noisy(60, 0), Noisy(10, 1)
    values = (0.01, 1.0, 100.0, 1e5)
    sets = dict(data=open_set(test, mesh(1)), train=open_set(train, mesh(1)))
    metrics = linear_probe.make_linear_probe(task=Pixels(), **sets, l2=values, holdout=0.3, seed=2)(jnp.float32(1.0))
    order = np.random.default_rng(2).permutation(60)
    held, rest = order[:18], order[18:]
    x = train.images / 255
    accuracy = {
        v: loss_and_accuracy(newton(x[rest], train.true[rest], v)(x[held]), train.true[held])[1] for v in values
    }
    best = max(values, key=lambda v: (accuracy[v], v))
    assert len(set(accuracy.values())) > 1
    assert metrics["probe_lbfgs/l2"] == best
    loss, _ = loss_and_accuracy(newton(x, train.true, best)(test.images / 255), test.true)  # fitted to all again
    assert metrics["probe_lbfgs/loss"] == pytest.approx(loss, abs=1e-3)


def crowded(n=400, latent=5, d=30, k=4, noise=1.0, seed=0):
    """Features that are nearly all sums of a few, in units that differ a millionfold, away from zero."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(2 * n, latent))
    x = z @ rng.normal(size=(latent, d)) + 1e-2 * rng.normal(size=(2 * n, d))
    y = (z @ rng.normal(size=(latent, k)) + noise * rng.gumbel(size=(2 * n, k))).argmax(1)
    x = ((x + 3) * np.logspace(-3, 3, d)).astype(np.float32)
    return (x[:n], y[:n]), (x[n:], y[n:])


SETS = {"overlapping": dict(noise=1.0), "separable": dict(noise=0.0), "few": dict(n=25, noise=0.0)}


@pytest.mark.parametrize("l2", [10.0, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("name", SETS)
def test_the_optimum_is_that_of_scikit_learn_however_weak_the_regularisation(mesh, name, l2):
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed (extra visualize)")
    (x, y), (xt, yt) = crowded(**SETS[name])
    x64 = x.astype(np.float64)
    mean, scale = x64.mean(0), x64.std(0) + linear_probe.EPSILON
    z, zt = (x - mean) / scale, (xt - mean) / scale
    theirs = linear_model.LogisticRegression(C=1 / l2, solver="newton-cholesky", tol=1e-9, max_iter=200).fit(z, y)

    def value(w, b):
        logits = z @ w + b
        logits -= logits[np.arange(len(y)), y][:, None]
        others = np.exp(logits) * (np.arange(logits.shape[1]) != y[:, None])
        return np.log1p(others.sum(1)).sum() + l2 / 2 * np.sum(w**2)

    objective = linear_probe.Objective(x, y, 4, mesh(1))
    fit = objective.minimise(l2, 1000)
    weights, bias = objective.classifier(fit.weights)
    reached = value(weights * scale[:, None], bias + mean @ weights)
    best = value(theirs.coef_.T, theirs.intercept_)
    assert reached == pytest.approx(best, rel=1e-3)  # a limit on the gradient alone ends up to 10 times above it
    accuracy = np.mean((xt @ weights + bias).argmax(1) == yt)
    assert accuracy == pytest.approx(theirs.score(zt, yt), abs=max(0.01, 1.01 / len(yt)))
    assert fit.converged
    # At the weakest regularisation the last digits of float32 count, which differ with how far LLVM optimises.
    assert fit.gap < (1e-5 if l2 == 1e-6 else 1e-6)
    assert fit.iterations < 1000


def test_a_fit_that_ends_early_says_so(mesh, caplog):
    sets = dict(data=open_set(Noisy(41, 1), mesh(1)), train=open_set(Noisy(83, 0), mesh(1)))
    run = linear_probe.make_linear_probe(task=Pixels(), **sets, l2=(1e-4,), max_iterations=2)
    metrics = run(jnp.float32(1.0))
    assert "did not reach the optimum at l2=0.0001: after 2 iterations the objective is about" in caplog.text
    assert metrics["probe_lbfgs/gap"] > 1e-3
    assert metrics["probe_lbfgs/iterations"] == 2
    caplog.clear()
    linear_probe.make_linear_probe(task=Pixels(), **sets, l2=(1e-4, 1e-5, 1e5), max_iterations=2)(jnp.float32(1.0))
    assert "of the 3 values of l2 (the largest is" in caplog.text
    caplog.clear()
    metrics = linear_probe.make_linear_probe(task=Pixels(), **sets, l2=(1e-4,))(jnp.float32(1.0))
    assert not caplog.text
    assert metrics["probe_lbfgs/gap"] < 1e-6


def test_features_that_do_not_differ_fit_the_shares_of_the_classes(mesh, caplog):
    labels = np.array([0, 0, 0, 1, 1, 2])
    objective = linear_probe.Objective(np.full((6, 5), 2.5, np.float32), labels, 3, mesh(1))
    fit = objective.minimise(1e-4, 100)
    weights, bias = objective.classifier(fit.weights)
    np.testing.assert_allclose(np.exp(bias) / np.exp(bias).sum(), [1 / 2, 1 / 3, 1 / 6], rtol=1e-3)
    assert not weights.any()
    assert fit.converged


def test_the_values_are_the_papers():
    assert len(linear_probe.L2) == 45
    np.testing.assert_allclose(linear_probe.L2, np.logspace(-6, 5, 45))


def test_layers_are_probed_one_by_one(mesh):
    sets = dict(data=open_set(Noisy(41, 1), mesh(1)), train=open_set(Noisy(83, 0), mesh(1)))
    layers = ("features", "stages/0")
    together = linear_probe.make_linear_probe(task=Pixels(), **sets, l2=(1.0,), layers=layers)(jnp.float32(1.0))
    for layer in layers:
        alone = linear_probe.make_linear_probe(task=Pixels(), **sets, l2=(1.0,), layers=(layer,))(jnp.float32(1.0))
        assert alone.items() <= together.items()
    assert together["probe_lbfgs_stages.0/top1"] < together["probe_lbfgs/top1"]  # its features are of no use


def test_features_that_are_no_numbers_are_not_right(mesh):
    sets = dict(data=open_set(Noisy(41, 1), mesh(1)), train=open_set(Noisy(83, 0), mesh(1)))
    metrics = linear_probe.make_linear_probe(task=Pixels(), **sets, l2=(1.0,))(jnp.float32(jnp.nan))
    assert metrics["probe_lbfgs/top1"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(layers="features"), "layers must be a tuple"),
        (dict(layers=()), "layers must be a tuple"),
        (dict(l2=()), "l2 must be positive"),
        (dict(l2=(0.0, 1.0)), "l2 must be positive"),
        (dict(holdout=0.001), "holdout=0.001 of 83 images leaves none"),
        (dict(holdout=1.0), "holdout=1.0"),
        (dict(max_iterations=0), "max_iterations must be"),
    ],
)
def test_options_that_make_no_sense(mesh, options, message):
    sets = dict(data=open_set(Noisy(41, 1), mesh(1)), train=open_set(Noisy(83, 0), mesh(1)))
    with pytest.raises(UserError, match=message):
        linear_probe.make_linear_probe(task=Pixels(), **sets, **options)
