"""Contrastive losses against naive loops, and what they must not depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxvision.losses import contrastive

nt_xent = jax.jit(contrastive.nt_xent, static_argnames="chunk")
supervised_contrastive = jax.jit(contrastive.supervised_contrastive, static_argnames="chunk")
TEMPERATURES = (0.05, 0.5, 2.0)


def embeddings(b=5, v=2, d=7, seed=0):
    return np.random.default_rng(seed).normal(size=(b, v, d))


def naive(z, labels, temperature):
    """Loss and correctness of each view by the definition (Khosla et al. 2020, eq. 2), in float64."""
    b, v, _ = z.shape
    flat = [z[i, j] / np.sqrt(np.sum(z[i, j] ** 2)) for i in range(b) for j in range(v)]
    classes = [labels[i] for i in range(b) for _ in range(v)]
    losses, correct = [], []
    for i, anchor in enumerate(flat):
        others = [k for k in range(len(flat)) if k != i]
        scores = {k: float(np.dot(anchor, flat[k])) for k in others}
        denominator = sum(np.exp(scores[k] / temperature) for k in others)
        positives = [k for k in others if classes[k] == classes[i]]
        losses.append(-np.mean([np.log(np.exp(scores[k] / temperature) / denominator) for k in positives]))
        correct.append(max(others, key=scores.get) in positives)
    return np.reshape(losses, (b, v)), np.reshape(correct, (b, v))


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("views", [2, 3])
def test_nt_xent_equals_the_naive_loop(temperature, views):
    z = embeddings(v=views)
    loss, correct = nt_xent(jnp.asarray(z), temperature)
    expected, right = naive(z, range(len(z)), temperature)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_array_equal(correct, right)


def test_nt_xent_equals_the_sum_over_negatives_of_the_paper():
    """Equation 1 for a pair written out, in another way than the loop above: 2N - 2 negatives and the positive."""
    z, t = embeddings(b=4), 0.3
    unit = z / np.linalg.norm(z, axis=-1, keepdims=True)
    a, b = unit[:, 0], unit[:, 1]
    positive = np.exp((a * b).sum(-1) / t)
    negatives = np.exp(a @ a.T / t).sum(1) - np.exp(1 / t) + np.exp(a @ b.T / t).sum(1) - positive
    expected = -np.log(positive / (positive + negatives))
    np.testing.assert_allclose(nt_xent(jnp.asarray(z), t)[0][:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_supervised_contrastive_equals_the_naive_loop(temperature):
    z, labels = embeddings(b=7), np.array([0, 2, 0, 1, 2, 0, 5])
    loss, correct = supervised_contrastive(jnp.asarray(z), jnp.asarray(labels), temperature)
    expected, right = naive(z, labels, temperature)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_array_equal(correct, right)


def test_swapping_the_views_swaps_their_losses():
    z = jnp.asarray(embeddings())
    for swapped, kept in zip(nt_xent(z[:, ::-1]), nt_xent(z)):
        np.testing.assert_allclose(swapped[:, ::-1], kept, rtol=1e-5)


def test_permuting_the_batch_permutes_the_losses():
    z, order = jnp.asarray(embeddings()), np.array([3, 0, 4, 2, 1])
    for permuted, kept in zip(nt_xent(z[order]), nt_xent(z)):
        np.testing.assert_allclose(permuted, kept[order], rtol=1e-5)


def test_lengths_do_not_matter():
    z = embeddings()
    scaled = z * np.random.default_rng(1).uniform(0.1, 10, (*z.shape[:2], 1))
    np.testing.assert_allclose(nt_xent(jnp.asarray(scaled))[0], nt_xent(jnp.asarray(z))[0], rtol=1e-4)


def test_at_high_temperature_all_other_views_are_equally_likely():
    loss, _ = nt_xent(jnp.asarray(embeddings(b=6)), temperature=1e6)
    np.testing.assert_allclose(loss, np.log(2 * 6 - 1), rtol=1e-5)


def test_at_low_temperature_a_separated_batch_has_no_loss_and_full_accuracy():
    z = jnp.repeat(jnp.eye(6)[:, None], 2, axis=1)
    loss, correct = nt_xent(z, temperature=0.01)
    np.testing.assert_allclose(loss, 0, atol=1e-6)
    np.testing.assert_array_equal(correct, 1)


def test_gradient_equals_finite_differences():
    with jax.enable_x64(True):
        z = jnp.asarray(embeddings(b=3), jnp.float32)
        check_grads(lambda z: nt_xent(z, 0.5)[0].sum(), (z,), order=1, modes=["rev"], atol=2e-2, rtol=2e-2, eps=1e-2)


@pytest.mark.parametrize("chunk", [1, 3, 4, 10, 100])
def test_chunks_change_neither_values_nor_gradients(chunk):
    """Also the gradient of the temperature, and chunks that do not divide the ten views."""
    z = jnp.asarray(embeddings())
    labels = jnp.array([0, 1, 0, 2, 1])

    def total(z, temperature, chunk):
        weights = jnp.arange(1.0, 11.0).reshape(5, 2)  # so that every view's loss has a gradient of its own
        first = nt_xent(z, temperature, chunk=chunk)[0]
        return jnp.sum(weights * (first + supervised_contrastive(z, labels, temperature, chunk=chunk)[0]))

    of = jax.jit(jax.value_and_grad(total, argnums=(0, 1)), static_argnums=2)
    dense, chunked = of(z, 0.2, None), of(z, 0.2, chunk)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), chunked, dense)


def test_collapsed_embeddings_have_the_loss_of_guessing_and_finite_gradients():
    of = jax.jit(jax.value_and_grad(lambda z: nt_xent(z)[0].mean()))
    for z in (jnp.ones((4, 2, 3)), jnp.zeros((4, 2, 3))):
        value, gradient = of(z)
        np.testing.assert_allclose(value, np.log(7), rtol=1e-5)
        assert np.isfinite(gradient).all()
