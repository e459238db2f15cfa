"""The losses of DINO against loops over views and examples, and its schedules against the authors' formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses import self_distillation as losses
from jaxvision.parallel.mesh import shard_batch


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def scores():
    """Scores of five views of four images by the student, and of the first two of them by the teacher."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, 5, 6)).astype(np.float32), rng.normal(size=(4, 2, 6)).astype(np.float32)


def test_cross_entropy_of_all_pairs_of_different_views(scores):
    """Caron et al. 2021, alg. 1 and eq. 3."""
    student, teacher = scores
    centre = np.linspace(-1, 1, 6)
    targets = softmax((teacher - centre) / 0.04)
    expected = np.zeros(4)
    for i in range(4):
        terms = [
            -(targets[i, g] * np.log(softmax(student[i, v] / 0.1))).sum() for g in range(2) for v in range(5) if v != g
        ]
        expected[i] = np.mean(terms)
    mine = losses.centred(jnp.asarray(teacher), jnp.asarray(centre), 0.04)
    np.testing.assert_allclose(mine, targets, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(losses.cross_view_entropy(jnp.asarray(student), mine), expected, rtol=1e-5)


def test_masked_patches_are_averaged_image_by_image():
    """Zhou et al. 2022, eq. 2; an image without a mask counts with 0."""
    rng = np.random.default_rng(3)
    student, teacher = rng.normal(size=(2, 3, 4, 6)).astype(np.float32)
    masked = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]], bool)
    targets = softmax(teacher / 0.05)
    each = lambda i, n: -(targets[i, n] * np.log(softmax(student[i, n] / 0.1))).sum()
    expected = [(each(0, 0) + each(0, 2)) / 2, 0, each(2, 1)]
    np.testing.assert_allclose(losses.masked_entropy(student, targets, masked), expected, rtol=1e-5)


def test_no_gradient_reaches_the_teacher(scores):
    student, teacher = map(jnp.asarray, scores)
    of = lambda t, c: losses.cross_view_entropy(student, losses.centred(t, jax.lax.stop_gradient(c), 0.04)).sum()
    assert not np.any(jax.grad(of)(teacher, jnp.zeros(6)))


def test_the_entropies_of_a_collapse():
    one, all_alike = jnp.eye(8)[:1], jnp.full((1, 8), 1 / 8)
    np.testing.assert_allclose(losses.entropy(one), 0)
    np.testing.assert_allclose(losses.entropy(all_alike), np.log(8), rtol=1e-6)


def test_temperature_is_that_of_the_authors():
    """DINOv2's schedule by steps; DINO's by epochs is the same line, taken at the beginning of each epoch."""
    epochs, length = 6, 10
    steps = np.concatenate([np.linspace(0.04, 0.07, 4 * length), np.full((epochs - 4) * length, 0.07)])
    mine = [float(losses.temperature_at(s, 0.04, 0.07, 4 * length)) for s in range(epochs * length)]
    np.testing.assert_allclose(mine, steps, rtol=1e-6)
    stairs = np.repeat(np.concatenate([np.linspace(0.04, 0.07, 4), np.full(epochs - 4, 0.07)]), length)
    assert np.abs(mine - stairs).max() <= (0.07 - 0.04) / 3
    assert float(losses.temperature_at(0, 0.04, 0.07, 0)) == pytest.approx(0.07)


def test_koleo_is_the_distance_to_the_nearest_other_image():
    x = np.random.default_rng(1).normal(size=(7, 3))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    nearest = [min(np.linalg.norm(unit[i] - unit[j]) for j in range(7) if j != i) for i in range(7)]
    np.testing.assert_allclose(losses.koleo(jnp.asarray(x)), -np.log(nearest).mean(), rtol=1e-5)
    equal = jax.value_and_grad(losses.koleo)(jnp.ones((3, 4)))
    np.testing.assert_allclose(equal[0], -np.log(2e-8), rtol=1e-5)
    assert np.isfinite(equal[1]).all()


def test_koleo_on_eight_devices_is_that_of_one(mesh):
    x = np.random.default_rng(2).normal(size=(16, 4)).astype(np.float32)
    of = jax.jit(jax.value_and_grad(losses.koleo))
    alone, spread = of(x), of(shard_batch({"x": x}, mesh())["x"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), alone, spread)
