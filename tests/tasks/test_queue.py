"""The queue against a list that forgets, and through the sizes of batch and queue that meet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.tasks.queue import filled, make_queue, nearest, push


@pytest.mark.parametrize(("length", "batch"), [(6, 2), (5, 3), (4, 4), (3, 8)])
def test_it_holds_the_last_rows(length, batch):
    queue, everything = make_queue(jnp.full((length, 1), -1.0)), []
    step = jax.jit(push)
    for i in range(7):
        rows = np.arange(i * batch, (i + 1) * batch, dtype=np.float32)
        everything += list(rows)
        queue = step(queue, jnp.asarray(rows)[:, None])
        held = sorted(np.asarray(queue["rows"])[np.asarray(filled(queue)), 0])
        assert held == everything[-length:]
        assert int(queue["seen"]) < 2 * length + 1


def test_rows_that_are_not_from_data_are_known():
    queue = push(make_queue(jnp.zeros((4, 2))), jnp.ones((3, 2)))
    np.testing.assert_array_equal(filled(queue), [True, True, True, False])
    np.testing.assert_array_equal(queue["rows"], [[1, 1], [1, 1], [1, 1], [0, 0]])


def test_the_nearest_row_is_that_of_a_loop_and_takes_no_gradient():
    rng = np.random.default_rng(0)
    drawn = (rng.normal(size=shape).astype(np.float32) for shape in ((9, 4), (5, 2, 4)))
    rows, vectors = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in drawn)
    queue = make_queue(jnp.asarray(rows))
    expected = [[rows[np.argmin(((rows - x) ** 2).sum(1))] for x in pair] for pair in vectors]
    np.testing.assert_allclose(nearest(queue, jnp.asarray(vectors)), expected, rtol=1e-6)
    slope = jax.grad(lambda rows, x: nearest({**queue, "rows": rows}, x).sum(), argnums=(0, 1))
    assert not any(np.any(x) for x in slope(queue["rows"], jnp.asarray(vectors)))
