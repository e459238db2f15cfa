"""Pooling of windows against loops, and fractional max pooling."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.models import pooling


@pytest.mark.parametrize(("size", "stride", "padding"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (2, 1, 0), (3, 3, 1)])
def test_windows_are_those_of_a_loop(size, stride, padding):
    x = np.random.default_rng(0).normal(size=(2, 7, 8, 3)).astype(np.float32)
    for function, reduce, fill in (
        (pooling.max_pool_windows, np.max, -np.inf),
        (pooling.mean_pool_windows, np.mean, 0.0),
    ):
        padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=fill)
        rows, columns = (range(0, n - size + 1, stride) for n in padded.shape[1:3])
        want = np.empty((2, len(rows), len(columns), 3))
        for (i, r), (j, c) in itertools.product(enumerate(rows), enumerate(columns)):
            want[:, i, j] = reduce(padded[:, r : r + size, c : c + size], axis=(1, 2))
        np.testing.assert_allclose(function(jnp.asarray(x), size, stride, padding), want, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_a_maximum_goes_to_its_pixel():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    gradient = jax.grad(lambda x: pooling.max_pool_windows(x, 2, 2).sum())(x)[0, :, :, 0]
    np.testing.assert_array_equal(np.argwhere(np.asarray(gradient)), [[1, 1], [1, 3], [3, 1], [3, 3]])


@pytest.mark.parametrize("order", ["random", "pseudorandom"])
@pytest.mark.parametrize("n", [25, 18, 13, 36])
def test_regions_have_one_or_two_cells_and_cover_all(order, n):
    sizes = []
    for seed in (None, 0, 1, 2):
        key = None if seed is None else jax.random.key(seed)
        borders = np.asarray(pooling.fractional_borders(n, 2**0.5, key, order))
        assert (borders[0], borders[-1]) == (0, n)
        assert set(np.diff(borders)) == {1, 2}
        assert len(borders) - 1 == {25: 18, 18: 13, 13: 9, 36: 25}[n]  # Graham 2014, sec. 4: 36, 25, 18, 13, 9
        sizes.append(tuple(np.diff(borders)))
    assert len(set(sizes)) > 1


def test_pseudorandom_regions_of_two_cells_are_spread_evenly():
    for seed in range(3):
        borders = np.asarray(pooling.fractional_borders(25, 2**0.5, jax.random.key(seed)))
        assert np.abs(borders - np.arange(19) * 25 / 18).max() < 1


@pytest.mark.parametrize("rng", [None, 3])
@pytest.mark.parametrize("order", ["random", "pseudorandom"])
def test_a_ratio_of_two_is_the_usual_pooling(rng, order):
    x = jax.random.normal(jax.random.key(0), (2, 6, 8, 3))
    key = None if rng is None else jax.random.key(rng)
    got = pooling.fractional_max_pool(x, 2.0, key, order)
    np.testing.assert_array_equal(got, pooling.max_pool_windows(x, 2, 2))


@pytest.mark.parametrize("overlap", [False, True])
def test_values_are_those_of_the_regions(overlap):
    x = np.random.default_rng(0).normal(size=(2, 7, 5, 3)).astype(np.float32)
    rows, columns = jax.random.split(jax.random.key(5))
    rows, columns = (np.asarray(pooling.fractional_borders(n, 1.4, k)) for n, k in ((7, rows), (5, columns)))
    got = pooling.fractional_max_pool(jnp.asarray(x), 1.4, jax.random.key(5), overlap=overlap)
    assert got.shape == (2, 5, 4, 3)
    for i, j in itertools.product(range(5), range(4)):
        window = x[:, rows[i] : rows[i + 1] + overlap, columns[j] : columns[j + 1] + overlap]
        np.testing.assert_array_equal(got[:, i, j], window.max(axis=(1, 2)))


def test_sides_shrink_as_in_the_paper():
    x = jnp.zeros((1, 25, 25, 1))
    x = pooling.fractional_max_pool(x, 2**0.5)
    assert x.shape == (1, 18, 18, 1)
    assert pooling.fractional_max_pool(x, 2**0.5).shape == (1, 13, 13, 1)
    assert pooling.fractional_max_pool(jnp.zeros((1, 1, 5, 1)), 2.0).shape == (1, 1, 3, 1)  # 2 would need a region of 3
