"""Masks of rectangles: how many images, how many patches, and that they are in blocks."""

import jax
import numpy as np
import pytest

from jaxvision.tasks.block_masks import block_masks, most_masked

GRID = (14, 14)


@pytest.fixture(scope="module")
def masks():
    draw = jax.jit(lambda key: block_masks(key, 32, GRID, 0.5, (0.1, 0.5)))
    return np.stack([draw(jax.random.key(i)) for i in range(8)])


def test_half_of_the_images_have_a_mask_of_the_wanted_size(masks):
    counts = masks.sum(-1)
    np.testing.assert_array_equal((counts > 0).sum(-1), 16)
    assert counts.max() <= most_masked(GRID, (0.1, 0.5)) == 98
    # Shares are spread evenly over 10 % to 50 %, so their mean is near 30 %, a little below since rectangles must fit.
    assert 0.25 < counts[counts > 0].mean() / 196 < 0.3
    assert not np.array_equal(masks[0], masks[1])


def test_masked_patches_lie_together(masks):
    """Most neighbours of a masked patch are masked; of patches drawn one by one it would be their share, 0.3."""
    grids = masks.reshape(-1, *GRID)
    pairs = grids[:, 1:] & grids[:, :-1]
    assert pairs.sum() / grids[:, 1:].sum() > 0.7


def test_every_patch_is_masked_sometimes(masks):
    assert masks.any((0, 1)).all()


def test_no_image_and_whole_batches():
    assert not block_masks(jax.random.key(0), 4, (6, 6), 0.0).any()
    assert block_masks(jax.random.key(0), 4, (6, 6), 1.0, (0.3, 0.3)).any(1).all()
