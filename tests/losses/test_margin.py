"""Losses of margins: values and gradients against loops, the support vector machine, the perceptron's bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import losses
from jaxvision.errors import UserError
from jaxvision.losses.margin import binary_hinge, hinge, perceptron, squared_hinge


def naive(name, scores, label):
    """The loss of one example and its gradient, class by class."""
    gradient = np.zeros_like(scores)
    if name == "binary_hinge":
        signs = np.where(np.arange(len(scores)) == label, 1, -1)
        gradient = np.where(1 - signs * scores > 0, -signs, 0).astype(float)
        return sum(max(0, 1 - t * s) for t, s in zip(signs, scores)), gradient
    total, violations = 0.0, {}
    for j, score in enumerate(scores):
        if j != label:
            violations[j] = score - scores[label] + (name != "perceptron")
    if name == "perceptron":
        j = max(violations, key=violations.get)
        violations = {j: violations[j]}
    for j, violation in violations.items():
        if violation > 0:
            total += violation**2 if name == "squared_hinge" else violation
            slope = 2 * violation if name == "squared_hinge" else 1
            gradient[j] += slope
            gradient[label] -= slope
    return total, gradient


@pytest.mark.parametrize("name", ["hinge", "squared_hinge", "perceptron", "binary_hinge"])
def test_values_and_gradients_are_those_of_a_loop(name):
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(8, 5)) * 2, rng.integers(0, 5, 8)
    loss = losses.get_loss(name)
    want, gradients = zip(*(naive(name, row, label) for row, label in zip(scores, labels)))
    assert np.mean(np.array(want) > 0) > 0
    scores, one_hot = jnp.asarray(scores), jnp.eye(5)[labels]
    for form in (jnp.asarray(labels), one_hot):
        np.testing.assert_allclose(loss(scores, form), want, rtol=1e-5, atol=1e-6)
        gradient = jax.grad(lambda s, form=form: loss(s, form).sum())(scores)
        np.testing.assert_allclose(gradient, gradients, rtol=1e-5, atol=1e-6)
    other = jnp.eye(5)[(labels + 1) % 5]
    mixed = loss(scores, 0.3 * one_hot + 0.7 * other)
    np.testing.assert_allclose(mixed, 0.3 * loss(scores, one_hot) + 0.7 * loss(scores, other), rtol=1e-5)


def test_numbers_of_the_textbook():
    """CS231n's cat, car and frog: 2.9, 0 and 12.9."""
    scores = jnp.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])
    np.testing.assert_allclose(hinge(scores, jnp.array([0, 1, 2])), [2.9, 0, 12.9], rtol=1e-5)
    np.testing.assert_allclose(perceptron(scores, jnp.array([0, 1, 2])), [1.9, 0, 5.6], rtol=1e-5)


@pytest.mark.parametrize("loss", [hinge, squared_hinge, perceptron, binary_hinge])
@pytest.mark.parametrize("form", ["numbers", "one-hot"])
def test_masked_classes_violate_no_margin(loss, form):
    scores = jnp.array([[1.0, -jnp.inf, 0.5], [-jnp.inf, 0.0, -jnp.inf]])
    labels = jnp.array([0, 1]) if form == "numbers" else jnp.eye(3)[jnp.array([0, 1])]
    gradient = jax.grad(lambda s: loss(s, labels).sum())(scores)
    assert np.isfinite(gradient).all()
    assert (gradient[scores == -jnp.inf] == 0).all()
    np.testing.assert_allclose(loss(scores, labels)[0], loss(scores[:1, ::2], jnp.array([0]))[0])
    assert np.isposinf(loss(scores, jnp.array([1, 1]))[0])


def test_several_labels_and_smoothing():
    targets = jnp.array([[1.0, 1.0, 0.0]])
    np.testing.assert_allclose(binary_hinge(jnp.array([[0.5, 2.0, 0.25]]), targets), [0.5 + 0 + 1.25])
    assert losses.smoothed("binary_hinge", 0.0, multi_label=True) is binary_hinge
    with pytest.raises(UserError, match="set task.loss to 'sigmoid_cross_entropy' or 'binary_hinge', not 'hinge'"):
        losses.smoothed("hinge", 0.0, multi_label=True)
    with pytest.raises(UserError, match="the loss 'hinge' has no parameter smoothing"):
        losses.smoothed("hinge", 0.1)


