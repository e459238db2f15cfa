"""Losses against naive loops in NumPy."""

import jax
import numpy as np
import pytest

from jaxvision import losses
from jaxvision.errors import UserError
from jaxvision.losses import classification


def _naive_softmax(logits, targets):
    losses = []
    for row, target in zip(logits, targets):
        exp = [np.exp(v - max(row)) for v in row]
        losses.append(-sum(t * np.log(e / sum(exp)) for t, e in zip(target, exp)))
    return np.array(losses)


def _naive_sigmoid(logits, targets):
    p = 1 / (1 + np.exp(-logits))
    return -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum(1)


def _naive_squared(logits, targets):
    return np.array([sum((z - t) ** 2 for z, t in zip(row, target)) / 2 for row, target in zip(logits, targets)])


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_naive_loop(name, smoothing):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 5)), rng.integers(0, 5, 6)
    targets = np.eye(5)[labels] * (1 - smoothing) + smoothing / 5
    naive = {
        "softmax_cross_entropy": _naive_softmax,
        "sigmoid_cross_entropy": _naive_sigmoid,
        "squared_error": _naive_squared,
    }[name]
    loss = losses.get_loss(name)(jax.numpy.asarray(logits), jax.numpy.asarray(labels), smoothing)
    np.testing.assert_allclose(loss, naive(logits, targets), rtol=1e-5)


def test_numbers_of_the_textbook():
    """Scores 3.2, 5.1, -1.7 with the first class right: 2.040355 nats (CS231n's example, natural logarithm)."""
    loss = classification.softmax_cross_entropy(jax.numpy.array([[3.2, 5.1, -1.7]]), jax.numpy.array([0]))
    np.testing.assert_allclose(loss, [2.040355], rtol=1e-6)


def test_soft_labels_are_linear():
    """The loss of a mixed label is the mixed loss, which is what mixup relies on (Zhang et al. 2018, sec. 2)."""
    logits = jax.random.normal(jax.random.key(0), (4, 3))
    a, b = jax.nn.one_hot(np.array([0, 1, 2, 0]), 3), jax.nn.one_hot(np.array([2, 2, 1, 1]), 3)
    mixed = classification.softmax_cross_entropy(logits, 0.3 * a + 0.7 * b)
    parts = [classification.softmax_cross_entropy(logits, t) for t in (a, b)]
    np.testing.assert_allclose(mixed, 0.3 * parts[0] + 0.7 * parts[1], rtol=1e-5)


def test_unknown_loss():
    with pytest.raises(UserError, match="did you mean 'softmax_cross_entropy'"):
        losses.get_loss("softmax_crossentropy")


MASKED = np.array([[1.0, -np.inf, 0.5, -1.0], [-np.inf, 2.0, 0.0, -np.inf], [0.3, 0.1, -np.inf, 0.2]], np.float32)
MASKED_LABELS = np.array([0, 2, 3])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("form", ["numbers", "one-hot", "mixed"])
def test_masked_classes_leave_the_softmax_loss_of_the_others(smoothing, form):
    """In value and gradient as if the class were not there; smoothing spreads over those that are."""
    one_hot = np.eye(4, dtype=np.float32)[MASKED_LABELS]
    unmasked = np.isfinite(MASKED)
    mixed = 0.7 * one_hot + 0.3 * np.eye(4, dtype=np.float32)[[3, 1, 0]]
    labels = {"numbers": MASKED_LABELS, "one-hot": one_hot, "mixed": mixed}[form]
    rows = mixed if form == "mixed" else one_hot
    of = lambda z: classification.softmax_cross_entropy(z, jax.numpy.asarray(labels), smoothing).sum()
    loss = classification.softmax_cross_entropy(jax.numpy.asarray(MASKED), jax.numpy.asarray(labels), smoothing)
    gradient = np.asarray(jax.grad(of)(jax.numpy.asarray(MASKED)))
    for i in range(3):
        keep = unmasked[i]
        target = rows[i, keep] * (1 - smoothing) + smoothing / keep.sum()
        np.testing.assert_allclose(loss[i], _naive_softmax(MASKED[i : i + 1, keep], target[None])[0], rtol=1e-5)
        p = np.exp(MASKED[i, keep]) / np.exp(MASKED[i, keep]).sum()
        np.testing.assert_allclose(gradient[i, keep], p - target, atol=1e-6)
        np.testing.assert_array_equal(gradient[i, ~keep], 0)


def test_the_loss_of_a_label_that_is_masked_is_infinite():
    loss = classification.softmax_cross_entropy(jax.numpy.asarray(MASKED), jax.numpy.array([1, 2, 3]))
    assert np.isposinf(loss[0])
    assert np.isfinite(loss[1:]).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sure_answers_of_the_sigmoid_that_are_right_cost_nothing(smoothing):
    logits = jax.numpy.array([[np.inf, -np.inf, 0.0]]) if smoothing == 0 else jax.numpy.array([[1.0, -np.inf, 0.0]])
    of = lambda z: classification.sigmoid_cross_entropy(z, jax.numpy.array([[1.0, 0.0, 1.0]]), smoothing).sum()
    target = np.array([1.0, 1.0]) * (1 - smoothing) + smoothing / 2
    z = np.array([0.0]) if smoothing == 0 else np.array([1.0, 0.0])
    expected = _naive_sigmoid(z[None], target[None, -len(z) :])[0]
    np.testing.assert_allclose(of(logits), expected, rtol=1e-5)
    gradient = np.asarray(jax.grad(of)(logits))
    assert np.isfinite(gradient).all()
    assert gradient[0, 1] == 0
    wrong = classification.sigmoid_cross_entropy(jax.numpy.array([[np.inf, 0.0]]), jax.numpy.array([[0.0, 1.0]]))
    assert np.isposinf(wrong[0])


def test_losses_equal_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed (extra parity)")
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(8, 5)).astype(np.float32) * 5, rng.integers(0, 5, 8)
    for smoothing in (0.0, 0.1):
        mine = classification.softmax_cross_entropy(jax.numpy.asarray(logits), jax.numpy.asarray(labels), smoothing)
        theirs = torch.nn.functional.cross_entropy(
            torch.tensor(logits), torch.tensor(labels), reduction="none", label_smoothing=smoothing
        )
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    masked = torch.nn.functional.cross_entropy(torch.tensor(MASKED), torch.tensor(MASKED_LABELS), reduction="none")
    mine = classification.softmax_cross_entropy(jax.numpy.asarray(MASKED), jax.numpy.asarray(MASKED_LABELS))
    np.testing.assert_allclose(mine, masked, rtol=1e-5)


def test_squared_error_is_half_the_squared_distance_to_the_one_hot_label():
    losses = classification.squared_error(np.array([[0.5, 2.0, -1.0]]), np.array([1]))
    np.testing.assert_allclose(losses, [0.5 * (0.25 + 1 + 1)])
