"""Occlusion."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.explain import occlusion
from jaxvision.explain.base import Subject


def brightness(variables, images):
    """A model whose class 1 is the brightest 3x3 patch, which does not know what is elsewhere."""
    patches = images.mean(-1).reshape(len(images), 4, 3, 4, 3).mean((2, 4))
    top = patches.reshape(len(images), -1).max(-1)
    return {"logits": variables * jnp.stack([-top, top], axis=1)}


def test_the_fall_is_largest_on_a_planted_object():
    images = np.full((2, 12, 12, 3), 0.25, np.float32)
    images[0, 6:9, 3:6] = images[1, 0:3, 9:12] = 1.0
    maps = occlusion.occlusion(brightness, 2.0, images, np.array([1, 1]), 3, 1)
    assert maps.shape == (2, 12, 12)
    for values, rows, columns in zip(np.asarray(maps), (slice(6, 9), slice(0, 3)), (slice(3, 6), slice(9, 12))):
        row, column = np.unravel_index(values.argmax(), values.shape)
        assert rows.start <= row < rows.stop
        assert columns.start <= column < columns.stop
        # The square covers the object whole at its middle only, and changes nothing where it does not touch it.
        np.testing.assert_allclose(values[rows, columns][1, 1], 2 * (1 - 0.5), rtol=1e-5)
        touching = np.zeros((14, 14), bool)
        touching[rows.start : rows.stop + 2, columns.start : columns.stop + 2] = True
        assert (values[~touching[1:-1, 1:-1]] == 0).all()


def test_a_constant_image_gives_a_flat_map():
    flat = np.full((1, 12, 12, 3), occlusion.GREY, np.float32)
    assert np.ptp(occlusion.occlusion(brightness, 1.0, flat, np.array([0]), 4, 1)) == 0


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (4, 4), (5, 2)])
def test_every_pixel_is_covered(size, stride):
    squares = occlusion.covers(12, 9, size, stride)
    assert squares.shape == (-(-12 // stride) * -(-9 // stride), 12, 9)
    assert squares.any(0).all()
    assert squares.sum((1, 2)).max() == size * size


def test_the_part():
    images = np.random.default_rng(0).uniform(size=(3, 12, 12, 3)).astype(np.float32)
    subject = Subject(brightness, 1.0, images, np.array([0, 1, 1]), ("dark", "bright"), batch=2)
    shown = occlusion.explain_occlusion(subject, size=3, stride=4)
    assert shown.summary.shape == (3, 3, 3)
    assert shown.rows[1].tiles[1].words == f"occlusion: falls by {shown.summary[1].max():.2f}"
    assert occlusion._passes(subject, stride=4) == 1 + 9