def test_a_support_vector_machine_has_a_margin_of_two_over_its_norm():
    """Points at x = -1 and x = 1: the smallest w with hinge zero has 2 / |w| = 2, the distance of the classes."""
    x = np.array([[1.0, 0.3], [1.0, -2.0], [3.0, 1.0], [-1.0, 1.0], [-1.0, -0.5], [-2.0, 4.0]], np.float32)
    label = jnp.array([1, 1, 1, 0, 0, 0])

    strength = 0.1  # of |w|^2 / 2, weak enough that no example is worth a violation

    def objective(w):
        score = x @ w[:2] + w[2]
        return 0.5 * strength * jnp.square(w[:2]).sum() + hinge(jnp.stack([-score / 2, score / 2], 1), label).mean()

    def step(carry, i):
        w, mean = carry
        w -= jax.grad(objective)(w) / (strength * (i + 10))  # Shalev-Shwartz et al. 2007 (Pegasos)
        return (w, mean + (w - mean) * 2 / (i + 2)), None

    _, w = jax.jit(lambda w: jax.lax.scan(step, (w, w), jnp.arange(5000.0))[0])(jnp.zeros(3))
    score = x @ w[:2] + w[2]
    np.testing.assert_allclose(hinge(jnp.stack([-score / 2, score / 2], 1), label), np.zeros(6), atol=0.02)
    sign = np.where(label == 1, 1, -1)
    distance = (sign * score).min() / np.linalg.norm(w[:2])
    assert 2 * distance == pytest.approx(2.0, rel=0.02)  # the width of the street
    assert 2 / np.linalg.norm(w[:2]) == pytest.approx(2.0, rel=0.03)


def test_a_perceptron_makes_no_more_mistakes_than_its_bound():
    """Novikoff 1962: at most (R / gamma)^2 updates on a separable set, by steps of length 1 on the loss."""
    rng = np.random.default_rng(0)
    truth = np.array([0.6, -0.8])
    x = rng.uniform(-1, 1, (200, 2))
    x = x[np.abs(x @ truth) > 0.05].astype(np.float32)
    label = (x @ truth > 0).astype(np.int32)
    bound = (np.linalg.norm(x, axis=1).max() / np.abs(x @ truth).min()) ** 2

    def of(w, x, label):
        score = x @ w
        return perceptron(jnp.stack([-score / 2, score / 2])[None], label[None])[0]

    def example(carry, item):
        w, mistakes = carry
        wrong = (2 * item[1] - 1) * (item[0] @ w) <= 0
        return (w - jax.grad(of)(w, *item), mistakes + wrong), None

    epoch = jax.jit(lambda carry: jax.lax.scan(example, carry, (x, jnp.asarray(label)))[0])
    w, mistakes, before = jnp.zeros(2), jnp.int32(0), -1
    while int(mistakes) != before:
        before = int(mistakes)
        w, mistakes = epoch((w, mistakes))
    assert 0 < int(mistakes) <= bound
    assert ((x @ w > 0) == label).all()


def test_least_squares_is_the_limit_of_gradient_descent():
    """On `squared_error`: the closed form (X^T X)^-1 X^T y, and descent until nothing changes."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)).astype(np.float32), rng.normal(size=(20, 2)).astype(np.float32)
    closed = np.linalg.solve(x.T @ x, x.T @ y)
    objective = lambda w: losses.get_loss("squared_error")(x @ w, jnp.asarray(y)).mean()
    step = lambda w, _: (w - 0.5 * jax.grad(objective)(w), None)
    descended = jax.jit(lambda w: jax.lax.scan(step, w, length=500)[0])(jnp.zeros((3, 2)))
    np.testing.assert_allclose(descended, closed, rtol=1e-4, atol=1e-5)
