"""Cutting and scaling pieces, against slices."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.tasks.tiles import cut_pieces, standardize

IMAGES = np.random.default_rng(0).uniform(size=(2, 9, 11, 3)).astype(np.float32)


def test_every_channel_is_cut_at_its_own_place():
    corners = jax.random.randint(jax.random.key(0), (2, 4, 3, 2), 0, 6)
    pieces = cut_pieces(jnp.asarray(IMAGES), corners, 4)
    for b, n, c in np.ndindex(2, 4, 3):
        y, x = corners[b, n, c]
        np.testing.assert_array_equal(pieces[b, n, :, :, c], IMAGES[b, y : y + 4, x : x + 4, c])


def test_scaled_pieces_forget_brightness_and_contrast():
    pieces = standardize(jnp.asarray(IMAGES))
    np.testing.assert_allclose(pieces.mean((1, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(pieces.std((1, 2, 3)), 1, rtol=1e-5)
    np.testing.assert_allclose(standardize(jnp.asarray(3 * IMAGES + 7)), pieces, atol=1e-4)
    assert not standardize(jnp.full((4, 4, 3), 0.3)).round(4).any()  # and an empty one stays finite
