"""Losses against naive loops in NumPy."""

import jax
import numpy as np
import pytest

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


@pytest.mark.parametrize("name", sorted(classification.LOSSES))
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
    loss = classification.get(name)(jax.numpy.asarray(logits), jax.numpy.asarray(labels), smoothing)
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
        classification.get("softmax_crossentropy")
