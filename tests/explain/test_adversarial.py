"""Adversarial examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.errors import UserError
from jaxvision.explain import adversarial
from jaxvision.explain.base import Subject

RNG = np.random.default_rng(0)
W = RNG.normal(size=(48, 3)).astype(np.float32)
IMAGES = RNG.uniform(size=(8, 4, 4, 3)).astype(np.float32)
IMAGES[0, 0] = 0.0
IMAGES[1, 0] = 1.0
LABELS = RNG.integers(3, size=8)


def linear(variables, images):
    """Images are normalised to [-1, 1], as a run does it."""
    return {"logits": ((images - 0.5) / 0.5).reshape(len(images), -1) @ variables}


def loss(images, labels):
    logits = linear(W, images)["logits"]
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)[:, 0]


@pytest.mark.parametrize("epsilon", [8 / 255, 1 / 255, 0.3, 1e-4])
@pytest.mark.parametrize("method", ["fgsm", "pgd"])
@pytest.mark.parametrize("targeted", [False, True])
def test_the_bound_is_met_exactly(method, epsilon, targeted):
    found = adversarial.attack(linear, W, IMAGES, LABELS, method, epsilon, 4, targeted, jax.random.key(0))
    found = np.asarray(found)
    assert np.abs(found - IMAGES).max() <= np.float32(epsilon)
    assert np.abs(found - IMAGES).max() > 0.99 * epsilon
    assert found.min() >= 0
    assert found.max() <= 1
    before, after = (np.asarray(loss(x, LABELS)) for x in (IMAGES, found))
    assert (after < before).all() if targeted else (after > before).all()


def test_the_loss_of_a_linear_model_rises_by_epsilon_times_the_l1_norm():
    """With two classes, the margin is linear in the pixels; away from black and white nothing is cut off."""
    two, epsilon = W[:, :2], 0.01
    images = 0.25 + IMAGES / 2
    labels = LABELS % 2
    found = adversarial.fgsm(linear, two, images, labels, epsilon)

    def margins(x):
        logits = linear(two, x)["logits"]
        return (
            jnp.take_along_axis(logits, 1 - labels[:, None], 1)[:, 0]
            - jnp.take_along_axis(logits, labels[:, None], 1)[:, 0]
        )

    gradient = jax.grad(lambda x: margins(x).sum())(jnp.asarray(images))
    expected = epsilon * np.abs(gradient).sum((1, 2, 3))
    np.testing.assert_allclose(margins(found) - margins(images), expected, rtol=1e-3)


def test_targeted_examples_are_taken_for_the_class():
    for to in range(3):
        found = adversarial.pgd(linear, W, IMAGES, np.full(8, to), 0.3, 5, targeted=True)
        assert (linear(W, found)["logits"].argmax(1) == to).all()


def test_the_part():
    subject = Subject(linear, W, IMAGES, LABELS, ("cat", "dog", "eel"), batch=3)
    shown = adversarial.explain_attack(subject, epsilon=0.3, steps=3, to="dog")
    assert "8 of 8 images are taken for dog" in shown.text
    assert all(row.tiles[2].words.startswith("dog") for row in shown.rows)
    assert "answers change" in adversarial.explain_attack(subject, method="fgsm").text
    with pytest.raises(UserError, match="unknown class 'dogg'.*did you mean 'dog'"):
        adversarial._check(subject, to="dogg")
    with pytest.raises(UserError, match="unknown attack 'cw'.*fgsm, pgd"):
        adversarial._check(subject, method="cw")
