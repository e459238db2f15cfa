"""Positions against naive sums, SciPy, and what they promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxvision.errors import UserError
from jaxvision.models.positions import resize_positions, rope2d, rotate, sincos2d


def test_sincos2d_values():
    """Position (y, x) = (1, 2) of a 2 x 3 grid, width 8: frequencies 1 and 1e-4."""
    want = [*np.sin([2, 2e-4]), *np.cos([2, 2e-4]), *np.sin([1, 1e-4]), *np.cos([1, 1e-4])]
    np.testing.assert_allclose(sincos2d(2, 3, 8)[5], want, rtol=1e-5)


def test_rope2d_values():
    """Position (y, x) = (1, 2) of a 2 x 3 grid, 8 channels: frequencies 1 and 100 ** -0.5, columns at even pairs."""
    np.testing.assert_allclose(rope2d(2, 3, 8)[5], [2, 1, 0.2, 0.1], rtol=1e-5)


def test_rotate_is_a_complex_product():
    x = np.random.default_rng(0).normal(size=(2, 6, 3, 8)).astype(np.float32)
    angles = np.asarray(rope2d(2, 3, 8))
    turned = x.view(np.complex64) * np.exp(1j * angles)[:, None]
    np.testing.assert_allclose(rotate(x, angles), turned.astype(np.complex64).view(np.float32), atol=1e-5)
    per_example = np.stack([angles, angles[::-1]])
    np.testing.assert_allclose(rotate(x, per_example)[1], rotate(x[1:], angles[::-1])[0], atol=1e-6)


def test_products_of_rotated_vectors_depend_on_the_distance_alone():
    query, key = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)

    def scores(vector):
        return rotate(jnp.broadcast_to(vector, (1, 16, 1, 8)), rope2d(4, 4, 8))[0, :, 0].reshape(4, 4, 8)

    q, k = scores(query), scores(key)
    np.testing.assert_allclose(q[0, 0] @ k[1, 2], q[2, 1] @ k[3, 3], rtol=1e-4)
    np.testing.assert_allclose(jnp.linalg.norm(q, axis=-1), np.linalg.norm(query), rtol=1e-5)
    assert abs(q[0, 0] @ k[1, 2] - q[0, 0] @ k[2, 1]) > 1e-3


def test_rotate_keeps_the_type():
    assert rotate(jnp.ones((1, 4, 1, 4), jnp.bfloat16), rope2d(2, 2, 4)).dtype == jnp.bfloat16


@pytest.mark.parametrize("new", [(2, 4), (5, 3), (7, 8)])
def test_bilinear_positions_equal_scipys_zoom(new):
    """The ViT code and big_vision resize with scipy.ndimage.zoom of order 1."""
    positions = np.random.default_rng(0).normal(size=(1, 2 + 4 * 6, 3)).astype(np.float32)
    zoom = (new[0] / 4, new[1] / 6, 1)
    want = scipy.ndimage.zoom(positions[0, 2:].reshape(4, 6, 3), zoom, order=1).reshape(-1, 3)
    got = resize_positions(positions, (4, 6), new, prefix=2, method="bilinear")
    np.testing.assert_allclose(got[0, 2:], want, atol=1e-5)
    np.testing.assert_array_equal(got[:, :2], positions[:, :2])


@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
def test_resizing_positions_keeps_a_constant_and_the_same_grid(method):
    positions = jax.random.normal(jax.random.key(0), (1, 13, 5))
    np.testing.assert_array_equal(resize_positions(positions, (3, 4), (3, 4), 1, method), positions)
    constant = resize_positions(jnp.full((1, 12, 5), 3.0), (3, 4), (7, 2), 0, method)
    np.testing.assert_allclose(constant, jnp.full((1, 14, 5), 3.0), rtol=1e-5)


def test_positions_that_do_not_fit_their_grid():
    with pytest.raises(UserError, match="13 tokens are not those of a 3x4 grid and 0 before it"):
        resize_positions(jnp.zeros((1, 13, 5)), (3, 4), (6, 8))
    with pytest.raises(UserError, match="unknown method of resize_positions 'cubic'; did you mean 'bicubic'"):
        resize_positions(jnp.zeros((1, 12, 5)), (3, 4), (6, 8), method="cubic")
