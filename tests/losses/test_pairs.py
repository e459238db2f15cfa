"""Rows against all: what the chunks are for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses.contrastive import nt_xent
from jaxvision.losses.pairs import against_all, unit


def test_each_row_meets_its_index_and_all_rows():
    rows = {"x": jnp.arange(5.0), "y": 10 * jnp.arange(5.0)}
    fn = lambda row, index, everyone: (row["x"] - index, everyone["y"].sum() + row["y"])
    for chunk in (None, 2, 5):
        zero, total = against_all(fn, rows, chunk=chunk)
        np.testing.assert_array_equal(zero, 0)
        np.testing.assert_array_equal(total, 100 + 10 * np.arange(5))


def test_unit_vectors_and_the_gradient_at_zero():
    x = jax.random.normal(jax.random.key(0), (4, 3))
    np.testing.assert_allclose(jnp.linalg.norm(unit(x), axis=1), 1, rtol=1e-6)
    assert np.isfinite(jax.grad(lambda x: unit(x).sum())(jnp.zeros(3))).all()


def _megabytes(images: int, chunk: int | None) -> float:
    """What the loss and its gradient allocate beside arguments and results, as XLA plans it."""
    of = jax.jit(jax.grad(lambda z: nt_xent(z, 0.1, chunk=chunk)[0].mean()))
    z = jax.ShapeDtypeStruct((images, 2, 32), jnp.float32)
    return of.lower(z).compile().memory_analysis().temp_size_in_bytes / 2**20


def test_memory_grows_with_the_batch_in_chunks_and_with_its_square_without():
    small, large = (_megabytes(n, 64) for n in (1024, 4096))
    assert large / small == pytest.approx(4, rel=0.2)
    dense_small, dense_large = (_megabytes(n, None) for n in (1024, 4096))
    assert dense_large / dense_small == pytest.approx(16, rel=0.2)
    assert large < dense_large / 30
