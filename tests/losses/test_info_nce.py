"""InfoNCE against the papers' equations as loops in float64, in chunks, and where all vectors are equal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses.info_nce import against_batch, against_queue

B, N, D, T = 6, 9, 5, 0.2


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    queue = rng.normal(size=(N, D))
    queue /= np.linalg.norm(queue, axis=1, keepdims=True)
    queries = rng.normal(size=(B, D))
    return queries, queries + 1.5 * rng.normal(size=(B, D)), queue


def length_one(x):
    return x / np.linalg.norm(x)


def by_hand(query, key, negatives):
    """He et al. 2020, eq. 1, and whether the key is nearest."""
    q = length_one(query)
    positive = q @ length_one(key)
    others = [q @ length_one(negative) for negative in negatives]
    total = np.exp(positive / T) + sum(np.exp(s / T) for s in others)
    return -np.log(np.exp(positive / T) / total), float(positive > max(others))


def test_the_queue_has_the_negatives(vectors):
    queries, keys, queue = vectors
    loss, correct = against_queue(*map(jnp.asarray, vectors), T)
    expected = [by_hand(q, k, queue) for q, k in zip(queries, keys)]
    np.testing.assert_allclose(loss, [one[0] for one in expected], rtol=1e-5)
    assert correct.tolist() == [one[1] for one in expected]
    assert 0 < correct.mean() < 1


@pytest.mark.parametrize("chunk", [None, 1, 4])
def test_the_batch_has_the_negatives(vectors, chunk):
    queries, keys, _ = vectors
    loss, correct = against_batch(jnp.asarray(queries), jnp.asarray(keys), T, chunk=chunk)
    expected = [by_hand(queries[i], keys[i], [k for j, k in enumerate(keys) if j != i]) for i in range(B)]
    np.testing.assert_allclose(loss, [one[0] for one in expected], rtol=1e-5)
    assert correct.tolist() == [one[1] for one in expected]
    assert 0 < correct.mean() < 1


def test_gradients_are_those_of_small_changes_and_reach_no_key_of_a_queue(vectors):
    vectors = [jnp.asarray(x, jnp.float32) for x in vectors]
    direction = jnp.asarray(np.random.default_rng(1).normal(size=(B, D)), jnp.float32)
    for loss, args, moving in ((against_queue, vectors, [0]), (against_batch, vectors[:2], [0, 1])):
        total = lambda *args, loss=loss: loss(*args, T)[0].sum()
        slopes = jax.grad(total, argnums=tuple(range(len(args))))(*args)
        assert [i for i, slope in enumerate(slopes) if slope.any()] == moving
        for i in moving:
            changed = [[x + sign * 1e-3 * direction if j == i else x for j, x in enumerate(args)] for sign in (1, -1)]
            beyond, before = (total(*one) for one in changed)
            np.testing.assert_allclose((slopes[i] * direction).sum(), (beyond - before) / 2e-3, rtol=1e-2)


def test_equal_vectors_are_all_wrong_and_cost_what_guessing_costs():
    same = jnp.ones((B, D))
    loss, correct = against_queue(same, same, jnp.ones((N, D)) / jnp.sqrt(D), T)
    np.testing.assert_allclose(loss, np.log(N + 1), rtol=1e-5)
    assert not correct.any()
    loss, correct = against_batch(same, same, T)
    np.testing.assert_allclose(loss, np.log(B), rtol=1e-5)
    assert not correct.any()
